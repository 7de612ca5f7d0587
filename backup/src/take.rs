//! Takes a backup: every primary's snapshot of one moment, streamed into a place.
//!
//! 1. Wait until no slots are on their way; mark a new set; remove what interrupted backups left.
//! 2. Connect to every primary, have all of them hold their writes, then begin all snapshots. From the last hold to the first snapshot no write was taken
//!    anywhere, so what one snapshot lacks no other can have seen the effect of. The hold lasts two round trips, and is bounded by the nodes.
//! 3. Stream, sum and seal each into its part. Slots that leave a node void its stream: all of it begins again from 1.
//! 4. Users and settings, then the manifest. Whatever ends it before leaves a set without one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use larder_runtime::{ControlClient, ControlError, clock, entropy};
use larder_wire::backup::{Held, HoldAsk, SnapshotAsk, SnapshotBegun};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cluster::{Access, Shard, View};
use crate::manifest::{
    self, CLUSTER, ClusterFile, Encryption, MANIFEST, MANIFEST_SEAL, Manifest, NodeSettings, Part,
    SetName, ShardPart,
};
use crate::receive::Receiving;
use crate::seal::{CIPHER, Sealer};
use crate::sums::{self, BLOCK_BYTES, Sums};
use crate::{Key, Place, Tally};

/// How long writes may wait for all snapshots to begin, in milliseconds.
const HOLD_MS: u64 = 500;
/// Attempts that fail because the cluster changed, or a node was slow, before the backup does.
const ATTEMPTS_MAX: u32 = 5;
/// Between two attempts, in milliseconds.
const AGAIN_MS: u64 = 500;
/// How often the cluster is looked at while slots are on their way, in milliseconds.
const LOOK_MS: u64 = 250;
/// How often the marker is renewed, in seconds: well below [`MARKER_STALE_S`](crate::place::MARKER_STALE_S).
const MARK_S: u64 = 20;

/// What a backup is taken with.
#[derive(Clone)]
pub struct Take {
    pub access: Access,
    pub place: Place,
    pub key: Option<Key>,
    /// How long slots that are on their way, or nodes that do not answer, are waited for.
    pub wait: Duration,
    pub tally: Arc<Tally>,
}

/// A backup that is whole.
#[derive(Clone, Debug)]
pub struct Taken {
    pub name: SetName,
    pub manifest: Manifest,
}

/// Why an attempt ended.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The cluster changed, or a node did not follow: another attempt may do.
    Again(String),
    /// Nothing that an attempt would mend.
    Final(String),
}

impl From<ControlError> for Fault {
    fn from(error: ControlError) -> Fault {
        match error {
            ControlError::Refused { ref code, .. }
                if !["STALE", "LETGO", "VOID", "BUSY", "LOADING"].contains(&code.as_str()) =>
            {
                Fault::Final(error.to_string())
            }
            ControlError::Refused { code, text } => Fault::Again(format!("{code} {text}")),
            ControlError::Version(text) => Fault::Final(text),
            ControlError::Unreachable { .. }
            | ControlError::PortClosed { .. }
            | ControlError::Garbled { .. } => Fault::Again(error.to_string()),
        }
    }
}

/// Takes one. When `stop` turns true (or its sender is gone) nothing of the set stays.
pub async fn take(what: &Take, stop: watch::Receiver<bool>) -> Result<Taken, String> {
    let name = free_name(&what.place).await?;
    what.place.mark(name).await?;
    let taken = tokio::select! {
        taken = attempts(what, name, stop) => taken,
        lost = keep_marked(&what.place, name) => Err(lost),
    };
    match taken {
        Ok(manifest) => {
            if let Err(why) = what.place.unmark(name).await {
                what.tally.warn(why);
            }
            Ok(Taken { name, manifest })
        }
        Err(why) => {
            if let Err(left) = what.place.delete(name).await {
                what.tally
                    .warn(format!("{left} (the next backup removes it)"));
            }
            Err(why)
        }
    }
}

/// Two backups of one second have two names.
async fn free_name(place: &Place) -> Result<SetName, String> {
    let now = clock::unix_millis().0 / 1000;
    let sets = place.sets().await?;
    let last = sets.last().map_or(0, |found| found.name.seconds());
    // A clock that went back does not make a backup older than the one before, unless it went far.
    let name = if (now..now + 60).contains(&last) {
        last + 1
    } else {
        now
    };
    Ok(SetName::at(name))
}

/// Returns only when it cannot.
async fn keep_marked(place: &Place, name: SetName) -> String {
    loop {
        tokio::time::sleep(Duration::from_secs(MARK_S)).await;
        if let Err(why) = place.mark(name).await {
            return why;
        }
    }
}

