//! Where the slot map comes from, and the task that follows it. While the source is away, the last map stays
//! in force.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use larder_runtime::control::{ControlError, Reply};
use larder_runtime::foreign::{self, Foreign, ForeignError, Login};
use larder_runtime::{Backoff, ControlClient, Secret, Topologies, entropy};
use larder_wire::control::{Peer, ProxyJoin};
use larder_wire::{ClusterMap, Epoch, NodeEntry, NodeId, Role, ShardEntry, ShardId, SlotSet};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{interval, sleep, timeout};

use crate::shared::Shared;
use crate::turning::Told;

/// Who tells which node owns which slots.
#[derive(Clone, Debug)]
pub enum MapSource {
    /// Larder's topologies; the one that leads pushes every change.
    Topology(Topologies),
    /// Any node of a Redis or Valkey cluster, `host:port` each; asked by `CLUSTER SLOTS`.
    Cluster(Vec<String>),
    /// This map, for good; its nodes are servers that each own whatever they are sent.
    Fixed(ClusterMap),
}

/// A sign of life to the topology, in milliseconds.
const JOIN_MS: u64 = 1000;
/// Longest wait for the answer to it, in milliseconds: a topology that hangs may have lost the lead.
const JOIN_MS_MAX: u64 = 1000;
/// Pause before the source is dialled again, first and longest, in milliseconds.
const DIAL_MS_MIN: u64 = 20;
const DIAL_MS_MAX: u64 = 1000;
/// A foreign cluster is asked so often, in milliseconds, and no more often than the second.
const ASK_MS: u64 = 5000;
const ASK_MS_MIN: u64 = 20;
/// Longest wait for a foreign node's answer, in milliseconds.
const ANSWER_MS_MAX: u64 = 2000;

/// Follows servers that are not Larder's for as long as the proxy runs; `spread` gives every thread a map.
pub(crate) async fn follow(
    source: MapSource,
    shared: Arc<Shared>,
    spread: impl Fn(Arc<ClusterMap>),
) {
    match source {
        MapSource::Fixed(map) => {
            shared.source_up.store(true, Relaxed);
            spread(Arc::new(map));
        }
        MapSource::Cluster(seeds) => {
            follow_cluster(&seeds, &Login::default(), &shared, spread).await
        }
        MapSource::Topology(topologies) => {
            tracing::error!("no secret to show the topology at {topologies}");
        }
    }
}

/// Follows the topology for as long as the proxy runs: its maps, and whether it has clients forwarded to an old server.
pub(crate) async fn follow_topology(
    topologies: Topologies,
    secret: Secret,
    join: ProxyJoin,
    shared: Arc<Shared>,
    tell: UnboundedSender<Told>,
) {
    let mut backoff = Backoff::new(
        Duration::from_millis(DIAL_MS_MIN),
        Duration::from_millis(DIAL_MS_MAX),
    );
    loop {
        let error = watch(&topologies, &secret, &join, &shared, &tell, &mut backoff).await;
        if shared.source_up.swap(false, Relaxed) {
            tracing::warn!("the topology is away, the last slot map stays in force: {error}");
        }
        sleep(backoff.next(entropy::jitter())).await;
    }
}

/// Joins and watches until the connection is lost.
async fn watch(
    topologies: &Topologies,
    secret: &Secret,
    join: &ProxyJoin,
    shared: &Arc<Shared>,
    tell: &UnboundedSender<Told>,
    backoff: &mut Backoff,
) -> ControlError {
    let Ok(body) = serde_json::to_string(join) else {
        unreachable!("a join message is plain strings and numbers")
    };
    let (mut life, mut maps) = match connect(topologies, secret).await {
        Ok(both) => both,
        Err(error) => return error,
    };
    if let Err(error) = join_in(&mut life, &body, tell).await {
        return error;
    }
    if let Err(error) = maps.send(["LARDER", "WATCH"]).await {
        return error;
    }
    backoff.reset();
    shared.source_up.store(true, Relaxed);
    let mut beat = interval(Duration::from_millis(JOIN_MS));
    loop {
        tokio::select! {
            read = maps.read_reply() => {
                let map = match read.and_then(|reply: Reply| maps.parse_json::<ClusterMap>(&reply)) {
                    Ok(map) => map,
                    Err(error) => return error,
                };
                tracing::debug!("slot map of epoch {}", map.epoch);
                // The receiver ends with the proxy.
                let _ = tell.send(Told::Larder(Arc::new(map)));
            }
            _ = beat.tick() => {
                if let Err(error) = join_in(&mut life, &body, tell).await {
                    return error;
                }
            }
        }
    }
}

