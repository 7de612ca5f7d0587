//! Saving: when a snapshot is made, what becomes of it, and what follows when it fails.
//!
//! ```text
//! none ──BGSAVE, a save point──▶ begun ──the shell opens a file──▶ being written ──▶ ended, well or not ──▶ none
//! ```
//! SAVE and the save at a shutdown do all of it in one go, through the [`Host`]. Of what changed, what came after the snapshot's moment counts as not saved.

use larder_wire::{Refusal, SlotSet};

use crate::clock::Clock;
use crate::config::Parameter;
use crate::node::Node;
use crate::snapshot::{Preface, Produced, Snapshot};

/// Bytes that SAVE makes at once.
const SAVE_BYTES_AT_ONCE: usize = 1 << 20;
/// After a failure a save point waits as long before it tries again, in seconds, as in Redis.
const RETRY_S: i64 = 5;

/// Where the shell writes files.
pub trait Host {
    /// A file that takes the place of `folder/name` when it is finished, and is not there before.
    fn create(&self, folder: &str, name: &str) -> Result<Box<dyn SaveFile>, String>;
}

/// A file under way; dropped before it is finished, it leaves nothing.
pub trait SaveFile {
    fn write(&mut self, bytes: &[u8]) -> Result<(), String>;
    /// All of it is on the disk when this returns.
    fn finish(self: Box<Self>) -> Result<(), String>;
}

/// A snapshot under way.
struct Running {
    purpose: SnapshotFor,
    snapshot: Snapshot,
    /// Keys changed place in bulk under a base, which has to be made anew between two commands.
    void: bool,
    /// Changes that it has.
    changes: u64,
    begun_ms: u64,
    /// Somebody writes it.
    taken: bool,
}

/// What is saved, and how it went.
#[derive(Default)]
pub struct Saving {
    host: Option<Box<dyn Host>>,
    running: Option<Running>,
    /// Changes that no file has.
    changes: u64,
    /// Seconds of the Unix clock; `None` before the first time.
    last: Option<i64>,
    saves: u64,
    last_took_ms: Option<u64>,
    /// Why the last save in the background failed, and when, in seconds of the Unix clock.
    failed: Option<(String, i64)>,
}

/// What a snapshot is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotFor {
    Itself,
    /// What the append-only file begins with.
    Base,
}

/// Where a snapshot goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaveTo {
    pub folder: String,
    pub name: String,
}

impl Saving {
    #[inline]
    pub(crate) fn count_change(&mut self) {
        self.changes += 1;
    }

    pub fn changes(&self) -> u64 {
        self.changes
    }

    pub fn saves(&self) -> u64 {
        self.saves
    }

    pub fn last_took_ms(&self) -> Option<u64> {
        self.last_took_ms
    }

    pub fn last_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// For how long a snapshot has been made, in milliseconds, and its keys so far.
    pub fn progress(&self, clock: Clock) -> Option<(u64, u64)> {
        self.progress_of(SnapshotFor::Itself, clock)
    }

    /// The same of a rewrite of the append-only file.
    pub fn rewrite_progress(&self, clock: Clock) -> Option<(u64, u64)> {
        self.progress_of(SnapshotFor::Base, clock)
    }

    fn progress_of(&self, purpose: SnapshotFor, clock: Clock) -> Option<(u64, u64)> {
        let running = self.running.as_ref().filter(|it| it.purpose == purpose)?;
        let ms = clock.mono_ms.saturating_sub(running.begun_ms);
        Some((ms, running.snapshot.keys()))
    }

    /// The snapshot that has to know of each change, while there is one.
    #[inline]
    pub(crate) fn snapshot(&mut self) -> Option<&mut Snapshot> {
        let running = self.running.as_mut().filter(|running| !running.void);
        running.map(|running| &mut running.snapshot)
    }

    /// What is made is what the append-only file begins with.
    pub(crate) fn is_rewriting(&self) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| running.purpose == SnapshotFor::Base)
    }

    pub(crate) fn is_void(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.void)
    }

    /// What is here is what the files have.
    pub(crate) fn forget_changes(&mut self) {
        self.changes = 0;
    }

    #[inline]
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

impl Node {
    /// The shell tells who writes files, and into which folder; without one nothing can be saved.
    pub fn set_save_host(&mut self, folder: String, host: Box<dyn Host>) {
        self.config.fix(Parameter::Dir, folder);
        self.saving.host = Some(host);
    }

    /// Writes a file into the data folder, at once; its path.
    pub(crate) fn write_file(&self, name: &str, bytes: &[u8]) -> Result<String, String> {
        let host = self.saving.host.as_ref();
        let host = host.ok_or("there is no folder to write it to")?;
        let folder = self.save_to().folder;
        let mut file = host.create(&folder, name)?;
        file.write(bytes)?;
        file.finish()?;
        Ok(format!("{folder}/{name}"))
    }

