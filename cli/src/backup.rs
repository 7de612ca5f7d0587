//! `larder backup` and `larder restore`: opens the place, shows how far it is, and says at the end what is there.
//!
//! This process does the transfer. Ctrl-C ends it: of a backup nothing stays, of a restore what is in the cluster does.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use larder_backup::cluster::Access;
use larder_backup::metrics::BackupMetrics;
use larder_backup::place::Found;
use larder_backup::read::{Reader, choose};
use larder_backup::restore::{Before, Restored, Which};
use larder_backup::service::Service;
use larder_backup::take::{Take, Taken, take};
use larder_backup::{Key, Manifest, Place, Tally};
use larder_runtime::http::HttpPort;
use larder_runtime::secret::state_dir;
use larder_runtime::size::show_size;
use larder_runtime::{Readiness, Registry, entropy, shutdown};
use tokio::sync::watch;

use crate::INTERRUPTED;
use crate::args::{self, BackupVerb, Of};
use crate::operator;
use crate::text::{Table, count, seconds, thousands};

/// How often the progress is shown, in milliseconds.
const SHOW_MS: u64 = 100;
/// Where there is no terminal, a line is printed this often, in milliseconds.
const LINE_MS: u64 = 5_000;

pub(crate) async fn run(
    ask: args::Backup,
    secret_file: Option<PathBuf>,
) -> Result<ExitCode, String> {
    match ask.verb {
        None => backup(ask.take, secret_file).await,
        Some(BackupVerb::List(ask)) => list(&ask).await,
        Some(BackupVerb::Verify(ask)) => verify(&ask).await,
        Some(BackupVerb::Keygen(ask)) => keygen(&ask.file),
    }
}

async fn backup(ask: args::TakeBackup, secret_file: Option<PathBuf>) -> Result<ExitCode, String> {
    let secret = operator::secret(secret_file, &operator::all(&ask.ask.topology))?;
    let to = match &ask.to {
        Some(to) => to.clone(),
        None => default_place()?,
    };
    let tally = Arc::new(Tally::default());
    let what = Take {
        access: Access {
            topologies: ask.ask.topology.clone(),
            secret,
        },
        place: Place::open(&to, ask.place.endpoint.as_deref(), true)?,
        key: read_key(ask.place.key_file.as_deref())?,
        wait: Duration::from_secs(ask.wait),
        tally: Arc::clone(&tally),
    };
    let began = Instant::now();
    let stop = Stop::on_signal()?;
    if let Some(window) = ask.window {
        let service = Service {
            take: what,
            window,
            keep: ask.keep.map(|keep| keep as usize),
            metrics: Arc::new(BackupMetrics::default()),
        };
        return serve(service, ask.http.as_deref(), stop).await;
    }
    let taken = show("backup", &tally, ask.ask.json, take(&what, stop.stopped())).await;
    let taken = match taken {
        Ok(taken) => taken,
        Err(why) => return stop.end(why),
    };
    if ask.verify {
        let place = &what.place;
        let read = async {
            let reader = Reader::open(place, taken.name, what.key.as_ref(), &tally).await?;
            reader.verify().await
        };
        show("verify", &tally, ask.ask.json, read).await?;
    }
    let text = match ask.ask.json {
        true => json_of(&taken),
        false => format!(
            "{} is whole at {}: {}, {} in {} files, {}{}\n",
            taken.name,
            what.place.shown(),
            count(taken.manifest.keys(), "key"),
            show_size(taken.manifest.bytes()),
            taken.manifest.parts().count(),
            seconds(began.elapsed().as_secs_f64()),
            if ask.verify { ", read back" } else { "" },
        ),
    };
    print(&text)
}

fn default_place() -> Result<String, String> {
    let dir =
        state_dir().ok_or("where to? there is no home directory (name a folder with --to)")?;
    Ok(dir.join("backups").display().to_string())
}

fn json_of(taken: &Taken) -> String {
    let manifest = &taken.manifest;
    let json = serde_json::json!({
        "set": taken.name.to_string(),
        "cluster": manifest.cluster,
        "epoch": manifest.epoch,
        "keys": manifest.keys(),
        "bytes": manifest.bytes(),
        "held_ms": manifest.held_ms,
        "took_ms": manifest.took_ms,
        "encrypted": manifest.encryption.is_some(),
    });
    format!("{json:#}\n")
}

async fn serve(service: Service, http: Option<&str>, stop: Stop) -> Result<ExitCode, String> {
    let registry = Registry::new();
    registry.add(&service.metrics);
    let ready = Readiness::waiting_for("the topology");
    ready.set_ready();
    let (trigger, waiter) = shutdown::channel();
    if let Some(addr) = http {
        let port = HttpPort::bind(addr, "--http").map_err(|error| error.to_string())?;
        tokio::spawn(port.serve(registry, ready, Default::default(), waiter));
    }
    let ended = service.run(stop.stopped()).await;
    trigger.pull();
    ended.map(|()| ExitCode::SUCCESS)
}

