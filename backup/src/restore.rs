//! Restores a set into a running cluster of any number of shards: each key goes to whoever owns its slot by the map of that moment.
//!
//! 1. Settings, then keys and functions, then users. Keys go to the nodes directly, many requests at a time; every part has a sender of its own.
//! 2. What a node refuses because a slot has moved, or was in doubt because a connection was lost, is sent again by a fresh map: a key that is restored
//!    twice is there once.
//! 3. A large collection travels in pieces, as in a move of slots; it is removed first, so that it is begun anew when it has to be.
//! 4. At the end the cluster's keys are counted against the set's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use larder_runtime::{ControlClient, ControlError, clock};
use larder_store::Captured;
use larder_store::rdb::Record;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::cluster::{Access, View};
use crate::manifest::{NodeSettings, ShardPart};
use crate::read::Reader;
use crate::requests::Entry;
use crate::sender::{ANSWER_MS_MAX, BATCH_BYTES_MAX, BATCH_KEYS_MAX, Sender};

/// Batches that wait for the sender of their part.
const BATCHES_AHEAD_MAX: usize = 4;
/// Parts that are read at the same time.
const PARTS_MAX: usize = 4;

/// Longest wait for all nodes to have one map, and pause before they are asked again, in milliseconds.
const ONE_MAP_MS_MAX: u64 = 10_000;
const ONE_MAP_MS: u64 = 20;

/// What there may be in the cluster before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing, or the restore is refused.
    Empty,
    /// Keys of the set replace their namesakes, others stay.
    Replaced,
    /// All keys and functions go first.
    Flushed,
}

/// What is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Which {
    pub keys: bool,
    pub functions: bool,
    pub users: bool,
    pub settings: bool,
}

pub struct Restore {
    pub access: Access,
    pub reader: Reader,
    pub before: Before,
    pub which: Which,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    pub keys: u64,
    /// Of these, keys without an expiry.
    pub lasting: u64,
    /// Keys whose time was over.
    pub expired: u64,
    pub functions: u64,
    pub users: u64,
    pub settings: u64,
    /// Keys of the cluster afterwards.
    pub cluster_keys: u64,
    pub shards: usize,
}

/// What the threads give.
enum Given {
    Entries(Vec<Entry>),
    Library(Vec<u8>),
    Expired,
}

/// Carries it out. When `stop` turns true what is there stays, and the error says so.
pub async fn restore(what: &Restore, mut stop: watch::Receiver<bool>) -> Result<Restored, String> {
    let view = what.access.view().await?;
    if !view.formed {
        return Err(
            "the cluster is not formed yet (start as many nodes as it shall have shards)".into(),
        );
    }
    prepare(what, &view).await?;
    let mut done = Restored::default();
    let file = what.reader.cluster_file().await?;
    if what.which.settings {
        done.settings = set_settings(what, &view, &file.nodes).await?;
    }
    if what.which.keys || what.which.functions {
        let restored = tokio::select! {
            restored = restore_parts(what, &mut done) => restored,
            _ = stop.wait_for(|stop| *stop) => Err("stopped".to_string()),
        };
        if let Err(why) = restored {
            let (keys, all, _) = what.reader.tally.read();
            return Err(format!(
                "{why}: about {keys} of {all} keys are in the cluster; users are as they were (go on with --replace, or begin anew with --flush)"
            ));
        }
    }
    if what.which.users {
        let view = what.access.view().await?;
        done.users = set_users(what, &view, &file.nodes).await?;
    }
    count(what, &mut done).await?;
    Ok(done)
}

/// The cluster is as it has to be before.
async fn prepare(what: &Restore, view: &View) -> Result<(), String> {
    let mut clients = Vec::new();
    let mut keys = 0;
    for shard in &view.shards {
        let mut client = node(&what.access, &shard.node.addr).await?;
        keys += state_keys(&mut client).await?;
        clients.push(client);
    }
    match what.before {
        Before::Empty if keys > 0 && what.which.keys => Err(format!(
            "the cluster has {keys} keys (--replace keeps them but for those of the backup, --flush removes them first)"
        )),
        Before::Empty | Before::Replaced => Ok(()),
        Before::Flushed => {
            // What is there goes only for a backup that can be read.
            let read = what.reader.verify().await;
            read.map_err(|why| format!("{why}: nothing was removed or restored"))?;
            let tally = &what.reader.tally;
            tally.set_stage("");
            tally.reset(what.reader.manifest.keys());
            for client in &mut clients {
                asked(client, &["FUNCTION", "FLUSH"]).await?;
            }
            flush(what).await
        }
    }
}

