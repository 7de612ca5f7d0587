//! Who follows this node's journal, and how far each has come.
//!
//! A follower is one connection of one replica. What it acknowledged only grows; a replica that comes again takes the place of its former
//! connection. Whether it is in step is what the map says, of which this is told. Knows no clock: times are the node's monotonic milliseconds.

use larder_wire::replication::LinkPhase;
use larder_wire::{ClusterMap, NodeId, Offset};

/// One connection of a replica, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// A replica that is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follower {
    pub link: LinkId,
    pub node: NodeId,
    pub phase: LinkPhase,
    /// It has everything before this; 0 while it is loading all data.
    pub acked: Offset,
    /// Everything before this is on its disk; `None`: it has not said.
    pub synced: Option<Offset>,
    /// By the map that this node has.
    pub in_step: bool,
    /// When the ping left that it answered last.
    pub last_ping_answered_sent_at_ms: Option<u64>,
    /// When anything came from it.
    pub last_heard_ms: u64,
}

/// All replicas that are connected.
#[derive(Debug, Default)]
pub struct Followers {
    last_link: u64,
    /// In the order in which they came.
    all: Vec<Follower>,
    in_step: Vec<NodeId>,
}

impl Followers {
    /// A replica has asked for the stream.
    pub(crate) fn begin(&mut self, node: NodeId, phase: LinkPhase, now_ms: u64) -> LinkId {
        self.all.retain(|follower| follower.node != node);
        self.last_link += 1;
        let link = LinkId(self.last_link);
        self.all.push(Follower {
            link,
            node,
            phase,
            acked: Offset(0),
            synced: None,
            in_step: self.in_step.contains(&node),
            last_ping_answered_sent_at_ms: None,
            last_heard_ms: now_ms,
        });
        link
    }

    /// The connection is gone.
    pub(crate) fn end(&mut self, link: LinkId) {
        self.all.retain(|follower| follower.link != link);
    }

    pub(crate) fn set_phase(&mut self, link: LinkId, phase: LinkPhase) {
        if let Some(follower) = self.find_mut(link) {
            follower.phase = phase;
        }
    }

    /// Something came from a replica: what it has, and the ping that it answers, named by when that was sent. True when it has more
    /// than before.
    pub(crate) fn heard(
        &mut self,
        link: LinkId,
        acked: Offset,
        ping_sent_at_ms: Option<u64>,
        now_ms: u64,
    ) -> bool {
        let Some(follower) = self.find_mut(link) else {
            return false;
        };
        follower.last_heard_ms = now_ms;
        // A replica that answers what is not sent yet is not believed.
        let answered = ping_sent_at_ms.filter(|sent| *sent <= now_ms);
        follower.last_ping_answered_sent_at_ms =
            follower.last_ping_answered_sent_at_ms.max(answered);
        let more = acked > follower.acked;
        follower.acked = follower.acked.max(acked);
        more
    }

    pub(crate) fn synced(&mut self, link: LinkId, synced: Offset) {
        if let Some(follower) = self.find_mut(link) {
            follower.synced = follower.synced.max(Some(synced));
        }
    }

    /// A map was taken.
    pub(crate) fn settle_in_step(&mut self, map: &ClusterMap, me: NodeId) {
        self.in_step = match map.find_node(me) {
            Some((shard, _)) => shard
                .replicas()
                .filter(|node| node.in_step)
                .map(|node| node.id)
                .collect(),
            None => Vec::new(),
        };
        for follower in &mut self.all {
            follower.in_step = self.in_step.contains(&follower.node);
        }
    }

    pub fn get(&self, link: LinkId) -> Option<&Follower> {
        self.all.iter().find(|follower| follower.link == link)
    }

