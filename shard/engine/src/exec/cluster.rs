//! CLUSTER and its subcommands: the map, told as cluster clients read it.
//!
//! Source: <https://redis.io/docs/latest/commands/cluster-slots/>, `-shards`, `-nodes`, `-info`.

use std::fmt::Write;

use larder_wire::{
    NodeEntry, NodeId, Offset, Refusal, Role, SLOT_COUNT, ShardEntry, Slot, slot_of,
};

use super::connection::cluster_only;
use crate::node::Node;
use crate::turn::{Outcome, Turn, help};

pub fn slots(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    cluster_only(turn)?;
    let map = turn.node.ownership.map();
    let mut ranges: Vec<(Slot, Slot, &ShardEntry)> = Vec::new();
    for shard in map.shards() {
        for (first, last) in shard.slots.ranges() {
            ranges.push((first, last, shard));
        }
    }
    ranges.sort_by_key(|(first, ..)| first.number());
    turn.reply.array(ranges.len());
    for (first, last, shard) in ranges {
        turn.reply.array(2 + shard.nodes.len());
        turn.reply.int(first.number().into());
        turn.reply.int(last.number().into());
        for node in primary_first(shard) {
            let (host, port) = host_and_port(&node.addr);
            turn.reply.array(4);
            turn.reply.bulk(host.as_bytes());
            turn.reply.int(port.into());
            turn.reply.bulk(node.id.to_string().as_bytes());
            turn.reply.array(0);
        }
    }
    Ok(Outcome::Done)
}

pub fn shards(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    cluster_only(turn)?;
    let shards = turn.node.ownership.map().shards();
    turn.reply.array(shards.len());
    for shard in shards {
        let ranges = shard.slots.ranges();
        turn.reply.map(2);
        turn.reply.bulk(b"slots");
        turn.reply.array(ranges.len() * 2);
        for (first, last) in ranges {
            turn.reply.int(first.number().into());
            turn.reply.int(last.number().into());
        }
        turn.reply.bulk(b"nodes");
        turn.reply.array(shard.nodes.len());
        for node in primary_first(shard) {
            let (host, port) = host_and_port(&node.addr);
            turn.reply.map(7);
            turn.reply.bulk(b"id");
            turn.reply.bulk(node.id.to_string().as_bytes());
            turn.reply.bulk(b"port");
            turn.reply.int(port.into());
            for (name, value) in [
                ("ip", host),
                ("endpoint", host),
                ("role", role_word(node.role)),
            ] {
                turn.reply.bulk(name.as_bytes());
                turn.reply.bulk(value.as_bytes());
            }
            turn.reply.bulk(b"replication-offset");
            turn.reply.int(offset_of(turn.node, node.id));
            turn.reply.bulk(b"health");
            turn.reply.bulk(b"online");
        }
    }
    Ok(Outcome::Done)
}

/// As far as this node knows: of itself, and of those who follow it.
fn offset_of(node: &Node, id: NodeId) -> i64 {
    let mut followers = node.replication.followers.iter();
    let offset = match id == node.ownership.me() {
        true => node.journal.end(),
        false => match followers.find(|it| it.node == id) {
            Some(follower) => follower.acked,
            None => Offset(0),
        },
    };
    offset.0 as i64
}

pub fn nodes(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    cluster_only(turn)?;
    let me = turn.node.ownership.me();
    let map = turn.node.ownership.map();
    let mut text = String::new();
    for shard in map.shards() {
        let primary = shard.primary().map(|node| node.id);
        for node in &shard.nodes {
            node_line(&mut text, node, shard, primary, me, map.epoch.0);
        }
    }
    if map.find_node(me).is_none() {
        // A spare: in no shard yet, but a node that answers.
        let (host, port) = host_and_port(&turn.node.settings.addr);
        let _ = writeln!(
            text,
            "{me} {host}:{port}@{port} myself,master - 0 0 0 connected"
        );
    }
    turn.reply.verbatim("txt", text.as_bytes());
    Ok(Outcome::Done)
}