async fn list(ask: &args::ListBackups) -> Result<ExitCode, String> {
    let place = Place::open(&ask.from, ask.place.endpoint.as_deref(), false)?;
    let sets = place.sets().await?;
    if ask.json {
        let sets: Vec<serde_json::Value> = sets.iter().map(listed_json).collect();
        return print(&format!("{:#}\n", serde_json::json!({ "sets": sets })));
    }
    if sets.is_empty() {
        return print(&format!("no backups at {}\n", place.shown()));
    }
    let mut table = Table::new(["backup", "cluster", "shards", "keys", "bytes", "encryption"]);
    for found in &sets {
        let mut cells = vec![found.name.to_string()];
        match &found.manifest {
            Ok(Some(manifest)) => cells.extend([
                manifest.cluster.clone(),
                manifest.shards.len().to_string(),
                thousands(manifest.keys()),
                show_size(manifest.bytes()),
                encryption(manifest),
            ]),
            Ok(None) => cells.push("under way, or interrupted".into()),
            Err(why) => cells.push(why.clone()),
        }
        table.row(cells);
    }
    print(&table.to_string())
}

fn encryption(manifest: &Manifest) -> String {
    match &manifest.encryption {
        Some(encryption) => format!("key {}", encryption.key),
        None => "none".into(),
    }
}

fn listed_json(found: &Found) -> serde_json::Value {
    let name = found.name.to_string();
    match &found.manifest {
        Ok(Some(manifest)) => serde_json::json!({
            "set": name,
            "whole": true,
            "cluster": manifest.cluster,
            "epoch": manifest.epoch,
            "shards": manifest.shards.len(),
            "keys": manifest.keys(),
            "bytes": manifest.bytes(),
            "key": manifest.encryption.as_ref().map(|encryption| &encryption.key),
        }),
        Ok(None) => serde_json::json!({ "set": name, "whole": false }),
        Err(why) => serde_json::json!({ "set": name, "whole": false, "error": why }),
    }
}

async fn verify(ask: &args::VerifyBackup) -> Result<ExitCode, String> {
    let place = Place::open(&ask.from, ask.place.endpoint.as_deref(), false)?;
    let key = read_key(ask.place.key_file.as_deref())?;
    let set = choose(&place, ask.set).await?;
    let tally = Arc::new(Tally::default());
    let reader = Reader::open(&place, set, key.as_ref(), &tally).await?;
    let began = Instant::now();
    let counted = show("verify", &tally, false, reader.verify()).await?;
    print(&format!(
        "{set} is whole: {}, {} of functions, {}, {}\n",
        count(counted.keys, "key"),
        match counted.libraries {
            1 => "1 library".to_string(),
            more => format!("{more} libraries"),
        },
        show_size(reader.manifest.bytes()),
        seconds(began.elapsed().as_secs_f64()),
    ))
}

/// The file is its owner's alone, and an existing one is never overwritten: without its key a backup is lost.
fn keygen(path: &Path) -> Result<ExitCode, String> {
    use std::os::unix::fs::OpenOptionsExt;
    let told = |error: &dyn std::fmt::Display| format!("cannot make {}: {error}", path.display());
    let random = entropy::bytes().map_err(|error| told(&error))?;
    let key = Key::from_random(random);
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(|error| told(&error))?;
    let written = file.write_all(key.file_text().as_bytes());
    written
        .and_then(|()| file.sync_all())
        .map_err(|error| told(&error))?;
    print(&format!(
        "key {} is in {}: keep a copy elsewhere, backups cannot be read without it\n",
        key.id(),
        path.display()
    ))
}

