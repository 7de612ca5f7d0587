//! The target's side of a feed over its socket: asks the source, applies what comes, acknowledges, a bounded chunk at a time.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use larder_engine::feed::{Applied, Word};
use larder_runtime::{ControlClient, Reply};
use larder_wire::Attempt;
use larder_wire::control::{FeedAsk, Import, Peer};
use larder_wire::resp::{RequestScanner, Scanned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing::{info, warn};

use crate::shared::{EndOnPanic, Shared};

/// Bytes applied at once, at most.
const CHUNK_BYTES: usize = 128 * 1024;
/// How long frames are applied before clients have their turn, in microseconds: elements of a large collection take
/// several times longer than as many bytes of small keys.
const CHUNK_US_MAX: u128 = 1000;
/// Bytes applied between two looks at the time.
const LOOK_BYTES: usize = 8 * 1024;
/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;

/// Runs an import until it has failed, or its source closes.
pub(crate) async fn run(shared: Rc<Shared>, import: Import) {
    let _guard = EndOnPanic(Rc::clone(&shared));
    let attempt = import.attempt;
    info!(%attempt, slots = import.slots.len(), source = %import.source_addr, "import begins");
    let taken = take_in(&shared, &import).await;
    let mut node = shared.node.borrow_mut();
    let reason = match taken {
        // How every import ends: the source learns first that the slots are no longer its own. An end that
        // comes too early fails the attempt, which the topology reports.
        Ok(()) => "the source closed the feed".to_string(),
        Err(reason) => {
            if node.import_wants_more(attempt) {
                warn!(%attempt, "import: {reason}");
            }
            reason
        }
    };
    node.import_lost(attempt, &reason);
    shared.pass_releases_on(&node);
}

async fn take_in(shared: &Rc<Shared>, import: &Import) -> Result<(), String> {
    let secret = shared
        .config
        .secret
        .as_ref()
        .ok_or("the node has no secret")?;
    let mut client = ControlClient::connect(&import.source_addr, secret, Peer::Node)
        .await
        .map_err(|error| error.to_string())?;
    let ask = FeedAsk {
        attempt: import.attempt,
        slots: import.slots.clone(),
        target: shared.node.borrow().settings.id,
    };
    let ask = serde_json::to_string(&ask).map_err(|error| error.to_string())?;
    let reply = client
        .request(["LARDER", "FEED", ask.as_str()])
        .await
        .map_err(|error| format!("the source refuses: {error}"))?;
    if reply != Reply::Simple(b"OK".to_vec()) {
        return Err(format!("the source answered {reply:?}"));
    }
    let (mut stream, arrived) = client.into_stream();
    let mut incoming = Stream {
        attempt: import.attempt,
        input: arrived,
        at: 0,
        scanner: RequestScanner::new(),
        told: 0,
    };
    incoming.run(shared, &mut stream).await
}

/// The stream of one import.
struct Stream {
    attempt: Attempt,
    input: Vec<u8>,
    at: usize,
    scanner: RequestScanner,
    /// The last offset that was acknowledged.
    told: u64,
}

impl Stream {
    /// `Ok` when the source closed or nobody wants more.
    async fn run(&mut self, shared: &Rc<Shared>, stream: &mut TcpStream) -> Result<(), String> {
        loop {
            let more = self.apply_some(shared)?;
            self.acknowledge(shared, stream)
                .await
                .map_err(|error| error.to_string())?;
            if more {
                tokio::task::yield_now().await;
                continue;
            }
            if !self
                .read(shared, stream)
                .await
                .map_err(|error| error.to_string())?
            {
                return Ok(());
            }
        }
    }

    /// Applies about a chunk; true when there may be more.
    fn apply_some(&mut self, shared: &Shared) -> Result<bool, String> {
        let mut node = shared.node.borrow_mut();
        let clock = shared.clocks.clock();
        let limit = self.at + CHUNK_BYTES;
        let started = Instant::now();
        let mut look = self.at + LOOK_BYTES;
        let result = loop {
            match self.scanner.scan(&self.input[self.at..]) {
                Ok(Scanned::Request { consumed }) => {
                    let frame = self.scanner.request(&self.input[self.at..]);
                    match node.import_apply(self.attempt, &frame, clock) {
                        Ok(Applied::Some) => {}
                        Ok(Applied::Ready) => info!(attempt = %self.attempt, "import is ready"),
                        Err(reason) => break Err(reason),
                    }
                    self.at += consumed;
                    if self.at >= look {
                        look = self.at + LOOK_BYTES;
                        if self.at >= limit || started.elapsed().as_micros() >= CHUNK_US_MAX {
                            break Ok(true);
                        }
                    }
                }
                Ok(Scanned::Incomplete { .. }) => {
                    self.input.drain(..self.at);
                    self.at = 0;
                    break Ok(false);
                }
                Err(error) => break Err(format!("the source sent what is no frame: {error}")),
            }
        };
        shared.pass_releases_on(&node);
        result
    }

    async fn acknowledge(&mut self, shared: &Shared, stream: &mut TcpStream) -> io::Result<()> {
        let applied = shared.node.borrow().import_applied(self.attempt);
        let Some(applied) = applied.filter(|offset| offset.0 > self.told) else {
            return Ok(());
        };
        self.told = applied.0;
        let mut bytes = Vec::new();
        Word::Ack(applied).write(&mut bytes);
        stream.write_all(&bytes).await
    }

    /// False when the source has closed, or the import is not wanted any more.
    async fn read(&mut self, shared: &Shared, stream: &mut TcpStream) -> io::Result<bool> {
        let attempt = self.attempt;
        let read = std::future::poll_fn(|cx| {
            {
                let mut node = shared.node.borrow_mut();
                if !node.import_wants_more(attempt) {
                    return Poll::Ready(Ok(0));
                }
                node.set_import_bell(attempt, cx.waker());
            }
            self.input.reserve(READ_BYTES);
            pin!(stream.read_buf(&mut self.input)).poll(cx)
        });
        Ok(read.await? > 0)
    }
}
