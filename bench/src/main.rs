//! `larder-bench`: a load generator, and larder beside its peers in one run.
//!
//! Figures are ratios of two sides that were measured in turns, on the same cores; what was
//! measured on another day or machine is not compared.
#![forbid(unsafe_code)]

mod compare;
mod connection;
mod load;
mod machine;
mod memory;
mod migrate;
mod pauses;
mod pipeline;
mod process;
mod replay;
mod report;
mod speed;
mod systems;
mod trace;
mod workload;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Why a run ended without its figures: the thing, the cause and the mend, for people.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Load and comparisons for Larder.
#[derive(Debug, Parser)]
#[command(name = "larder-bench", version, max_term_width = 110)]
struct Line {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Drive a server that is already running
    Load(load::LoadArgs),
    /// Start larder and its peers side by side and compare the CPU time of a request
    Compare(compare::CompareArgs),
    /// The cases of daily work beside Valkey, one row each, with what each is meant to reach
    Speed(speed::SpeedArgs),
    /// Move slots between two idle nodes: larder beside Valkey
    Migrate(migrate::MigrateArgs),
    /// Measure resident memory: bytes a key, collections, churn below a limit, stalls of growth
    Memory(memory::MemoryArgs),
    /// What clients feel while a node saves, while a replica syncs, and of writes that wait for a replica
    Pauses(pauses::PausesArgs),
    /// Send a trace through larder and redis-server with a memory limit, and compare their misses
    Replay(replay::ReplayArgs),
}

fn main() -> ExitCode {
    let line = Line::parse();
    // Servers are started, and signals waited for, on this one thread; load runs on its own.
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("larder-bench: no event loop: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = run(line.verb) => outcome.map(|()| ExitCode::SUCCESS),
            // Dropping the run ends the servers it started.
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(130)),
            () = terminated() => Ok(ExitCode::from(143)),
        }
    });
    // A load thread that was interrupted is not waited for.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|error| {
        eprintln!("larder-bench: {error}");
        ExitCode::FAILURE
    })
}

async fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Load(args) => load::command(args).await,
        Verb::Compare(args) => compare::command(args).await,
        Verb::Speed(args) => speed::command(args).await,
        Verb::Migrate(args) => migrate::command(args).await,
        Verb::Memory(args) => memory::command(args).await,
        Verb::Pauses(args) => pauses::command(args).await,
        Verb::Replay(args) => replay::command(args).await,
    }
}

async fn terminated() {
    let kind = tokio::signal::unix::SignalKind::terminate();
    match tokio::signal::unix::signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn flags_do_not_contradict_one_another() {
        Line::command().debug_assert();
    }
}
