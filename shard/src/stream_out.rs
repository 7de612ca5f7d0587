//! What a node streams to another over a connection that has become a feed, or a replica's: frames out, acknowledgements in, a bounded
//! chunk at a time so that clients are served in between.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use larder_engine::feed::{Produced, Word};
use larder_engine::replication::LinkId;
use larder_engine::{Clock, Node};
use larder_wire::Attempt;
use larder_wire::resp::{Request, RequestScanner, Scanned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::shared::Shared;

/// Bytes produced at once: well below a millisecond of work.
const CHUNK_BYTES: usize = 64 * 1024;
/// Room for acknowledgements, in bytes.
const ACKS_BYTES: usize = 1024;

/// What is streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Out {
    /// Slots, to the target of a move.
    Feed(Attempt),
    /// The journal, to a replica.
    Link(LinkId),
}

impl Out {
    fn produce(self, node: &mut Node, clock: Clock, out: &mut Vec<u8>) -> Produced {
        match self {
            Out::Feed(attempt) => node.feed_produce(attempt, CHUNK_BYTES, clock, out),
            Out::Link(link) => node.link_produce(link, CHUNK_BYTES, clock, out),
        }
    }

    fn set_bell(self, node: &mut Node, bell: &Waker) {
        match self {
            Out::Feed(attempt) => node.set_feed_bell(attempt, bell),
            Out::Link(link) => node.set_link_bell(link, bell),
        }
    }

    fn heard(self, node: &mut Node, frame: &Request<'_>, clock: Clock) -> Result<(), String> {
        match self {
            Out::Link(link) => node.link_heard(link, frame, clock),
            Out::Feed(attempt) => match Word::read(frame) {
                Some(Ok(Word::Ack(offset))) => {
                    node.feed_acknowledged(attempt, offset);
                    Ok(())
                }
                Some(Ok(_)) | None => Err(format!("the target sent {frame:?}")),
                Some(Err(what)) => Err(what),
            },
        }
    }

    /// The connection is gone.
    pub(crate) fn lost(self, node: &mut Node) {
        match self {
            Out::Feed(attempt) => node.feed_lost(attempt),
            Out::Link(link) => node.link_lost(link),
        }
    }
}

/// Serves the stream to its end. `owed` is what the client is still to be sent, `input` what it has sent already.
pub(crate) async fn serve(
    shared: &Rc<Shared>,
    stream: &mut TcpStream,
    owed: Vec<u8>,
    input: Vec<u8>,
    what: Out,
) -> io::Result<()> {
    let mut acks = Acks {
        what,
        input,
        scanner: RequestScanner::new(),
    };
    stream.write_all(&owed).await?;
    let mut chunk = Vec::with_capacity(CHUNK_BYTES * 2);
    loop {
        chunk.clear();
        let produced = {
            let mut node = shared.node.borrow_mut();
            let produced = what.produce(&mut node, shared.clocks.clock(), &mut chunk);
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

/// What comes back from the other end.
struct Acks {
    what: Out,
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

    /// Until the other end says something or there is something to send.
    async fn wait(&mut self, shared: &Shared, stream: &mut TcpStream) -> io::Result<()> {
        let mut armed = false;
        let read = std::future::poll_fn(|cx| {
            self.what
                .set_bell(&mut shared.node.borrow_mut(), cx.waker());
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
                    let mut node = shared.node.borrow_mut();
                    let heard = self.what.heard(&mut node, &frame, shared.clocks.clock());
                    shared.pass_releases_on(&node);
                    heard.map_err(garbled)?;
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
