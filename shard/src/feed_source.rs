//! The source's side of a feed over its socket: frames out, acknowledgements in, a bounded chunk at a time so that clients
//! are served in between.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use larder_engine::feed::{Produced, Word};
use larder_wire::Attempt;
use larder_wire::control::FeedAsk;
use larder_wire::resp::{RequestScanner, Scanned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing::{info, warn};

use crate::shared::Shared;

/// Bytes produced at once: well below a millisecond of work.
const CHUNK_BYTES: usize = 64 * 1024;
/// Room for acknowledgements, in bytes.
const ACKS_BYTES: usize = 1024;

/// Serves the feed to its end. `owed` is what the client is still to be sent, `input` what it has sent already.
pub(crate) async fn serve(
    shared: &Rc<Shared>,
    stream: &mut TcpStream,
    owed: Vec<u8>,
    input: Vec<u8>,
    ask: FeedAsk,
) {
    let attempt = ask.attempt;
    info!(%attempt, slots = ask.slots.len(), target = %ask.target, "feed begins");
    let mut acks = Acks {
        attempt,
        input,
        scanner: RequestScanner::new(),
    };
    let ended = stream_frames(shared, stream, owed, &mut acks).await;
    match ended {
        Ok(()) => info!(%attempt, "feed is over"),
        Err(error) => warn!(%attempt, "feed was lost: {error}"),
    }
}

async fn stream_frames(
    shared: &Rc<Shared>,
    stream: &mut TcpStream,
    owed: Vec<u8>,
    acks: &mut Acks,
) -> io::Result<()> {
    stream.write_all(&owed).await?;
    let mut chunk = Vec::with_capacity(CHUNK_BYTES * 2);
    loop {
        chunk.clear();
        let produced = {
            let mut node = shared.node.borrow_mut();
            let clock = shared.clocks.clock();
            let produced = node.feed_produce(acks.attempt, CHUNK_BYTES, clock, &mut chunk);
            shared.pass_releases_on(&node);
            produced
        };
        stream.write_all(&chunk).await?;
        match produced {
            Produced::More => {
                acks.take_arrived(shared, stream)?;
                tokio::task::yield_now().await;
            }
            Produced::Idle => acks.wait(shared, stream).await?,
            Produced::Over => return Ok(()),
        }
    }
}

/// What comes back from the target.
struct Acks {
    attempt: Attempt,
    input: Vec<u8>,
    scanner: RequestScanner,
}

impl Acks {
    /// What is there already, without waiting.
    fn take_arrived(&mut self, shared: &Shared, stream: &TcpStream) -> io::Result<()> {
        let mut room = [0; ACKS_BYTES];
        match stream.try_read(&mut room) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                self.input.extend_from_slice(&room[..read]);
                self.understand(shared)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Until the target acknowledges something or the feed has something to send.
    async fn wait(&mut self, shared: &Shared, stream: &mut TcpStream) -> io::Result<()> {
        let mut armed = false;
        let read = std::future::poll_fn(|cx| {
            shared
                .node
                .borrow_mut()
                .set_feed_bell(self.attempt, cx.waker());
            self.input.reserve(ACKS_BYTES);
            match pin!(stream.read_buf(&mut self.input)).poll(cx) {
                Poll::Ready(read) => Poll::Ready(read.map(Some)),
                // The second time it was the bell that woke us.
                Poll::Pending if std::mem::replace(&mut armed, true) => Poll::Ready(Ok(None)),
                Poll::Pending => Poll::Pending,
            }
        });
        match read.await? {
            Some(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(_) => self.understand(shared),
            None => Ok(()),
        }
    }

    fn understand(&mut self, shared: &Shared) -> io::Result<()> {
        let garbled = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut at = 0;
        loop {
            match self.scanner.scan(&self.input[at..]) {
                Ok(Scanned::Request { consumed }) => {
                    let frame = self.scanner.request(&self.input[at..]);
                    match Word::read(&frame) {
                        Some(Ok(Word::Ack(offset))) => shared
                            .node
                            .borrow_mut()
                            .feed_acknowledged(self.attempt, offset),
                        Some(Ok(_)) | None => {
                            return Err(garbled(format!("the target sent {frame:?}")));
                        }
                        Some(Err(what)) => return Err(garbled(what)),
                    }
                    at += consumed;
                }
                Ok(Scanned::Incomplete { .. }) => {
                    self.input.drain(..at);
                    return Ok(());
                }
                Err(error) => return Err(garbled(error.to_string())),
            }
        }
    }
}
