//! What a node takes in of another's stream: applies what comes, acknowledges, a bounded chunk at a time.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Instant;

use larder_engine::feed::{Applied, Word};
use larder_engine::{Clock, Node};
use larder_wire::resp::{Request, RequestScanner, Scanned};
use larder_wire::{Attempt, Offset};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing::info;

use crate::shared::Shared;

/// Bytes applied at once, at most.
const CHUNK_BYTES: usize = 128 * 1024;
/// How long frames are applied before clients have their turn, in microseconds: elements of a large collection take
/// several times longer than as many bytes of small keys.
const CHUNK_US_MAX: u128 = 1000;
/// Bytes applied between two looks at the time.
const LOOK_BYTES: usize = 8 * 1024;
/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;

/// What comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum In {
    /// Slots, from the source of a move.
    Import(Attempt),
    /// The primary's journal, on its replica, over the connection of this number.
    Link(u64),
}

impl In {
    fn apply(self, node: &mut Node, frame: &Request<'_>, clock: Clock) -> Result<(), String> {
        match self {
            In::Link(number) => node.upstream_apply(number, frame, clock),
            In::Import(attempt) => match node.import_apply(attempt, frame, clock)? {
                Applied::Some => Ok(()),
                Applied::Cut => {
                    info!(%attempt, "import has everything");
                    Ok(())
                }
            },
        }
    }

    /// What came earlier is confirmed by now: a replica has it, or the file.
    fn owes(self, node: &mut Node, told: Offset) -> bool {
        match self {
            In::Import(attempt) => node.import_confirmed(attempt) > Some(told),
            In::Link(_) => false,
        }
    }

    /// False when the stream is of no use any more.
    fn is_wanted(self, node: &Node) -> bool {
        match self {
            In::Import(attempt) => node.import_wants_more(attempt),
            In::Link(number) => node.upstream_is(number),
        }
    }

    /// Rung when it may have become so.
    fn set_bell(self, node: &mut Node, bell: &Waker) {
        match self {
            In::Import(attempt) => node.set_import_bell(attempt, bell),
            In::Link(_) => node.set_upstream_bell(bell),
        }
    }
}

/// One stream.
pub(crate) struct Stream {
    what: In,
    input: Vec<u8>,
    at: usize,
    scanner: RequestScanner,
    /// The last offset of an import that was acknowledged.
    told: Offset,
}

impl Stream {
    /// `arrived` is what came with the answer to the request for it.
    pub(crate) fn new(what: In, arrived: Vec<u8>) -> Stream {
        Stream {
            what,
            input: arrived,
            at: 0,
            scanner: RequestScanner::new(),
            told: Offset(0),
        }
    }

    /// `Ok` when the source closed or nobody wants more.
    pub(crate) async fn run(
        &mut self,
        shared: &Rc<Shared>,
        stream: &mut TcpStream,
    ) -> Result<(), String> {
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
                    if let Err(reason) = self.what.apply(&mut node, &frame, clock) {
                        break Err(reason);
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
        let mut bytes = Vec::new();
        {
            let mut node = shared.node.borrow_mut();
            match self.what {
                In::Import(attempt) => {
                    let confirmed = node.import_confirmed(attempt);
                    if let Some(confirmed) = confirmed.filter(|offset| *offset > self.told) {
                        self.told = confirmed;
                        Word::Ack(confirmed).write(&mut bytes);
                    }
                    shared.pass_releases_on(&node);
                }
                In::Link(number) => {
                    node.upstream_answer(number, shared.clocks.clock(), &mut bytes);
                    shared.pass_releases_on(&node);
                }
            }
        }
        stream.write_all(&bytes).await
    }

    /// Until something came, or is to be acknowledged. False when the source has closed, or the stream is not wanted any more.
    async fn read(&mut self, shared: &Shared, stream: &mut TcpStream) -> io::Result<bool> {
        let (what, told) = (self.what, self.told);
        std::future::poll_fn(|cx| {
            {
                let mut node = shared.node.borrow_mut();
                if !what.is_wanted(&node) {
                    return Poll::Ready(Ok(false));
                }
                if what.owes(&mut node, told) {
                    return Poll::Ready(Ok(true));
                }
                what.set_bell(&mut node, cx.waker());
            }
            self.input.reserve(READ_BYTES);
            let read = pin!(stream.read_buf(&mut self.input)).poll(cx);
            read.map_ok(|bytes| bytes > 0)
        })
        .await
    }
}
