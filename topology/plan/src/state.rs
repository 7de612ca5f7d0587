//! What the store of record keeps of one cluster: all that must survive the topology's death.
//! Small, ordered, versioned. It refuses to know who is reachable or how far a feed is.

use std::collections::{BTreeMap, BTreeSet};

use larder_wire::control::NodeJoin;
use larder_wire::forwarding::Forwarding;
use larder_wire::replication::{Place, WriteMode};
use larder_wire::{
    Attempt, ClusterMap, Epoch, NodeEntry, NodeId, Role, ShardEntry, ShardId, SlotSet,
};
use serde::{Deserialize, Serialize};

use crate::FINISHED_MAX;
use crate::scale::ScaleSettings;

/// The version of the stored state that this build writes and reads.
pub const STATE_VERSION: u32 = 1;

/// What the operator wants of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Shards that the cluster forms with, later those it was last resharded to.
    pub shards: u32,
    /// Replicas of each shard.
    pub replicas: u32,
    /// When a write is answered.
    #[serde(default)]
    pub writes: WriteMode,
    /// What becomes of a shard that has no node left.
    #[serde(default)]
    pub lost_shards: LostShards,
    #[serde(default)]
    pub scale: ScaleSettings,
}

/// What becomes of the slots of a shard whose every node is gone. As a word: `wait`, `empty` or `empty:SECONDS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LostShards {
    /// They are not served till a node of the shard is back.
    #[default]
    Wait,
    /// Spare nodes serve them, without data, once all processes of the shard have been gone for so long.
    Empty { after_ms: u64 },
}

/// The word that [`LostShards`] is read from.
impl std::fmt::Display for LostShards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LostShards::Wait => f.write_str("wait"),
            LostShards::Empty { after_ms } => write!(f, "empty:{}", after_ms / 1000),
        }
    }
}

impl std::str::FromStr for LostShards {
    type Err = String;

    fn from_str(text: &str) -> Result<LostShards, String> {
        let (word, seconds) = match text.split_once(':') {
            Some((word, seconds)) => (word, Some(seconds)),
            None => (text, None),
        };
        let after_ms = match seconds.map(str::parse::<u64>) {
            None => Some(crate::LOST_SHARD_WAIT_MS),
            Some(Ok(seconds)) => seconds.checked_mul(1000),
            Some(Err(_)) => None,
        };
        match (word, seconds, after_ms) {
            ("wait", None, _) => Ok(LostShards::Wait),
            ("empty", _, Some(after_ms)) => Ok(LostShards::Empty { after_ms }),
            (..) => Err(format!(
                "{text} says nothing of lost shards (choose wait, empty or empty:SECONDS)"
            )),
        }
    }
}

impl Settings {
    /// Nodes that serve.
    pub fn nodes(&self) -> u32 {
        self.shards * (1 + self.replicas)
    }

    /// A line that says what cannot be served, and what can.
    pub fn check(&self) -> Result<(), String> {
        if self.shards == 0 || self.shards > crate::SHARDS_MAX {
            return Err(format!(
                "{} shards are not possible (choose 1 to {} with --shards)",
                self.shards,
                crate::SHARDS_MAX
            ));
        }
        if self.replicas > crate::REPLICAS_MAX {
            return Err(format!(
                "{} replicas of each shard are not possible (choose 0 to {})",
                self.replicas,
                crate::REPLICAS_MAX
            ));
        }
        Ok(())
    }
}

/// A node as it last joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub run_id: NodeId,
    pub addr: String,
    #[serde(default)]
    pub http: Option<String>,
    #[serde(default)]
    pub zone: Option<String>,
    /// Bytes; 0 is no limit.
    #[serde(default)]
    pub maxmemory: u64,
    pub release: String,
    /// What this life loaded from files of its own when it started.
    #[serde(default)]
    pub data: Option<Place>,
    /// Its former lives, the latest last: what is still said in their name is passed over.
    #[serde(default)]
    pub past_runs: Vec<NodeId>,
    /// Another node has taken its address: it will not come back.
    #[serde(default)]
    pub gone: bool,
}

impl Node {
    pub(crate) fn joined(join: &NodeJoin) -> Node {
        Node {
            run_id: join.run_id,
            addr: join.addr.clone(),
            http: join.http.clone(),
            zone: join.zone.clone(),
            maxmemory: join.maxmemory,
            release: join.release.clone(),
            data: join.data,
            past_runs: Vec::new(),
            gone: false,
        }
    }
}

/// A map that takes slots from a source which has not yet said whether it still held them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    pub attempt: Attempt,
    pub source: NodeId,
    pub target: NodeId,
    pub map: ClusterMap,
    /// The target has lost its memory since: the source was told to let go.
    #[serde(default)]
    pub target_lost: bool,
    /// The source is lost: the slots go back to its shard, unless the target has the map from it already.
    #[serde(default)]
    pub giving_back: bool,
}

