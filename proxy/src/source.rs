//! Where the slot map comes from, and the task that follows it. While the source is away, the last map stays
//! in force.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use larder_runtime::control::{ControlError, Reply};
use larder_runtime::{Backoff, ControlClient, Secret, Topologies, entropy};
use larder_wire::control::{Peer, ProxyJoin};
use larder_wire::resp::{OwnedRequest, ReplyScanner, reply};
use larder_wire::{ClusterMap, Epoch, NodeEntry, NodeId, Role, ShardEntry, ShardId, Slot, SlotSet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{interval, sleep, timeout};

use crate::shared::Shared;

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

/// Follows the source for as long as the proxy runs; `spread` gives every thread a map.
pub(crate) async fn follow(
    source: MapSource,
    secret: Option<Secret>,
    join: ProxyJoin,
    shared: Arc<Shared>,
    spread: impl Fn(Arc<ClusterMap>),
) {
    match source {
        MapSource::Fixed(map) => {
            shared.source_up.store(true, Relaxed);
            spread(Arc::new(map));
        }
        MapSource::Cluster(seeds) => follow_cluster(&seeds, &shared, spread).await,
        MapSource::Topology(topologies) => {
            let Some(secret) = secret else {
                tracing::error!("no secret to show the topology at {topologies}");
                return;
            };
            let mut backoff = Backoff::new(
                Duration::from_millis(DIAL_MS_MIN),
                Duration::from_millis(DIAL_MS_MAX),
            );
            loop {
                let error =
                    watch(&topologies, &secret, &join, &shared, &spread, &mut backoff).await;
                if shared.source_up.swap(false, Relaxed) {
                    tracing::warn!(
                        "the topology is away, the last slot map stays in force: {error}"
                    );
                }
                sleep(backoff.next(entropy::jitter())).await;
            }
        }
    }
}

/// Joins and watches until the connection is lost.
async fn watch(
    topologies: &Topologies,
    secret: &Secret,
    join: &ProxyJoin,
    shared: &Arc<Shared>,
    spread: &impl Fn(Arc<ClusterMap>),
    backoff: &mut Backoff,
) -> ControlError {
    let Ok(body) = serde_json::to_string(join) else {
        unreachable!("a join message is plain strings and numbers")
    };
    let limit = Duration::from_millis(JOIN_MS_MAX);
    let (mut life, mut maps) = match connect(topologies, secret).await {
        Ok(both) => both,
        Err(error) => return error,
    };
    if let Err(error) = life.request_within(limit, ["LARDER", "JOIN", &body]).await {
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
                take(shared, spread, map);
            }
            _ = beat.tick() => {
                if let Err(error) = life.request_within(limit, ["LARDER", "JOIN", &body]).await {
                    return error;
                }
            }
        }
    }
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

fn take(shared: &Arc<Shared>, spread: &impl Fn(Arc<ClusterMap>), map: ClusterMap) {
    if map.epoch < shared.map().epoch {
        return;
    }
    tracing::debug!("slot map of epoch {}", map.epoch);
    spread(Arc::new(map));
}

