//! What clients may take of memory: replies that they do not read, requests that they do not finish, and everything together.
//!
//! One [`Limits`] is shared by all clients of a node, so that whoever posts to one can see at once that it has had too much. What
//! limits a client is known here; whoever serves the connection closes it.

use std::cell::Cell;
use std::rc::Rc;

use larder_wire::resp::limits::BULK_BYTES_MAX;

use crate::client::Client;
use crate::clock::Clock;
use crate::config::Parameter;
use crate::node::Node;
use crate::session::Session;

/// Replies of up to so many bytes are no backlog: Redis has as much room with each client.
pub const REPLY_BUFFER_BYTES: usize = 16 * 1024;
/// Least that `maxmemory-clients` limits all clients to, in bytes.
const CLIENTS_BYTES_MIN: u64 = 128 * 1024;

/// What of `unread` bytes counts as backlog: all of them, once they are more than a few and more than is allowed anyway.
pub(crate) fn backlog_of(unread: usize, allowed: usize) -> usize {
    if unread <= REPLY_BUFFER_BYTES {
        0
    } else {
        unread.saturating_sub(allowed)
    }
}

/// What a class of clients may leave unread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimit {
    /// Bytes, 0 for no limit.
    hard: usize,
    /// Bytes that may not be exceeded for longer than `soft_ms`, 0 for no limit.
    soft: usize,
    soft_ms: u64,
}

/// Classes of `client-output-buffer-limit`, in the order in which it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Normal,
    Replica,
    Pubsub,
}

/// The limits of one node.
#[derive(Debug)]
pub struct Limits {
    output: [Cell<OutputLimit>; 3],
    /// Bytes of requests that have not been executed.
    pub query_bytes_max: Cell<usize>,
    /// Longest argument.
    pub bulk_bytes_max: Cell<usize>,
    /// All clients together; `None` for no limit.
    clients_bytes_max: Cell<Option<usize>>,
    /// What they take; counted only while it is limited.
    clients_bytes: Cell<usize>,
    /// The time of the last tick, in monotonic milliseconds.
    now_ms: Cell<u64>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            output: Default::default(),
            query_bytes_max: Cell::new(usize::MAX),
            bulk_bytes_max: Cell::new(BULK_BYTES_MAX),
            clients_bytes_max: Cell::new(None),
            clients_bytes: Cell::new(0),
            now_ms: Cell::new(0),
        }
    }
}

impl Limits {
    fn of(&self, client: &Client) -> OutputLimit {
        let class = if client.feeding.get() {
            Class::Replica
        } else if client.subscriber.get() {
            Class::Pubsub
        } else {
            Class::Normal
        };
        self.output[class as usize].get()
    }
}

impl Client {
    /// Replies that the client has not read, in bytes; what its connection holds and what was posted.
    pub fn unread_bytes(&self) -> usize {
        self.output_bytes.get() + self.posted_bytes()
    }

    /// All that the client takes, in bytes.
    pub fn memory(&self) -> usize {
        let prefixes = self.prefixes.borrow();
        let prefix_bytes: usize = prefixes.iter().map(|prefix| prefix.len() + 32).sum();
        size_of::<Client>()
            + self.addr.len()
            + self.laddr.len()
            + self.query_bytes.get()
            + self.unread_bytes()
            + self.session_bytes.get()
            + self.subscriptions.borrow().bytes()
            + prefix_bytes
    }

    /// Whether the client, with `more` bytes to come, leaves more unread than its class may. From then on it is over.
    pub fn is_beyond_limit(&self, more: usize) -> bool {
        let limit = self.limits.of(self);
        let backlog = backlog_of(self.unread_bytes() + more, self.allowed_bytes.get());
        if backlog == 0 || self.is_killed() {
            self.soft_since_ms.set(None);
            return false;
        }
        let now = self.limits.now_ms.get();
        let beyond_soft = if limit.soft > 0 && backlog >= limit.soft {
            let since = self.soft_since_ms.get().unwrap_or(now);
            self.soft_since_ms.set(Some(since));
            now - since > limit.soft_ms
        } else {
            self.soft_since_ms.set(None);
            false
        };
        beyond_soft || (limit.hard > 0 && backlog >= limit.hard)
    }

    /// After something was posted: a client that has too much unread gets nothing of it any more.
    pub(crate) fn limit_post(&self) {
        if self.posted_bytes() > REPLY_BUFFER_BYTES && self.is_beyond_limit(0) {
            self.overrun();
        }
        self.count_memory();
    }

    /// Counts again what the client takes, if anybody wants to know.
    fn count_memory(&self) {
        if self.limits.clients_bytes_max.get().is_some() {
            let (before, after) = (self.counted_bytes.get(), self.memory());
            self.counted_bytes.set(after);
            let sum = self.limits.clients_bytes.get();
            self.limits.clients_bytes.set(sum + after - before);
        }
    }

    /// The client is gone, or as good as gone.
    pub(crate) fn uncount_memory(&self) {
        let sum = self.limits.clients_bytes.get();
        let counted = self.counted_bytes.take();
        self.limits.clients_bytes.set(sum.saturating_sub(counted));
    }

    fn may_be_evicted(&self) -> bool {
        !self.no_evict.get() && !self.feeding.get() && !self.trust.get().has_control()
    }
}

