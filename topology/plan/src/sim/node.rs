//! A node of the simulated world: takes maps, feeds, imports, holds and lets go by the rules of the control
//! protocol. Its data are counters, one for each sampled slot.

use std::collections::BTreeMap;

use larder_wire::control::{
    FeedState, HOLD_MS_MAX, Import, ImportPhase, ImportState, MapPush, NodeJoin, NodeState,
};
use larder_wire::{Attempt, Epoch, NodeId, Offset, Role, Slot, SlotSet};

use crate::event::PushResult;

pub(crate) type Data = BTreeMap<Slot, u64>;

#[derive(Clone, Debug)]
pub(crate) struct Feed {
    pub(crate) slots: SlotSet,
    pub(crate) target: NodeId,
    /// The hold begins at; then it ends at.
    pub(crate) holds_at: u64,
    pub(crate) holding_until: Option<u64>,
}

/// What came of being asked for a feed.
pub(crate) enum Feeding {
    Begun,
    Late,
    NotMine,
}

#[derive(Clone, Debug)]
pub(crate) struct Taking {
    pub(crate) import: Import,
    pub(crate) ready: Option<Data>,
    pub(crate) failed: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct SimNode {
    pub(crate) id: NodeId,
    number: u8,
    life: u8,
    pub(crate) up: bool,
    pub(crate) epoch: Epoch,
    pub(crate) slots: SlotSet,
    pub(crate) data: Data,
    pub(crate) feeds: BTreeMap<Attempt, Feed>,
    pub(crate) imports: BTreeMap<Attempt, Taking>,
    /// The newest attempt that it was told to import.
    newest: Attempt,
    newest_fed: Attempt,
    /// Attempts whose end the topology awaits.
    pub(crate) awaited: Vec<Attempt>,
}

impl SimNode {
    pub(crate) fn new(number: u8) -> SimNode {
        SimNode {
            id: NodeId::from_bytes([number; 20]),
            number,
            life: 1,
            up: true,
            epoch: Epoch(0),
            slots: SlotSet::new(),
            data: Data::new(),
            feeds: BTreeMap::new(),
            imports: BTreeMap::new(),
            newest: Attempt(0),
            newest_fed: Attempt(0),
            awaited: Vec::new(),
        }
    }

    /// Times that it has started.
    pub(crate) fn lives(&self) -> usize {
        usize::from(self.life)
    }

    pub(crate) fn run_id(&self) -> NodeId {
        let mut bytes = [self.life; 20];
        bytes[0] = self.number;
        NodeId::from_bytes(bytes)
    }

    pub(crate) fn crash(&mut self) {
        let life = self.life + 1;
        *self = SimNode::new(self.number);
        self.life = life;
        self.up = false;
    }

    pub(crate) fn join(&self) -> NodeJoin {
        NodeJoin {
            id: self.id,
            run_id: self.run_id(),
            addr: format!("10.0.0.{}:7000", self.number),
            http: None,
            zone: None,
            maxmemory: 0,
            data: None,
            release: "0.1.0".into(),
        }
    }

    pub(crate) fn state(&self, now: u64) -> NodeState {
        let imports = self.imports.iter().map(|(&attempt, taking)| ImportState {
            attempt,
            phase: taking.phase(),
            keys: 1,
            bytes: 1,
            slots_done: 0,
        });
        let feeds = self.feeds.iter().map(|(&attempt, feed)| FeedState {
            attempt,
            keys_total: 1,
            keys_sent: 1,
            bytes_sent: 1,
            holding: feed.holding_until.is_some(),
        });
        NodeState {
            id: self.id,
            run_id: self.run_id(),
            epoch: self.epoch,
            role: Role::Primary,
            slots: self.slots.clone(),
            keys: self.data.len() as u64,
            used_memory: 1 << 20,
            maxmemory: 0,
            commands: 0,
            cpu_us: 0,
            clients: 0,
            uptime_ms: now,
            imports: imports.collect(),
            feeds: feeds.collect(),
            replication: None,
        }
    }