async fn attempts(
    what: &Take,
    name: SetName,
    mut stop: watch::Receiver<bool>,
) -> Result<Manifest, String> {
    for left in what.place.left_over(name).await? {
        what.place.delete(left).await?;
        what.tally
            .warn(format!("removed {left}, which an interrupted backup left"));
    }
    let began = Instant::now();
    let mut last = String::new();
    for attempt in 1..=ATTEMPTS_MAX {
        let view = wait_ready(what, &mut stop).await?;
        match one_attempt(what, name, &view, began, &stop).await {
            Ok(manifest) => return Ok(manifest),
            Err(Fault::Final(why)) => return Err(why),
            Err(Fault::Again(_)) if is_stopped(&stop) => return Err(stopped()),
            Err(Fault::Again(why)) => {
                what.tally
                    .set_stage(format!("begins again (attempt {attempt} ended: {why})"));
                last = why;
            }
        }
        // Another attempt may have other parts.
        what.place.delete(name).await?;
        what.place.mark(name).await?;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(AGAIN_MS)) => {}
            () = wait_stop(&mut stop) => return Err(stopped()),
        }
    }
    Err(format!("given up after {ATTEMPTS_MAX} attempts: {last}"))
}

fn is_stopped(stop: &watch::Receiver<bool>) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}

async fn wait_stop(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone has nobody who would stop it later.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn stopped() -> String {
    "stopped: nothing of this backup is left".into()
}

async fn wait_ready(what: &Take, stop: &mut watch::Receiver<bool>) -> Result<View, String> {
    let began = Instant::now();
    loop {
        let unready = match what.access.view().await {
            Ok(view) => match view.unready() {
                None => return Ok(view),
                Some(why) => why,
            },
            Err(why) => why,
        };
        if began.elapsed() >= what.wait {
            return Err(format!(
                "{unready}, for {} s by now (wait longer with --wait)",
                what.wait.as_secs()
            ));
        }
        what.tally.set_stage(format!("waits: {unready}"));
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(LOOK_MS)) => {}
            () = wait_stop(stop) => return Err(stopped()),
        }
    }
}

async fn one_attempt(
    what: &Take,
    name: SetName,
    view: &View,
    began: Instant,
    stop: &watch::Receiver<bool>,
) -> Result<Manifest, Fault> {
    what.tally.reset(0);
    what.tally.set_stage("begins");
    let begun = begin_all(what, view).await?;
    let created = clock::unix_millis();
    let keys = begun.streams.iter().map(|one| one.begun.keys).sum();
    what.tally.reset(keys);
    what.tally.set_stage("");
    let nodes: Vec<NodeSettings> = begun
        .streams
        .iter()
        .map(|one| NodeSettings {
            addr: one.shard.node.addr.clone(),
            users: one.begun.users.clone(),
            settings: one.begun.settings.clone(),
        })
        .collect();
    for one in begun
        .streams
        .iter()
        .filter(|one| one.begun.users_left_out > 0)
    {
        what.tally.warn(format!(
            "{} users of {} are not in the backup: their rules are no UTF-8",
            one.begun.users_left_out, one.shard.node.addr
        ));
    }
    let shards = receive_all(what, name, begun.streams, stop).await?;
    what.tally.set_stage("writes the manifest");
    let cluster_file = write_cluster(what, name, &ClusterFile { nodes })
        .await
        .map_err(Fault::Final)?;
    let manifest = Manifest {
        version: manifest::VERSION,
        release: env!("CARGO_PKG_VERSION").into(),
        cluster: view.cluster.clone(),
        epoch: view.epoch,
        created,
        held_ms: begun.held_ms,
        took_ms: began.elapsed().as_millis() as u64,
        block_bytes: BLOCK_BYTES,
        shards,
        cluster_file,
        encryption: what.key.as_ref().map(|key| Encryption {
            cipher: CIPHER.into(),
            key: key.id(),
        }),
    };
    finish(what, name, &manifest).await.map_err(Fault::Final)?;
    Ok(manifest)
}

/// One primary whose snapshot has begun.
pub(crate) struct Begun {
    pub(crate) shard: Shard,
    pub(crate) client: ControlClient,
    pub(crate) begun: SnapshotBegun,
}

struct AllBegun {
    streams: Vec<Begun>,
    held_ms: u64,
}

