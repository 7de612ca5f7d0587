//! The slot map of a Redis or Valkey cluster that Larder's topology knows nothing of: asked of its nodes in turn, from time to time and
//! when one of them has pointed elsewhere.
//!
//! `CLUSTER SHARDS` tells which nodes are well; a server that does not know it, and a shard with other than one healthy primary, is asked
//! for `CLUSTER SLOTS`. Any node that answers is as good as another: whoever has an older map is put right by the redirects that follow
//! from it (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use larder_runtime::control::Reply;
use larder_runtime::foreign::{Foreign, ForeignError, Login};
use larder_wire::{ClusterMap, Epoch, NodeEntry, NodeId, Role, ShardEntry, ShardId, Slot, SlotSet};
use tokio::time::{sleep, timeout};

use crate::shared::Shared;

/// A cluster is asked so often, in milliseconds, and no more often than the second.
const ASK_MS: u64 = 5000;
const ASK_MS_MIN: u64 = 20;
/// Pause before all are asked again when none has told a map, in milliseconds.
const RETRY_MS: u64 = 200;
/// Longest wait for one node's answer, in milliseconds.
const ANSWER_MS_MAX: u64 = 1000;

/// Follows the cluster for as long as it is wanted; `spread` gets each map that differs from the one before.
pub(crate) async fn follow(
    seeds: &[String],
    login: &Login,
    shared: &Arc<Shared>,
    spread: impl Fn(Arc<ClusterMap>),
) {
    // Who told the last map comes first; the seeds are for when all of the cluster has moved.
    let mut known: Vec<String> = Vec::new();
    let mut last = ClusterMap::empty("cluster");
    loop {
        let found = ask_any(&known, seeds, login).await;
        shared.source_up.store(found.is_some(), Relaxed);
        let mut pause = RETRY_MS;
        if let Some((teller, shards)) = found {
            pause = ASK_MS;
            let nodes = shards.iter().flat_map(|shard| &shard.nodes);
            let others = nodes.map(|node| node.addr.clone());
            known = others.filter(|addr| *addr != teller).collect();
            known.insert(0, teller);
            match map_of(shards, last.epoch.next()) {
                Ok(map) if map.shards() == last.shards() => {}
                Ok(map) => {
                    tracing::debug!("slot map {} of the cluster", map.epoch);
                    last = map.clone();
                    spread(Arc::new(map));
                }
                Err(error) => {
                    tracing::warn!("the cluster's slot map is wrong: {error}");
                    pause = RETRY_MS;
                }
            }
        }
        sleep(Duration::from_millis(ASK_MS_MIN)).await;
        let _ = timeout(Duration::from_millis(pause), shared.refresh.notified()).await;
    }
}

/// The map of one server that owns every slot.
pub(crate) fn one_server(addr: String) -> ClusterMap {
    let shard = ForeignShard {
        slots: SlotSet::full(),
        nodes: vec![ForeignNode {
            addr,
            id: None,
            is_primary: true,
            is_well: true,
        }],
    };
    match map_of(vec![shard], Epoch(1)) {
        Ok(map) => map,
        Err(error) => unreachable!("one owner of all slots: {error}"),
    }
}

/// The first that tells of slots, and what it told.
async fn ask_any(
    known: &[String],
    seeds: &[String],
    login: &Login,
) -> Option<(String, Vec<ForeignShard>)> {
    let unknown_seeds = seeds.iter().filter(|seed| !known.contains(seed));
    for addr in known.iter().chain(unknown_seeds) {
        let limit = Duration::from_millis(ANSWER_MS_MAX);
        match timeout(limit, ask(addr, login)).await {
            Ok(Ok(shards)) if !shards.is_empty() => return Some((addr.clone(), shards)),
            Ok(Ok(_)) => tracing::debug!("{addr} knows of no slots yet"),
            Ok(Err(cause)) => tracing::debug!("{addr} does not tell the slot map: {cause}"),
            Err(_) => tracing::debug!("{addr} does not answer"),
        }
    }
    None
}

async fn ask(addr: &str, login: &Login) -> Result<Vec<ForeignShard>, String> {
    let text = |error: ForeignError| error.to_string();
    let mut server = Foreign::connect(addr, login).await.map_err(text)?;
    match server.ask(["CLUSTER", "SHARDS"]).await {
        Ok(reply) => {
            if let Some(shards) = read_shards(&reply, addr) {
                return Ok(shards);
            }
        }
        Err(ForeignError::Refused { text, .. }) if !text.starts_with("ERR") => return Err(text),
        // Before Redis 7 there is no such command.
        Err(ForeignError::Refused { .. }) => {}
        Err(error) => return Err(text(error)),
    }
    let reply = server.ask(["CLUSTER", "SLOTS"]).await.map_err(text)?;
    read_slots(&reply, addr).ok_or_else(|| "its answer to CLUSTER SLOTS is none".to_string())
}

#[derive(Debug, PartialEq, Eq)]
struct ForeignShard {
    slots: SlotSet,
    /// The primary first.
    nodes: Vec<ForeignNode>,
}