fn read_key(path: Option<&Path>) -> Result<Option<Key>, String> {
    let Some(path) = path else {
        return Ok(None);
    };
    let told = |why: String| format!("cannot use the key file {}: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| told(error.to_string()))?;
    Key::parse(&text).map(Some).map_err(told)
}

pub(crate) async fn restore(
    ask: args::Restore,
    secret_file: Option<PathBuf>,
) -> Result<ExitCode, String> {
    let secret = operator::secret(secret_file, &operator::all(&ask.ask.topology))?;
    let place = Place::open(&ask.from, ask.place.endpoint.as_deref(), false)?;
    let key = read_key(ask.place.key_file.as_deref())?;
    let set = choose(&place, ask.set).await?;
    let tally = Arc::new(Tally::default());
    let before = match (ask.replace, ask.flush) {
        (_, true) => Before::Flushed,
        (true, false) => Before::Replaced,
        (false, false) => Before::Empty,
    };
    let what = larder_backup::restore::Restore {
        access: Access {
            topologies: ask.ask.topology.clone(),
            secret,
        },
        reader: Reader::open(&place, set, key.as_ref(), &tally).await?,
        before,
        which: Which {
            keys: ask.only.contains(&Of::Keys),
            functions: ask.only.contains(&Of::Functions),
            users: ask.only.contains(&Of::Users),
            settings: ask.only.contains(&Of::Settings),
        },
    };
    let began = Instant::now();
    let stop = Stop::on_signal()?;
    let work = larder_backup::restore::restore(&what, stop.stopped());
    let restored = match show("restore", &tally, ask.ask.json, work).await {
        Ok(restored) => restored,
        Err(why) => return stop.end(why),
    };
    let doubt = restored.doubt(before).filter(|_| what.which.keys);
    let text = match ask.ask.json {
        true => format!(
            "{:#}\n",
            serde_json::json!({
                "set": set.to_string(),
                "keys": restored.keys,
                "expired": restored.expired,
                "functions": restored.functions,
                "users": restored.users,
                "settings": restored.settings,
                "cluster_keys": restored.cluster_keys,
                "doubt": doubt,
                "seconds": began.elapsed().as_secs_f64(),
            })
        ),
        false => restored_text(&restored, &set.to_string(), began.elapsed()),
    };
    print(&text)?;
    match doubt {
        None => Ok(ExitCode::SUCCESS),
        Some(doubt) => Err(doubt),
    }
}

fn restored_text(restored: &Restored, set: &str, took: Duration) -> String {
    let expired = match restored.expired {
        0 => String::new(),
        expired => format!(" ({} more had expired)", thousands(expired)),
    };
    format!(
        "restored {set} into {}: {}{expired}, {} of functions, {}, {}; the cluster has {} now; {}\n",
        count(restored.shards as u64, "shard"),
        count(restored.keys, "key"),
        match restored.functions {
            1 => "1 library".to_string(),
            more => format!("{more} libraries"),
        },
        count(restored.users, "user"),
        count(restored.settings, "setting"),
        count(restored.cluster_keys, "key"),
        seconds(took.as_secs_f64()),
    )
}

fn print(text: &str) -> Result<ExitCode, String> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Ctrl-C, heard once.
struct Stop(watch::Receiver<bool>);

impl Stop {
    fn on_signal() -> Result<Stop, String> {
        let signal = shutdown::signal().map_err(|error| error.to_string())?;
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            signal.await;
            sender.send_replace(true);
            // Whoever waits sees a value, not a channel that is gone.
            sender.closed().await;
        });
        Ok(Stop(receiver))
    }

    fn stopped(&self) -> watch::Receiver<bool> {
        self.0.clone()
    }

    /// How a command ends that was not carried out.
    fn end(&self, why: String) -> Result<ExitCode, String> {
        if *self.0.borrow() {
            eprintln!("larder: {why}");
            return Ok(ExitCode::from(INTERRUPTED));
        }
        Err(why)
    }
}

/// Shows how far `work` is until it ends.
async fn show<T>(
    name: &str,
    tally: &Tally,
    json: bool,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let mut display = Display::new(json);
    let began = Instant::now();
    let mut work = std::pin::pin!(work);
    let ended = loop {
        tokio::select! {
            ended = &mut work => break ended,
            () = tokio::time::sleep(Duration::from_millis(SHOW_MS)) => {}
        }
        display.show(name, tally, began.elapsed());
    };
    display.end();
    for line in tally.take_warnings() {
        eprintln!("larder: {line}");
    }
    ended
}

/// A progress bar on a terminal, a line now and then elsewhere, nothing for JSON.
enum Display {
    Bar(ProgressBar),
    Lines { last: Instant },
    Silent,
}

impl Display {
    fn new(json: bool) -> Display {
        if json {
            return Display::Silent;
        }
        if !io::stderr().is_terminal() {
            return Display::Lines {
                last: Instant::now(),
            };
        }
        let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:20} {percent:>3} %  {wide_msg}") {
            bar.set_style(style);
        }
        Display::Bar(bar)
    }

    fn show(&mut self, name: &str, tally: &Tally, elapsed: Duration) {
        let (keys, total, _) = tally.read();
        let share = (keys * 1000).checked_div(total).unwrap_or(0).min(1000);
        let text = progress_text(name, tally, elapsed);
        match self {
            Display::Bar(bar) => {
                bar.set_position(share);
                bar.set_message(text);
            }
            Display::Lines { last } if last.elapsed() >= Duration::from_millis(LINE_MS) => {
                *last = Instant::now();
                eprintln!("{} %  {text}", share / 10);
            }
            Display::Lines { .. } | Display::Silent => {}
        }
    }

    fn end(&mut self) {
        if let Display::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// What matters most first: a narrow terminal cuts the end off.
fn progress_text(name: &str, tally: &Tally, elapsed: Duration) -> String {
    let stage = tally.stage();
    let (keys, total, bytes) = tally.read();
    if total == 0 && !stage.is_empty() {
        return format!("{name}: {stage}");
    }
    let spent = elapsed.as_secs_f64().max(0.001);
    let left = match (keys, total) {
        (0, _) => String::new(),
        (keys, total) => {
            let rest = total.saturating_sub(keys) as f64 * spent / keys as f64;
            format!("{} left, ", seconds(rest))
        }
    };
    let stage = if stage.is_empty() {
        stage
    } else {
        format!(", {stage}")
    };
    format!(
        "{name}: {left}{} of {} keys, {}, {}/s{stage}",
        thousands(keys),
        thousands(total),
        show_size(bytes),
        show_size((bytes as f64 / spent) as u64),
    )
}