/// Writing to a String cannot fail.
fn node_line(
    text: &mut String,
    node: &NodeEntry,
    shard: &ShardEntry,
    primary: Option<NodeId>,
    me: NodeId,
    epoch: u64,
) {
    let (host, port) = host_and_port(&node.addr);
    let myself = if node.id == me { "myself," } else { "" };
    let of = match (node.role, primary) {
        (Role::Replica, Some(primary)) => primary.to_string(),
        (Role::Replica, None) | (Role::Primary, _) => "-".to_string(),
    };
    let (id, role) = (node.id, role_word(node.role));
    let role = if role == "replica" { "slave" } else { role };
    let _ = write!(
        text,
        "{id} {host}:{port}@{port} {myself}{role} {of} 0 0 {epoch} connected"
    );
    if node.role == Role::Primary {
        for (first, last) in shard.slots.ranges() {
            let _ = if first == last {
                write!(text, " {first}")
            } else {
                write!(text, " {first}-{last}")
            };
        }
    }
    text.push('\n');
}

pub fn info(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    cluster_only(turn)?;
    let map = turn.node.ownership.map();
    let assigned = SLOT_COUNT as usize - map.unowned().len();
    let state = if assigned == SLOT_COUNT as usize {
        "ok"
    } else {
        "fail"
    };
    let nodes: usize = map.shards().iter().map(|shard| shard.nodes.len()).sum();
    let size = map
        .shards()
        .iter()
        .filter(|shard| !shard.slots.is_empty())
        .count();
    let epoch = map.epoch;
    let mut text = String::new();
    for (name, value) in [
        ("cluster_state", state.to_string()),
        ("cluster_slots_assigned", assigned.to_string()),
        ("cluster_slots_ok", assigned.to_string()),
        ("cluster_slots_pfail", "0".to_string()),
        ("cluster_slots_fail", "0".to_string()),
        ("cluster_known_nodes", nodes.max(1).to_string()),
        ("cluster_size", size.to_string()),
        ("cluster_current_epoch", epoch.to_string()),
        ("cluster_my_epoch", epoch.to_string()),
        ("cluster_stats_messages_sent", "0".to_string()),
        ("cluster_stats_messages_received", "0".to_string()),
        ("total_cluster_links_buffer_limit_exceeded", "0".to_string()),
    ] {
        let _ = write!(text, "{name}:{value}\r\n");
    }
    turn.reply.verbatim("txt", text.as_bytes());
    Ok(Outcome::Done)
}

pub fn myid(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    cluster_only(turn)?;
    let id = turn.node.ownership.me().to_string();
    turn.bulk(id.as_bytes())
}

/// A shard has a number, not a name: written as 40 digits, as clients expect one.
pub fn myshardid(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    cluster_only(turn)?;
    let own = &turn.node.ownership;
    let id = match own.map().find_node(own.me()) {
        Some((shard, _)) => format!("{:040x}", shard.id.0),
        None => format!("{:040x}", u32::MAX),
    };
    turn.bulk(id.as_bytes())
}

pub fn keyslot(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    cluster_only(turn)?;
    let slot = slot_of(turn.request.arg(2));
    turn.int(slot.number().into())
}

fn slot_arg(turn: &Turn<'_>, index: usize) -> Result<Slot, Refusal> {
    larder_store::number::parse_i64(turn.request.arg(index))
        .and_then(|number| u16::try_from(number).ok())
        .and_then(Slot::new)
        .ok_or(Refusal::fixed("ERR Invalid slot"))
}

/// In the session's database, as Valkey counts them.
pub fn countkeysinslot(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    cluster_only(turn)?;
    let slot = slot_arg(turn, 2)?;
    let count = if turn.node.ownership.slots().contains(slot) {
        let space = turn.node.databases.get(turn.session.db);
        space.map_or(0, |space| space.slot_len(slot))
    } else {
        0
    };
    turn.int(count as i64)
}

/// Most keys that one answer of GETKEYSINSLOT names.
const KEYS_MAX: i64 = 1_000_000;

