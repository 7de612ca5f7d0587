//! The map in the words of Redis Cluster: `CLUSTER SLOTS`, `SHARDS`, `NODES`, `INFO`, so that any cluster client or
//! proxy may learn it here.

use std::collections::HashMap;
use std::fmt::Write;

use larder_wire::resp::ReplyWriter;
use larder_wire::{ClusterMap, NodeEntry, NodeId, Role};

/// Which nodes answer; a node that is not in it does not.
pub(crate) type Health = HashMap<NodeId, bool>;

fn host_port(addr: &str) -> (&str, i64) {
    match addr.rsplit_once(':') {
        Some((host, port)) => (
            host.trim_start_matches('[').trim_end_matches(']'),
            port.parse().unwrap_or(0),
        ),
        None => (addr, 0),
    }
}

/// <https://redis.io/docs/latest/commands/cluster-slots/>
pub(crate) fn slots(map: &ClusterMap, reply: &mut ReplyWriter<'_>) {
    let mut ranges: Vec<_> = map
        .shards()
        .iter()
        .flat_map(|shard| {
            let ranges = shard.slots.ranges();
            ranges
                .into_iter()
                .map(move |(first, last)| (first, last, shard))
        })
        .collect();
    ranges.sort_by_key(|(first, _, _)| first.number());
    reply.array(ranges.len());
    for (first, last, shard) in ranges {
        reply.array(2 + shard.nodes.len());
        reply.int(i64::from(first.number()));
        reply.int(i64::from(last.number()));
        for node in &shard.nodes {
            let (host, port) = host_port(&node.addr);
            reply.array(4);
            reply.bulk(host.as_bytes());
            reply.int(port);
            reply.bulk(node.id.to_string().as_bytes());
            reply.array(0);
        }
    }
}

/// <https://redis.io/docs/latest/commands/cluster-shards/>
pub(crate) fn shards(map: &ClusterMap, health: &Health, reply: &mut ReplyWriter<'_>) {
    reply.array(map.shards().len());
    for shard in map.shards() {
        reply.map(2);
        reply.bulk(b"slots");
        let ranges = shard.slots.ranges();
        reply.array(ranges.len() * 2);
        for (first, last) in ranges {
            reply.int(i64::from(first.number()));
            reply.int(i64::from(last.number()));
        }
        reply.bulk(b"nodes");
        reply.array(shard.nodes.len());
        for node in &shard.nodes {
            one_node(node, health, reply);
        }
    }
}

fn one_node(node: &NodeEntry, health: &Health, reply: &mut ReplyWriter<'_>) {
    let (host, port) = host_port(&node.addr);
    let up = health.get(&node.id).copied().unwrap_or(false);
    reply.map(7);
    reply.bulk(b"id");
    reply.bulk(node.id.to_string().as_bytes());
    reply.bulk(b"port");
    reply.int(port);
    reply.bulk(b"ip");
    reply.bulk(host.as_bytes());
    reply.bulk(b"endpoint");
    reply.bulk(host.as_bytes());
    reply.bulk(b"role");
    reply.bulk(match node.role {
        Role::Primary => b"master",
        Role::Replica => b"replica",
    });
    reply.bulk(b"replication-offset");
    reply.int(0);
    reply.bulk(b"health");
    reply.bulk(if up { b"online" } else { b"fail" });
}

/// <https://redis.io/docs/latest/commands/cluster-nodes/>
pub(crate) fn nodes(map: &ClusterMap, health: &Health, reply: &mut ReplyWriter<'_>) {
    let mut text = String::new();
    for shard in map.shards() {
        let primary = shard.primary().map(|node| node.id.to_string());
        for node in &shard.nodes {
            let port = host_port(&node.addr).1;
            let up = health.get(&node.id).copied().unwrap_or(false);
            let (role, of) = match node.role {
                Role::Primary => ("master", "-".to_string()),
                Role::Replica => ("slave", primary.clone().unwrap_or("-".into())),
            };
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "{} {}@{} {role} {of} 0 0 {} {}",
                node.id,
                node.addr,
                port + 10_000,
                map.epoch,
                if up { "connected" } else { "disconnected" },
            );
            if node.role == Role::Primary {
                for (first, last) in shard.slots.ranges() {
                    let _ = match first == last {
                        true => write!(text, " {first}"),
                        false => write!(text, " {first}-{last}"),
                    };
                }
            }
            text.push('\n');
        }
    }
    reply.verbatim("txt", text.as_bytes());
}

/// <https://redis.io/docs/latest/commands/cluster-info/>
pub(crate) fn info(map: &ClusterMap, reply: &mut ReplyWriter<'_>) {
    let owned: usize = map.shards().iter().map(|shard| shard.slots.len()).sum();
    let size = map
        .shards()
        .iter()
        .filter(|shard| !shard.slots.is_empty())
        .count();
    let nodes: usize = map.shards().iter().map(|shard| shard.nodes.len()).sum();
    let state = if map.unowned().is_empty() {
        "ok"
    } else {
        "fail"
    };
    let text = format!(
        "cluster_enabled:1\r\ncluster_state:{state}\r\ncluster_slots_assigned:{owned}\r\ncluster_slots_ok:{owned}\r\n\
         cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:{nodes}\r\ncluster_size:{size}\r\n\
         cluster_current_epoch:{}\r\ncluster_my_epoch:{}\r\n",
        map.epoch, map.epoch
    );
    reply.verbatim("txt", text.as_bytes());
}
