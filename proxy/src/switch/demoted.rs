//! Nodes that have lost the primary's place to another: what they were sent and have not answered.
//!
//! After a planned change such a node answers at once; when it crashed its connections break; but one that has vanished, or is frozen, says nothing,
//! and the kernel would wait for minutes. So what it owes is settled as by a lost connection as soon as the map says that another serves and the
//! node keeps silent: reads and what was never written to it go out again, writes get an error that says that they may have been applied.
//!
//! A node that still takes the old primary for one is not followed to it at once: the map that demoted it is known here already.

use std::collections::{BTreeMap, BTreeSet};

use larder_wire::{ClusterMap, ShardId};

use super::link::Kind;
use super::{Action, LinkKey, Switch};
use crate::limits::{DEMOTED_BELIEVED_AFTER, DEMOTED_OWES_MS_MAX, DEMOTED_SILENCE_MS_MAX};

/// A connection to a demoted node on which answers are owed.
struct Owing {
    link: LinkKey,
    /// Answers that it had given when it was looked at.
    answered: u64,
    /// In milliseconds.
    settle_ms: u64,
}

#[derive(Default)]
pub(super) struct Demoted {
    /// By the last map.
    primaries: BTreeMap<ShardId, u16>,
    nodes: BTreeSet<u16>,
    owing: Vec<Owing>,
}

impl Demoted {
    /// When the next one has been silent for too long, in milliseconds.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.owing.iter().map(|owing| owing.settle_ms).min()
    }
}

impl Switch {
    /// There is a new map, and `primaries` are those of it. A node whose slots have all moved to other shards answers what it was sent: it is not meant here.
    pub(super) fn demote(&mut self, map: &ClusterMap) {
        let before = std::mem::take(&mut self.demoted.primaries);
        for shard in map.shards() {
            let primary = shard.primary().map(|node| self.node_at(&node.addr));
            if let Some(&old) = before.get(&shard.id)
                && primary != Some(old)
            {
                self.demoted.nodes.insert(old);
            }
            self.demoted
                .primaries
                .extend(primary.map(|node| (shard.id, node)));
        }
        for node in self.demoted.primaries.values() {
            self.demoted.nodes.remove(node);
        }
        let demoted = std::mem::take(&mut self.demoted.nodes);
        let known: Vec<LinkKey> = self.demoted.owing.iter().map(|owing| owing.link).collect();
        for key in self.links.keys() {
            let Some(link) = self.links.get(key) else {
                continue;
            };
            if demoted.contains(&link.node) && !link.is_idle() && !known.contains(&key) {
                let owing = self.owing(key);
                self.demoted.owing.extend(owing);
            }
        }
        self.demoted.nodes = demoted;
        self.settle_demoted();
    }

    fn owing(&mut self, key: LinkKey) -> Option<Owing> {
        let (now_us, now_ms) = (self.now_us, self.now_ms());
        let link = self.links.get_mut(key)?;
        let answered = link.answered;
        let up = link.up;
        let front = link.front()?;
        let since_us = now_us.saturating_sub(front.sent_us);
        // A command that blocks owes its answer for as long as its client wants.
        let may_owe = front.tag.kind == Kind::Park;
        // Nothing has left on a connection that is not there yet.
        let settle_ms = if !up || (since_us / 1000 >= DEMOTED_OWES_MS_MAX && !may_owe) {
            now_ms
        } else {
            now_ms + DEMOTED_SILENCE_MS_MAX
        };
        Some(Owing {
            link: key,
            answered,
            settle_ms,
        })
    }

    /// Time has gone on: whoever has been silent for too long has lost what it was sent.
    pub(super) fn settle_demoted(&mut self) {
        let now_ms = self.now_ms();
        let mut settled = false;
        for owing in std::mem::take(&mut self.demoted.owing) {
            let Some(link) = self.links.get(owing.link) else {
                continue;
            };
            if !self.demoted.nodes.contains(&link.node) {
                continue;
            }
            if link.is_idle() {
                // One of a client's own may have a WATCH in force, and goes with it.
                if !link.own {
                    self.close_link(owing.link);
                }
            } else if link.answered != owing.answered {
                let again = self.owing(owing.link);
                self.demoted.owing.extend(again);
            } else if owing.settle_ms <= now_ms {
                self.link_lost(owing.link, "another node has taken its place");
                self.actions.push(Action::Close(owing.link));
                settled = true;
            } else {
                self.demoted.owing.push(owing);
            }
        }
        if settled {
            // The pause is for the node that was lost; another one is there already.
            self.gates.wake_all();
            self.wake_retries();
            self.pump();
        }
    }

