//! Restores a set into a running cluster of any number of shards: each key goes to whoever owns its slot by the map of that moment.
//!
//! 1. Settings and functions, then keys, then users. Keys go to the nodes directly, many requests at a time; every part has a sender of its own.
//! 2. What a node refuses because a slot has moved, or was in doubt because a connection was lost, is sent again by a fresh map: a key that is restored
//!    twice is there once.
//! 3. A large collection travels in pieces, as in a move of slots; it is removed first, so that it is begun anew when it has to be.
//! 4. At the end the cluster's keys are counted against the set's.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use larder_engine::feed::pieces::{Large, is_small, write_whole};
use larder_runtime::{ControlClient, ControlError, clock};
use larder_store::rdb::{Record, to_payload};
use larder_store::{Captured, Db, ValueRef};
use larder_wire::resp::OwnedRequest;
use larder_wire::{Slot, UnixMillis, slot_of};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::cluster::{Access, View};
use crate::manifest::{NodeSettings, ShardPart};
use crate::read::Reader;

/// Requests that are sent before their answers are read: bytes, and keys.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
const BATCH_KEYS_MAX: usize = 1000;
/// Batches that wait for the sender of their part.
const BATCHES_AHEAD_MAX: usize = 4;
/// Parts that are read at the same time.
const PARTS_MAX: usize = 4;
/// How long nothing may get through before the restore is given up, in milliseconds.
const STUCK_MS_MAX: u64 = 60_000;
/// Between two attempts at what was refused, in milliseconds.
const AGAIN_MS: u64 = 100;
/// Longest wait for the answers of one batch, in milliseconds.
const ANSWER_MS_MAX: u64 = 60_000;

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

/// What a part's thread hands to its sender.
struct Entry {
    slot: Slot,
    db: Db,
    /// One request, or the pieces of a large value, in order.
    pieces: Vec<Piece>,
    /// Its time may end before it is counted.
    expires: bool,
}

/// Requests that are sent at once.
struct Piece {
    requests: Vec<u8>,
    /// How many they are.
    count: usize,
}

impl Piece {
    fn one(requests: Vec<u8>) -> Piece {
        Piece { requests, count: 1 }
    }
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
            for mut client in clients {
                for order in [["FLUSHALL", "SYNC"], ["FUNCTION", "FLUSH"]] {
                    asked(&mut client, &order).await?;
                }
            }
            Ok(())
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
                let entry = entry(db, &key, Captured { value, expires });
                self.bytes += entry
                    .pieces
                    .iter()
                    .map(|piece| piece.requests.len())
                    .sum::<usize>();
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

fn entry(db: Db, key: &[u8], captured: Captured) -> Entry {
    let expires = captured.expires;
    let mut requests = Vec::new();
    let view = captured.value.view();
    let pieces = match view {
        ValueRef::String(_) => {
            write_whole(key, view, expires, &mut requests);
            vec![Piece::one(requests)]
        }
        ValueRef::Collection(_) if is_small(&view) => {
            let mut payload = Vec::new();
            to_payload(view, &mut payload);
            let UnixMillis(at) = expires.unwrap_or_default();
            let at = at.to_string();
            let words: [&[u8]; 6] = [
                b"RESTORE",
                key,
                at.as_bytes(),
                &payload,
                b"REPLACE",
                b"ABSTTL",
            ];
            vec![Piece::one(OwnedRequest::from_args(words).into_bytes())]
        }
        ValueRef::Collection(_) => {
            let removal: [&[u8]; 2] = [b"DEL", key];
            let mut pieces = vec![Piece::one(OwnedRequest::from_args(removal).into_bytes())];
            let mut large = Large::new(key, captured);
            let mut more = true;
            while more {
                more = large.write_next(&mut requests);
                let count = requests_in(&requests);
                let requests = std::mem::take(&mut requests);
                pieces.push(Piece { requests, count });
            }
            pieces
        }
    };
    Entry {
        slot: slot_of(key),
        db,
        pieces,
        expires: expires.is_some(),
    }
}

/// Requests of our own making.
fn requests_in(bytes: &[u8]) -> usize {
    let mut scanner = larder_wire::resp::RequestScanner::new();
    let (mut at, mut count) = (0, 0);
    while at < bytes.len() {
        match scanner.scan(&bytes[at..]) {
            Ok(larder_wire::resp::Scanned::Request { consumed }) => at += consumed,
            other => unreachable!("these are whole requests: {other:?}"),
        }
        count += 1;
    }
    count
}

/// A connection to a node, and the database that it is in.
struct Connection {
    client: ControlClient,
    db: Db,
}

/// Sends the entries of one part, wherever they belong.
struct Sender {
    access: Access,
    view: Option<View>,
    connections: HashMap<String, Connection>,
}

/// Why some entries were not taken.
enum Refused {
    /// They may be, by another map or a moment later.
    Again(String),
    Never(String),
}

impl Sender {
    fn new(access: Access) -> Sender {
        Sender {
            access,
            view: None,
            connections: HashMap::new(),
        }
    }

    /// Returns once every entry is where it belongs.
    async fn send(&mut self, mut entries: Vec<Entry>) -> Result<(), String> {
        let mut progress = Instant::now();
        let mut last = String::new();
        while !entries.is_empty() {
            if progress.elapsed() >= Duration::from_millis(STUCK_MS_MAX) {
                return Err(format!("nothing gets through any more: {last}"));
            }
            let before = entries.len();
            let (rest, why) = self.send_once(entries).await?;
            if rest.len() < before {
                progress = Instant::now();
            }
            entries = rest;
            if !entries.is_empty() {
                last = why;
                self.view = None;
                tokio::time::sleep(Duration::from_millis(AGAIN_MS)).await;
            }
        }
        Ok(())
    }