/// A sign of life, and the question where clients belong. A topology of an older release never forwards.
async fn join_in(
    life: &mut ControlClient,
    body: &str,
    tell: &UnboundedSender<Told>,
) -> Result<(), ControlError> {
    let limit = Duration::from_millis(JOIN_MS_MAX);
    life.request_within(limit, ["LARDER", "JOIN", body]).await?;
    let words = ["LARDER", "FORWARD", "GET"];
    let record = match life.request_within(limit, words).await {
        Ok(reply) => life.parse_json(&reply)?,
        Err(ControlError::Refused { text, .. }) if text.starts_with("unknown LARDER verb") => None,
        Err(error) => return Err(error),
    };
    let _ = tell.send(Told::Recorded(record));
    Ok(())
}

/// Two connections to the one that leads. Should it stop leading in between, its first answer says so.
async fn connect(
    topologies: &Topologies,
    secret: &Secret,
) -> Result<(ControlClient, ControlClient), ControlError> {
    let life = topologies.connect(secret, Peer::Proxy).await?;
    let maps = ControlClient::connect(life.addr(), secret, Peer::Proxy).await?;
    Ok((life, maps))
}

/// Asks a foreign cluster, from time to time and when a node has pointed elsewhere.
pub(crate) async fn follow_cluster(
    seeds: &[String],
    login: &Login,
    shared: &Arc<Shared>,
    spread: impl Fn(Arc<ClusterMap>),
) {
    let mut known: Vec<String> = seeds.to_vec();
    let mut last = ClusterMap::empty("cluster");
    loop {
        let mut found = None;
        for addr in known.iter().chain(seeds) {
            let limit = Duration::from_millis(ANSWER_MS_MAX);
            match timeout(limit, ask_slots(addr, login)).await {
                Ok(Ok(primaries)) if !primaries.is_empty() => {
                    found = Some(primaries);
                    break;
                }
                Ok(Ok(_)) => tracing::debug!("{addr} knows of no slots yet"),
                Ok(Err(cause)) => tracing::debug!("{addr} does not tell the slot map: {cause}"),
                Err(_) => tracing::debug!("{addr} does not answer"),
            }
        }
        shared.source_up.store(found.is_some(), Relaxed);
        let mut pause = if found.is_some() {
            ASK_MS
        } else {
            10 * ASK_MS_MIN
        };
        if let Some(primaries) = found {
            match map_of(&primaries, last.epoch.next()) {
                Ok(map) => {
                    known = primaries.into_iter().map(|(addr, _)| addr).collect();
                    if map.shards() != last.shards() {
                        tracing::debug!("slot map of epoch {}", map.epoch);
                        last = map.clone();
                        spread(Arc::new(map));
                    }
                }
                Err(error) => {
                    tracing::warn!("the cluster's slot map is wrong: {error}");
                    pause = 10 * ASK_MS_MIN;
                }
            }
        }
        sleep(Duration::from_millis(ASK_MS_MIN)).await;
        let _ = timeout(Duration::from_millis(pause), shared.refresh.notified()).await;
    }
}

async fn ask_slots(addr: &str, login: &Login) -> Result<Vec<(String, SlotSet)>, String> {
    let text = |error: ForeignError| error.to_string();
    let mut server = Foreign::connect(addr, login).await.map_err(text)?;
    let slots = server.ask(["CLUSTER", "SLOTS"]).await.map_err(text)?;
    foreign::primaries(&slots, addr)
        .ok_or_else(|| "its answer to CLUSTER SLOTS is none".to_string())
}

/// A map with one shard a primary, numbered in the order of their addresses.
pub(crate) fn map_of(primaries: &[(String, SlotSet)], epoch: Epoch) -> Result<ClusterMap, String> {
    let mut shards = Vec::new();
    for (index, (addr, slots)) in primaries.iter().enumerate() {
        let mut id = [0; 20];
        id[..8].copy_from_slice(&(index as u64).to_be_bytes());
        shards.push(ShardEntry {
            id: ShardId(index as u32),
            slots: slots.clone(),
            nodes: vec![NodeEntry {
                id: NodeId::from_bytes(id),
                addr: addr.clone(),
                role: Role::Primary,
                zone: None,
                in_step: false,
            }],
        });
    }
    ClusterMap::new("cluster", epoch, shards)
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_wire::Slot;

    #[test]
    fn a_map_has_one_shard_a_primary() {
        let slot = |number| Slot::new(number).unwrap();
        let set = |first, last| SlotSet::from(vec![(slot(first), slot(last))]);
        let primaries = [
            ("10.0.0.1:7001".to_string(), set(0, 5460)),
            ("127.0.0.1:7002".to_string(), set(5461, 16383)),
        ];
        let map = map_of(&primaries, Epoch(3)).unwrap();
        assert!(map.unowned().is_empty());
        assert_eq!(map.primary_of(Slot::LAST).unwrap().addr, "127.0.0.1:7002");
    }
}
