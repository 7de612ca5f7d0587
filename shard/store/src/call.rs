//! What a command function is given, and what it leaves behind.

use larder_wire::resp::{OwnedRequest, ReplyWriter, Request};
use larder_wire::{Refusal, UnixMillis};

use crate::events::Classes;
use crate::key::{Key, KeyPlace};
use crate::keyspace::Keyspace;
use crate::random::Random;

/// One command function. With an error it has changed nothing; what it wrote to the reply by
/// then is taken back by the caller.
pub type Exec = fn(&mut Call<'_>) -> Result<(), Refusal>;

/// One execution of one command: arity, ownership and memory are already checked.
pub struct Call<'a> {
    pub keyspace: &'a mut Keyspace,
    pub request: Request<'a>,
    /// The command's first key: its argument, and its place, which the caller has computed to admit the
    /// command. `None` for a command without keys.
    pub first_key: Option<(usize, KeyPlace)>,
    pub now: UnixMillis,
    pub reply: ReplyWriter<'a>,
    pub effects: &'a mut Effects,
    pub random: &'a mut Random,
}

impl<'a> Call<'a> {
    /// Argument `index` as a key.
    #[inline]
    pub fn key(&self, index: usize) -> Key<'a> {
        let bytes = self.request.arg(index);
        match self.first_key {
            Some((first, place)) if first == index => Key::placed(bytes, place),
            Some(_) | None => Key::from(bytes),
        }
    }

    /// Says what happened to a key, to whoever wants to hear of such events.
    #[inline]
    pub fn say(&mut self, class: Classes, event: &'static str, key: Key<'_>) {
        self.keyspace.events.say(class, event, key.bytes());
    }

    /// The same of something that may have emptied the key, which is an event of its own.
    #[inline]
    pub fn say_taken(&mut self, class: Classes, event: &'static str, key: Key<'_>) {
        if self.keyspace.events.is_on() {
            self.say(class, event, key);
            if !self.keyspace.is_there(key, self.now) {
                self.say(Classes::GENERIC, "del", key);
            }
        }
    }

    /// A key is about to be replaced by one that counts as new.
    pub fn say_replaced(&mut self, key: Key<'_>) {
        self.keyspace.say_replaced(key, self.now);
    }
}

/// What a write did, as deterministic commands. A write that changed nothing leaves none.
#[derive(Debug, Default)]
pub struct Effects {
    verbatim: bool,
    rewritten: Vec<OwnedRequest>,
    /// Nobody listens: rewritten effects are not built, only that there were some is kept.
    unheard: bool,
    dropped: bool,
}

impl Effects {
    /// The request itself is its effect.
    pub fn verbatim(&mut self) {
        self.verbatim = true;
    }

    /// The effect is this command (and those pushed before it) instead of the request.
    pub fn push<A: AsRef<[u8]>>(
        &mut self,
        args: impl IntoIterator<Item = A, IntoIter: ExactSizeIterator>,
    ) {
        if self.unheard {
            self.dropped = true;
        } else {
            self.rewritten.push(OwnedRequest::from_args(args));
        }
    }

    pub fn is_empty(&self) -> bool {
        !self.verbatim && self.rewritten.is_empty() && !self.dropped
    }

    /// Empties them for another call. When nobody is to hear of its effects, `heard` false spares building them.
    pub fn restart(&mut self, heard: bool) {
        self.clear();
        self.unheard = !heard;
    }

    pub fn clear(&mut self) {
        self.verbatim = false;
        self.dropped = false;
        self.rewritten.clear();
    }

    /// The effects in order; `request` is what the call executed.
    pub fn iter<'e>(&'e self, request: Request<'e>) -> impl Iterator<Item = Request<'e>> + 'e {
        self.verbatim
            .then_some(request)
            .into_iter()
            .chain(self.rewritten.iter().map(OwnedRequest::view))
    }
}