/// Asks a foreign cluster, from time to time and when a node has pointed elsewhere.
async fn follow_cluster(seeds: &[String], shared: &Arc<Shared>, spread: impl Fn(Arc<ClusterMap>)) {
    let mut known: Vec<String> = seeds.to_vec();
    loop {
        let mut found = None;
        for addr in known.iter().chain(seeds) {
            let limit = Duration::from_millis(ANSWER_MS_MAX);
            match timeout(limit, ask_slots(addr)).await {
                Ok(Ok(ranges)) if !ranges.is_empty() => {
                    found = Some(ranges);
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
        if let Some(ranges) = found {
            let last = shared.map();
            match map_of(&ranges, last.epoch) {
                Ok(map) => {
                    known = map
                        .shards()
                        .iter()
                        .filter_map(|shard| shard.primary().map(|node| node.addr.clone()))
                        .collect();
                    if map.shards() != last.shards() {
                        let epoch = last.epoch.next();
                        let map = ClusterMap::new("cluster", epoch, map.shards().to_vec());
                        match map {
                            Ok(map) => take(shared, &spread, map),
                            Err(error) => {
                                tracing::warn!("the cluster's slot map is wrong: {error}")
                            }
                        }
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

/// One line of `CLUSTER SLOTS`: first and last slot, and the address of the primary.
type Range = (u16, u16, String);

async fn ask_slots(addr: &str) -> Result<Vec<Range>, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(addr).await.map_err(text)?;
    let request = OwnedRequest::from_args(["CLUSTER", "SLOTS"]).into_bytes();
    stream.write_all(&request).await.map_err(text)?;
    let mut answer = Vec::new();
    let mut scanner = ReplyScanner::new();
    loop {
        if stream.read_buf(&mut answer).await.map_err(text)? == 0 {
            return Err("it closed the connection".to_string());
        }
        if let Some(end) = scanner.scan(&answer).map_err(|error| error.to_string())? {
            answer.truncate(end);
            break;
        }
    }
    if let Some(error) = reply::error_text(&answer) {
        return Err(String::from_utf8_lossy(error).into_owned());
    }
    read_slots(&answer, addr).ok_or_else(|| "its answer to CLUSTER SLOTS is none".to_string())
}

/// Reads `[[first, last, [host, port, …], …], …]`; an empty host is the one that was asked.
fn read_slots(answer: &[u8], asked: &str) -> Option<Vec<Range>> {
    let mut ranges = Vec::new();
    for line in elements(answer)? {
        let parts = elements(line)?;
        let number = |part: &[u8]| u16::try_from(reply::integer(part)?).ok();
        let (first, last) = (number(parts.first()?)?, number(parts.get(1)?)?);
        let node = elements(parts.get(2)?)?;
        let mut host = bulk(node.first()?).unwrap_or("").to_string();
        if host.is_empty() {
            host = asked.rsplit_once(':')?.0.to_string();
        }
        let port = reply::integer(node.get(1)?)?;
        ranges.push((first, last, format!("{host}:{port}")));
    }
    Some(ranges)
}

fn elements(array: &[u8]) -> Option<Vec<&[u8]>> {
    let (count, mut at) = reply::array_header(array)?;
    let mut scanner = ReplyScanner::new();
    let mut found = Vec::new();
    for _ in 0..count {
        let len = scanner.scan(&array[at..]).ok()??;
        found.push(&array[at..at + len]);
        at += len;
    }
    Some(found)
}

fn bulk(element: &[u8]) -> Option<&str> {
    if element.first() != Some(&b'$') {
        return None;
    }
    let start = element.iter().position(|&byte| byte == b'\n')? + 1;
    std::str::from_utf8(element.get(start..)?.strip_suffix(b"\r\n")?).ok()
}

/// A map with one shard a primary, numbered in the order of their addresses.
fn map_of(ranges: &[Range], epoch: Epoch) -> Result<ClusterMap, String> {
    let mut addrs: Vec<&String> = ranges.iter().map(|(_, _, addr)| addr).collect();
    addrs.sort();
    addrs.dedup();
    let mut shards = Vec::new();
    for (index, addr) in addrs.into_iter().enumerate() {
        let mut slots = SlotSet::new();
        for (first, last, _) in ranges.iter().filter(|(_, _, owner)| owner == addr) {
            let (Some(first), Some(last)) = (Slot::new(*first), Slot::new(*last)) else {
                return Err(format!("slots {first}-{last} do not exist"));
            };
            slots.insert_range(first, last);
        }
        let mut id = [0; 20];
        id[..8].copy_from_slice(&(index as u64).to_be_bytes());
        shards.push(ShardEntry {
            id: ShardId(index as u32),
            slots,
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

    #[test]
    fn the_slots_that_a_cluster_tells_are_read_with_their_primaries() {
        let answer = b"*2\r\n*4\r\n:0\r\n:5460\r\n*4\r\n$0\r\n\r\n:7001\r\n$2\r\nab\r\n*0\r\n*3\r\n$9\r\n127.0.0.1\r\n:7004\r\n$2\r\nxy\r\n\
            *3\r\n:5461\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:7002\r\n$2\r\ncd\r\n";
        let ranges = read_slots(answer, "10.0.0.1:7009").unwrap();
        assert_eq!(
            ranges,
            [
                (0, 5460, "10.0.0.1:7001".to_string()),
                (5461, 16383, "127.0.0.1:7002".to_string())
            ]
        );
        let map = map_of(&ranges, Epoch(3)).unwrap();
        assert!(map.unowned().is_empty());
        assert_eq!(map.primary_of(Slot::LAST).unwrap().addr, "127.0.0.1:7002");
    }
}