    fn find_mut(&mut self, link: LinkId) -> Option<&mut Follower> {
        self.all.iter_mut().find(|follower| follower.link == link)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Follower> {
        self.all.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Replicas that the map calls in step, connected or not.
    pub fn in_step_by_map(&self) -> usize {
        self.in_step.len()
    }

    /// What at least `n` replicas in step have; everything, when none has to.
    pub fn acked_by_in_step(&self, n: usize) -> Offset {
        if n == 0 {
            return Offset(u64::MAX);
        }
        let in_step = self.all.iter().filter(|follower| follower.in_step);
        let mut acked: Vec<Offset> = in_step.map(|follower| follower.acked).collect();
        acked.sort_unstable_by(|one, other| other.cmp(one));
        acked.get(n - 1).copied().unwrap_or(Offset(0))
    }

    /// How many replicas, in step or not, have everything before `offset`.
    pub fn count_that_have(&self, offset: Offset) -> usize {
        self.streaming().filter(|it| it.acked >= offset).count()
    }

    /// How many have it on their disks.
    pub fn count_that_synced(&self, offset: Offset) -> usize {
        let has = |it: &&Follower| it.synced.is_some_and(|synced| synced >= offset);
        self.streaming().filter(has).count()
    }

    fn streaming(&self) -> impl Iterator<Item = &Follower> {
        let followers = self.all.iter();
        followers.filter(|it| it.phase == LinkPhase::Streaming)
    }
}

#[cfg(test)]
mod tests {
    use larder_wire::{Epoch, NodeEntry, Role, ShardEntry, ShardId};

    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 20])
    }

    fn map(in_step: [bool; 3]) -> ClusterMap {
        let node = |n: u8| NodeEntry {
            id: id(n),
            addr: format!("127.0.0.1:{}", 7000 + u16::from(n)),
            role: if n == 0 { Role::Primary } else { Role::Replica },
            zone: None,
            in_step: n > 0 && in_step[usize::from(n) - 1],
        };
        let shard = ShardEntry {
            id: ShardId(1),
            slots: larder_wire::SlotSet::full(),
            nodes: (0..4).map(node).collect(),
        };
        ClusterMap::new("larder", Epoch(1), vec![shard]).unwrap()
    }

    #[test]
    fn what_replicas_in_step_have_is_counted_and_of_others_nothing() {
        let mut followers = Followers::default();
        followers.settle_in_step(&map([true, true, false]), id(0));
        let links: Vec<LinkId> = (1..4)
            .map(|n| followers.begin(id(n), LinkPhase::Streaming, 5))
            .collect();
        for (link, offset) in links.iter().zip([10, 20, 99]) {
            assert!(followers.heard(*link, Offset(offset), None, 6));
        }
        assert_eq!(followers.acked_by_in_step(0), Offset(u64::MAX));
        assert_eq!(followers.acked_by_in_step(1), Offset(20));
        assert_eq!(followers.acked_by_in_step(2), Offset(10));
        assert_eq!(followers.acked_by_in_step(3), Offset(0));
        assert_eq!(followers.count_that_have(Offset(20)), 2);
        followers.settle_in_step(&map([true, false, true]), id(0));
        assert_eq!(followers.acked_by_in_step(1), Offset(99));
    }

    #[test]
    fn what_is_acknowledged_only_grows_and_a_ping_of_the_future_is_not_answered() {
        let mut followers = Followers::default();
        let link = followers.begin(id(1), LinkPhase::Streaming, 5);
        assert!(followers.heard(link, Offset(7), Some(100), 100));
        assert!(!followers.heard(link, Offset(3), Some(900), 120));
        let follower = followers.get(link).unwrap();
        assert_eq!(follower.acked, Offset(7));
        assert_eq!(follower.last_ping_answered_sent_at_ms, Some(100));
        assert_eq!(follower.last_heard_ms, 120);
    }

    #[test]
    fn a_replica_that_comes_again_takes_the_place_of_its_former_connection() {
        let mut followers = Followers::default();
        let old = followers.begin(id(1), LinkPhase::Streaming, 5);
        let new = followers.begin(id(1), LinkPhase::Full, 6);
        assert_eq!(followers.iter().len(), 1);
        assert!(!followers.heard(old, Offset(9), None, 7));
        followers.end(old);
        assert_eq!(followers.get(new).unwrap().phase, LinkPhase::Full);
    }
}