/// Removes all keys. Every node does so by one map, else a slot that changes hands at this moment could be passed over by both of its owners.
async fn flush(what: &Restore) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let view = what.access.view().await?;
        let epoch = view.epoch.to_string();
        let mut flushed = Ok(());
        for shard in &view.shards {
            let mut client = node(&what.access, &shard.node.addr).await?;
            flushed = asked(&mut client, &["FLUSHALL", "SYNC", "EPOCH", &epoch]).await;
            if flushed.is_err() {
                break;
            }
        }
        match flushed {
            Err(why)
                if why.contains("TRYAGAIN")
                    && began.elapsed() < Duration::from_millis(ONE_MAP_MS_MAX) =>
            {
                sleep(Duration::from_millis(ONE_MAP_MS)).await;
            }
            flushed => return flushed,
        }
    }
}

async fn node(access: &Access, addr: &str) -> Result<ControlClient, String> {
    let connected = access.node(addr).await;
    connected.map_err(|error| error.to_string())
}

async fn asked(client: &mut ControlClient, words: &[&str]) -> Result<(), String> {
    let limit = Duration::from_millis(ANSWER_MS_MAX);
    let answered = client.request_within(limit, words.iter().copied()).await;
    answered
        .map(|_| ())
        .map_err(|error| format!("{}: {error}", client.addr()))
}

async fn state_keys(client: &mut ControlClient) -> Result<u64, String> {
    #[derive(Deserialize)]
    struct State {
        keys: u64,
    }
    let state: Result<State, ControlError> = client.request_json(["LARDER", "STATE"]).await;
    state
        .map(|state| state.keys)
        .map_err(|error| format!("{}: {error}", client.addr()))
}

/// All nodes get the same: what any of the set's nodes had, the first where they differ.
async fn set_settings(what: &Restore, view: &View, nodes: &[NodeSettings]) -> Result<u64, String> {
    let mut settings: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in nodes.iter().flat_map(|node| &node.settings) {
        if *settings.entry(name).or_insert(value) != value {
            what.reader.tally.warn(format!(
                "nodes had different values of {name}: the first is taken"
            ));
        }
    }
    for addr in members(view) {
        let mut client = node(&what.access, addr).await?;
        for (name, value) in &settings {
            if let Err(why) = asked(&mut client, &["CONFIG", "SET", name, value]).await {
                what.reader
                    .tally
                    .warn(format!("the setting {name} was not taken: {why}"));
            }
        }
    }
    Ok(settings.len() as u64)
}

async fn set_users(what: &Restore, view: &View, nodes: &[NodeSettings]) -> Result<u64, String> {
    let mut users: BTreeMap<&str, &str> = BTreeMap::new();
    for line in nodes.iter().flat_map(|node| &node.users) {
        let rest = line.strip_prefix("user ").unwrap_or(line);
        let (name, rules) = rest.split_once(' ').unwrap_or((rest, ""));
        if *users.entry(name).or_insert(rules) != rules {
            what.reader.tally.warn(format!(
                "nodes had different rules of user {name}: the first are taken"
            ));
        }
    }
    for addr in members(view) {
        let mut client = node(&what.access, addr).await?;
        for (name, rules) in &users {
            let mut words = vec!["ACL", "SETUSER", name, "reset"];
            words.extend(rules.split(' ').filter(|word| !word.is_empty()));
            asked(&mut client, &words).await?;
        }
    }
    Ok(users.len() as u64)
}

/// All nodes of the cluster.
fn members(view: &View) -> impl Iterator<Item = &str> {
    view.shards.iter().flat_map(|shard| {
        let all = [&shard.node].into_iter().chain(&shard.replicas);
        all.map(|member| member.addr.as_str())
    })
}

/// The keys of all parts, and the functions of the first that has them (they are the same on all nodes).
async fn restore_parts(what: &Restore, done: &mut Restored) -> Result<(), String> {
    let mut waiting = what.reader.manifest.shards.clone();
    let mut running = JoinSet::new();
    let mut libraries: Vec<Vec<u8>> = Vec::new();
    loop {
        while running.len() < PARTS_MAX
            && let Some(part) = waiting.pop()
        {
            let (access, reader, keys) =
                (what.access.clone(), what.reader.clone(), what.which.keys);
            running.spawn(async move { restore_part(access, reader, part, keys).await });
        }
        let Some(ended) = running.join_next().await else {
            break;
        };
        let part = ended.map_err(|error| error.to_string())??;
        done.keys += part.keys;
        done.expired += part.expired;
        done.lasting += part.lasting;
        for library in part.libraries {
            if !libraries.contains(&library) {
                libraries.push(library);
            }
        }
    }
    if what.which.functions {
        done.functions = load_functions(what, &libraries).await?;
    }
    Ok(())
}

