//! What the node and its script machine hand each other besides the turn: arguments, commands and replies.
//!
//! One of each a machine, filled and read in turns; the buffers stay, so a small script allocates nothing here.

use larder_wire::resp::write::{array_header, bulk_header};
use larder_wire::resp::{ArgRange, Request};

use super::flags::Flags;
use super::random::Random48;

/// Most bytes of one command that a script makes, its arguments and their framing.
const COMMAND_BYTES_MAX: usize = u32::MAX as usize - 1024;
/// Buffers larger than this are given back after use, in bytes.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

#[derive(Default)]
pub(crate) struct Mail {
    /// KEYS and ARGV of the script, keys first.
    pub(crate) arguments: Arguments,
    pub(crate) keys: usize,
    /// KEYS and ARGV are globals; a function gets them as its arguments.
    pub(crate) is_eval: bool,
    /// The command that the script calls.
    pub(super) command: Arguments,
    /// One argument of it, as text.
    pub(super) argument: Vec<u8>,
    /// The reply to that, or of the script itself.
    pub(super) reply: Vec<u8>,
    /// Source to compile; lines to log; an error's text.
    pub(super) text: Vec<u8>,
    /// The protocol of the script's commands (`redis.setresp`).
    pub(super) resp3: bool,
    /// `redis.call` means something: a script runs.
    pub(super) running: bool,
    /// What the library that is loaded has registered.
    pub(super) registered: Option<Vec<Registered>>,
    pub(super) next_slot: usize,
    pub(super) random: Random48,
    /// Bytes of Lua's memory, as of the last job.
    pub(super) lua_bytes: usize,
}

/// A function of a library, as `redis.register_function` was told of it.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    pub(crate) name: String,
    pub(crate) description: Option<Vec<u8>>,
    pub(crate) flags: Flags,
    pub(crate) slot: usize,
}

impl Mail {
    pub(crate) fn set_text(&mut self, text: &[u8]) {
        self.text.clear();
        self.text.extend_from_slice(text);
    }

    pub(crate) fn take_text(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.text)
    }

    /// What was registered since the load began; none outside of one.
    pub(crate) fn take_registered(&mut self) -> Vec<Registered> {
        self.registered.take().unwrap_or_default()
    }

    pub(crate) fn lua_bytes(&self) -> usize {
        self.lua_bytes
    }

    pub(super) fn tidy(&mut self) {
        self.arguments.tidy();
        self.command.tidy();
        for buffer in [&mut self.reply, &mut self.text] {
            buffer.clear();
            if buffer.capacity() > KEPT_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
    }
}

/// A list of byte strings, framed as a request.
#[derive(Default)]
pub(crate) struct Arguments {
    bytes: Vec<u8>,
    ranges: Vec<ArgRange>,
}

impl Arguments {
    /// Starts a list of `count`.
    pub(crate) fn start(&mut self, count: usize) {
        self.bytes.clear();
        self.ranges.clear();
        array_header(&mut self.bytes, count);
    }

    /// False when the list would grow too long; it is then of no use.
    #[must_use]
    pub(crate) fn push(&mut self, argument: &[u8]) -> bool {
        if self.bytes.len() + argument.len() > COMMAND_BYTES_MAX {
            return false;
        }
        bulk_header(&mut self.bytes, argument.len());
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(argument);
        self.ranges.push(ArgRange {
            start,
            end: self.bytes.len() as u32,
        });
        self.bytes.extend_from_slice(b"\r\n");
        true
    }

    pub(crate) fn view(&self) -> Request<'_> {
        Request::new(&self.bytes, &self.ranges)
    }

    fn tidy(&mut self) {
        if self.bytes.capacity() > KEPT_BYTES_MAX {
            *self = Arguments::default();
        }
    }
}