/// All hold, then all begin.
async fn begin_all(what: &Take, view: &View) -> Result<AllBegun, Fault> {
    let mut connecting = JoinSet::new();
    for shard in view.shards.iter().filter(|shard| !shard.slots.is_empty()) {
        let (access, shard) = (what.access.clone(), shard.clone());
        connecting.spawn(async move {
            let client = access.node(&shard.node.addr).await?;
            Ok::<_, Fault>((shard, client))
        });
    }
    let connected = all(connecting).await?;
    let epoch = view.epoch;
    let first_hold = Instant::now();
    let mut holding = JoinSet::new();
    for (shard, mut client) in connected {
        holding.spawn(async move {
            let ask = HoldAsk {
                epoch,
                slots: shard.slots.clone(),
                hold_ms: HOLD_MS,
            };
            let held: Held = say(&mut client, "HOLD", &ask).await?;
            Ok::<_, Fault>((shard, client, held.hold))
        });
    }
    let holding = all(holding).await?;
    let mut beginning = JoinSet::new();
    for (shard, mut client, hold) in holding {
        beginning.spawn(async move {
            let ask = SnapshotAsk {
                epoch,
                slots: shard.slots.clone(),
                hold: Some(hold),
            };
            let begun = say(&mut client, "SNAPSHOT", &ask).await?;
            Ok::<_, Fault>(Begun {
                shard,
                client,
                begun,
            })
        });
    }
    let mut streams = all(beginning).await?;
    streams.sort_by_key(|one| one.shard.id);
    Ok(AllBegun {
        streams,
        held_ms: first_hold.elapsed().as_millis() as u64,
    })
}

/// What all tasks came to, or the first that failed; the others are ended then.
async fn all<T: 'static>(mut tasks: JoinSet<Result<T, Fault>>) -> Result<Vec<T>, Fault> {
    let mut done = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        done.push(joined.map_err(|error| Fault::Final(error.to_string()))??);
    }
    Ok(done)
}

async fn say<T: DeserializeOwned>(
    client: &mut ControlClient,
    verb: &str,
    ask: &impl Serialize,
) -> Result<T, ControlError> {
    let json = serde_json::to_string(ask).expect("an ask is JSON");
    client.request_json(["LARDER", verb, &json]).await
}

/// Each stream into its part. When one fails the others are given up, and what they sent is taken back.
async fn receive_all(
    what: &Take,
    name: SetName,
    streams: Vec<Begun>,
    stop: &watch::Receiver<bool>,
) -> Result<Vec<ShardPart>, Fault> {
    let (end, ended) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for one in streams {
        let (what, mut ended, mut stop) = (what.clone(), ended.clone(), stop.clone());
        tasks.spawn(async move {
            let mut part = Receiving::begin(&what, name, &one)?;
            let received = tokio::select! {
                received = part.receive(one) => received,
                () = wait_stop(&mut stop) => Err(Fault::Final(stopped())),
                () = wait_stop(&mut ended) => Err(Fault::Again("another stream ended".into())),
            };
            if received.is_err() {
                part.abort().await;
            }
            received
        });
    }
    let mut parts = Vec::new();
    let mut fault = None;
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok(Ok(part)) => parts.push(part),
            Ok(Err(why)) => {
                fault.get_or_insert(why);
                end.send_replace(true);
            }
            Err(error) => {
                fault.get_or_insert(Fault::Final(error.to_string()));
                end.send_replace(true);
            }
        }
    }
    if let Some(fault) = fault {
        return Err(fault);
    }
    parts.sort_by_key(|part: &ShardPart| part.shard);
    Ok(parts)
}

/// Users and settings are a part like others: they hold the passwords' hashes.
async fn write_cluster(what: &Take, set: SetName, file: &ClusterFile) -> Result<Part, String> {
    let json = serde_json::to_vec_pretty(file).expect("texts are JSON");
    let (name, bytes) = match &what.key {
        None => (CLUSTER.to_string(), json),
        Some(key) => {
            let name = format!("{CLUSTER}.sealed");
            let salt = entropy::bytes().map_err(|error| error.to_string())?;
            let mut bytes = Vec::new();
            let mut sealer = Sealer::begin(key, &set.to_string(), &name, salt, &mut bytes);
            sealer.pass(&json, &mut bytes);
            sealer.end(&mut bytes);
            (name, bytes)
        }
    };
    let mut sums = Sums::new(BLOCK_BYTES);
    sums.pass(&bytes);
    let summed = sums.end();
    what.place.write(set, &name, bytes).await?;
    Ok(Part {
        name,
        bytes: summed.bytes,
        sha256: summed.sha256,
        blocks: summed.blocks,
    })
}

/// All parts are in place: the manifest makes them a set.
async fn finish(what: &Take, set: SetName, manifest: &Manifest) -> Result<(), String> {
    manifest.check()?;
    for part in manifest.parts() {
        let stored = what.place.size(set, &part.name).await?;
        if stored != part.bytes {
            return Err(format!(
                "{} at {} has {stored} bytes and not {}, which were sent",
                part.name,
                what.place.shown(),
                part.bytes
            ));
        }
    }
    let json = manifest.to_json();
    let seal = match &what.key {
        Some(key) => key.seal_manifest(&set.to_string(), &json),
        None => sums::sha256(&json),
    };
    what.place
        .write(set, MANIFEST_SEAL, seal.into_bytes())
        .await?;
    what.place.write(set, MANIFEST, json).await
}
