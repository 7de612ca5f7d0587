//! What a function of the engine is given, and what may follow from a call.

use larder_wire::Refusal;
use larder_wire::command::CommandId;
use larder_wire::control::{FeedAsk, Import};
use larder_wire::resp::{ReplyWriter, Request};

use crate::backup::StreamId;
use crate::clock::Clock;
use crate::node::Node;
use crate::replication::LinkId;
use crate::session::Session;

/// What whoever serves the connection does after a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The reply is in the buffer.
    Done,
    /// The same, and the connection is closed once it is sent.
    Close,
    /// Nothing was done and nothing written: the same request is to be called again when
    /// [`Node::releases`] has changed; later requests of the connection wait behind it.
    Held,
    /// The command waits for something to happen; its reply is posted to the client's outbox when it has. Until
    /// [`Client::is_blocked`](crate::Client::is_blocked) is false again no further request of the connection is called.
    Blocked,
    /// The reply is in the buffer; the node's thread is to stand still first (`DEBUG SLEEP`).
    Stall { us: u64 },
    /// Nothing was written: the process is to end, as by a signal.
    Shutdown,
    /// A script goes on: [`Node::go_on`] is to be called, with a fresh clock, until it says something else. Until then no further
    /// request of the connection is called.
    Script,
    /// The connection becomes a feed, after what is in the buffer.
    Feed(FeedAsk),
    /// The connection becomes the stream of a snapshot, after what is in the buffer.
    Stream(StreamId),
    /// The connection becomes that of a replica, after what is in the buffer.
    Replicate(LinkId),
    /// The reply is in the buffer; the source is to be asked for a feed.
    Import(Import),
}

/// A command function of the engine. With an error it has changed nothing, and what it wrote is taken back.
pub type EngineExec = fn(&mut Turn<'_>) -> Result<Outcome, Refusal>;

/// One execution of one command of the engine: arity, trust and ownership are already checked.
pub struct Turn<'a> {
    pub node: &'a mut Node,
    pub session: &'a mut Session,
    pub id: CommandId,
    pub request: Request<'a>,
    pub clock: Clock,
    pub reply: ReplyWriter<'a>,
}

impl<'a> Turn<'a> {
    /// True when argument `index` is `word`, in whatever case.
    pub fn is_word(&self, index: usize, word: &str) -> bool {
        self.request
            .get(index)
            .is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    pub fn ok(&mut self) -> Result<Outcome, Refusal> {
        self.reply.ok();
        Ok(Outcome::Done)
    }

    pub fn int(&mut self, value: i64) -> Result<Outcome, Refusal> {
        self.reply.int(value);
        Ok(Outcome::Done)
    }

    pub fn bulk(&mut self, bytes: &[u8]) -> Result<Outcome, Refusal> {
        self.reply.bulk(bytes);
        Ok(Outcome::Done)
    }

    /// Argument `index` as an integer.
    pub fn arg_int(&self, index: usize) -> Result<i64, Refusal> {
        larder_store::number::parse_i64(self.request.arg(index)).ok_or(Refusal::NOT_AN_INTEGER)
    }
}

/// A subcommand of `container` with arguments that it does not take.
pub fn wrong_subcommand(turn: &Turn<'_>, container: &str) -> Refusal {
    const SHOWN_BYTES_MAX: usize = 128;
    let name = turn.request.get(1).unwrap_or(b"");
    Refusal::new(format!(
        "ERR unknown subcommand or wrong number of arguments for '{}'. Try {container} HELP.",
        String::from_utf8_lossy(&name[..name.len().min(SHOWN_BYTES_MAX)])
    ))
}

/// The lines of a `HELP` subcommand, as Redis has them: simple strings.
pub fn help(turn: &mut Turn<'_>, container: &str, lines: &[&str]) -> Result<Outcome, Refusal> {
    turn.reply.array(lines.len() + 3);
    turn.reply.simple(&format!(
        "{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    for line in lines {
        turn.reply.simple(line);
    }
    turn.reply.simple("HELP");
    turn.reply.simple("    Prints this help.");
    Ok(Outcome::Done)
}