async fn load_functions(what: &Restore, libraries: &[Vec<u8>]) -> Result<u64, String> {
    let view = what.access.view().await?;
    for shard in &view.shards {
        let mut client = node(&what.access, &shard.node.addr).await?;
        for library in libraries {
            let mut words: Vec<&[u8]> = vec![b"FUNCTION", b"LOAD"];
            if what.before != Before::Empty {
                words.push(b"REPLACE");
            }
            words.push(library);
            let loaded = client.request(words).await;
            loaded.map_err(|error| {
                format!(
                    "a library of functions was refused by {}: {error}",
                    shard.node.addr
                )
            })?;
        }
    }
    Ok(libraries.len() as u64)
}

#[derive(Default)]
struct PartDone {
    keys: u64,
    expired: u64,
    /// Keys without an expiry.
    lasting: u64,
    libraries: Vec<Vec<u8>>,
}

async fn restore_part(
    access: Access,
    reader: Reader,
    part: ShardPart,
    with_keys: bool,
) -> Result<PartDone, String> {
    let (given, taken) = mpsc::channel::<Given>(BATCHES_AHEAD_MAX);
    let mut batcher = Batcher {
        given,
        batch: Vec::new(),
        bytes: 0,
        with_keys,
    };
    // The thread's own: what it has gathered goes when it is through.
    let read = reader.read_shard(&part, move |record| match record {
        Some(record) => batcher.take(record),
        None => batcher.send(),
    });
    let (read, sent) = tokio::join!(read, send_all(access, taken));
    // When sending ends early, reading ends for that reason.
    let done = sent?;
    read?;
    Ok(done)
}

/// Ends with `taken`: the thread that gives ends, too.
async fn send_all(access: Access, mut taken: mpsc::Receiver<Given>) -> Result<PartDone, String> {
    let mut sender = Sender::new(access);
    let mut done = PartDone::default();
    while let Some(given) = taken.recv().await {
        match given {
            Given::Entries(entries) => {
                done.keys += entries.len() as u64;
                done.lasting += entries.iter().filter(|entry| !entry.expires).count() as u64;
                sender.send(entries).await?;
            }
            Given::Library(source) => done.libraries.push(source),
            Given::Expired => done.expired += 1,
        }
    }
    Ok(done)
}

/// Makes requests of records, on the thread that reads.
struct Batcher {
    given: mpsc::Sender<Given>,
    batch: Vec<Entry>,
    bytes: usize,
    with_keys: bool,
}

impl Batcher {
    fn take(&mut self, record: Record) -> Result<(), String> {
        match record {
            // Of the file's making.
            Record::Aux { .. } => Ok(()),
            Record::Library(source) => self.give(Given::Library(source)),
            Record::Key { .. } if !self.with_keys => Ok(()),
            Record::Key { expires, .. } if expires.is_some_and(|at| at <= clock::unix_millis()) => {
                self.give(Given::Expired)
            }
            Record::Key {
                db,
                key,
                value,
                expires,
            } => {
                let entry = Entry::new(db, &key, Captured { value, expires });
                self.bytes += entry.bytes();
                self.batch.push(entry);
                if self.bytes >= BATCH_BYTES_MAX || self.batch.len() >= BATCH_KEYS_MAX {
                    return self.send();
                }
                Ok(())
            }
        }
    }

    fn send(&mut self) -> Result<(), String> {
        self.bytes = 0;
        match std::mem::take(&mut self.batch) {
            batch if batch.is_empty() => Ok(()),
            batch => self.give(Given::Entries(batch)),
        }
    }

    fn give(&mut self, given: Given) -> Result<(), String> {
        let sent = self.given.blocking_send(given);
        sent.map_err(|_| "nobody takes the keys any more".to_string())
    }
}

/// The cluster holds what was restored, as far as time allows.
async fn count(what: &Restore, done: &mut Restored) -> Result<(), String> {
    let view = what.access.view().await?;
    done.shards = view.shards.len();
    for shard in &view.shards {
        let mut client = node(&what.access, &shard.node.addr).await?;
        done.cluster_keys += state_keys(&mut client).await?;
    }
    Ok(())
}

impl Restored {
    /// Why the cluster's keys are not those of the set, if they are not.
    pub fn doubt(&self, before: Before) -> Option<String> {
        let enough = self.cluster_keys >= self.lasting;
        let exact = before == Before::Replaced || self.cluster_keys <= self.keys;
        match (enough, exact) {
            (true, true) => None,
            (false, _) => Some(format!(
                "{} keys were restored, {} of them without an expiry, and the cluster has {}: some were evicted or deleted",
                self.keys, self.lasting, self.cluster_keys
            )),
            (true, false) => Some(format!(
                "{} keys were restored and the cluster has {}: clients write to it",
                self.keys, self.cluster_keys
            )),
        }
    }
}
