//! `larder import`: runs an import in the foreground, and asks one that runs.
//!
//! The work is `larder_import`'s. Ctrl-C stops an import in a place that it goes on from.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use larder_import::{End, ImportConfig, Onto, Report, State};
use larder_runtime::foreign::RedisUrl;
use larder_runtime::secret::state_dir;
use larder_runtime::size::show_size;
use larder_runtime::{ControlClient, ControlError, Registry, process, shutdown};
use larder_wire::control::Peer;

use crate::args::{AskImporter, Import, ImportStart, ImportVerb, RELEASE};
use crate::serve::HttpServer;
use crate::text::{count, thousands};
use crate::{INTERRUPTED, operator};

/// Where there is no terminal, a line is printed this often, in milliseconds, and whenever the state changes.
const LINE_MS: u64 = 5_000;
/// Longest wait for an importer's answer, in milliseconds.
const ANSWER_MS_MAX: u64 = 60_000;

pub(crate) async fn run(args: Import, secret_file: Option<PathBuf>) -> Result<ExitCode, String> {
    match args.verb {
        None => start(args.start, secret_file).await,
        Some(ImportVerb::Status(ask)) => {
            let json = tell(&ask, secret_file, &["LARDER", "STATUS"]).await?;
            let report: Report = serde_json::from_str(&json).map_err(|error| error.to_string())?;
            match ask.json {
                true => println!("{json}"),
                false => print!("{}", status_text(&report)),
            }
            Ok(ExitCode::SUCCESS)
        }
        Some(ImportVerb::Cutover(ask)) => {
            println!("{}", tell(&ask, secret_file, &["LARDER", "CUTOVER"]).await?);
            Ok(ExitCode::SUCCESS)
        }
        Some(ImportVerb::Abort { clear, serve, ask }) => {
            let mut words = vec!["LARDER", "ABORT"];
            words.extend(clear.then_some("CLEAR"));
            words.extend(serve.then_some("SERVE"));
            println!("{}", tell(&ask, secret_file, &words).await?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn start(args: ImportStart, secret_file: Option<PathBuf>) -> Result<ExitCode, String> {
    let from = args
        .from
        .ok_or("name the server to copy from with --from")?;
    let from = match args.password_file {
        Some(file) => from.with_password(&password_in(&file)?),
        None if from.lacks_password() => {
            return Err(format!(
                "the password is missing behind the user of {from} (or name its file with --password-file)"
            ));
        }
        None => from,
    };
    let secret = operator::secret(secret_file, &operator::also(&args.topology, &args.listen))?;
    let state_file = match args.state_file {
        Some(path) => path,
        None => default_state_file(&from)?,
    };
    let onto = match (args.clear, args.keep) {
        (true, _) => Onto::Cleared,
        (false, true) => Onto::Whatever,
        (false, false) => Onto::Nothing,
    };
    let config = ImportConfig {
        from,
        topology: args.topology,
        secret,
        listen: args.listen,
        onto,
        verify: args.verify,
        state_file,
        patience: Duration::from_secs(args.patience),
        // Whoever keeps keys has clients that want them.
        forward: !args.no_forward && !args.keep,
        hold: Duration::from_millis(args.hold),
    };
    let signal = shutdown::signal().map_err(|error| error.to_string())?;
    let registry = Registry::new();
    let _process = process::register(&registry, "import", RELEASE);
    let shown = Arc::new(larder_import::metrics::Shown::default());
    registry.add(&shown);
    let (stop, ended) = shutdown::channel();
    let http = HttpServer::bind(args.http.as_deref())?.serve(registry, ended);
    let mut display = Display::new();
    let end = larder_import::run(config, signal, |report| {
        shown.set(report);
        display.show(report);
    })
    .await;
    display.end();
    stop.pull();
    http.ended().await;
    match end? {
        End::CutOver(report) => {
            println!("cut over: Larder holds what {} held", report.from);
            Ok(ExitCode::SUCCESS)
        }
        End::Aborted => {
            println!("aborted: clients stay where they are");
            Ok(ExitCode::SUCCESS)
        }
        End::Left => {
            println!("stopped; the same command goes on from here");
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// White space at the file's end is left out.
fn password_in(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    match text.trim_end() {
        "" => Err(format!("there is no password in {}", file.display())),
        password => Ok(password.to_string()),
    }
}

fn default_state_file(from: &RedisUrl) -> Result<PathBuf, String> {
    let name: String = from
        .addr()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect();
    state_dir()
        .map(|dir| dir.join(format!("import-{name}.json")))
        .ok_or_else(|| "there is no home directory (name a file with --state-file)".to_string())
}

/// Asks an import that runs.
async fn tell(
    ask: &AskImporter,
    secret_file: Option<PathBuf>,
    words: &[&str],
) -> Result<String, String> {
    let at = &ask.importer;
    let secret = operator::secret(secret_file, &[at])?;
    let explain = |error: ControlError| match error {
        ControlError::Unreachable { .. } | ControlError::PortClosed { .. } => {
            format!("no import answers: {error} (is it running? name another with --importer)")
        }
        ControlError::Refused { code, .. } if code == "WRONGPASS" || code == "NOAUTH" => format!(
            "the import at {at} has another secret (give its own with --secret-file or LARDER_SECRET)"
        ),
        ControlError::Refused { text, .. } | ControlError::Version(text) => text,
        ControlError::Garbled { .. } => format!("{at} is no import of larder's: {error}"),
    };
    let client = ControlClient::connect(at, &secret, Peer::Operator).await;
    let limit = Duration::from_millis(ANSWER_MS_MAX);
    let reply = client.map_err(explain)?.request_within(limit, words).await;
    let reply = reply.map_err(explain)?;
    Ok(String::from_utf8_lossy(reply.bytes().unwrap_or(b"")).into_owned())
}

/// One line for each source, below the whole.
fn status_text(report: &Report) -> String {
    let mut text = format!("from {}: {}\n", report.from, line(report));
    for source in &report.sources {
        text += &format!(
            "  {}  {} of {} keys, {} commands, {} behind\n",
            source.addr,
            thousands(source.keys_copied),
            thousands(source.keys_total),
            thousands(source.commands),
            lag(source.lag_bytes, source.lag_seconds),
        );
        if let Some(trouble) = &source.trouble {
            text += &format!("    {trouble}\n");
        }
    }
    if let Some(trouble) = &report.trouble {
        text += &format!("  {trouble}\n");
    }
    text
}

fn lag(bytes: u64, seconds: f64) -> String {
    match bytes {
        0 => "nothing".to_string(),
        bytes => format!("{} ({seconds:.1} s)", show_size(bytes)),
    }
}

/// What matters most first: a narrow terminal cuts the end off.
fn line(report: &Report) -> String {
    let sum = |of: fn(&larder_import::SourceReport) -> u64| -> u64 {
        report.sources.iter().map(of).sum()
    };
    let (copied, total) = (
        sum(|source| source.keys_copied),
        sum(|source| source.keys_total),
    );
    let refetched = sum(|source| source.counts.refetched);
    let seconds = report
        .sources
        .iter()
        .map(|source| source.lag_seconds)
        .fold(0.0, f64::max);
    let mut text = match &report.state {
        State::Connecting => "connecting".to_string(),
        State::FullSync => format!(
            "copying {} of {} keys, {}",
            thousands(copied),
            thousands(total),
            show_size(sum(|source| source.bytes_copied)),
        ),
        State::Streaming => format!(
            "following, {} behind, {} commands",
            lag(sum(|source| source.lag_bytes), seconds),
            thousands(sum(|source| source.commands)),
        ),
        State::Verifying { checked, of } => {
            format!(
                "comparing {} of {} keys",
                thousands(*checked),
                thousands(*of)
            )
        }
        State::CuttingOver => "cutting over".to_string(),
        State::CutOver => "cut over".to_string(),
        State::Aborted => "aborted".to_string(),
        State::Failed { cause } => format!("failed: {cause}"),
    };
    if refetched > 0 {
        text += &format!(", {} fetched anew", count(refetched, "key"));
    }
    if let Some(verified) = &report.verified {
        text += &match &verified.broken {
            Some(cause) => format!("; the comparison has ended early: {cause}"),
            None => format!(
                "; compared {}: {} different{}",
                count(verified.checked, "key"),
                verified.different,
                match verified.named.as_slice() {
                    [] => String::new(),
                    named => format!(" and fetched anew ({})", named.join(", ")),
                },
            ),
        };
    }
    text
}

/// A progress bar on a terminal, a line now and then elsewhere.
enum Display {
    Bar(ProgressBar),
    Lines {
        last: Option<(Instant, &'static str, bool)>,
    },
}

impl Display {
    fn new() -> Display {
        if !std::io::stderr().is_terminal() {
            return Display::Lines { last: None };
        }
        let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:20} {percent:>3} %  {wide_msg}") {
            bar.set_style(style);
        }
        Display::Bar(bar)
    }

    fn show(&mut self, report: &Report) {
        match self {
            Display::Bar(bar) => {
                let keys = report
                    .sources
                    .iter()
                    .map(|source| source.keys_copied)
                    .sum::<u64>();
                let total = report
                    .sources
                    .iter()
                    .map(|source| source.keys_total)
                    .sum::<u64>();
                let (done, of) = match &report.state {
                    State::Connecting => (0, 1),
                    State::FullSync => (keys, total),
                    State::Verifying { checked, of } => (*checked, *of),
                    State::Streaming
                    | State::CuttingOver
                    | State::CutOver
                    | State::Aborted
                    | State::Failed { .. } => (1, 1),
                };
                bar.set_position((1000 * done).checked_div(of).unwrap_or(1000).min(1000));
                bar.set_message(line(report));
            }
            Display::Lines { last } => {
                let seen = (report.state.word(), report.verified.is_some());
                let is_due = last.is_none_or(|(at, word, verified)| {
                    at.elapsed() >= Duration::from_millis(LINE_MS) || (word, verified) != seen
                });
                if is_due {
                    *last = Some((Instant::now(), seen.0, seen.1));
                    eprintln!("{}", line(report));
                }
            }
        }
    }

    fn end(&mut self) {
        if let Display::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