#[derive(Debug, PartialEq, Eq)]
struct ForeignNode {
    addr: String,
    id: Option<NodeId>,
    is_primary: bool,
    is_well: bool,
}

/// Reads a CLUSTER SHARDS reply in RESP2; shards without slots are left out. `None`: it is no such reply, or it is not clear from it who
/// owns some slots.
fn read_shards(reply: &Reply, asked: &str) -> Option<Vec<ForeignShard>> {
    let mut shards = Vec::new();
    for shard in array(reply)? {
        let mut slots = SlotSet::new();
        for range in array(field(shard, "slots")?)?.chunks(2) {
            let [first, last] = range else {
                return None;
            };
            slots.insert_range(slot(first)?, slot(last)?);
        }
        if slots.is_empty() {
            continue;
        }
        let nodes = array(field(shard, "nodes")?)?.iter();
        let mut nodes = nodes
            .map(|node| read_node(node, asked))
            .collect::<Option<Vec<_>>>()?;
        let mut primaries = nodes.iter().filter(|node| node.is_primary && node.is_well);
        primaries.next()?;
        if primaries.next().is_some() {
            return None;
        }
        // One that has lost its slots to a successor may still be called a primary.
        nodes.retain(|node| node.is_well || !node.is_primary);
        nodes.sort_by_key(|node| !node.is_primary);
        shards.push(ForeignShard { slots, nodes });
    }
    Some(shards)
}

fn read_node(node: &Reply, asked: &str) -> Option<ForeignNode> {
    let text = |name| field(node, name).and_then(as_text);
    let known = |host: &&str| !host.is_empty() && *host != "?";
    let host = text("endpoint")
        .filter(known)
        .or_else(|| text("ip").filter(known));
    let port = field(node, "port").or_else(|| field(node, "tls-port"))?;
    let Reply::Int(port) = port else {
        return None;
    };
    Some(ForeignNode {
        addr: addr(host, *port, asked)?,
        id: text("id").and_then(node_id),
        is_primary: matches!(text("role")?, "master" | "primary"),
        is_well: text("health")? == "online",
    })
}

/// Reads a CLUSTER SLOTS reply: for each range its first and last slot, then its nodes, the primary first.
fn read_slots(reply: &Reply, asked: &str) -> Option<Vec<ForeignShard>> {
    let mut shards: Vec<ForeignShard> = Vec::new();
    for range in array(reply)? {
        let [first, last, nodes @ ..] = array(range)? else {
            return None;
        };
        let mut found = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            let [host, Reply::Int(port), rest @ ..] = array(node)? else {
                return None;
            };
            let host = as_text(host).filter(|host| !host.is_empty() && *host != "?");
            found.push(ForeignNode {
                addr: addr(host, *port, asked)?,
                id: rest.first().and_then(as_text).and_then(node_id),
                is_primary: at == 0,
                is_well: true,
            });
        }
        let primary = &found.first()?.addr;
        let known = shards
            .iter()
            .position(|shard| shard.nodes[0].addr == *primary);
        let index = known.unwrap_or_else(|| {
            shards.push(ForeignShard {
                slots: SlotSet::new(),
                nodes: found,
            });
            shards.len() - 1
        });
        shards[index].slots.insert_range(slot(first)?, slot(last)?);
    }
    Some(shards)
}

/// A map of these shards in the order of their primaries' addresses, so that the same cluster gives the same map whoever is asked.
fn map_of(mut shards: Vec<ForeignShard>, epoch: Epoch) -> Result<ClusterMap, String> {
    for shard in &mut shards {
        shard.nodes[1..].sort_by(|one, other| one.addr.cmp(&other.addr));
    }
    shards.sort_by(|one, other| one.nodes[0].addr.cmp(&other.nodes[0].addr));
    let mut unnamed = 0_u64;
    let mut entry = |node: ForeignNode| NodeEntry {
        id: node.id.unwrap_or_else(|| {
            unnamed += 1;
            let mut id = [0; 20];
            id[..8].copy_from_slice(&unnamed.to_be_bytes());
            NodeId::from_bytes(id)
        }),
        addr: node.addr,
        role: match node.is_primary {
            true => Role::Primary,
            false => Role::Replica,
        },
        zone: None,
        in_step: !node.is_primary && node.is_well,
    };
    let entries = shards.into_iter().zip(0..).map(|(shard, id)| ShardEntry {
        id: ShardId(id),
        slots: shard.slots,
        nodes: shard.nodes.into_iter().map(&mut entry).collect(),
    });
    ClusterMap::new("cluster", epoch, entries.collect())
}

/// A host that the node does not know is the one at which it was asked.
fn addr(host: Option<&str>, port: i64, asked: &str) -> Option<String> {
    let port = u16::try_from(port).ok()?;
    let host = match host {
        Some(host) => host,
        None => asked.rsplit_once(':')?.0,
    };
    Some(match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    })
}