/// A shard on its way to another primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failover {
    /// Numbers only grow, over all shards.
    pub number: u64,
    pub primary: NodeId,
    /// The life of it that is suspected, or asked to yield.
    pub run_id: NodeId,
    /// The highest epoch that was given out when it began: a fence holds until a higher one.
    pub epoch: Epoch,
    /// Replicas that may be in step, whatever map the primary has, and their lives: none of them may be passed over.
    #[serde(default)]
    pub witnesses: BTreeMap<NodeId, NodeId>,
    #[serde(flatten)]
    pub kind: FailoverKind,
    /// An operator has decided to go on without witnesses that are missing.
    #[serde(default)]
    pub forced: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum FailoverKind {
    Suspected {
        reason: String,
        /// It is alive, and reaches none of the replicas whose word it needs.
        #[serde(default)]
        parted: bool,
    },
    Planned {
        to: NodeId,
        tries: u32,
    },
}

/// A map that makes `to` the primary, while the old one has not yet said whether it still held its writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Yielding {
    pub shard: ShardId,
    pub number: u64,
    pub primary: NodeId,
    pub to: NodeId,
    pub map: ClusterMap,
}

/// One try to move `slots`, from the moment before the import is asked for until the source has
/// answered the handover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    pub from: ShardId,
    pub to: ShardId,
    pub source: NodeId,
    pub target: NodeId,
    pub slots: SlotSet,
}

/// What an operation has left to move between two shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    pub from: ShardId,
    pub to: ShardId,
    /// Slots that are still the source's, those of the attempt under way included.
    pub slots: SlotSet,
    pub slots_total: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum OperationKind {
    Reshard { shards: u32 },
    Move { slots: SlotSet, to: NodeId },
    Rebalance,
}

/// What an operator asked for and is not done yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    pub id: u64,
    #[serde(flatten)]
    pub kind: OperationKind,
    /// False while nodes are missing: then there are no moves yet.
    pub planned: bool,
    pub moves: Vec<Move>,
    /// Shards that leave the cluster once they are empty.
    #[serde(default)]
    pub leaving: Vec<ShardId>,
    #[serde(default)]
    pub keys_moved: u64,
    #[serde(default)]
    pub bytes_moved: u64,
    #[serde(default)]
    pub failures: u32,
}

impl Failover {
    pub(crate) fn is_parted(&self) -> bool {
        match self.kind {
            FailoverKind::Suspected { parted, .. } => parted,
            FailoverKind::Planned { .. } => false,
        }
    }
}

impl Operation {
    pub fn slots_total(&self) -> u32 {
        self.moves.iter().map(|part| part.slots_total).sum()
    }

    pub fn slots_left(&self) -> u32 {
        self.moves.iter().map(|part| part.slots.len() as u32).sum()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "outcome")]
pub enum Outcome {
    Done,
    /// Could not be begun, or another operation took its place.
    Dropped {
        reason: String,
    },
}

/// An operation that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    pub id: u64,
    #[serde(flatten)]
    pub kind: OperationKind,
    #[serde(flatten)]
    pub outcome: Outcome,
    pub slots_moved: u32,
    pub keys_moved: u64,
    pub bytes_moved: u64,
    pub failures: u32,
}

/// Counted since the cluster was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub moves_finished: u64,
    pub moves_failed: u64,
    pub slots_moved: u64,
    pub keys_moved: u64,
    pub bytes_moved: u64,
    /// Times that a node which owned slots came back without its memory, and nobody else had its data.
    pub data_losses: u64,
    /// Primaries that were replaced because they were lost, and by order.
    #[serde(default)]
    pub failovers: u64,
    #[serde(default)]
    pub failovers_planned: u64,
    /// Begun, and not carried out: the primary answered again, or would not yield.
    #[serde(default)]
    pub failovers_called_off: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub version: u32,
    pub cluster: String,
    pub settings: Settings,
    /// The settled map: what everyone may be given. Epoch 0 until the cluster is formed.
    pub map: ClusterMap,
    #[serde(default)]
    pub handover: Option<Handover>,
    #[serde(default)]
    pub failovers: BTreeMap<ShardId, Failover>,
    #[serde(default)]
    pub yielding: Option<Yielding>,
    /// The highest epoch that was given to a node and did not become the settled map's.
    #[serde(default)]
    pub spent: Epoch,
    /// Replicas whose mark of being in step was taken away by the map of this epoch, until their primary has that
    /// map (as long as it has not, it may still answer writes that only they have) and, in `safe`, another that is
    /// marked has all that the primary had then.
    #[serde(default)]
    pub fading: BTreeMap<ShardId, BTreeMap<NodeId, Epoch>>,
    pub nodes: BTreeMap<NodeId, Node>,
    #[serde(default)]
    pub operation: Option<Operation>,
    #[serde(default)]
    pub attempts: BTreeMap<Attempt, AttemptRecord>,
    /// The latest last, at most [`FINISHED_MAX`].
    #[serde(default)]
    pub finished: Vec<Finished>,
    pub next_shard: u32,
    pub next_attempt: u64,
    pub next_operation: u64,
    /// Of the last failover; 0 before the first.
    #[serde(default)]
    pub last_failover: u64,
    #[serde(default)]
    pub counts: Counts,
    /// The old server that proxies forward to while it is copied from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarding: Option<Forwarding>,
}

