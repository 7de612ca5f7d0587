//! The command line: every subcommand, flag and default in one place.
//!
//! What a flag does is not known here; values that can be checked alone (sizes, slot ranges) are.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use larder_wire::SlotSet;

/// An elastic cache that speaks Redis' protocol, on your own machines.
#[derive(Debug, Parser)]
#[command(
    name = "larder",
    version,
    about,
    propagate_version = true,
    max_term_width = 110
)]
pub(crate) struct Line {
    #[command(subcommand)]
    pub(crate) verb: Verb,
    #[command(flatten)]
    pub(crate) everywhere: Everywhere,
}

#[derive(Debug, Args)]
pub(crate) struct Everywhere {
    /// File that holds the cluster's secret [default: LARDER_SECRET, else a file of this user's own, on loopback only]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) secret_file: Option<PathBuf>,
    /// What is logged: a level, or a filter such as info,larder_proxy=debug [default: RUST_LOG, else warn]
    #[arg(long, global = true, value_name = "FILTER", hide_short_help = true)]
    pub(crate) log: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show shards, nodes and what is under way
    Status(Ask),
    /// Change the number of shards while the cluster serves
    Reshard(Reshard),
    /// Move slots to a node
    Move(Move),
    /// Spread the slots evenly over the shards
    Rebalance(Rebalance),
    /// List the commands that clients can use
    Commands(Commands),
}

/// Where an operator's question goes, and how the answer is written.
#[derive(Debug, Args)]
pub(crate) struct Ask {
    /// The topology (or a proxy, which passes the question on)
    #[arg(
        long,
        env = "LARDER_TOPOLOGY",
        default_value = "127.0.0.1:7000",
        value_name = "A:P"
    )]
    pub(crate) topology: String,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Reshard {
    /// How many shards there shall be
    #[arg(long, value_name = "N")]
    pub(crate) shards: u32,
    /// Print the plan and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Args)]
pub(crate) struct Move {
    /// The slots, for example 0-99,512
    #[arg(long, value_name = "A-B")]
    pub(crate) slots: SlotSet,
    /// The node that takes them: its address, its id or the beginning of its id
    #[arg(long, value_name = "NODE")]
    pub(crate) to: String,
    /// Print the plan and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Args)]
pub(crate) struct Rebalance {
    /// Print the plan and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Args)]
pub(crate) struct Commands {
    /// Only those that Redis has and that larder does not carry out yet
    #[arg(long)]
    pub(crate) missing: bool,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Line, clap::Error> {
        Line::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn flags_do_not_contradict_one_another() {
        Line::command().debug_assert();
    }

    #[test]
    fn the_command_line_that_scripts_rely_on_is_understood() {
        for line in [
            "larder status --topology 127.0.0.1:7000 --json",
            "larder reshard --shards 5 --dry-run --topology 127.0.0.1:7000 --json",
            "larder move --slots 0-99,512 --to 127.0.0.1:7002",
            "larder rebalance --json",
            "larder commands --missing --json",
            "larder status --secret-file s",
            "larder --secret-file s status",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn values_that_mean_nothing_are_refused_by_name() {
        for (line, named) in [
            ("larder move --slots 0-99999 --to x", "--slots"),
            ("larder reshard", "--shards"),
            ("larder dance", "dance"),
        ] {
            let error = parse(line).expect_err(line).to_string();
            assert!(error.contains(named), "{line}: {error}");
        }
    }
}
