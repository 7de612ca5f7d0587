//! The one binary, `larder`: reads the command line and hands over to the part that was asked for.
//!
//! Exit code 0: what was asked is done. 1: it is not, and one line on standard error says why.
//! 2: the command line was not understood.
#![forbid(unsafe_code)]

mod args;
mod backup;
mod commands;
mod failover;
mod import;
mod operator;
mod order;
mod serve;
mod status;
mod text;
mod up;
mod wish;

use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use args::{Line, Verb};
use order::{End, Order};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a shell has for a command that was ended by Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let line = Line::parse();
    match larder_runtime::log::init(line.everywhere.log.as_deref(), "warn").and_then(|()| run(line))
    {
        Ok(code) => code,
        Err(text) => {
            eprintln!("larder: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(line: Line) -> Result<ExitCode, String> {
    let secret_file = line.everywhere.secret_file;
    match line.verb {
        Verb::Up(args) => block_on(up::run(args, secret_file))?,
        Verb::Proxy(args) => block_on(serve::proxy(args, secret_file))?,
        Verb::Topology(args) => block_on(serve::topology(args, secret_file))?,
        Verb::Shard(args) => block_on(serve::shard(args, secret_file))?,
        Verb::Commands(ask) => match commands::run(&ask, &mut io::stdout().lock()) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            // `larder commands | head` is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            Err(error) => Err(error.to_string()),
        },
        Verb::Import(args) => block_on(import::run(args, secret_file))?,
        Verb::Status(ask) => {
            let secret = operator::secret(secret_file, &operator::all(&ask.topology))?;
            block_on(status::run(&ask, &secret, &mut io::stdout()))??;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Failover(args) => {
            let secret = operator::secret(secret_file, &operator::all(&args.ask.topology))?;
            block_on(failover::run(&args, &secret, &mut io::stdout()))??;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Replicas(args) => {
            let secret = operator::secret(secret_file, &operator::all(&args.ask.topology))?;
            block_on(wish::replicas(&args, &secret, &mut io::stdout()))??;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Writes(args) => {
            let secret = operator::secret(secret_file, &operator::all(&args.ask.topology))?;
            block_on(wish::writes(&args, &secret, &mut io::stdout()))??;
            Ok(ExitCode::SUCCESS)
        }
        Verb::LostShards(args) => {
            let secret = operator::secret(secret_file, &operator::all(&args.ask.topology))?;
            block_on(wish::lost_shards(&args, &secret, &mut io::stdout()))??;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Reshard(ask) => give(&Order::from(&ask), &ask.ask, secret_file),
        Verb::Move(ask) => give(&Order::from(&ask), &ask.ask, secret_file),
        Verb::Backup(ask) => block_on(backup::run(ask, secret_file))?,
        Verb::Restore(ask) => block_on(backup::restore(ask, secret_file))?,
        Verb::Rebalance(ask) => give(&Order::from(&ask), &ask.ask, secret_file),
    }
}

fn give(
    order: &Order<'_>,
    ask: &args::Ask,
    secret_file: Option<std::path::PathBuf>,
) -> Result<ExitCode, String> {
    let secret = operator::secret(secret_file, &operator::all(&ask.topology))?;
    let end = block_on(order::run(order, &secret, &mut io::stdout()))??;
    io::stdout().flush().map_err(|error| error.to_string())?;
    Ok(match end {
        End::Done => ExitCode::SUCCESS,
        End::LeftAlone => ExitCode::from(INTERRUPTED),
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    Ok(runtime.block_on(future))
}