    /// Whether a pointer to this node is older than the map that is known.
    pub(super) fn is_outdated(&self, owner: u16, bounces: u8) -> bool {
        bounces < DEMOTED_BELIEVED_AFTER && self.demoted.nodes.contains(&owner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use larder_runtime::protect::Admission;
    use larder_wire::resp::{OwnedRequest, RequestScanner};
    use larder_wire::{Epoch, NodeEntry, NodeId, Role, ShardEntry, SlotSet};

    use super::super::{Backend, ClientKey, Flow};
    use super::*;
    use crate::metrics::ThreadCounts;
    use crate::registry::ClientInfo;
    use crate::shared::Shared;

    const OLD: &str = "node:1";
    const NEW: &str = "node:2";
    /// When the clock starts, in milliseconds.
    const START_MS: u64 = 1000;

    struct World {
        switch: Switch,
        client: ClientKey,
        epoch: u64,
        now_ms: u64,
    }

    fn entry(addr: &str, role: Role) -> NodeEntry {
        NodeEntry {
            id: NodeId::from_bytes([addr.as_bytes()[5]; 20]),
            addr: addr.to_owned(),
            role,
            zone: None,
            in_step: true,
        }
    }

    impl World {
        /// A shard of two nodes, of which `OLD` is the primary.
        fn new() -> World {
            let shared = Arc::new(Shared::new(NodeId::from_bytes([9; 20]), None, 1, 100));
            let counts = Arc::new(ThreadCounts::new());
            let mut switch = Switch::new(shared, counts, Backend::Larder, 1);
            let client = switch.add_client(ClientInfo::for_tests(1), Admission::Open);
            let mut world = World {
                switch,
                client,
                epoch: 0,
                now_ms: START_MS,
            };
            world.pass(0);
            world.primary(OLD);
            world
        }

        fn primary(&mut self, addr: &str) {
            self.epoch += 1;
            let role = |node: &str| match node == addr {
                true => Role::Primary,
                false => Role::Replica,
            };
            let shard = ShardEntry {
                id: ShardId(1),
                slots: larder_wire::Slot::all().collect::<SlotSet>(),
                nodes: vec![entry(OLD, role(OLD)), entry(NEW, role(NEW))],
            };
            let map = ClusterMap::new("test", Epoch(self.epoch), vec![shard]);
            self.switch.take_map(&map.unwrap());
        }

        fn pass(&mut self, ms: u64) {
            self.now_ms += ms;
            self.switch.set_now(self.now_ms * 1000);
            self.switch.tick();
        }

        fn send(&mut self, line: &str) {
            let words: Vec<&str> = line.split(' ').collect();
            let bytes = OwnedRequest::from_args(&words).into_bytes();
            let mut scanner = RequestScanner::new();
            scanner.scan(&bytes).unwrap();
            let request = scanner.request(&bytes);
            assert_eq!(self.switch.request(self.client, &request), Flow::Taken);
        }

        /// The connections that are to be opened, by address; each comes up at once.
        fn opened(&mut self) -> Vec<(String, LinkKey)> {
            let actions = std::mem::take(&mut self.switch.actions);
            let opened = actions.into_iter().filter_map(|action| match action {
                Action::Open { link, addr, .. } => Some((addr, link)),
                Action::Close(_)
                | Action::Refresh
                | Action::Forward { .. }
                | Action::AskTopology { .. } => None,
            });
            let opened: Vec<(String, LinkKey)> = opened.collect();
            for (_, link) in &opened {
                self.switch.link_up(*link);
            }
            opened
        }

        fn only_opened(&mut self, addr: &str) -> LinkKey {
            let opened = self.opened();
            assert_eq!(opened.len(), 1, "{opened:?}");
            assert_eq!(opened[0].0, addr);
            opened[0].1
        }

        /// What is written to the node.
        fn written(&mut self, link: LinkKey) -> String {
            let entry = self.switch.link(link).expect("the link is there");
            let bytes = entry.unwritten().to_vec();
            entry.wrote(bytes.len());
            let words = String::from_utf8(bytes).unwrap();
            let words = words
                .split("\r\n")
                .filter(|word| !word.is_empty() && !word.starts_with(['*', '$']));
            words.collect::<Vec<_>>().join(" ")
        }

        fn answers(&mut self, link: LinkKey, reply: &str) {
            self.switch.reply(link, reply.as_bytes()).unwrap();
            self.switch.pump();
        }

        fn heard(&mut self) -> String {
            let client = self.switch.client(self.client).unwrap();
            String::from_utf8(std::mem::take(&mut client.out)).unwrap()
        }
    }

    #[test]
    fn what_a_silent_old_primary_was_sent_is_settled_soon_after_the_map_names_another() {
        let mut world = World::new();
        world.send("SET a 1");
        world.send("GET a");
        let old = world.only_opened(OLD);
        assert_eq!(world.written(old), "SET a 1 GET a");
        world.primary(NEW);
        world.send("SET a 2");
        world.pass(DEMOTED_SILENCE_MS_MAX - 1);
        assert_eq!(world.heard(), "", "it may yet answer");
        world.pass(1);
        let heard = world.heard();
        assert!(
            heard.contains("may or may not have been applied"),
            "{heard}"
        );
        let new = world.only_opened(NEW);
        assert_eq!(world.written(new), "GET a", "the read goes first, alone");
        world.answers(new, "$1\r\n1\r\n");
        assert_eq!(world.written(new), "SET a 2");
        world.answers(new, "+OK\r\n");
        assert_eq!(world.heard(), "$1\r\n1\r\n+OK\r\n");
    }

    #[test]
    fn what_it_has_owed_for_long_is_settled_at_once() {
        let mut world = World::new();
        world.send("GET a");
        let old = world.only_opened(OLD);
        assert_eq!(world.written(old), "GET a");
        world.pass(DEMOTED_OWES_MS_MAX);
        world.primary(NEW);
        let new = world.only_opened(NEW);
        assert_eq!(world.written(new), "GET a");
    }

    #[test]
    fn what_waits_for_a_connection_to_the_old_primary_goes_to_the_new_one_at_once() {
        let mut world = World::new();
        world.send("SET a 1");
        let actions = std::mem::take(&mut world.switch.actions);
        assert!(matches!(&actions[..], [Action::Open { addr, .. }] if addr == OLD));
        world.primary(NEW);
        let new = world.only_opened(NEW);
        assert_eq!(world.written(new), "SET a 1");
    }

    #[test]
    fn an_old_primary_that_answers_is_heard_out() {
        let mut world = World::new();
        world.send("SET a 1");
        world.send("SET a 2");
        world.send("SET a 3");
        let old = world.only_opened(OLD);
        assert_eq!(world.written(old), "SET a 1 SET a 2 SET a 3");
        world.primary(NEW);
        for _ in 0..2 {
            world.pass(DEMOTED_SILENCE_MS_MAX - 1);
            world.answers(old, "+OK\r\n");
            world.pass(1);
        }
        assert_eq!(world.heard(), "+OK\r\n+OK\r\n");
        let slot = larder_wire::slot_of(b"a");
        world.answers(old, &format!("-MOVED {slot} {NEW}\r\n"));
        world.pass(1);
        let new = world.only_opened(NEW);
        assert_eq!(world.written(new), "SET a 3");
    }

    #[test]
    fn a_replica_that_does_not_know_yet_that_it_is_promoted_is_asked_again_and_not_followed_back() {
        let mut world = World::new();
        world.send("GET a");
        let old = world.only_opened(OLD);
        world.written(old);
        world.answers(old, "$-1\r\n");
        world.primary(NEW);
        world.send("SET a 1");
        let new = world.only_opened(NEW);
        let slot = larder_wire::slot_of(b"a");
        for _ in 0..DEMOTED_BELIEVED_AFTER {
            assert_eq!(world.written(new), "SET a 1");
            world.answers(new, &format!("-MOVED {slot} {OLD}\r\n"));
            assert!(world.opened().is_empty(), "nobody goes back");
            world.pass(crate::limits::RETRY_MS_MAX);
        }
        // The topology may be out of reach and the old one be primary again.
        assert_eq!(world.written(new), "SET a 1");
        world.answers(new, &format!("-MOVED {slot} {OLD}\r\n"));
        world.pass(crate::limits::RETRY_MS_MAX);
        let old = world.only_opened(OLD);
        assert_eq!(world.written(old), "SET a 1");
    }
}
