//! ROLE and INFO's section on replication, under Redis' names. Offsets are those of the journal, which begin at 0; as Redis counts them the first
//! byte is 1.

use std::fmt::Write;

use larder_wire::replication::{Following, LinkPhase};
use larder_wire::{NodeId, Offset, Refusal};

use super::cluster::host_and_port;
use crate::clock::Clock;
use crate::config::Parameter;
use crate::node::Node;
use crate::replication::Follower;
use crate::turn::{Outcome, Turn};

pub fn role(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let (node, reply) = (&*turn.node, &mut turn.reply);
    if let Some(following) = node.following(turn.clock) {
        let (host, port) = host_and_port(node.upstream_addr().unwrap_or_default());
        reply.array(5);
        reply.bulk(b"slave");
        reply.bulk(host.as_bytes());
        reply.int(port.into());
        reply.bulk(link_word(&following).as_bytes());
        reply.int(match following.phase {
            LinkPhase::Streaming => node.journal.end().0 as i64,
            LinkPhase::Down | LinkPhase::Full => -1,
        });
        return Ok(Outcome::Done);
    }
    let followers = node.replication.followers.iter();
    reply.array(3);
    reply.bulk(b"master");
    reply.int(node.journal.end().0 as i64);
    let online = followers.filter(|it| it.phase == LinkPhase::Streaming);
    let online: Vec<&Follower> = online.collect();
    reply.array(online.len());
    for follower in online {
        let (host, port) = follower_addr(node, follower);
        reply.array(3);
        reply.bulk(host.as_bytes());
        reply.bulk(port.to_string().as_bytes());
        reply.bulk(follower.acked.to_string().as_bytes());
    }
    Ok(Outcome::Done)
}

fn link_word(following: &Following) -> &'static str {
    match following.phase {
        LinkPhase::Down => "connect",
        LinkPhase::Full => "sync",
        LinkPhase::Streaming => "connected",
    }
}

fn follower_addr<'n>(node: &'n Node, follower: &Follower) -> (&'n str, u16) {
    let found = node.ownership.map().find_node(follower.node);
    found.map_or(("", 0), |(_, entry)| host_and_port(&entry.addr))
}

/// The section. Writing to a String cannot fail.
pub(super) fn section(node: &Node, clock: Clock, text: &mut String) {
    let following = node.following(clock);
    match &following {
        Some(following) => write_following(node, following, text),
        None => text.push_str("role:master\r\n"),
    }
    let followers = node.replication.followers.iter();
    let _ = write!(text, "connected_slaves:{}\r\n", followers.len());
    let wanted = node.config.int(Parameter::MinReplicasToWrite);
    if wanted > 0 && node.config.int(Parameter::MinReplicasMaxLag) > 0 {
        let good = node.good_replicas();
        let _ = write!(text, "min_slaves_good_slaves:{good}\r\n");
    }
    for (index, follower) in followers.enumerate() {
        let (host, port) = follower_addr(node, follower);
        let state = match follower.phase {
            LinkPhase::Down => "wait_bgsave",
            LinkPhase::Full => "send_bulk",
            LinkPhase::Streaming => "online",
        };
        let lag = clock.mono_ms.saturating_sub(follower.last_heard_ms) / 1000;
        let offset = follower.acked;
        let _ = write!(
            text,
            "slave{index}:ip={host},port={port},state={state},offset={offset},lag={lag}\r\n"
        );
    }
    write_journal(node, text);
}

fn write_following(node: &Node, following: &Following, text: &mut String) {
    let (host, port) = host_and_port(node.upstream_addr().unwrap_or_default());
    let offset = node.journal.end();
    let read = Offset(offset.0 + following.lag_bytes);
    let is_up = following.phase == LinkPhase::Streaming;
    let status = if is_up { "up" } else { "down" };
    let ago = match following.phase {
        LinkPhase::Down => -1,
        LinkPhase::Full | LinkPhase::Streaming => (following.silent_ms / 1000) as i64,
    };
    let in_progress = u8::from(following.phase == LinkPhase::Full);
    let _ = write!(
        text,
        "role:slave\r\nmaster_host:{host}\r\nmaster_port:{port}\r\nmaster_link_status:{status}\r\n\
         master_last_io_seconds_ago:{ago}\r\nmaster_sync_in_progress:{in_progress}\r\n\
         slave_read_repl_offset:{read}\r\nslave_repl_offset:{offset}\r\n"
    );
    if !is_up {
        let seconds = following.silent_ms / 1000;
        let _ = write!(text, "master_link_down_since_seconds:{seconds}\r\n");
    }
    let priority = node.config.int(Parameter::ReplicaPriority);
    let _ = write!(
        text,
        "slave_priority:{priority}\r\nslave_read_only:1\r\nreplica_announced:1\r\n\
         larder_lag_bytes:{}\r\n",
        following.lag_bytes
    );
}

fn write_journal(node: &Node, text: &mut String) {
    let journal = &node.journal;
    let place = journal.place();
    let name = place.map_or(node.settings.run_id, |place| place.history.0);
    let previous = journal.previous();
    let before = previous.map_or(NodeId::from_bytes([0; 20]), |place| place.history.0);
    let second = previous.map_or(-1, |place| place.offset.0 as i64 + 1);
    let first = match journal.is_on() {
        true => journal.start().0 + 1,
        false => 0,
    };
    let _ = write!(
        text,
        "master_failover_state:no-failover\r\nmaster_replid:{name}\r\nmaster_replid2:{before}\r\n\
         master_repl_offset:{}\r\nsecond_repl_offset:{second}\r\nrepl_backlog_active:{}\r\n\
         repl_backlog_size:{}\r\nrepl_backlog_first_byte_offset:{first}\r\nrepl_backlog_histlen:{}\r\n",
        journal.end(),
        u8::from(journal.is_on()),
        if journal.is_on() {
            journal.reach_bytes()
        } else {
            0
        },
        journal.kept_bytes()
    );
    let lost = node.stats.lost_writes.get();
    if lost > 0 || node.stats.lost_unknown.get() > 0 {
        let unknown = node.stats.lost_unknown.get();
        let _ = write!(
            text,
            "larder_lost_writes:{lost}\r\nlarder_lost_writes_unknown:{unknown}\r\n"
        );
    }
}