fn slot(reply: &Reply) -> Option<Slot> {
    match reply {
        Reply::Int(number) => u16::try_from(*number).ok().and_then(Slot::new),
        Reply::Simple(_) | Reply::Bulk(_) | Reply::Null | Reply::Array(_) | Reply::Error(_) => None,
    }
}

fn node_id(text: &str) -> Option<NodeId> {
    text.parse().ok()
}

fn as_text(reply: &Reply) -> Option<&str> {
    std::str::from_utf8(reply.bytes()?).ok()
}

fn array(reply: &Reply) -> Option<&[Reply]> {
    match reply {
        Reply::Array(items) => Some(items),
        Reply::Simple(_) | Reply::Int(_) | Reply::Bulk(_) | Reply::Null | Reply::Error(_) => None,
    }
}

/// The value behind `name` in an array of pairs.
fn field<'r>(reply: &'r Reply, name: &str) -> Option<&'r Reply> {
    let mut pairs = array(reply)?.chunks(2);
    pairs.find_map(|pair| match pair {
        [known, value] if as_text(known) == Some(name) => Some(value),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(text.as_bytes().to_vec())
    }

    fn node(host: &str, port: i64, role: &str, health: &str) -> Reply {
        Reply::Array(vec![
            bulk("id"),
            bulk(&format!("{port:040x}")),
            bulk("port"),
            Reply::Int(port),
            bulk("ip"),
            bulk(host),
            bulk("endpoint"),
            bulk(host),
            bulk("role"),
            bulk(role),
            bulk("health"),
            bulk(health),
        ])
    }

    fn shard(slots: &[i64], nodes: Vec<Reply>) -> Reply {
        let slots = slots.iter().map(|slot| Reply::Int(*slot)).collect();
        Reply::Array(vec![
            bulk("slots"),
            Reply::Array(slots),
            bulk("nodes"),
            Reply::Array(nodes),
        ])
    }

    fn shown(shards: Vec<ForeignShard>) -> Vec<String> {
        let map = map_of(shards, Epoch(1)).unwrap();
        let of = |shard: &ShardEntry| {
            let nodes = shard
                .nodes
                .iter()
                .map(|node| match (node.role, node.in_step) {
                    (Role::Primary, _) => node.addr.clone(),
                    (Role::Replica, true) => format!("+{}", node.addr),
                    (Role::Replica, false) => format!("-{}", node.addr),
                });
            format!("{}: {}", shard.slots, nodes.collect::<Vec<_>>().join(" "))
        };
        map.shards().iter().map(of).collect()
    }

    #[test]
    fn the_shards_that_a_cluster_tells_are_read_with_their_replicas() {
        let reply = Reply::Array(vec![
            shard(
                &[8192, 16383],
                vec![
                    node("h", 3, "replica", "loading"),
                    node("h", 2, "master", "online"),
                ],
            ),
            shard(&[], vec![node("h", 9, "master", "online")]),
            shard(
                &[0, 100, 102, 8191],
                vec![
                    node("", 1, "master", "online"),
                    node("h", 4, "replica", "online"),
                    // Its slots are its successor's, and nobody has told it.
                    node("h", 5, "master", "fail"),
                ],
            ),
        ]);
        assert_eq!(
            shown(read_shards(&reply, "asked:7").unwrap()),
            ["0-100,102-8191: asked:1 +h:4", "8192-16383: h:2 -h:3"]
        );
    }

    #[test]
    fn a_shard_with_two_healthy_primaries_or_none_is_not_clear() {
        for healths in [["online", "online"], ["fail", "fail"]] {
            let nodes = healths
                .map(|health| node("h", 1, "master", health))
                .to_vec();
            let reply = Reply::Array(vec![shard(&[0, 16383], nodes)]);
            assert_eq!(read_shards(&reply, "h:1"), None);
        }
        assert_eq!(read_shards(&Reply::Int(1), "h:1"), None);
    }

    #[test]
    fn the_slots_that_a_cluster_tells_are_read_with_their_primaries() {
        let answer = b"*3\r\n*4\r\n:0\r\n:5460\r\n*4\r\n$0\r\n\r\n:7001\r\n$2\r\nab\r\n*0\r\n*3\r\n$9\r\n127.0.0.1\r\n:7004\r\n$2\r\nxy\r\n\
            *3\r\n:5461\r\n:16382\r\n*3\r\n$9\r\n127.0.0.1\r\n:7002\r\n$2\r\ncd\r\n\
            *3\r\n:16383\r\n:16383\r\n*3\r\n$8\r\n10.0.0.1\r\n:7001\r\n$2\r\nab\r\n";
        let slots = Reply::parse(answer).unwrap();
        assert_eq!(
            shown(read_slots(&slots, "10.0.0.1:7009").unwrap()),
            [
                "0-5460,16383: 10.0.0.1:7001 +127.0.0.1:7004",
                "5461-16382: 127.0.0.1:7002"
            ]
        );
        assert_eq!(read_slots(&Reply::Int(1), "h:1"), None);
    }
}