    /// Sends each to the owner of its slot; what was not taken, and why.
    async fn send_once(&mut self, entries: Vec<Entry>) -> Result<(Vec<Entry>, String), String> {
        let view = match &self.view {
            Some(view) => view,
            None => match self.access.view().await {
                Ok(view) => self.view.insert(view),
                Err(why) => return Ok((entries, why)),
            },
        };
        let mut groups: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        let (mut rest, mut why) = (Vec::new(), String::new());
        for entry in entries {
            let owner = view.shards.iter().find(|it| it.slots.contains(entry.slot));
            match owner {
                Some(owner) => {
                    let group = groups.entry(owner.node.addr.clone()).or_default();
                    group.push(entry);
                }
                None => {
                    why = format!("nobody owns slot {}", entry.slot);
                    rest.push(entry);
                }
            }
        }
        let mut tasks = JoinSet::new();
        for (addr, group) in groups {
            let connection = self.connections.remove(&addr);
            let access = self.access.clone();
            tasks.spawn(async move {
                let (connection, refused) = deliver(access, &addr, connection, group).await;
                (addr, connection, refused)
            });
        }
        while let Some(joined) = tasks.join_next().await {
            let (addr, connection, refused) = joined.map_err(|error| error.to_string())?;
            if let Some(connection) = connection {
                self.connections.insert(addr, connection);
            }
            for (entry, refusal) in refused {
                match refusal {
                    Refused::Again(line) => {
                        why = line;
                        rest.push(entry);
                    }
                    Refused::Never(line) => return Err(line),
                }
            }
        }
        Ok((rest, why))
    }
}

/// Sends `group` to the node at `addr`. Gives the connection back while it is of use, and what was refused.
async fn deliver(
    access: Access,
    addr: &str,
    connection: Option<Connection>,
    group: Vec<Entry>,
) -> (Option<Connection>, Vec<(Entry, Refused)>) {
    let all_again = |group: Vec<Entry>, why: String| {
        let again = |entry| (entry, Refused::Again(why.clone()));
        group.into_iter().map(again).collect()
    };
    let mut connection = match connection {
        Some(connection) => connection,
        None => match access.node(addr).await {
            Ok(client) => Connection {
                client,
                db: Db::ZERO,
            },
            Err(error) => return (None, all_again(group, error.to_string())),
        },
    };
    match exchange(&mut connection, &group).await {
        Ok(refusals) => {
            let mut refused = Vec::new();
            for (entry, refusal) in group.into_iter().zip(refusals) {
                if let Some(refusal) = refusal {
                    refused.push((entry, refusal));
                }
            }
            (Some(connection), refused)
        }
        // What of it was carried out is not known: all of it is said again.
        Err(why) => (None, all_again(group, why)),
    }
}

/// One refusal an entry, where there is one. The error: the connection is of no more use.
async fn exchange(
    connection: &mut Connection,
    group: &[Entry],
) -> Result<Vec<Option<Refused>>, String> {
    let mut refusals: Vec<Option<Refused>> = group.iter().map(|_| None).collect();
    let mut window = Window::default();
    for (index, entry) in group.iter().enumerate() {
        if entry.db != connection.db {
            let number = entry.db.number().to_string();
            let select = OwnedRequest::from_args(["SELECT", number.as_str()]);
            window.add(index, &Piece::one(select.into_bytes()));
            connection.db = entry.db;
        }
        for piece in &entry.pieces {
            window.add(index, piece);
            if window.is_full() {
                window
                    .exchange(&mut connection.client, &mut refusals)
                    .await?;
            }
        }
    }
    window
        .exchange(&mut connection.client, &mut refusals)
        .await?;
    Ok(refusals)
}

/// Requests whose answers are read before more is sent: what waits to be read never fills the way back.
#[derive(Default)]
struct Window {
    requests: Vec<u8>,
    /// Whose each request is.
    answers: Vec<usize>,
}

impl Window {
    fn add(&mut self, entry: usize, piece: &Piece) {
        self.requests.extend_from_slice(&piece.requests);
        self.answers.extend(std::iter::repeat_n(entry, piece.count));
    }

    fn is_full(&self) -> bool {
        self.requests.len() >= BATCH_BYTES_MAX || self.answers.len() >= BATCH_KEYS_MAX
    }

    async fn exchange(
        &mut self,
        client: &mut ControlClient,
        refusals: &mut [Option<Refused>],
    ) -> Result<(), String> {
        let addr = client.addr().to_string();
        let talk = async {
            client.send_bytes(&self.requests).await?;
            for entry in &self.answers {
                match client.read_reply().await {
                    Ok(_) => {}
                    Err(ControlError::Refused { code, text }) => {
                        refusals[*entry].get_or_insert_with(|| judge(&addr, &code, &text));
                    }
                    Err(lost) => return Err(lost),
                }
            }
            Ok(())
        };
        let answered = tokio::time::timeout(Duration::from_millis(ANSWER_MS_MAX), talk).await;
        self.requests.clear();
        self.answers.clear();
        match answered {
            Ok(answered) => answered.map_err(|error| error.to_string()),
            Err(_) => Err(format!("{addr} does not answer")),
        }
    }
}

fn judge(addr: &str, code: &str, text: &str) -> Refused {
    let line = format!("{addr} refused a key: {code} {text}");
    match code {
        "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "READONLY" | "LOADING" | "BUSY"
        | "MASTERDOWN" | "NOREPLICAS" => Refused::Again(line),
        "OOM" => Refused::Never(format!(
            "{addr} is full (give it more --maxmemory, or restore into more shards): {text}"
        )),
        _ => Refused::Never(line),
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