impl Node {
    /// After the parameters about clients were set.
    pub(crate) fn apply_limits(&mut self) {
        let limits = Rc::clone(&self.clients.limits);
        let text = self.config.get(Parameter::OutputBufferLimit);
        let words: Vec<&str> = text.split(' ').collect();
        for (class, words) in limits.output.iter().zip(words.chunks(4)) {
            let number = |at: usize| {
                words
                    .get(at)
                    .and_then(|word| word.parse().ok())
                    .unwrap_or(0)
            };
            class.set(OutputLimit {
                hard: number(1) as usize,
                soft: number(2) as usize,
                soft_ms: number(3) * 1000,
            });
        }
        let size = |parameter| self.config.size(parameter) as usize;
        limits
            .query_bytes_max
            .set(size(Parameter::QueryBufferLimit));
        let bulk_bytes_max = size(Parameter::ProtoMaxBulkLen);
        limits.bulk_bytes_max.set(bulk_bytes_max);
        self.databases.set_string_bytes_max(bulk_bytes_max);
        limits.clients_bytes_max.set(self.clients_bytes_max());
        limits.clients_bytes.set(0);
        for client in self.clients.iter() {
            client.counted_bytes.set(0);
            client.count_memory();
        }
        self.evict_clients();
    }

    /// `maxmemory-clients`: bytes, or a part of `maxmemory`.
    fn clients_bytes_max(&self) -> Option<usize> {
        let text = self.config.get(Parameter::MaxmemoryClients);
        let bytes = match text.strip_suffix('%') {
            Some(percent) => {
                let maxmemory = self.config.size(Parameter::Maxmemory) as f64;
                (maxmemory * percent.parse::<f64>().unwrap_or(0.0) / 100.0) as u64
            }
            None => text.parse().unwrap_or(0),
        };
        (bytes > 0).then(|| bytes.max(CLIENTS_BYTES_MIN) as usize)
    }

    /// Before a batch is executed: true when its bytes are too much, together with what all clients take.
    pub fn is_evicted_ahead(&mut self, session: &Session) -> bool {
        if self.clients.limits.clients_bytes_max.get().is_none() {
            return false;
        }
        self.settle_memory(session);
        session.client.is_killed()
    }

    /// At the end of a session's batch: what it takes is counted, and the largest clients go while all take too much.
    #[inline]
    pub(crate) fn settle_memory(&mut self, session: &Session) {
        if self.clients.limits.clients_bytes_max.get().is_some() {
            let queued = session.multi.as_ref().map_or(0, |multi| multi.bytes);
            let client = &session.client;
            client.session_bytes.set(queued + session.watched_bytes());
            client.count_memory();
            self.evict_clients();
        }
    }

    fn evict_clients(&mut self) {
        let limits = Rc::clone(&self.clients.limits);
        let Some(most) = limits.clients_bytes_max.get() else {
            return;
        };
        if limits.clients_bytes.get() <= most {
            return;
        }
        let mut by_size: Vec<_> = self
            .clients
            .iter()
            .filter(|client| client.may_be_evicted())
            .cloned()
            .collect();
        by_size.sort_by_key(|client| std::cmp::Reverse(client.counted_bytes.get()));
        for client in by_size {
            if limits.clients_bytes.get() <= most {
                return;
            }
            client.uncount_memory();
            client.kill();
            self.stats.evicted_clients.add(1);
        }
    }

    /// A few times a second: who has left too much unread for too long is let go.
    pub(crate) fn limit_clients(&mut self, clock: Clock) {
        self.clients.limits.now_ms.set(clock.mono_ms);
        for client in self.clients.iter() {
            if client.is_beyond_limit(0) {
                client.overrun();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::{Rules, User};
    use crate::client::Clients;

    fn limited(hard: usize, soft: usize, soft_ms: u64) -> (Clients, Rc<Client>) {
        let mut clients = Clients::default();
        let limit = OutputLimit {
            hard,
            soft,
            soft_ms,
        };
        clients.limits.output[Class::Pubsub as usize].set(limit);
        let user = Rc::new(User::new(b"default", Rules::all()));
        let client = clients.add("a:1".into(), "b:2".into(), &user, 0);
        client.subscriber.set(true);
        (clients, client)
    }

    #[test]
    fn a_subscriber_that_reads_too_little_is_let_go_with_what_it_has_not_read() {
        let (_clients, client) = limited(100_000, 0, 0);
        client.post_bytes(&[b'x'; 90_000]);
        assert!(!client.is_killed());
        client.post_bytes(&[b'x'; 20_000]);
        assert!(client.is_killed());
        assert!(!client.has_post());
        client.post_bytes(b"more");
        assert!(!client.has_post());
    }

    #[test]
    fn a_soft_limit_may_be_exceeded_for_its_time() {
        let (clients, client) = limited(0, 100_000, 1000);
        let at = |ms| clients.limits.now_ms.set(ms);
        at(5000);
        client.post_bytes(&[b'x'; 120_000]);
        at(6000);
        assert!(!client.is_beyond_limit(0));
        at(6001);
        assert!(client.is_beyond_limit(0));
        client.take_post(&mut Vec::new());
        assert!(!client.is_beyond_limit(0));
        at(9000);
        client.post_bytes(&[b'x'; 120_000]);
        assert!(!client.is_killed());
    }
}
