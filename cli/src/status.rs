//! `larder status`: the cluster as a table, or as the topology's JSON.

use std::io::Write;

use larder_plan::report::{NodeReport, Stage, Status};
use larder_plan::scale::Reason;
use larder_runtime::size::show_size;
use larder_runtime::{ControlClient, Secret};

use crate::args::Ask;
use crate::operator::{connect, explain};
use crate::text::{Table, count, seconds, thousands};

pub(crate) async fn run(ask: &Ask, secret: &Secret, out: &mut impl Write) -> Result<(), String> {
    let mut client = connect(&ask.topology, secret).await?;
    if ask.json {
        let json: serde_json::Value = fetch(&mut client, &ask.topology).await?;
        return writeln!(out, "{json:#}").map_err(|error| error.to_string());
    }
    let status: Status = fetch(&mut client, &ask.topology).await?;
    write!(out, "{}", table(&status)).map_err(|error| error.to_string())
}

async fn fetch<T: serde::de::DeserializeOwned>(
    client: &mut ControlClient,
    topology: &str,
) -> Result<T, String> {
    client
        .request_json(["LARDER", "STATUS", "JSON"])
        .await
        .map_err(|error| explain(topology, &error))
}

fn table(status: &Status) -> String {
    let mut text = headline(status);
    if !status.shards.is_empty() || !status.spares.is_empty() {
        let mut table = Table::new([
            "shard", "node", "state", "slots", "keys", "memory", "limit", "cpu", "ops/s", "clients",
        ]);
        for shard in &status.shards {
            table.row(node_row(
                &shard.id.to_string(),
                thousands(u64::from(shard.slot_count)),
                &shard.node,
                status,
            ));
        }
        for spare in &status.spares {
            table.row(node_row("spare", "0".to_string(), spare, status));
        }
        text += &format!("\n{table}");
    }
    if !status.proxies.is_empty() {
        let mut table = Table::new(["proxy", "release"]);
        for proxy in &status.proxies {
            table.row([proxy.addr.clone(), proxy.release.clone()]);
        }
        text += &format!("\n{table}");
    }
    text + &footer(status)
}

fn headline(status: &Status) -> String {
    let owned: u32 = status.shards.iter().map(|shard| shard.slot_count).sum();
    let keys: u64 = status.shards.iter().map(|shard| shard.node.keys).sum();
    let health = match (
        status.formed,
        status.shards.iter().all(|shard| shard.node.reachable),
    ) {
        (false, _) => format!(
            "waiting for nodes: {} of {} are here",
            status.spares.len(),
            status.shards_wanted
        ),
        (true, true) => "ok".to_string(),
        (true, false) => "degraded: a node that owns slots does not answer".to_string(),
    };
    format!(
        "cluster {}: {health}\nepoch {}, {}, {} of 16,384 slots served, {}\n",
        status.cluster,
        status.epoch,
        count(status.shards.len() as u64, "shard"),
        thousands(u64::from(owned)),
        count(keys, "key"),
    )
}

fn node_row(shard: &str, slots: String, node: &NodeReport, status: &Status) -> [String; 10] {
    let state = match (node.reachable, node.silent_ms) {
        (false, Some(ms)) => format!("silent for {}", seconds(ms as f64 / 1000.0)),
        (false, None) => "unreachable".to_string(),
        // A spare has no use for the map.
        (true, _) if shard != "spare" && node.epoch < status.epoch => {
            format!("map of epoch {}", node.epoch)
        }
        (true, _) => "up".to_string(),
    };
    let limit = if node.maxmemory == 0 {
        "none".to_string()
    } else {
        show_size(node.maxmemory)
    };
    [
        shard.to_string(),
        node.addr.clone(),
        state,
        slots,
        thousands(node.keys),
        show_size(node.used_memory),
        limit,
        format!("{:.0} %", node.cpu * 100.0),
        thousands(node.ops_per_second.round() as u64),
        thousands(node.clients),
    ]
}

fn footer(status: &Status) -> String {
    let mut text = String::new();
    if let Some(operation) = &status.operation {
        let stage = match &operation.stage {
            Stage::Waiting { nodes } => {
                format!("waiting for {} to join", count(u64::from(*nodes), "node"))
            }
            Stage::Moving => format!("{:.0} % done", operation.done * 100.0),
            Stage::Stalled { reason } => format!("stalled: {reason}"),
        };
        let left = operation
            .eta_seconds
            .map_or(String::new(), |left| format!(", {} left", seconds(left)));
        text += &format!("\nunder way: {}, {stage}{left}\n", operation.kind.text());
    }
    let recommended = &status.recommended;
    if status.formed && recommended.shards as usize != status.shards.len() {
        let why = match recommended.reason {
            Reason::Cpu => "CPU is the bottleneck",
            Reason::Memory => "memory is the bottleneck",
            Reason::Ops => "operations are the bottleneck",
            Reason::Idle => "fewer would carry the load",
            Reason::Steady => "the present count does not fit",
        };
        text += &format!(
            "\nrecommended: {}, {why} (larder reshard --shards {})\n",
            count(u64::from(recommended.shards), "shard"),
            recommended.shards
        );
    }
    text
}