pub fn getkeysinslot(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    cluster_only(turn)?;
    let slot = slot_arg(turn, 2)?;
    let count = turn.arg_int(3)?;
    if count < 0 {
        return Err(Refusal::fixed("ERR Invalid number of keys"));
    }
    let keys = if turn.node.ownership.slots().contains(slot) {
        let limit = count.min(KEYS_MAX) as usize;
        let space = turn.node.databases.get(turn.session.db);
        space.map_or_else(Vec::new, |space| {
            space.keys_in_slot(slot, limit, turn.clock.now())
        })
    } else {
        Vec::new()
    };
    turn.reply.array(keys.len());
    for key in keys {
        turn.reply.bulk(&key);
    }
    Ok(Outcome::Done)
}

/// Nodes do not report one another here; only the topology decides who has failed.
pub fn count_failure_reports(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    cluster_only(turn)?;
    let known =
        parse_id(turn, 2).is_some_and(|id| turn.node.ownership.map().find_node(id).is_some());
    if !known {
        return Err(unknown_node(turn, 2));
    }
    turn.int(0)
}

pub fn links(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    cluster_only(turn)?;
    turn.reply.array(0);
    Ok(Outcome::Done)
}

pub fn replicas(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    cluster_only(turn)?;
    let own = &turn.node.ownership;
    let Some((shard, entry)) = parse_id(turn, 2).and_then(|id| own.map().find_node(id)) else {
        return Err(unknown_node(turn, 2));
    };
    if entry.role != Role::Primary {
        return Err(Refusal::fixed("ERR The specified node is not a master"));
    }
    let (primary, me, epoch) = (Some(entry.id), own.me(), own.epoch().0);
    let mut lines = Vec::new();
    for node in shard.nodes.iter().filter(|node| node.role == Role::Replica) {
        let mut line = String::new();
        node_line(&mut line, node, shard, primary, me, epoch);
        lines.push(line);
    }
    turn.reply.array(lines.len());
    for line in lines {
        turn.reply.bulk(line.trim_end().as_bytes());
    }
    Ok(Outcome::Done)
}

fn parse_id(turn: &Turn<'_>, index: usize) -> Option<NodeId> {
    std::str::from_utf8(turn.request.arg(index))
        .ok()?
        .parse()
        .ok()
}

fn unknown_node(turn: &Turn<'_>, index: usize) -> Refusal {
    Refusal::new(format!(
        "ERR Unknown node {}",
        String::from_utf8_lossy(turn.request.arg(index))
    ))
}

pub fn help_(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    help(
        turn,
        "CLUSTER",
        &[
            "COUNTKEYSINSLOT <slot>",
            "    Return the number of keys in <slot>.",
            "GETKEYSINSLOT <slot> <count>",
            "    Return key names stored by current node in a slot.",
            "INFO",
            "    Return information about the cluster.",
            "KEYSLOT <key>",
            "    Return the hash slot for <key>.",
            "MYID",
            "    Return the node id.",
            "MYSHARDID",
            "    Return the node's shard id.",
            "NODES",
            "    Return cluster configuration seen by node.",
            "REPLICAS <node-id>",
            "    Return <node-id> replicas.",
            "SHARDS",
            "    Return information about slot range mappings and the nodes associated with them.",
            "SLOTS",
            "    Return information about slots range mappings.",
        ],
    )
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Primary => "master",
        Role::Replica => "replica",
    }
}

fn primary_first(shard: &ShardEntry) -> impl Iterator<Item = &NodeEntry> {
    let with = |role: Role| shard.nodes.iter().filter(move |node| node.role == role);
    with(Role::Primary).chain(with(Role::Replica))
}

/// `host:port` in two; brackets of an IPv6 address are no part of the host.
pub(super) fn host_and_port(addr: &str) -> (&str, u16) {
    let (host, port) = addr.rsplit_once(':').unwrap_or((addr, "0"));
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    (host, port.parse().unwrap_or(0))
}
