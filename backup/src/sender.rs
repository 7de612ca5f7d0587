//! Sends keys to the nodes that own their slots, whatever becomes of the map meanwhile.
//!
//! Many requests go out before their answers are read. What is refused because a slot has moved, or is in doubt because a connection was lost, is sent again by
//! a fresh map: a key that is sent twice is there once.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use larder_runtime::{ControlClient, ControlError};
use larder_store::Db;
use larder_wire::resp::OwnedRequest;
use tokio::task::JoinSet;

use crate::cluster::{Access, View};
use crate::requests::{Entry, Piece};

/// Requests that are sent before their answers are read: bytes, and keys.
pub(crate) const BATCH_BYTES_MAX: usize = 1024 * 1024;
pub(crate) const BATCH_KEYS_MAX: usize = 1000;
/// How long nothing may get through before the restore is given up, in milliseconds.
pub(crate) const STUCK_MS_MAX: u64 = 60_000;
/// Between two attempts at what was refused, in milliseconds.
pub(crate) const AGAIN_MS: u64 = 100;
/// Longest wait for the answers of one batch, in milliseconds.
pub(crate) const ANSWER_MS_MAX: u64 = 60_000;

/// A connection to a node, and the database that it is in.
struct Connection {
    client: ControlClient,
    db: Db,
}

/// Sends the entries of one part, wherever they belong.
pub(crate) struct Sender {
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
    pub(crate) fn new(access: Access) -> Sender {
        Sender {
            access,
            view: None,
            connections: HashMap::new(),
        }
    }

    /// Returns once every entry is where it belongs.
    pub(crate) async fn send(&mut self, mut entries: Vec<Entry>) -> Result<(), String> {
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
