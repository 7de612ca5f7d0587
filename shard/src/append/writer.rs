//! The thread that writes an append-only file: bytes in, how far they are on the disk out.
//!
//! ```text
//! messages ──▶ write what came ──▶ sync, by the policy: once for all that came meanwhile ──▶ progress, bell
//!                  └── cannot: say why, wait, try the same again
//! ```
//! It begins further files and keeps the manifest. Nothing is given up: what cannot be written waits here, and no more comes than the node lets be under way.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use larder_engine::append::manifest::{Manifest, Part};
use larder_engine::append::read::place_remark;
use larder_engine::append::{Fsync, Written};
use larder_store::Db;
use larder_wire::Offset;
use larder_wire::replication::Place;
use tokio::sync::{Notify, oneshot};
use tracing::{info, warn};

use super::files::Files;

/// How long it waits before it tries again what could not be written.
const RETRY: Duration = Duration::from_millis(200);
/// How often `everysec` syncs.
const SYNC_EVERY: Duration = Duration::from_secs(1);

pub(super) enum Message {
    /// Of the journal, up to `end`.
    Bytes {
        bytes: Vec<u8>,
        end: Offset,
    },
    /// What stands between two pieces of the journal.
    Remark(Vec<u8>),
    /// What follows, from `from` on, goes into another file.
    Next {
        from: Place,
        db: Option<Db>,
    },
    /// A base is in its place: with the file that began at `cut` and those after it, it is all data. Told back: the bytes of all files.
    Base {
        part: Part,
        cut: Offset,
        done: oneshot::Sender<Result<u64, String>>,
    },
    Policy(Fsync),
    Close,
}

/// What the thread tells the node.
#[derive(Default)]
pub(super) struct Progress {
    written: AtomicU64,
    synced: AtomicU64,
    file_bytes: AtomicU64,
    fault: Mutex<Option<String>>,
}

impl Progress {
    pub(super) fn at(&self) -> Written {
        Written {
            written: Offset(self.written.load(Ordering::Acquire)),
            synced: Offset(self.synced.load(Ordering::Acquire)),
            file_bytes: self.file_bytes.load(Ordering::Relaxed),
        }
    }

    pub(super) fn fault(&self) -> Option<String> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.clone()
    }

    fn set_fault(&self, fault: Option<String>) {
        let mut place = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*place, &fault) {
            (None, Some(why)) => warn!("cannot write the append-only file, trying again: {why}"),
            (Some(_), None) => info!("the append-only file is written again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        *place = fault;
    }
}

pub(super) struct Writer {
    files: Files,
    manifest: Manifest,
    /// Increments that count only with the base that is being made.
    unlisted: Vec<Part>,
    /// False until there is a base.
    whole: bool,
    /// Where files began that were begun here.
    opened: Vec<(Offset, u64)>,
    file: Option<File>,
    fsync: Fsync,
    /// Each file begins with where it stands in the journal.
    says_place: bool,
    unsynced: bool,
    synced_at: Instant,
    /// Of the message at hand: bytes that are written already.
    taken: usize,
    progress: Arc<Progress>,
    bell: Arc<Notify>,
}

