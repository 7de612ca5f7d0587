//! The same random commands on a real redis-server and on a larder node: every reply and every key alike.
//!
//! `LARDER_SEED=7` runs one seed, `LARDER_SEEDS=500` the first 500; `LARDER_SURVEY=1` goes on after a failing
//! seed and shows them all.

use larder_tests::RedisServer;
use larder_tests::chance::seeds;
use larder_tests::differential::case::Commands;
use larder_tests::differential::run::{Pair, report};
use larder_tests::standalone::Standalone;

/// Steps of one seed's case.
const STEPS: usize = 400;
/// Seeds that run when nothing else is said.
const SEEDS: u64 = 30;

/// DEBUG SLEEP is how a case lets time pass; a server that ticks fast wakes blocked clients soon.
const REDIS_ARGS: &[&str] = &["--enable-debug-command", "local", "--hz", "500"];

fn compare(pair: &Pair, commands: &Commands, seeds: impl IntoIterator<Item = u64>) {
    let survey = std::env::var_os("LARDER_SURVEY").is_some();
    let mut failures = Vec::new();
    for seed in seeds {
        let steps = commands.case(seed, STEPS);
        if let Some(found) = pair.run(&steps) {
            let (steps, found) = pair.shorten(&steps, found);
            failures.push(report(seed, &steps, &found));
            if !survey {
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn a_node_answers_random_commands_as_redis_does() {
    let redis = RedisServer::start_with(REDIS_ARGS);
    let node = Standalone::start();
    let pair = Pair {
        redis: redis.addr(),
        larder: node.addr(),
        hears_events: false,
    };
    compare(&pair, &Commands::executed(), seeds(SEEDS));
}

/// Other than the first, this finds the same cases with somebody listening, on fewer seeds.
#[test]
fn a_node_tells_of_random_commands_what_redis_tells() {
    let redis = RedisServer::start_with(REDIS_ARGS);
    let node = Standalone::start();
    let pair = Pair {
        redis: redis.addr(),
        larder: node.addr(),
        hears_events: true,
    };
    compare(&pair, &Commands::executed(), seeds(SEEDS / 3));
}

/// What the test itself takes for a difference must not be one between two Redis servers.
#[test]
fn two_redis_servers_never_differ() {
    let (one, other) = (
        RedisServer::start_with(REDIS_ARGS),
        RedisServer::start_with(REDIS_ARGS),
    );
    let pair = Pair {
        redis: one.addr(),
        larder: other.addr(),
        hears_events: false,
    };
    compare(&pair, &Commands::those(|_| true), 1..=5);
}
