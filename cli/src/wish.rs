//! `larder replicas`, `larder writes` and `larder lost-shards`: settings of the whole cluster, shown and changed while it serves.
//!
//! A change of replicas is watched to its end: every replica is there and in step.

use std::io::Write;
use std::time::Duration;

use larder_plan::report::{LostShardsReport, ReplicasReport, WritesReport};
use larder_runtime::Secret;
use larder_topology::{lost_shards_text, replicas_text, writes_text};
use larder_wire::replication::WriteMode;
use serde::Serialize;

use crate::args::{LostShardsOrder, Replicas, WritesOrder};
use crate::operator::Watch;

/// How often the topology is asked how far it is, in milliseconds.
const POLL_MS: u64 = 200;

pub(crate) async fn replicas(
    args: &Replicas,
    secret: &Secret,
    out: &mut impl Write,
) -> Result<(), String> {
    let mut watch = Watch::begin(&args.ask, secret, "change of replicas").await?;
    let count = args.set.map(|count| count.to_string());
    let mut words = vec!["LARDER", "REPLICAS"];
    if let Some(count) = &count {
        words.extend(["SET", count]);
    }
    words.push("JSON");
    let mut report: ReplicasReport = watch.order(&words).await?;
    while args.set.is_some() && !report.reached() {
        tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
        report = watch.ask(&["LARDER", "REPLICAS", "JSON"], || ()).await?;
        if args.set != Some(report.wanted) {
            let wanted = report.wanted;
            return Err(format!("somebody else has asked for {wanted} replicas"));
        }
    }
    write(out, args.ask.json, &report, &replicas_text(&report))
}

pub(crate) async fn writes(
    args: &WritesOrder,
    secret: &Secret,
    out: &mut impl Write,
) -> Result<(), String> {
    let mut watch = Watch::begin(&args.ask, secret, "change of writes").await?;
    let mut words = vec!["LARDER", "WRITES"];
    if let Some(mode) = args.set {
        words.extend(["SET", WriteMode::from(mode).word()]);
    }
    words.push("JSON");
    let report: WritesReport = watch.order(&words).await?;
    write(out, args.ask.json, &report, &writes_text(&report))
}

pub(crate) async fn lost_shards(
    args: &LostShardsOrder,
    secret: &Secret,
    out: &mut impl Write,
) -> Result<(), String> {
    let mut watch = Watch::begin(&args.ask, secret, "change of lost shards").await?;
    let what = args.set.map(|what| what.to_string());
    let mut words = vec!["LARDER", "LOST-SHARDS"];
    if let Some(what) = &what {
        words.extend(["SET", what]);
    }
    words.push("JSON");
    let report: LostShardsReport = watch.order(&words).await?;
    write(out, args.ask.json, &report, &lost_shards_text(&report))
}

fn write(
    out: &mut impl Write,
    as_json: bool,
    report: &impl Serialize,
    text: &str,
) -> Result<(), String> {
    let written = match as_json {
        true => writeln!(out, "{:#}", serde_json::json!(report)),
        false => write!(out, "{text}"),
    };
    written.map_err(|error| error.to_string())
}