impl Writer {
    /// `file`: the last increment, open at its end. `whole`: the manifest's files are all data. `from` is where the journal stands.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        files: Files,
        manifest: Manifest,
        file: Option<File>,
        whole: bool,
        fsync: Fsync,
        from: Offset,
        says_place: bool,
        bell: Arc<Notify>,
    ) -> Writer {
        let progress = Arc::new(Progress::default());
        progress.written.store(from.0, Ordering::Relaxed);
        progress.synced.store(from.0, Ordering::Relaxed);
        progress
            .file_bytes
            .store(files.bytes(&manifest), Ordering::Relaxed);
        Writer {
            files,
            manifest,
            unlisted: Vec::new(),
            whole,
            opened: Vec::new(),
            file,
            fsync,
            says_place,
            unsynced: false,
            synced_at: Instant::now(),
            taken: 0,
            progress,
            bell,
        }
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    pub(super) fn run(mut self, messages: Receiver<Message>) {
        let mut queue = VecDeque::new();
        loop {
            if queue.is_empty() {
                match self.next(&messages) {
                    Ok(Some(message)) => queue.push_back(message),
                    Ok(None) => {}
                    Err(_) => return self.end(),
                }
            }
            queue.extend(messages.try_iter());
            match self.obey(&mut queue) {
                Ok(()) => self.progress.set_fault(None),
                Err(error) => {
                    self.progress.set_fault(Some(describe(&error)));
                    self.bell.notify_one();
                    if queue.iter().any(|it| matches!(it, Message::Close)) {
                        return self.end();
                    }
                    match messages.recv_timeout(RETRY) {
                        Ok(message) => {
                            queue.push_back(message);
                            std::thread::sleep(RETRY);
                        }
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => return self.end(),
                    }
                }
            }
            self.bell.notify_one();
            if matches!(queue.front(), Some(Message::Close)) {
                return self.end();
            }
        }
    }

    /// The next message; none when a sync is due before.
    fn next(&self, messages: &Receiver<Message>) -> Result<Option<Message>, ()> {
        if self.fsync != Fsync::EverySecond || !self.unsynced {
            return messages.recv().map(Some).map_err(|_| ());
        }
        let wait = SYNC_EVERY.saturating_sub(self.synced_at.elapsed());
        match messages.recv_timeout(wait) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(()),
        }
    }

    /// Takes messages off the queue as they are done with; `Close` stays.
    fn obey(&mut self, queue: &mut VecDeque<Message>) -> io::Result<()> {
        while let Some(message) = queue.front_mut() {
            match message {
                Message::Bytes { bytes, end } => {
                    let end = *end;
                    let bytes = std::mem::take(bytes);
                    let written = self.write(&bytes);
                    if let Err(error) = written {
                        queue[0] = Message::Bytes { bytes, end };
                        return Err(error);
                    }
                    self.progress.written.store(end.0, Ordering::Release);
                }
                Message::Remark(bytes) => {
                    let bytes = std::mem::take(bytes);
                    if let Err(error) = self.write(&bytes) {
                        queue[0] = Message::Remark(bytes);
                        return Err(error);
                    }
                }
                Message::Next { from, db } => {
                    let (from, db) = (*from, *db);
                    self.begin_file(from, db)?;
                }
                Message::Base { .. } => {
                    if let Some(Message::Base { part, cut, done }) = queue.pop_front() {
                        let based = self.take_base(part, cut);
                        // Whoever asked may have given up.
                        let _ = done.send(based.map_err(|error| error.to_string()));
                    }
                    continue;
                }
                Message::Policy(fsync) => self.fsync = *fsync,
                Message::Close => break,
            }
            queue.pop_front();
        }
        let due = match self.fsync {
            Fsync::Always => true,
            Fsync::EverySecond => self.synced_at.elapsed() >= SYNC_EVERY,
            Fsync::No => false,
        };
        if due { self.sync() } else { Ok(()) }
    }

    /// All of `bytes`, by as many calls as it takes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            // The base that is still to begin has it.
            return Ok(());
        };
        self.unsynced = true;
        while self.taken < bytes.len() {
            match file.write(&bytes[self.taken..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.taken += count;
                    self.progress
                        .file_bytes
                        .fetch_add(count as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.taken = 0;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.unsynced
            && let Some(file) = &self.file
        {
            file.sync_data()?;
        }
        self.unsynced = false;
        self.synced_at = Instant::now();
        let written = self.progress.written.load(Ordering::Relaxed);
        self.progress.synced.store(written, Ordering::Release);
        Ok(())
    }

    fn begin_file(&mut self, from: Place, db: Option<Db>) -> io::Result<()> {
        self.sync()?;
        self.files.make_folder()?;
        let last = self.unlisted.last().or(self.manifest.increments.last());
        let part = self.files.increment(last.map_or(1, |part| part.seq + 1));
        let mut file = File::create(self.files.path(&part))?;
        if self.says_place {
            let remark = place_remark(from, db);
            file.write_all(&remark)?;
            self.progress
                .file_bytes
                .fetch_add(remark.len() as u64, Ordering::Relaxed);
        }
        if self.whole {
            let mut manifest = self.manifest.clone();
            manifest.increments.push(part.clone());
            self.files.write_manifest(&manifest)?;
            self.manifest = manifest;
        } else {
            self.unlisted.push(part.clone());
        }
        self.opened.push((from.offset, part.seq));
        self.file = Some(file);
        self.unsynced = true;
        Ok(())
    }

    fn take_base(&mut self, part: Part, cut: Offset) -> io::Result<u64> {
        let first = self.opened.iter().rev().find(|(from, _)| *from == cut);
        let Some(&(_, first)) = first else {
            return Err(io::Error::other("no file begins where the base ends"));
        };
        // What the manifest names is on the disk.
        self.sync()?;
        let mut manifest = self.manifest.clone();
        manifest.increments.append(&mut self.unlisted.clone());
        manifest.rebase(part, first);
        self.files.write_manifest(&manifest)?;
        self.manifest = manifest;
        self.unlisted.clear();
        self.whole = true;
        self.opened.retain(|(from, _)| *from >= cut);
        self.files.delete_history(&mut self.manifest)?;
        let bytes = self.files.bytes(&self.manifest);
        self.progress.file_bytes.store(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    /// The last that is done.
    fn end(mut self) {
        if let Err(error) = self.sync() {
            warn!("the append-only file could not be synced: {error}");
        }
        self.bell.notify_one();
    }
}

/// What the system says, without its number, as Redis has it.
fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((what, _)) => what.to_string(),
        None => text,
    }
}