/// Why a stored state cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error(
        "the record of the cluster is of version {found}, this larder reads up to {STATE_VERSION} (use the newer larder that wrote it)"
    )]
    Newer { found: u32 },
    #[error(
        "the record of the cluster is damaged: {0} (restore the data directory from a backup, or start with an empty one)"
    )]
    Damaged(String),
}

impl State {
    /// A cluster that is not formed yet.
    pub fn new(cluster: &str, settings: Settings) -> State {
        State {
            version: STATE_VERSION,
            cluster: cluster.to_string(),
            settings,
            map: ClusterMap::empty(cluster),
            handover: None,
            failovers: BTreeMap::new(),
            yielding: None,
            spent: Epoch(0),
            fading: BTreeMap::new(),
            nodes: BTreeMap::new(),
            operation: None,
            attempts: BTreeMap::new(),
            finished: Vec::new(),
            next_shard: 1,
            next_attempt: 1,
            next_operation: 1,
            last_failover: 0,
            forwarding: None,
            counts: Counts::default(),
        }
    }

    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a state has nothing that JSON cannot hold")
    }

    /// Reads what [`State::to_json`] wrote, in this version or an older one.
    pub fn from_json(json: &[u8]) -> Result<State, StateError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let damaged = |error: serde_json::Error| StateError::Damaged(error.to_string());
        let Version { version } = serde_json::from_slice(json).map_err(damaged)?;
        if version > STATE_VERSION {
            return Err(StateError::Newer { found: version });
        }
        let state: State = serde_json::from_slice(json).map_err(damaged)?;
        state.check().map_err(StateError::Damaged)?;
        Ok(state)
    }

    /// The highest epoch that was ever given out.
    pub fn epoch(&self) -> Epoch {
        let handed = self.handover.as_ref().map(|handover| handover.map.epoch);
        let yielded = self.yielding.as_ref().map(|yielding| yielding.map.epoch);
        let given = [handed, yielded].into_iter().flatten();
        given.fold(self.map.epoch.max(self.spent), Epoch::max)
    }

    pub fn formed(&self) -> bool {
        self.map.epoch > Epoch(0)
    }

    pub fn shard(&self, id: ShardId) -> Option<&ShardEntry> {
        self.map.shards().iter().find(|shard| shard.id == id)
    }

    /// The node that serves shard `id`.
    pub fn primary(&self, id: ShardId) -> Option<&NodeEntry> {
        self.shard(id).and_then(ShardEntry::primary)
    }

    /// Makes `shards` the settled map, under the next epoch.
    pub(crate) fn settle(&mut self, shards: Vec<ShardEntry>) {
        let epoch = self.epoch().next();
        let map = ClusterMap::new(&self.cluster, epoch, shards)
            .expect("shards taken from a map and changed one by one stay disjoint")
            .with_writes(self.settings.writes);
        self.fade(&map);
        self.map = map;
    }

    /// Marks that `next` takes away stay known until the primary has it. A new primary has given out no marks but
    /// those of `next`.
    fn fade(&mut self, next: &ClusterMap) {
        for shard in self.map.shards() {
            let after = next.shards().iter().find(|after| after.id == shard.id);
            let primary = |shard: &ShardEntry| shard.primary().map(|entry| entry.id);
            let Some(after) = after.filter(|after| primary(after) == primary(shard)) else {
                self.fading.remove(&shard.id);
                continue;
            };
            let marked = |id: NodeId| after.nodes.iter().any(|now| now.id == id && now.in_step);
            let lost = shard
                .nodes
                .iter()
                .filter(|entry| entry.in_step && !marked(entry.id));
            let fading = self.fading.entry(shard.id).or_default();
            fading.extend(lost.map(|entry| (entry.id, next.epoch)));
            if fading.is_empty() {
                self.fading.remove(&shard.id);
            }
        }
    }

    pub(crate) fn take_failover_number(&mut self) -> u64 {
        self.last_failover += 1;
        self.last_failover
    }

    /// Every replica that the primary may count as in step, whichever map it has, or that may be alone in having what
    /// was acknowledged when it did: all that was ever answered in `safe` is at one of them.
    pub(crate) fn maybe_in_step(&self, shard: ShardId) -> BTreeSet<NodeId> {
        let entry = self.shard(shard);
        let marked = entry.into_iter().flat_map(ShardEntry::replicas);
        let fading = self.fading.get(&shard).into_iter().flat_map(|f| f.keys());
        let marked = marked.filter(|entry| entry.in_step).map(|entry| entry.id);
        marked.chain(fading.copied()).collect()
    }

    /// A node's entry for the map; a replica is not in step.
    pub(crate) fn entry(&self, id: NodeId, role: Role) -> Option<NodeEntry> {
        self.nodes.get(&id).map(|node| NodeEntry {
            id,
            addr: node.addr.clone(),
            role,
            zone: node.zone.clone(),
            in_step: false,
        })
    }

    pub(crate) fn finish(&mut self, operation: Operation, outcome: Outcome) {
        self.finished.push(Finished {
            id: operation.id,
            slots_moved: operation.slots_total() - operation.slots_left(),
            keys_moved: operation.keys_moved,
            bytes_moved: operation.bytes_moved,
            failures: operation.failures,
            kind: operation.kind,
            outcome,
        });
        let surplus = self.finished.len().saturating_sub(FINISHED_MAX);
        self.finished.drain(..surplus);
    }

    /// The invariants at the top of the crate, as far as one state can show them.
    pub fn check(&self) -> Result<(), String> {
        if self.map.cluster != self.cluster {
            return Err(format!("the map is of cluster {}", self.map.cluster));
        }
        if self.formed() && !self.map.unowned().is_empty() {
            return Err(format!("slots {} have no owner", self.map.unowned()));
        }
        if !self.formed() && !self.map.shards().is_empty() {
            return Err("a cluster that is not formed has shards".into());
        }
        let mut members = BTreeSet::new();
        for shard in self.map.shards() {
            if shard.id.0 >= self.next_shard {
                return Err(format!("shard {} is not given out yet", shard.id));
            }
            let primaries = shard.nodes.iter().filter(|n| n.role == Role::Primary);
            if primaries.count() != 1 {
                return Err(format!("shard {} has not one primary", shard.id));
            }
            for node in &shard.nodes {
                if !members.insert(node.id) {
                    return Err(format!("{:?} is in two shards", node.id));
                }
                if !self.nodes.contains_key(&node.id) {
                    return Err(format!("{:?} is in the map and unknown", node.id));
                }
                if node.in_step && node.role == Role::Primary {
                    return Err(format!("{:?} is in step with itself", node.id));
                }
            }
        }
        self.check_failovers()?;
        self.check_attempts()
    }

    fn check_failovers(&self) -> Result<(), String> {
        for (shard, failover) in &self.failovers {
            let primary = self.primary(*shard).map(|entry| entry.id);
            if primary != Some(failover.primary) {
                return Err(format!("failover of shard {shard} is not of its primary"));
            }
            if failover.number > self.last_failover {
                return Err(format!("failover {} is not given out yet", failover.number));
            }
        }
        let Some(yielding) = &self.yielding else {
            return Ok(());
        };
        if self.handover.is_some() {
            return Err("two maps are undecided".into());
        }
        if yielding.map.epoch <= self.map.epoch {
            return Err("the map that yields is not newer than the settled one".into());
        }
        let failover = self.failovers.get(&yielding.shard);
        if failover.is_none_or(|failover| failover.number != yielding.number) {
            return Err("what yields is no failover".into());
        }
        Ok(())
    }

    fn check_attempts(&self) -> Result<(), String> {
        let (mut sources, mut targets) = (BTreeSet::new(), BTreeSet::new());
        let mut moving = SlotSet::new();
        for (id, attempt) in &self.attempts {
            if id.0 >= self.next_attempt {
                return Err(format!("attempt {id} is not given out yet"));
            }
            if !sources.insert(attempt.source) || !targets.insert(attempt.target) {
                return Err(format!("attempt {id} shares its source or its target"));
            }
            if !moving.is_disjoint(&attempt.slots) {
                return Err(format!("attempt {id} moves slots that another moves"));
            }
            moving = moving.union(&attempt.slots);
            if !attempt.slots.is_subset(&self.map.slots_of(attempt.source)) {
                return Err(format!(
                    "attempt {id} moves slots that are not its source's"
                ));
            }
        }
        let Some(handover) = &self.handover else {
            return Ok(());
        };
        if !self.attempts.contains_key(&handover.attempt) {
            return Err(format!("handover of unknown attempt {}", handover.attempt));
        }
        if handover.map.epoch <= self.map.epoch {
            return Err("the handover's map is not newer than the settled one".into());
        }
        if !handover.map.unowned().is_empty() {
            return Err("the handover's map leaves slots without owner".into());
        }
        Ok(())
    }
}
