//! One run of a scenario, what it showed, and whether that is more than it may cost; the rows as a table of a page.
//!
//! A run: clients call → the fault → it lasts → it is mended → every replica is in step again → clients end → what they wrote down is judged.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use larder_wire::SlotSet;
use larder_wire::replication::WriteMode;

use super::broken::{Broken, Hosts, Shape};
use super::record::{History, Lost, Recorder};
use super::scenarios::{Cost, Hits, NOTHING, REPLICAS, SCENARIOS, SHARDS, Scenario, Stage};
use crate::client::Client;
use crate::linear::{STATES_MAX, Verdict, judge_all};

/// Clients of each shard.
const CLIENTS: usize = 4;
/// Writes before the fault, and after it, of each shard.
const WRITES_BEFORE: u64 = 100;
const WRITES_AFTER: u64 = 100;
/// Longest wait for writes to flow again once all is mended, in seconds: generous, what they cost is judged apart.
const FLOW_S_MAX: u64 = 60;
/// What a machine that is busy with other work may add to what a fault costs, in milliseconds: then timers and processes run late.
pub const BUSY_MS: u64 = 2500;

/// What one run showed.
#[derive(Clone, Debug)]
pub struct Row {
    pub fault: &'static str,
    pub writes: WriteMode,
    pub without_writes_ms: u64,
    pub without_reads_ms: u64,
    pub acknowledged: usize,
    pub lost: usize,
    pub errors: BTreeMap<String, usize>,
    /// What must not be.
    pub complaints: Vec<String>,
}

/// Runs one scenario on hosts that nobody else uses meanwhile. It may cost `slack_ms` more time than it says.
pub fn run(scenario: &Scenario, hosts: &Hosts, writes: WriteMode, seed: u64, slack_ms: u64) -> Row {
    let shape = Shape {
        shards: SHARDS,
        replicas: REPLICAS,
        writes,
        keeps: scenario.keeps,
    };
    let mut cluster = Broken::start(hosts, shape);
    let status = cluster.status().expect("the topology answers");
    let slots: Vec<SlotSet> = status.shards.iter().map(|it| it.slots.clone()).collect();
    let (primary, replicas) = cluster.of_shard(0);
    let primaries = (0..SHARDS).map(|shard| cluster.of_shard(shard).0).collect();
    let recorder = Recorder::start(cluster.proxy_addr(), seed, &slots, CLIENTS);
    let (hit, spared): (Vec<usize>, Vec<usize>) =
        (0..SHARDS).partition(|&shard| match scenario.hits {
            Hits::First => shard == 0,
            Hits::All => true,
            Hits::Nobody => false,
        });
    let all: Vec<usize> = (0..SHARDS).collect();
    let mut complaints = Vec::new();
    let flow = Duration::from_secs(FLOW_S_MAX);
    if !recorder.wait_written(&all, WRITES_BEFORE, flow) {
        complaints.push("no writes before the fault".to_owned());
    }
    let from_us = recorder.now_us();
    let mut stage = Stage {
        cluster: &mut cluster,
        primary,
        replicas,
        primaries,
    };
    (scenario.breaks)(&mut stage);
    std::thread::sleep(Duration::from_millis(scenario.lasts_ms));
    (scenario.mends)(&mut stage);
    let mended_us = recorder.now_us();
    cluster.wait_whole(scenario.fault);
    if !recorder.wait_written(&all, WRITES_AFTER, flow) {
        complaints.push(format!("no writes {FLOW_S_MAX} s after all was mended"));
    }
    let history = recorder.finish();
    let shards = if hit.is_empty() { &spared } else { &hit };
    let lost = history.count_lost(&mut Client::to(cluster.proxy_addr()), &all, mended_us);
    let mut row = Row {
        fault: scenario.fault,
        writes,
        without_writes_ms: history.longest_without(true, shards, from_us) / 1000,
        without_reads_ms: history.longest_without(false, shards, from_us) / 1000,
        acknowledged: lost.acknowledged,
        lost: lost.lost,
        errors: history.errors(),
        complaints,
    };
    let after = cluster.status().expect("the topology answers");
    let failovers = after.counts.failovers - status.counts.failovers;
    if scenario.cost.calm && failovers > u64::from(slack_ms > 0) {
        row.complain(format!(
            "the topology chose another primary {failovers} times"
        ));
    }
    row.judge_lost(&lost, &scenario.cost);
    let kept: u64 = {
        let nodes = after.shards.iter().flat_map(|shard| {
            let replicas = shard.replicas.iter().map(|replica| &replica.node);
            replicas.chain([&shard.node])
        });
        nodes.map(|node| node.lost_writes).sum()
    };
    println!(
        "{}, {}: {} calls answered, {} acknowledged writes lost, {kept} commands kept in files, {failovers} failovers",
        scenario.fault,
        writes.word(),
        history.answered(),
        row.lost
    );
    let cost = &scenario.cost;
    row.judge_cost(cost, &history, &spared, from_us, slack_ms);
    if writes == WriteMode::Safe && !cost.safe_loss {
        row.judge_order(&history);
    }
    if !row.complaints.is_empty() {
        println!("{}", cluster.said());
    }
    row
}