    /// When the data was last saved, or the node started.
    pub(crate) fn last_save(&self, clock: Clock) -> i64 {
        let started = clock.unix_seconds() - (clock.mono_ms / 1000) as i64;
        self.saving.last.unwrap_or(started)
    }

    pub(crate) fn refuse_second_save(&self) -> Result<(), Refusal> {
        match self.saving.running.as_ref().map(|running| running.purpose) {
            Some(SnapshotFor::Itself) => {
                Err(Refusal::fixed("ERR Background save already in progress"))
            }
            Some(SnapshotFor::Base) => Err(Refusal::fixed(
                "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule a BGSAVE whenever possible.",
            )),
            None => Ok(()),
        }
    }

    /// A snapshot of what clients see at this moment.
    pub(crate) fn snapshot(&self, clock: Clock) -> Snapshot {
        self.snapshot_for(SnapshotFor::Itself, clock)
    }

    pub(crate) fn snapshot_for(&self, purpose: SnapshotFor, clock: Clock) -> Snapshot {
        let owned = match self.ownership.is_standalone() || self.is_restoring() {
            true => SlotSet::full(),
            false => self.ownership.slots().clone(),
        };
        let libraries = self.scripts.libraries.iter();
        let is_base = matches!(purpose, SnapshotFor::Base);
        let mut aux = vec![
            (
                "redis-ver",
                super::exec::connection::REDIS_VERSION.to_string(),
            ),
            ("redis-bits", "64".to_string()),
            ("ctime", clock.unix_seconds().to_string()),
            ("used-mem", self.databases.used_memory().to_string()),
        ];
        aux.extend(self.place_aux());
        aux.push(("aof-base", u8::from(is_base).to_string()));
        let preface = Preface {
            aux,
            libraries: libraries.map(|library| library.source.to_vec()).collect(),
        };
        let compresses = self.config.flag(Parameter::Rdbcompression);
        Snapshot::begin(owned, preface, compresses, clock.now())
    }

    /// The file that snapshots go to, and that a start begins with.
    pub fn save_path(&self) -> String {
        let SaveTo { folder, name } = self.save_to();
        format!("{folder}/{name}")
    }

    /// Where snapshots go now.
    fn save_to(&self) -> SaveTo {
        SaveTo {
            folder: self.config.get(Parameter::Dir).to_string(),
            name: self.config.get(Parameter::Dbfilename).to_string(),
        }
    }

    /// Makes and writes a snapshot while the node stands still.
    pub fn save_at_once(&mut self, clock: Clock) -> Result<(), Refusal> {
        let snapshot = self.snapshot(clock);
        let SaveTo { folder, name } = self.save_to();
        let host = self.saving.host.as_ref().ok_or_else(no_folder)?;
        let written = host
            .create(&folder, &name)
            .and_then(|file| write_all(snapshot, &self.databases, file));
        written.map_err(|why| Refusal::new(format!("ERR {why}")))?;
        self.saving.changes = 0;
        self.saved(clock);
        Ok(())
    }

    /// Begins a snapshot that the shell writes while the node serves.
    pub(crate) fn begin_save(&mut self, clock: Clock) -> Result<(), Refusal> {
        if self.saving.host.is_none() {
            return Err(no_folder());
        }
        self.saving.running = Some(self.run_now(SnapshotFor::Itself, clock, false));
        Ok(())
    }

    /// Makes and writes what the append-only file begins with, while the node stands still.
    pub fn write_base(&mut self, folder: &str, name: &str, clock: Clock) -> Result<(), String> {
        let snapshot = self.snapshot_for(SnapshotFor::Base, clock);
        let host = self.saving.host.as_ref();
        let host = host.ok_or_else(|| no_folder().text().to_string())?;
        let file = host.create(folder, name)?;
        write_all(snapshot, &self.databases, file)
    }

    /// Begins what the append-only file is to begin with, or begins it anew.
    pub(crate) fn begin_base(&mut self, clock: Clock) {
        let begun_ms = self.saving.running.as_ref().map(|running| running.begun_ms);
        let mut running = self.run_now(SnapshotFor::Base, clock, true);
        running.begun_ms = begun_ms.unwrap_or(running.begun_ms);
        self.saving.running = Some(running);
    }

    pub(crate) fn produce_base(&mut self, limit: usize, out: &mut Vec<u8>) -> Option<Produced> {
        let running = self.saving.running.as_mut()?;
        Some(running.snapshot.produce(limit, &self.databases, out))
    }

    /// How long it took, in milliseconds.
    pub(crate) fn end_base(&mut self, clock: Clock) -> Option<u64> {
        if !self.saving.is_rewriting() {
            return None;
        }
        let running = self.saving.running.take()?;
        Some(clock.mono_ms.saturating_sub(running.begun_ms))
    }

