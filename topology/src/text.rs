//! Reports as lines for people: what `LARDER STATUS`, `MOVES` and orders answer to redis-cli.

use std::fmt::Write;

use larder_plan::report::{
    FailoverReport, LostShardsReport, MovesReport, NodeReport, OperationReport, OrderReport,
    ReplicaReport, ReplicasReport, Stage, Status, WritesReport,
};
use larder_plan::{Finished, LostShards, Outcome};
use larder_runtime::size::show_size;
use larder_wire::replication::{LinkPhase, WriteMode};

/// The cluster as a table.
pub fn status_text(status: &Status) -> String {
    let mut text = format!("cluster {}, epoch {}", status.cluster, status.epoch);
    if status.replicas_wanted > 0 {
        text += &format!(", writes {}", status.writes.word());
    }
    text.push('\n');
    if !status.formed {
        let wanted = status.shards_wanted * (1 + status.replicas_wanted);
        let there = status.spares.len();
        text += &format!("not formed yet: {there} of {wanted} nodes have joined\n");
    }
    let mut rows = vec![
        [
            "shard", "node", "state", "slots", "keys", "memory", "ops/s", "cpu",
        ]
        .map(String::from),
    ];
    for shard in &status.shards {
        let id = shard.id.to_string();
        rows.push(row(
            &id,
            up_text(&shard.node),
            shard.slot_count,
            &shard.node,
        ));
        for replica in &shard.replicas {
            rows.push(row(
                &format!("{id} replica"),
                replica_text(replica),
                0,
                &replica.node,
            ));
        }
    }
    for spare in &status.spares {
        rows.push(row("spare", up_text(spare), 0, spare));
    }
    if rows.len() > 1 {
        text += &table(&rows);
    }
    for proxy in &status.proxies {
        text += &format!("proxy {}\n", proxy.addr);
    }
    for shard in &status.shards {
        if let Some(failover) = &shard.failover {
            let waits = failover.waits.as_ref();
            let waits = waits.map_or(String::new(), |waits| format!("; it waits: {waits}"));
            text += &format!(
                "failover of shard {}: {}, for {:.1} s{waits}\n",
                shard.id,
                failover.reason,
                failover.running_ms as f64 / 1000.0
            );
        }
    }
    let lost: u64 = all_nodes(status).map(|node| node.lost_writes).sum();
    if lost > 0 {
        text += &format!(
            "{} that a primary had not passed on when it was replaced (kept in files on its machine)\n",
            counted(lost, "write")
        );
    }
    if let Some(operation) = &status.operation {
        text += &operation_text(operation);
    }
    let recommended = status.recommended;
    if status.formed && recommended.shards as usize != status.shards.len() {
        let reason = recommended.reason.word();
        let shards = counted(recommended.shards, "shard");
        text += &format!("recommended: {shards} ({reason})\n");
    }
    text
}

/// Every node that is known.
pub(crate) fn all_nodes(status: &Status) -> impl Iterator<Item = &NodeReport> {
    let members = status.shards.iter().flat_map(|shard| {
        let replicas = shard.replicas.iter().map(|replica| &replica.node);
        std::iter::once(&shard.node).chain(replicas)
    });
    members.chain(&status.spares)
}

fn up_text(node: &NodeReport) -> String {
    match (node.reachable, node.silent_ms) {
        (true, _) => "up".to_string(),
        (false, Some(ms)) => format!("silent for {} s", ms / 1000),
        (false, None) => "not seen yet".to_string(),
    }
}

/// `in step`, or how far it is behind, or why it does not follow.
fn replica_text(replica: &ReplicaReport) -> String {
    let lag = |bytes| match bytes {
        0 => String::new(),
        bytes => format!(", {} behind", show_size(bytes)),
    };
    match (replica.node.reachable, replica.lag_bytes, replica.phase) {
        (false, _, _) => up_text(&replica.node),
        (true, Some(bytes), _) if replica.in_step => format!("in step{}", lag(bytes)),
        (true, Some(bytes), _) => format!("catching up{}", lag(bytes)),
        (true, None, Some(LinkPhase::Full)) => "copying all data".to_string(),
        (true, None, Some(LinkPhase::Down | LinkPhase::Streaming) | None) => {
            "does not follow".to_string()
        }
    }
}

fn row(shard: &str, state: String, slots: u32, node: &NodeReport) -> [String; 8] {
    let memory = match node.maxmemory {
        0 => show_size(node.used_memory),
        most => format!("{} of {}", show_size(node.used_memory), show_size(most)),
    };
    [
        shard.to_string(),
        node.addr.clone(),
        state,
        slots.to_string(),
        node.keys.to_string(),
        memory,
        format!("{:.0}", node.ops_per_second),
        format!("{:.0}%", node.cpu * 100.0),
    ]
}

