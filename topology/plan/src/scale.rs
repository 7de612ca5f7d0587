//! The scaling signals: how loaded each shard is, and how many shards the load asks for, with the reason.
//!
//! Growth is asked for when the cluster as a whole is above its target; shrinking only when the
//! fewer shards would be well below it, so that the recommendation does not swing.

use larder_wire::control::NodeState;
use serde::{Deserialize, Serialize};

/// How full a shard may be before another is recommended. 0 takes a signal out of account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScaleSettings {
    /// Percent of one core.
    pub cpu_percent: u32,
    /// Percent of maxmemory.
    pub memory_percent: u32,
    /// Operations a second of one shard.
    pub ops_per_second: u64,
    /// Shrinking is recommended when the remaining shards would stay below this percentage of the targets.
    pub shrink_percent: u32,
}

impl Default for ScaleSettings {
    fn default() -> ScaleSettings {
        ScaleSettings {
            cpu_percent: 70,
            memory_percent: 75,
            ops_per_second: 0,
            shrink_percent: 60,
        }
    }
}

/// Why so many shards are recommended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The present count fits.
    Steady,
    Cpu,
    Memory,
    Ops,
    /// Fewer shards would carry the load.
    Idle,
}

impl Reason {
    pub const ALL: [Reason; 5] = [
        Reason::Steady,
        Reason::Cpu,
        Reason::Memory,
        Reason::Ops,
        Reason::Idle,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Reason::Steady => "steady",
            Reason::Cpu => "cpu",
            Reason::Memory => "memory",
            Reason::Ops => "ops",
            Reason::Idle => "idle",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recommendation {
    pub shards: u32,
    pub reason: Reason,
}

/// The load of one shard's primary.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Share of one core, 0 to 1.
    pub cpu: f64,
    /// Operations a second.
    pub ops: f64,
    /// Bytes.
    pub used: u64,
    /// Bytes; 0 is no limit.
    pub maxmemory: u64,
}

/// Rates of a node, from the differences of its probes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    pub cpu: f64,
    pub ops: f64,
    measured: bool,
}

/// Probes closer than this do not make a rate, in milliseconds.
const RATE_MS_MIN: u64 = 200;
/// Over how long a rate is smoothed, in milliseconds.
const SMOOTH_MS: f64 = 5_000.0;

impl Rates {
    /// Takes the difference of two probes of one life of a node; true when it was long enough.
    pub fn measure(&mut self, before: &NodeState, after: &NodeState) -> bool {
        let ms = after.uptime_ms.saturating_sub(before.uptime_ms);
        if ms < RATE_MS_MIN {
            return false;
        }
        let cpu = after.cpu_us.saturating_sub(before.cpu_us) as f64 / (ms as f64 * 1000.0);
        let ops = after.commands.saturating_sub(before.commands) as f64 * 1000.0 / ms as f64;
        let weight = match self.measured {
            true => (ms as f64 / SMOOTH_MS).min(1.0),
            false => 1.0,
        };
        self.cpu += (cpu - self.cpu) * weight;
        self.ops += (ops - self.ops) * weight;
        self.measured = true;
        true
    }
}

/// How many shards `loads` (one a shard) ask for.
pub fn recommend(settings: &ScaleSettings, loads: &[Load]) -> Recommendation {
    let present = loads.len() as u32;
    let wants = [
        (Reason::Cpu, wanted_for_cpu(settings, loads)),
        (Reason::Memory, wanted_for_memory(settings, loads)),
        (Reason::Ops, wanted_for_ops(settings, loads)),
    ];
    let most = wants.iter().fold((Reason::Steady, 0.0), |most, &want| {
        if want.1 > most.1 { want } else { most }
    });
    let shards = |exact: f64| (exact.ceil() as u32).clamp(1, crate::SHARDS_MAX);
    if shards(most.1) > present {
        return Recommendation {
            shards: shards(most.1),
            reason: most.0,
        };
    }
    let roomy = shards(most.1 * 100.0 / f64::from(settings.shrink_percent.clamp(1, 100)));
    match roomy < present {
        true => Recommendation {
            shards: roomy,
            reason: Reason::Idle,
        },
        false => Recommendation {
            shards: present,
            reason: Reason::Steady,
        },
    }
}

fn wanted_for_cpu(settings: &ScaleSettings, loads: &[Load]) -> f64 {
    let total: f64 = loads.iter().map(|load| load.cpu).sum();
    per_target(total, f64::from(settings.cpu_percent) / 100.0)
}

fn wanted_for_memory(settings: &ScaleSettings, loads: &[Load]) -> f64 {
    let limited = || loads.iter().filter(|load| load.maxmemory > 0);
    let count = limited().count();
    if count == 0 {
        return 0.0;
    }
    let used: f64 = limited().map(|load| load.used as f64).sum();
    let limit = limited().map(|load| load.maxmemory as f64).sum::<f64>() / count as f64;
    per_target(used, limit * f64::from(settings.memory_percent) / 100.0)
}

fn wanted_for_ops(settings: &ScaleSettings, loads: &[Load]) -> f64 {
    let total: f64 = loads.iter().map(|load| load.ops).sum();
    per_target(total, settings.ops_per_second as f64)
}

fn per_target(total: f64, target: f64) -> f64 {
    if target > 0.0 { total / target } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(count: usize, cpu: f64, used: u64, ops: f64) -> Vec<Load> {
        vec![
            Load {
                cpu,
                ops,
                used,
                maxmemory: 1000
            };
            count
        ]
    }

    #[test]
    fn every_signal_recommends_more_shards_alone_and_names_itself() {
        let settings = ScaleSettings {
            ops_per_second: 10_000,
            ..ScaleSettings::default()
        };
        let steady = (0.5, 500, 7_000.0);
        let table = [
            (steady, 3, Reason::Steady),
            ((0.9, 500, 7_000.0), 4, Reason::Cpu),
            ((0.5, 1_000, 7_000.0), 4, Reason::Memory),
            ((0.5, 500, 20_000.0), 6, Reason::Ops),
            ((0.0, 0, 0.0), 1, Reason::Idle),
            ((0.25, 200, 3_000.0), 2, Reason::Idle),
        ];
        for ((cpu, used, ops), shards, reason) in table {
            assert_eq!(
                recommend(&settings, &loads(3, cpu, used, ops)),
                Recommendation { shards, reason },
                "cpu {cpu}, used {used}, ops {ops}"
            );
        }
    }

    #[test]
    fn following_a_recommendation_leads_to_rest() {
        for tenths in 0..200 {
            let total = f64::from(tenths) / 10.0;
            let mut count = 7;
            for _ in 0..3 {
                let each = loads(count, total / count as f64, 0, 0.0);
                count = recommend(&ScaleSettings::default(), &each).shards as usize;
            }
            let each = loads(count, total / count as f64, 0, 0.0);
            let last = recommend(&ScaleSettings::default(), &each);
            assert_eq!(last.shards as usize, count, "total cpu {total}");
        }
    }

    #[test]
    fn a_signal_that_is_switched_off_recommends_nothing() {
        let off = ScaleSettings {
            cpu_percent: 0,
            memory_percent: 0,
            ops_per_second: 0,
            shrink_percent: 60,
        };
        let said = recommend(&off, &loads(2, 1.0, 5_000, 1e9));
        assert_eq!((said.shards, said.reason), (1, Reason::Idle));
    }
}
