//! Client-side caching: who may hold which key, and who is told when a key changes.
//!
//! Two ways, as Redis has them. The table remembers each key that a tracking client has read, until the key changes or the table is full;
//! then each of those clients gets one `invalidate` push and the entry goes. Clients in BCAST mode name prefixes instead, and are told of all changed
//! keys of a batch together. Keys are names alone: a name that changes in any database is invalid. Entries of clients that are gone, or that
//! stopped tracking, go with their key.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use larder_store::Random;
use larder_wire::resp::{Protocol, ReplyWriter};

use crate::client::{Client, Clients};

/// Where RESP2 clients that others redirect to hear of invalid keys.
const CHANNEL: &[u8] = b"__redis__:invalidate";
/// Entries that go at once from a table that is too full; more the longer it stays so.
const EVICTED_PER_STEP: usize = 100;

/// How a client tracks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    pub on: bool,
    pub bcast: bool,
    pub optin: bool,
    pub optout: bool,
    /// CLIENT CACHING was sent: the next command or transaction is the exception.
    pub caching: bool,
    /// Not told of its own changes.
    pub noloop: bool,
    /// The client that it redirects to is gone.
    pub broken: bool,
    /// The client that is told in its place; 0 for none.
    pub redirect: u64,
}

impl Mode {
    /// What it reads now is remembered.
    fn remembers(self) -> bool {
        let wanted = match (self.optin, self.optout) {
            (true, _) => self.caching,
            (false, true) => !self.caching,
            (false, false) => true,
        };
        self.on && !self.bcast && wanted
    }
}

type Name = Rc<[u8]>;

/// A prefix that clients have named.
#[derive(Debug, Default)]
struct Prefix {
    clients: BTreeSet<u64>,
    /// Changed in this batch, each with the client that changed it last; 0 for none.
    changed: BTreeMap<Name, u64>,
}

