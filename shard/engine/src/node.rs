//! The state of a node, and the small operations on it that need no command.
//!
//! Everything here belongs to one thread. No sockets, no clock: the time comes in as [`Clock`].

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use larder_store::{
    Databases, Db, Effects, EvictionPolicy, EvictionTuning, KeyspaceConfig, Random,
};
use larder_wire::command::CommandId;
use larder_wire::trust::Secret;
use larder_wire::{NodeId, Refusal, SlotSet};

use crate::acl::Acl;
use crate::ahead::Ahead;
use crate::append::Append;
use crate::backup::Backups;
use crate::blocked::Blocked;
use crate::client::{Client, Clients};
use crate::clock::Clock;
use crate::config::{Config, Parameter};
use crate::exec::debug::DebugSwitches;
use crate::feed::{Attempts, Feed, HandedOver, Incoming};
use crate::follow::Followers;
use crate::guard::Guard;
use crate::journal::Journal;
use crate::loading::{Loaded, Loading};
use crate::monitor::Monitors;
use crate::notify::Notify;
use crate::ownership::Ownership;
use crate::pubsub::PubSub;
use crate::replication::Replication;
use crate::restored::LoadedFrom;
use crate::saving::Saving;
use crate::script::Scripts;
use crate::session::Session;
use crate::stats::Stats;
use crate::timing::Timing;
use crate::tracking::Tracking;

/// Most kinds of error that `INFO errorstats` keeps apart, as Redis has it.
const ERROR_KINDS_MAX: usize = 128;

/// What a node is made with.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    pub id: NodeId,
    /// Differs each time the process starts.
    pub run_id: NodeId,
    pub standalone: bool,
    /// `host:port`, as others reach it.
    pub addr: String,
    pub port: u16,
    /// `None`: no control commands are taken at all.
    pub secret: Option<Secret>,
    pub maxmemory: u64,
    /// Seeds the order of tables: the same on all nodes of a cluster.
    pub hash_seed: u64,
    /// Seeds chance (RANDOMKEY, SPOP, eviction).
    pub random_seed: u64,
}

/// What only the process knows and INFO shows; set by the shell now and then.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    pub pid: u32,
    /// CPU time of the node's thread in microseconds, user and system.
    pub cpu_user_us: u64,
    pub cpu_system_us: u64,
    /// Of the whole process, in bytes.
    pub rss_bytes: u64,
    pub total_memory_bytes: u64,
    /// Requests a second and bytes a second over the last sample.
    pub ops_per_second: u64,
    pub input_bytes_per_second: u64,
    pub output_bytes_per_second: u64,
}

/// `CLIENT PAUSE`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pause {
    pub until_ms: u64,
    pub writes_only: bool,
}

/// Clients by the keys that they watch.
pub(crate) type Watched = HashMap<(Db, Box<[u8]>), Vec<Rc<Client>>>;

/// One server: its databases, one thread.
pub struct Node {
    pub settings: NodeSettings,
    pub databases: Databases,
    pub ownership: Ownership,
    pub config: Config,
    pub stats: Arc<Stats>,
    pub clients: Clients,
    pub pubsub: PubSub,
    pub acl: Acl,
    pub tracking: Tracking,
    pub(crate) monitors: Monitors,
    /// Whose command runs; 0 when nobody's does, or nobody tracks.
    pub(crate) current: u64,
    pub machine: Machine,
    pub(crate) random: Random,
    pub(crate) effects: Effects,
    /// Who watches which key.
    pub(crate) watched: Watched,
    /// Whose command waits for what.
    pub(crate) blocked: Blocked,
    /// Errors told to clients, by their code.
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) feeds: Vec<Feed>,
    pub(crate) imports: Vec<Incoming>,
    pub(crate) handed_over: Vec<HandedOver>,
    pub(crate) feeds_heard: Attempts,
    pub(crate) imports_heard: Attempts,
    /// Replies to the effects of imports, which nobody reads.
    pub(crate) waste: Vec<u8>,
    pub(crate) pause: Option<Pause>,
    pub(crate) debug: DebugSwitches,
    /// What every write did.
    pub journal: Journal,
    pub(crate) followers: Followers,
    pub replication: Replication,
    pub saving: Saving,
    pub append: Append,
    pub(crate) backups: Backups,
    pub(crate) loading: Option<Loading>,
    pub(crate) loaded: Loaded,
    pub(crate) loaded_from: LoadedFrom,
    /// Why no write is taken, if none is, and why no read.
    pub(crate) refuses_writes: Option<Refusal>,
    pub(crate) refuses_reads: Option<Refusal>,
    /// Fewer good replicas than `min-replicas-to-write`.
    pub(crate) lacks_replicas: bool,
    pub(crate) guard: Guard,
    pub(crate) notify: Notify,
    pub timing: Timing,
    pub(crate) memory_peak: u64,
    /// Commands run since the batch's time was last shared out, in runs of the same one.
    pub(crate) batch: Vec<(CommandId, u32)>,
    /// Requests that were read before it is their turn; with whoever executes them while it does.
    pub(crate) ahead: Ahead,
    /// Lua scripts and functions.
    pub(crate) scripts: Scripts,
    releases: u64,
}