    pub(crate) fn give_up_rewrite(&mut self) {
        if self.saving.is_rewriting() {
            self.saving.running = None;
        }
    }

    fn run_now(&self, purpose: SnapshotFor, clock: Clock, taken: bool) -> Running {
        Running {
            purpose,
            void: false,
            snapshot: self.snapshot_for(purpose, clock),
            changes: self.saving.changes,
            begun_ms: clock.mono_ms,
            taken,
        }
    }

    #[cfg(test)]
    pub(crate) fn begin_save_to_nowhere(&mut self, clock: Clock) {
        self.saving.running = Some(self.run_now(SnapshotFor::Itself, clock, true));
    }

    #[cfg(test)]
    pub(crate) fn snapshot_under_way(&self) -> Option<&Snapshot> {
        self.saving.running.as_ref().map(|it| &it.snapshot)
    }

    /// A snapshot that nobody writes yet: whoever asks does.
    pub fn take_save(&mut self) -> Option<SaveTo> {
        let running = self.saving.running.as_mut().filter(|it| !it.taken)?;
        running.taken = true;
        Some(self.save_to())
    }

    /// Appends about `limit` bytes of the snapshot under way; `None` when there is none any more.
    pub fn produce_save(&mut self, limit: usize, out: &mut Vec<u8>) -> Option<Produced> {
        let running = self.saving.running.as_mut();
        let running = running.filter(|it| it.purpose == SnapshotFor::Itself)?;
        Some(running.snapshot.produce(limit, &self.databases, out))
    }

    /// The snapshot under way is in its file, or will never be.
    pub fn end_save(&mut self, result: Result<(), String>, clock: Clock) {
        let Some(running) = self.saving.running.take() else {
            return;
        };
        let took_ms = clock.mono_ms.saturating_sub(running.begun_ms);
        self.saving.last_took_ms = Some(took_ms);
        match result {
            Ok(()) => {
                self.saving.changes -= running.changes;
                self.saved(clock);
            }
            Err(why) => self.saving.failed = Some((why, clock.unix_seconds())),
        }
        self.settle_write_refusal();
    }

    fn saved(&mut self, clock: Clock) {
        self.saving.last = Some(clock.unix_seconds());
        self.saving.saves += 1;
        self.saving.failed = None;
        self.settle_write_refusal();
    }

    /// Begins a snapshot when one is due by a save point (`save 3600 1`: after 3600 seconds, if there is a change).
    pub(crate) fn save_when_due(&mut self, clock: Clock) {
        if self.saving.is_running() || self.saving.changes == 0 || self.loading.is_some() {
            return;
        }
        let now = clock.unix_seconds();
        let waits = |(_, at): &(String, i64)| now - at < RETRY_S;
        if self.saving.failed.as_ref().is_some_and(waits) {
            return;
        }
        let since = now - self.last_save(clock);
        let due = self
            .save_points()
            .any(|(seconds, changes)| since >= seconds && self.saving.changes >= changes);
        if due && let Err(refusal) = self.begin_save(clock) {
            self.saving.failed = Some((refusal.text().to_string(), now));
        }
    }

    pub fn has_save_points(&self) -> bool {
        self.save_points().next().is_some()
    }

    fn save_points(&self) -> impl Iterator<Item = (i64, u64)> {
        let numbers = self.config.get(Parameter::Save).split_whitespace();
        let mut numbers = numbers.map_while(|number| number.parse::<u64>().ok());
        std::iter::from_fn(move || Some((numbers.next()? as i64, numbers.next()?)))
    }

    /// Keys are about to change place in bulk, or have.
    pub(crate) fn snapshot_anew(&mut self, clock: Clock) {
        match &mut self.saving.running {
            Some(running) if running.purpose == SnapshotFor::Base => running.void = true,
            Some(running) => running.snapshot.begin_anew(clock.now()),
            None => {}
        }
        self.backups.begin_anew(clock);
    }
}

fn no_folder() -> Refusal {
    Refusal::fixed("ERR this server has no folder to save to")
}

fn write_all(
    mut snapshot: Snapshot,
    databases: &larder_store::Databases,
    mut file: Box<dyn SaveFile>,
) -> Result<(), String> {
    let mut bytes = Vec::with_capacity(SAVE_BYTES_AT_ONCE);
    loop {
        bytes.clear();
        let produced = snapshot.produce(SAVE_BYTES_AT_ONCE, databases, &mut bytes);
        file.write(&bytes)?;
        match produced {
            Produced::More => {}
            Produced::Done => return file.finish(),
            Produced::Anew | Produced::TooSlow => {
                unreachable!("nothing is written while the node stands still")
            }
        }
    }
}
