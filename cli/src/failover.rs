//! `larder failover SHARD`: another primary for a shard, by plan, watched to its end.

use std::io::Write;
use std::time::{Duration, Instant};

use larder_plan::report::{FailoverReport, Status};
use larder_runtime::Secret;
use larder_topology::failover_text;

use crate::args::Failover;
use crate::operator::Watch;

/// How often the topology is asked how far it is, in milliseconds.
const POLL_MS: u64 = 50;
/// How long a planned failover is watched before it counts as one that waits, in milliseconds.
const PATIENCE_MS: u64 = 30_000;

pub(crate) async fn run(
    args: &Failover,
    secret: &Secret,
    out: &mut impl Write,
) -> Result<(), String> {
    let mut watch = Watch::begin(&args.ask, secret, "failover").await?;
    let shard = args.shard.to_string();
    let mut words = vec!["LARDER", "FAILOVER", shard.as_str()];
    if let Some(to) = &args.to {
        words.extend(["TO", to.as_str()]);
    }
    if args.force {
        words.push("FORCE");
    }
    words.push("JSON");
    let report: FailoverReport = watch.order(&words).await?;
    let written = |error: std::io::Error| error.to_string();
    if !args.ask.json {
        write!(out, "{}", failover_text(&report)).map_err(written)?;
    }
    let began = Instant::now();
    let primary = loop {
        let status: Status = watch.ask(&["LARDER", "STATUS", "JSON"], || ()).await?;
        let shards = status.shards.into_iter();
        let Some(shard) = shards.into_iter().find(|s| s.id == report.shard) else {
            return Err(format!("shard {} has left the cluster", report.shard));
        };
        let Some(failover) = shard.failover else {
            break shard.node.addr;
        };
        if began.elapsed() > Duration::from_millis(PATIENCE_MS) {
            let why = failover.waits.unwrap_or(failover.reason);
            return Err(format!("the failover of shard {} waits: {why}", shard.id));
        }
        tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
    };
    if primary == report.from {
        return Err(format!(
            "{primary} is still the primary of shard {}: it was called off (the topology's log says why)",
            report.shard
        ));
    }
    let seconds = began.elapsed().as_secs_f64();
    let done = match args.ask.json {
        true => {
            let end = serde_json::json!({ "plan": report, "primary": primary, "seconds": seconds });
            writeln!(out, "{end:#}")
        }
        false => writeln!(out, "{primary} is the primary, after {seconds:.1} s"),
    };
    done.map_err(written)
}