impl Node {
    pub fn new(settings: NodeSettings) -> Node {
        let mut config = Config::default();
        config.fix(Parameter::Maxmemory, settings.maxmemory.to_string());
        config.fix(Parameter::Port, settings.port.to_string());
        if !settings.standalone {
            config.fix(Parameter::ClusterEnabled, "yes");
        }
        let mut databases = Databases::new(KeyspaceConfig {
            hash_seed: settings.hash_seed,
            random_seed: settings.random_seed,
            maxmemory: settings.maxmemory,
            eviction: EvictionPolicy::NoEviction,
            tuning: EvictionTuning::default(),
        });
        let ownership = if settings.standalone {
            Ownership::standalone(settings.id)
        } else {
            databases.set_visible(Some(SlotSet::new()));
            Ownership::cluster(settings.id)
        };
        Node {
            random: Random::new(settings.random_seed),
            databases,
            ownership,
            config,
            stats: Arc::default(),
            clients: Clients::default(),
            pubsub: PubSub::default(),
            acl: Acl::default(),
            tracking: Tracking::default(),
            monitors: Monitors::default(),
            current: 0,
            machine: Machine::default(),
            effects: Effects::default(),
            watched: HashMap::new(),
            blocked: Blocked::default(),
            errors: BTreeMap::new(),
            feeds: Vec::new(),
            imports: Vec::new(),
            handed_over: Vec::new(),
            feeds_heard: Attempts::default(),
            imports_heard: Attempts::default(),
            waste: Vec::new(),
            pause: None,
            debug: DebugSwitches::default(),
            journal: Journal::default(),
            followers: Followers::default(),
            replication: Replication::default(),
            saving: Saving::default(),
            append: Append::default(),
            backups: Backups::default(),
            loading: None,
            loaded: Loaded::default(),
            loaded_from: LoadedFrom::default(),
            refuses_writes: None,
            refuses_reads: None,
            lacks_replicas: false,
            guard: Guard::default(),
            notify: Notify::default(),
            timing: Timing::default(),
            memory_peak: 0,
            batch: Vec::new(),
            ahead: Ahead::default(),
            scripts: Scripts::default(),
            releases: 0,
            settings,
        }
    }

    /// A connection was accepted.
    pub fn open_session(&mut self, addr: String, laddr: String, clock: Clock) -> Session {
        self.stats.connections_received.add(1);
        let user = self.acl.default_user();
        let client = self.clients.add(addr, laddr, user, clock.mono_ms);
        Session::new(client, !self.acl.needs_login())
    }

    /// A connection is gone.
    pub fn close_session(&mut self, session: &mut Session) {
        self.unwatch(session);
        self.pubsub.forget(&session.client);
        self.tracking.disable(&session.client);
        self.monitors.remove(&session.client);
        self.followers.forget(&session.client);
        self.settle_journal();
        self.forget_blocked(session.client.id);
        self.clients.remove(session.client.id);
    }