fn may_lose(cost: &Cost, writes: WriteMode) -> bool {
    match writes {
        WriteMode::Async => cost.async_loss,
        WriteMode::Safe => cost.safe_loss,
    }
}

impl Row {
    fn complain(&mut self, what: String) {
        self.complaints.push(what);
    }

    /// What is written when all is mended stays, whatever was lost before. In `async` a busy machine's failover may cost some of it.
    fn judge_lost(&mut self, lost: &Lost, cost: &Cost) {
        if lost.refused > 0 {
            self.complain(format!(
                "of {} acknowledged writes nobody says whether they are lost",
                lost.refused
            ));
        }
        let Some(first) = &lost.first else {
            return;
        };
        if !may_lose(cost, self.writes) {
            self.complain(format!(
                "{} acknowledged writes are lost: {first}",
                lost.lost
            ));
        }
        let most = match self.writes {
            WriteMode::Async => lost.acknowledged_late / 10,
            WriteMode::Safe => 0,
        };
        if lost.lost_late > most {
            self.complain(format!(
                "{} of {} writes are lost that were acknowledged when all was mended: {first}",
                lost.lost_late, lost.acknowledged_late
            ));
        }
    }

    fn judge_cost(
        &mut self,
        cost: &Cost,
        history: &History,
        spared: &[usize],
        from_us: u64,
        slack_ms: u64,
    ) {
        let allowed_ms = cost.writes_ms + slack_ms;
        if self.without_writes_ms > allowed_ms {
            self.complain(format!(
                "{} ms without a write, at most {allowed_ms} are allowed",
                self.without_writes_ms
            ));
        }
        let others_ms = history.longest_without(true, spared, from_us) / 1000;
        if others_ms > NOTHING.writes_ms + slack_ms {
            self.complain(format!("other shards stood for {others_ms} ms"));
        }
        for (error, count) in self.errors.clone() {
            let allowed = match error.as_str() {
                "in doubt" => cost.doubt,
                "CLUSTERDOWN" => cost.down,
                "MISCONF" => cost.full,
                _ => false,
            };
            if !allowed {
                self.complain(format!("clients saw {error:?} {count} times"));
            }
        }
    }

    fn judge_order(&mut self, history: &History) {
        for (key, verdict) in judge_all(&history.shared_keys()) {
            match verdict {
                Verdict::Linearizable => {}
                Verdict::Broken(finding) => {
                    self.complain(format!("{key} is not linearizable: {finding}"));
                }
                Verdict::Undecided => {
                    self.complain(format!("{key} is not judged within {STATES_MAX} states"));
                }
            }
        }
    }
}

/// The first lines of the table.
const HEAD: &str = "\
| fault | writes | s without writes | s without reads | acknowledged writes lost | errors seen by 8 clients |
| --- | --- | --- | --- | --- | --- |
";

/// The rows as a table of a page.
pub fn table(rows: &[Row]) -> String {
    let mut text = HEAD.to_owned();
    for row in rows {
        let errors: Vec<String> = row
            .errors
            .iter()
            .map(|(error, count)| format!("{count} {error}"))
            .collect();
        let errors = match errors.is_empty() {
            true => "none".to_owned(),
            false => errors.join(", "),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {:.2} | {:.2} | {} of {} | {errors} |",
            row.fault,
            row.writes.word(),
            row.without_writes_ms as f64 / 1000.0,
            row.without_reads_ms as f64 / 1000.0,
            row.lost,
            row.acknowledged,
        );
    }
    text
}

/// Fault and mode of each row of such a table, in their order.
pub fn rows_of(page: &str) -> Vec<(String, String)> {
    let rows = page
        .lines()
        .skip_while(|line| !HEAD.starts_with(line) || line.is_empty())
        .skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            Some((cells.next()?.to_owned(), cells.next()?.to_owned()))
        })
        .collect()
}

/// What the table has to show.
pub fn wanted_rows() -> Vec<(String, String)> {
    let modes = [WriteMode::Async, WriteMode::Safe];
    SCENARIOS
        .iter()
        .flat_map(|scenario| modes.map(|mode| (scenario.fault.to_owned(), mode.word().to_owned())))
        .collect()
}