/// What clients are told is invalid.
enum Invalid<'a> {
    Key(&'a [u8]),
    /// An array of keys, written already.
    Written(&'a [u8]),
    All,
}

/// The tracking of one node.
#[derive(Debug, Default)]
pub struct Tracking {
    places: HashMap<Name, usize>,
    /// Keys with the ids of those who may hold them, in ascending order.
    entries: Vec<(Name, Vec<u64>)>,
    items: usize,
    prefixes: BTreeMap<Box<[u8]>, Prefix>,
    /// Clients that track.
    clients: usize,
    /// The keys that the script at hand has declared: all of them are read when it reads anything.
    script_keys: Vec<Name>,
    /// How often in a row the table was left too full.
    behind: usize,
}

impl Tracking {
    /// Some client tracks.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.clients > 0
    }

    /// A change of a key may concern somebody.
    #[inline]
    pub fn hears(&self) -> bool {
        self.clients > 0 || !self.entries.is_empty()
    }

    pub fn client_count(&self) -> usize {
        self.clients
    }

    pub fn key_count(&self) -> usize {
        self.entries.len()
    }

    pub fn item_count(&self) -> usize {
        self.items
    }

    pub fn prefix_count(&self) -> usize {
        self.prefixes.len()
    }

    /// The options were checked. Prefixes that the client has named before stay.
    pub fn enable(&mut self, client: &Client, mode: Mode, prefixes: &[&[u8]]) {
        let before = client.tracking.get();
        self.clients += usize::from(!before.on);
        client.tracking.set(Mode {
            on: true,
            caching: before.caching,
            ..mode
        });
        if mode.bcast {
            let every: &[&[u8]] = &[b""];
            for prefix in if prefixes.is_empty() { every } else { prefixes } {
                let of_prefix = self.prefixes.entry((*prefix).into()).or_default();
                of_prefix.clients.insert(client.id);
                client.prefixes.borrow_mut().insert((*prefix).into());
            }
        }
    }

    pub fn disable(&mut self, client: &Client) {
        let mode = client.tracking.take();
        self.clients -= usize::from(mode.on);
        for prefix in std::mem::take(&mut *client.prefixes.borrow_mut()) {
            if let Some(of_prefix) = self.prefixes.get_mut(&prefix) {
                of_prefix.clients.remove(&client.id);
                if of_prefix.clients.is_empty() {
                    self.prefixes.remove(&prefix);
                }
            }
        }
    }

    /// A script with these keys begins.
    pub fn begin_script<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) {
        self.script_keys = keys.map(Rc::from).collect();
    }

    /// A script of this client has read something.
    pub fn remember_script(&mut self, client: &Client) {
        let keys = std::mem::take(&mut self.script_keys);
        self.remember(client, keys.iter().map(|key| &**key));
        self.script_keys = keys;
    }

    /// A client has read these keys.
    pub fn remember<'k>(&mut self, client: &Client, keys: impl Iterator<Item = &'k [u8]>) {
        if !client.tracking.get().remembers() {
            return;
        }
        for key in keys {
            let at = match self.places.get(key) {
                Some(at) => *at,
                None => {
                    let name: Name = key.into();
                    self.places.insert(Rc::clone(&name), self.entries.len());
                    self.entries.push((name, Vec::new()));
                    self.entries.len() - 1
                }
            };
            let holders = &mut self.entries[at].1;
            if let Err(place) = holders.binary_search(&client.id) {
                holders.insert(place, client.id);
                self.items += 1;
            }
        }
    }

    /// A key has changed, by the doing of client `by` (0 for nobody's) while the command of client `current` runs.
    pub fn invalidate(&mut self, clients: &Clients, key: &[u8], by: u64, current: u64) {
        let concerned = self
            .prefixes
            .iter_mut()
            .filter(|(prefix, _)| key.starts_with(prefix));
        let mut name: Option<Name> = None;
        for (_, of_prefix) in concerned {
            let name = name.get_or_insert_with(|| key.into());
            of_prefix.changed.insert(Rc::clone(name), by);
        }
        self.forget(clients, key, current);
    }

    /// Tells who may hold `key`, and takes its entry out.
    fn forget(&mut self, clients: &Clients, key: &[u8], current: u64) {
        let Some(at) = self.places.remove(key) else {
            return;
        };
        let (_, holders) = self.entries.swap_remove(at);
        if let Some((moved, _)) = self.entries.get(at) {
            self.places.insert(Rc::clone(moved), at);
        }
        self.items -= holders.len();
        for client in holders.iter().filter_map(|id| clients.get(*id)) {
            let mode = client.tracking.get();
            if mode.on && !mode.bcast && !(mode.noloop && client.id == current) {
                tell(clients, client, Invalid::Key(key));
            }
        }
    }

    /// All keys are gone: every tracking client is told, whatever it has read.
    pub fn invalidate_all(&mut self, clients: &Clients) {
        for client in clients.iter().filter(|client| client.tracking.get().on) {
            tell(clients, client, Invalid::All);
        }
        self.places.clear();
        self.entries.clear();
        self.items = 0;
    }

    /// Takes entries out of a table of more than `keys_max` keys (0: any number), as if their keys had changed.
    pub fn keep_within(&mut self, clients: &Clients, keys_max: usize, random: &mut Random) {
        if keys_max == 0 || self.entries.len() <= keys_max {
            self.behind = 0;
            return;
        }
        for _ in 0..EVICTED_PER_STEP * (self.behind + 1) {
            let at = random.below(self.entries.len());
            let key = Rc::clone(&self.entries[at].0);
            self.forget(clients, &key, 0);
            if self.entries.len() <= keys_max {
                self.behind = 0;
                return;
            }
        }
        self.behind += 1;
    }

    /// Tells clients in BCAST mode of the keys that have changed since this was last called.
    #[inline]
    pub fn broadcast(&mut self, clients: &Clients) {
        if !self.prefixes.is_empty() {
            self.broadcast_prefixes(clients);
        }
    }

    #[cold]
    fn broadcast_prefixes(&mut self, clients: &Clients) {
        for of_prefix in self.prefixes.values_mut() {
            let changed = std::mem::take(&mut of_prefix.changed);
            if changed.is_empty() {
                continue;
            }
            let all = write_keys(changed.keys());
            for client in of_prefix.clients.iter().filter_map(|id| clients.get(*id)) {
                if client.tracking.get().noloop {
                    let others = changed.iter().filter(|(_, by)| **by != client.id);
                    let others: Vec<&Name> = others.map(|(key, _)| key).collect();
                    if !others.is_empty() {
                        let written = write_keys(others.into_iter());
                        tell(clients, client, Invalid::Written(&written));
                    }
                } else {
                    tell(clients, client, Invalid::Written(&all));
                }
            }
        }
    }
}

fn write_keys<'k>(keys: impl ExactSizeIterator<Item = &'k Name>) -> Vec<u8> {
    let mut written = Vec::new();
    // Arrays and bulk strings are the same in both protocols.
    let mut reply = ReplyWriter::new(&mut written, Protocol::Resp2);
    reply.array(keys.len());
    keys.for_each(|key| reply.bulk(key));
    written
}