fn table(rows: &[[String; 8]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; 8] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = match column {
                0..=2 => write!(line, "{cell:<width$}  ", width = widths[column]),
                _ => write!(line, "{cell:>width$}  ", width = widths[column]),
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Replicas that there are to be, and those that there are.
pub fn replicas_text(report: &ReplicasReport) -> String {
    let mut text = format!(
        "each shard is to have {}\n",
        counted(report.wanted, "replica")
    );
    for shard in &report.shards {
        text += &format!(
            "shard {}: {}, {} in step\n",
            shard.shard,
            counted(shard.replicas, "replica"),
            shard.in_step
        );
    }
    if report.missing_nodes > 0 {
        let nodes = counted(report.missing_nodes, "node");
        text += &format!("{nodes} still to join\n");
    }
    text
}

/// What a failover will do.
pub fn failover_text(report: &FailoverReport) -> String {
    let to = match &report.to {
        Some(to) => format!("{to} takes the place of {}", report.from),
        None => format!(
            "{} is replaced by the replica that has the most",
            report.from
        ),
    };
    let attached = match report.attached {
        true => " (under way already)",
        false => "",
    };
    format!("shard {}: {to}{attached}\n", report.shard)
}

/// When writes are answered, and what that needs.
pub fn writes_text(report: &WritesReport) -> String {
    let mut text = match report.writes {
        WriteMode::Async => "writes are answered at once (async)\n".to_string(),
        WriteMode::Safe => "writes are answered when a replica has them (safe)\n".to_string(),
    };
    if report.writes == WriteMode::Safe && report.replicas == 0 {
        text += "there are no replicas: give each shard some with larder replicas --set 1\n";
    }
    text
}

pub fn lost_shards_text(report: &LostShardsReport) -> String {
    let mut text = match report.lost_shards {
        LostShards::Wait => {
            "the slots of a shard that has no node left wait for one of its nodes (wait)\n"
                .to_string()
        }
        LostShards::Empty { after_ms } => format!(
            "a shard whose every process has been gone for {} s comes up on spare nodes, without data ({})\n",
            after_ms / 1000,
            report.lost_shards
        ),
    };
    for shard in &report.lost {
        text += &format!("shard {shard} has no node left at this moment\n");
    }
    text
}

/// What is under way, and what has ended lately.
pub fn moves_text(moves: &MovesReport) -> String {
    let mut text = match &moves.operation {
        Some(operation) => operation_text(operation),
        None => "nothing is moving\n".to_string(),
    };
    for finished in moves.finished.iter().rev() {
        text += &finished_text(finished);
    }
    text
}

fn operation_text(operation: &OperationReport) -> String {
    let mut text = format!("{}: ", operation.kind.text());
    text += &match &operation.stage {
        Stage::Waiting { nodes } => format!("waits for {nodes} nodes to join\n"),
        Stage::Stalled { reason } => format!("stalled, still tried: {reason}\n"),
        Stage::Moving => {
            let left = operation
                .eta_seconds
                .map_or(String::new(), |eta| format!(", {eta:.0} s left"));
            format!("{:.0} % done{left}\n", operation.done * 100.0)
        }
    };
    text += &format!(
        "  {} of {} slots, {} keys, {}; {:.0} keys/s, {}/s; {} attempts failed\n",
        operation.slots_done,
        operation.slots_total,
        operation.keys_moved,
        show_size(operation.bytes_moved),
        operation.keys_per_second,
        show_size(operation.bytes_per_second as u64),
        operation.failures,
    );
    for attempt in &operation.attempts {
        text += &format!(
            "  attempt {}: {} slots from {} to {}, {}, {} of {} keys\n",
            attempt.attempt,
            attempt.slots.len(),
            attempt.from_addr,
            attempt.to_addr,
            attempt.phase,
            attempt.keys,
            attempt.keys_total.max(attempt.keys),
        );
    }
    text
}

fn finished_text(finished: &Finished) -> String {
    let outcome = match &finished.outcome {
        Outcome::Done => "done".to_string(),
        Outcome::Dropped { reason } => format!("given up: {reason}"),
    };
    format!(
        "{}: {outcome} ({} slots, {} keys, {})\n",
        finished.kind.text(),
        finished.slots_moved,
        finished.keys_moved,
        show_size(finished.bytes_moved),
    )
}

/// What an order will do.
pub fn order_text(report: &OrderReport) -> String {
    let mut text = match (report.dry_run, report.attached, report.operation) {
        (true, _, _) => "plan (nothing is changed):\n".to_string(),
        (false, true, _) => "the same is under way already:\n".to_string(),
        (false, false, Some(_)) => "begins:\n".to_string(),
        (false, false, None) => "nothing to do: it is so already\n".to_string(),
    };
    for part in &report.moves {
        let to = part.to_addr.as_deref().unwrap_or("a further node");
        text += &format!(
            "  shard {} ({}) to shard {} ({to}): {}, about {}, {}\n",
            part.from,
            part.from_addr,
            part.to,
            counted(part.slot_count, "slot"),
            counted(part.keys, "key"),
            show_size(part.bytes),
        );
    }
    if report.missing_nodes > 0 {
        let verb = if report.missing_nodes == 1 {
            "is"
        } else {
            "are"
        };
        let nodes = counted(report.missing_nodes, "further node");
        text += &format!("{nodes} {verb} needed\n");
    }
    let verb = if report.slots == 1 { "moves" } else { "move" };
    text + &format!(
        "{} {verb}; {}, then {}\n",
        counted(report.slots, "slot"),
        counted(report.shards, "shard"),
        report.shards_after
    )
}

/// `1 slot`, `2 slots`.
fn counted(count: impl Into<u64>, noun: &str) -> String {
    let count = count.into();
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_told_from_many() {
        let report = OrderReport {
            operation: None,
            attached: false,
            dry_run: true,
            missing_nodes: 1,
            moves: Vec::new(),
            slots: 1,
            shards: 3,
            shards_after: 4,
        };
        let text = order_text(&report);
        assert!(
            text.contains("1 further node is needed\n1 slot moves; 3 shards, then 4"),
            "{text}"
        );
    }
}