    /// The journal is kept while there is a reason to. A replica's is its primary's: that comes and goes with what the primary sends.
    pub(crate) fn settle_journal(&mut self) {
        if self.is_replica() {
            return;
        }
        match self.wants_journal() {
            true if !self.journal.is_on() => {
                let history = self.new_history();
                self.journal.turn_on(history);
            }
            false if self.journal.is_on() => self.journal.turn_off(),
            true | false => {}
        }
    }

    /// Somebody reads the journal, has replicas to feed from it, or may come back to a history that this node took over.
    fn wants_journal(&self) -> bool {
        let shard = self.ownership.map().find_node(self.settings.id);
        self.followers.any()
            || self.append.is_on()
            || self.is_restoring()
            || shard.is_some_and(|(shard, _)| shard.nodes.len() > 1)
            || (shard.is_some() && self.journal.previous().is_some())
    }

    /// Most bytes that the data ever took.
    pub fn memory_peak(&self) -> u64 {
        self.memory_peak
    }

    /// Grows each time when held requests may get further.
    pub fn releases(&self) -> u64 {
        self.releases
    }

    pub(crate) fn release(&mut self) {
        self.releases += 1;
    }

    /// After a change of what decides whether writes are taken, and reads.
    pub(crate) fn settle_write_refusal(&mut self) {
        self.refuses_reads = self.guard.refuses_reads();
        let cannot_save = self.cannot_save();
        let guarded = self.guard.refuses_writes();
        self.refuses_writes = if guarded.is_some() {
            guarded
        } else if cannot_save {
            Some(Refusal::CANNOT_SAVE)
        } else if let Some(refusal) = self.append_refusal() {
            Some(refusal)
        } else if self.lacks_replicas {
            Some(Refusal::TOO_FEW_REPLICAS)
        } else {
            None
        };
    }

    fn cannot_save(&self) -> bool {
        self.saving.last_failed()
            && self.has_save_points()
            && self.config.flag(Parameter::StopWritesOnBgsaveError)
    }

    /// The disk takes nothing: PING tells it, too.
    pub(crate) fn cannot_persist(&self) -> bool {
        self.cannot_save() || self.append.fault().is_some()
    }

    pub(crate) fn count_error(&mut self, refusal: &Refusal) {
        self.stats.errors.add(1);
        if let Some(count) = self.errors.get_mut(refusal.code()) {
            *count += 1;
        } else if self.errors.len() < ERROR_KINDS_MAX {
            self.errors.insert(refusal.code().to_string(), 1);
        }
    }

    /// Watches end with EXEC, DISCARD, UNWATCH and the connection.
    pub(crate) fn unwatch(&mut self, session: &mut Session) {
        for (db, key, _) in session.watches.drain(..) {
            let place = (db, key);
            if let Some(watchers) = self.watched.get_mut(&place) {
                watchers.retain(|watcher| watcher.id != session.client.id);
                if watchers.is_empty() {
                    self.watched.remove(&place);
                }
            }
        }
        session.watched_key_bytes = 0;
        session.client.watched.set(0);
        session.client.watch_broken.set(false);
    }

    /// Somebody wants to hear of changes to keys, by [`Node::touch_key`].
    #[inline]
    pub(crate) fn keys_are_heard(&self) -> bool {
        !self.watched.is_empty()
            || self.tracking.hears()
            || self.journal.records()
            || self.blocked.waits_for_keys()
    }

    /// Somebody changed `key`, or it went by itself: whoever waits for that is told.
    pub(crate) fn touch_key(&mut self, db: Db, key: &[u8]) {
        if self.tracking.hears() {
            let by = self.current;
            self.tracking.invalidate(&self.clients, key, by, by);
        }
        self.break_watches(db, key);
    }

    /// Whoever watches `key` learns that it has changed.
    pub(crate) fn break_watches(&mut self, db: Db, key: &[u8]) {
        if self.watched.is_empty() {
            return;
        }
        for watcher in self.watched.get(&(db, key.into())).into_iter().flatten() {
            watcher.watch_broken.set(true);
        }
    }
}