    pub(crate) fn takes_writes(&self, slot: Slot) -> bool {
        let held = self
            .feeds
            .values()
            .any(|feed| feed.holding_until.is_some() && feed.slots.contains(slot));
        self.up && self.slots.contains(slot) && !held
    }

    /// A feed that holds, or held, is over: writes go on.
    pub(crate) fn let_go(&mut self, attempt: Attempt) -> Option<Feed> {
        self.feeds.remove(&attempt)
    }

    pub(crate) fn take_map(&mut self, push: &MapPush) -> PushResult {
        let map = &push.map;
        if map.epoch < self.epoch {
            return PushResult::Stale(self.epoch);
        }
        if map.epoch == self.epoch {
            return PushResult::Accepted;
        }
        for attempt in &push.handovers {
            let holds = self
                .feeds
                .get(attempt)
                .is_some_and(|feed| feed.holding_until.is_some());
            if !holds {
                return PushResult::LetGo(*attempt);
            }
        }
        self.epoch = map.epoch;
        let slots = map.slots_of(self.id);
        let gained = slots.difference(&self.slots);
        for taking in self.imports.values() {
            let Some(data) = &taking.ready else {
                continue;
            };
            for (slot, count) in data {
                if gained.contains(*slot) {
                    self.data.insert(*slot, *count);
                }
            }
        }
        self.imports
            .retain(|_, taking| !taking.import.slots.is_subset(&slots));
        self.feeds.retain(|_, feed| feed.slots.is_subset(&slots));
        self.data.retain(|slot, _| slots.contains(*slot));
        self.slots = slots;
        PushResult::Accepted
    }

    /// Attempts only grow: one that comes again, or after a newer one, comes late and changes nothing.
    pub(crate) fn import(&mut self, import: Import) {
        if import.attempt <= self.newest {
            return;
        }
        self.newest = import.attempt;
        self.imports
            .retain(|_, taking| taking.import.slots.is_disjoint(&import.slots));
        let taking = Taking {
            import: import.clone(),
            ready: None,
            failed: false,
        };
        self.imports.insert(import.attempt, taking);
    }

    /// Begins a feed. An attempt is fed once: asked again, or after a newer one, it has come late.
    pub(crate) fn feed(&mut self, import: &Import, target: NodeId, holds_at: u64) -> Feeding {
        if import.attempt <= self.newest_fed {
            return Feeding::Late;
        }
        self.newest_fed = import.attempt;
        if !import.slots.is_subset(&self.slots) {
            return Feeding::NotMine;
        }
        self.feeds
            .retain(|_, feed| feed.slots.is_disjoint(&import.slots));
        let feed = Feed {
            slots: import.slots.clone(),
            target,
            holds_at,
            holding_until: None,
        };
        self.feeds.insert(import.attempt, feed);
        Feeding::Begun
    }

    /// The hold begins: what is to be sent with the cut.
    pub(crate) fn hold(
        &mut self,
        attempt: Attempt,
        now: u64,
        hold_ms: u64,
    ) -> Option<(NodeId, Data)> {
        assert!(hold_ms <= HOLD_MS_MAX, "a hold is bounded");
        let feed = self.feeds.get_mut(&attempt)?;
        feed.holding_until = Some(now + hold_ms);
        let of_feed = self
            .data
            .iter()
            .filter(|(slot, _)| feed.slots.contains(**slot));
        Some((
            feed.target,
            of_feed.map(|(slot, count)| (*slot, *count)).collect(),
        ))
    }
}

impl Taking {
    pub(crate) fn phase(&self) -> ImportPhase {
        match (self.failed, &self.ready) {
            (true, _) => ImportPhase::Failed {
                reason: "the feed broke".into(),
            },
            (false, Some(_)) => ImportPhase::Ready { offset: Offset(1) },
            (false, None) => ImportPhase::Copying,
        }
    }
}
