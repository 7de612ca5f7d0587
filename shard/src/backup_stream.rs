//! A snapshot over its socket, a bounded chunk at a time so that clients are served in between. Nothing is expected from the other side; that it
//! has gone, or takes nothing for long, ends the stream.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use larder_engine::backup::{StreamId, Streamed};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::shared::Shared;

/// Bytes produced at once: a fraction of a millisecond of work.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long the other side may take nothing, in milliseconds: a snapshot costs memory while it waits.
const STALL_MS_MAX: u64 = 60_000;

/// Serves the stream to its end. `owed` is what the client is still to be sent.
pub(crate) async fn serve(
    shared: &Rc<Shared>,
    stream: &mut TcpStream,
    owed: Vec<u8>,
    id: StreamId,
) {
    info!("a backup's snapshot begins");
    match send(shared, stream, owed, id).await {
        Ok(bytes) => info!("a backup's snapshot is sent, {bytes} bytes"),
        Err(error) => warn!("a backup's snapshot was lost: {error}"),
    }
}

async fn send(
    shared: &Rc<Shared>,
    stream: &mut TcpStream,
    owed: Vec<u8>,
    id: StreamId,
) -> io::Result<u64> {
    let mut out = owed;
    let mut chunk = Vec::with_capacity(CHUNK_BYTES * 2);
    let mut sent = 0;
    loop {
        let streamed = {
            let mut node = shared.node.borrow_mut();
            node.stream_produce(id, CHUNK_BYTES, &mut chunk, &mut out)
        };
        let written = timeout(Duration::from_millis(STALL_MS_MAX), stream.write_all(&out));
        written.await.map_err(|_| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("nothing was taken for {STALL_MS_MAX} ms"),
            )
        })??;
        sent += out.len();
        out.clear();
        match streamed {
            Streamed::Over => return Ok(sent as u64),
            Streamed::More => tokio::task::yield_now().await,
        }
    }
}