/// Tells a tracking client, or the one that it redirects to, if that can hear it.
fn tell(clients: &Clients, client: &Client, invalid: Invalid<'_>) {
    let mode = client.tracking.get();
    let target = match mode.redirect {
        0 => client,
        id => match clients.get(id) {
            Some(target) => target,
            None => {
                client.tracking.set(Mode {
                    broken: true,
                    ..mode
                });
                if client.resp3.get() {
                    client.post(|reply| {
                        reply.push(2);
                        reply.bulk(b"tracking-redir-broken");
                        reply.int(id as i64);
                    });
                }
                return;
            }
        },
    };
    let listens = mode.redirect != 0 && target.subscriber.get();
    if !target.resp3.get() && !listens {
        return;
    }
    target.post(|reply| {
        match reply.protocol() {
            Protocol::Resp3 => {
                reply.push(2);
                reply.bulk(b"invalidate");
            }
            Protocol::Resp2 => {
                reply.array(3);
                reply.bulk(b"message");
                reply.bulk(CHANNEL);
            }
        }
        match invalid {
            Invalid::Key(key) => {
                reply.array(1);
                reply.bulk(key);
            }
            Invalid::Written(keys) => reply.buffer().extend_from_slice(keys),
            Invalid::All => reply.null(),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::{Rules, User};

    fn client(clients: &mut Clients) -> Rc<Client> {
        let user = Rc::new(User::new(b"default", Rules::all()));
        let client = clients.add("a:1".into(), "b:2".into(), &user, 0);
        client.resp3.set(true);
        client
    }

    fn post_of(client: &Client) -> String {
        let mut out = Vec::new();
        client.take_post(&mut out);
        String::from_utf8(out).unwrap()
    }

    const ON: Mode = Mode {
        on: true,
        bcast: false,
        optin: false,
        optout: false,
        caching: false,
        noloop: false,
        broken: false,
        redirect: 0,
    };

    #[test]
    fn a_key_is_invalidated_once_for_each_who_read_it() {
        let (mut tracking, mut clients) = (Tracking::default(), Clients::default());
        let (one, two) = (client(&mut clients), client(&mut clients));
        tracking.enable(&one, ON, &[]);
        tracking.enable(&two, ON, &[]);
        tracking.remember(&one, [&b"a"[..], b"b", b"a"].into_iter());
        tracking.remember(&two, [&b"a"[..]].into_iter());
        assert_eq!((tracking.key_count(), tracking.item_count()), (2, 3));
        tracking.invalidate(&clients, b"a", 0, 0);
        tracking.invalidate(&clients, b"a", 0, 0);
        let push = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n";
        assert_eq!(post_of(&one), push);
        assert_eq!(post_of(&two), push);
        assert_eq!((tracking.key_count(), tracking.item_count()), (1, 1));
    }

    #[test]
    fn one_that_wants_no_echo_is_not_told_of_its_own_changes() {
        let (mut tracking, mut clients) = (Tracking::default(), Clients::default());
        let (one, two) = (client(&mut clients), client(&mut clients));
        let noloop = Mode { noloop: true, ..ON };
        tracking.enable(&one, noloop, &[]);
        let bcast = Mode {
            bcast: true,
            ..noloop
        };
        tracking.enable(&two, bcast, &[b"k"]);
        tracking.remember(&one, [&b"k1"[..]].into_iter());
        tracking.invalidate(&clients, b"k1", one.id, one.id);
        tracking.invalidate(&clients, b"k2", two.id, two.id);
        tracking.invalidate(&clients, b"x", one.id, one.id);
        tracking.broadcast(&clients);
        assert_eq!(post_of(&one), "");
        assert_eq!(
            post_of(&two),
            ">2\r\n$10\r\ninvalidate\r\n*1\r\n$2\r\nk1\r\n"
        );
        tracking.broadcast(&clients);
        assert_eq!(post_of(&two), "");
    }

    #[test]
    fn a_table_that_is_too_full_forgets_and_tells() {
        let (mut tracking, mut clients) = (Tracking::default(), Clients::default());
        let one = client(&mut clients);
        tracking.enable(&one, ON, &[]);
        for key in 0..5_u8 {
            tracking.remember(&one, [&[b'a' + key][..]].into_iter());
        }
        tracking.keep_within(&clients, 2, &mut Random::new(7));
        assert_eq!(tracking.key_count(), 2);
        assert_eq!(post_of(&one).matches("invalidate").count(), 3);
    }

    #[test]
    fn a_broken_redirection_is_told_to_the_client_itself() {
        let (mut tracking, mut clients) = (Tracking::default(), Clients::default());
        let (one, two) = (client(&mut clients), client(&mut clients));
        let mode = Mode {
            redirect: two.id,
            ..ON
        };
        tracking.enable(&one, mode, &[]);
        tracking.remember(&one, [&b"a"[..]].into_iter());
        clients.remove(two.id);
        tracking.invalidate(&clients, b"a", 0, 0);
        assert_eq!(
            post_of(&one),
            ">2\r\n$21\r\ntracking-redir-broken\r\n:2\r\n"
        );
        assert!(one.tracking.get().broken);
        tracking.disable(&one);
        assert!(!tracking.hears());
    }
}
