//! The append-only file of a node: the task that carries the journal to the writer's thread, and the files from one start to the next.
//!
//! ```text
//! journal ──bell──▶ pump: a few chunks at most under way ──▶ writer.rs (a thread): write, sync ──bell──▶ pump: how far it is, who may be answered
//! BGREWRITEAOF, growth ──▶ rewrite: a snapshot onto the disk ──▶ writer.rs: the manifest names it
//! ```
//! `load.rs` takes the files in at the start, `files.rs` knows their names. The node's thread waits for the disk nowhere but at its end. When the disk is slower than the
//! writes, the journal keeps what is not under way, and past a limit of bytes and time writes wait.

pub(crate) mod files;
mod load;
mod writer;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::task::{Wake, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use larder_engine::append::manifest::Manifest;
use larder_engine::append::read::place_remark;
use larder_engine::append::{BACKLOG_BYTES_MAX, BACKLOG_MS_MAX, Fsync};
use larder_engine::journal::Keeper;
use larder_engine::snapshot::Produced;
use larder_engine::{Node, Parameter};
use larder_store::Db;
use larder_wire::Offset;
use larder_wire::replication::Place;
use tokio::sync::{Notify, oneshot};
use tracing::{error, info, warn};

use self::files::Files;
use self::writer::{Message, Progress, Writer};
use crate::save::{self, CHUNK_BYTES, Piece};
use crate::shared::{EndOnPanic, Shared};

/// Bytes that are under way to the thread; the journal keeps the rest.
const UNDER_WAY_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes of the journal in one message.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// How often it is looked whether the files are wanted, and whether a rewrite is.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After a start of the files that failed, how long until the next.
const START_AGAIN: Duration = Duration::from_secs(1);

/// Wakes the task from wherever.
struct Bell(Arc<Notify>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// The files that are written.
pub(crate) struct Stream {
    files: Files,
    messages: Sender<Message>,
    thread: JoinHandle<()>,
    progress: Arc<Progress>,
    /// What was given to the thread.
    from: Place,
    fsync: Fsync,
    /// What is loaded says where it stands in the journal: a node of a cluster goes on from there.
    says_place: bool,
    /// Up to where whole commands were given to the thread, when that is known.
    boundary: Option<Offset>,
    /// The second of the Unix clock that was written down last.
    stamped: i64,
    next_base: u64,
    /// Wakes the task when the journal grows.
    bell: Waker,
    /// Where the journal ended at that time, and all of it was not written by then.
    mark: Option<(Offset, Instant)>,
}

/// The files do not go on from what they have: the data have been replaced.
struct Lost;

impl Stream {
    fn start(
        node: &mut Node,
        bell: &Arc<Notify>,
        found: Option<Manifest>,
    ) -> Result<Stream, String> {
        if !node.may_append() {
            return Err(
                "this replica has no data yet: the append-only file begins with them".to_string(),
            );
        }
        let files = Files::of(node);
        let whole = found.is_some();
        let manifest = match found {
            Some(manifest) => manifest,
            // What is there is of before: its names are not used again.
            None => files
                .read_manifest()
                .unwrap_or_else(|why| {
                    warn!("{why}: the files are made anew");
                    None
                })
                .unwrap_or_default(),
        };
        files
            .make_folder()
            .map_err(|error| format!("cannot make {}: {error}", files.folder().display()))?;
        let file = match manifest.increments.last().filter(|_| whole) {
            Some(last) => {
                let path = files.path(last);
                let opened = OpenOptions::new().append(true).create(true).open(&path);
                Some(opened.map_err(|error| format!("cannot open {}: {error}", path.display()))?)
            }
            None => None,
        };
        let offset = node.begin_append(whole, files.bytes(&manifest));
        let Some(from) = node.journal.place() else {
            unreachable!("the journal is kept for the files");
        };
        let db = node.journal.db();
        let fsync = node.append_fsync();
        let next_base = manifest.next_base();
        let has_file = file.is_some();
        let says_place = !node.ownership.is_standalone();
        let writer = Writer::new(
            files.clone(),
            manifest,
            file,
            whole,
            fsync,
            offset,
            says_place,
            Arc::clone(bell),
        );
        let progress = writer.progress();
        let (messages, arriving) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("append".to_string())
            .spawn(move || writer.run(arriving))
            .map_err(|error| {
                node.end_append();
                format!("cannot start to write the append-only file: {error}")
            })?;
        let stream = Stream {
            files,
            messages,
            thread,
            progress,
            from,
            fsync,
            says_place,
            boundary: Some(from.offset),
            stamped: 0,
            next_base,
            bell: Waker::from(Arc::new(Bell(Arc::clone(bell)))),
            mark: None,
        };
        match (whole, has_file) {
            (true, true) => stream.say_place(db),
            (true, false) => stream.tell(Message::Next { from, db }),
            // The rewrite's cut begins the first.
            (false, _) => {}
        }
        Ok(stream)
    }

    /// The thread lives as long as it is told things.
    fn tell(&self, message: Message) {
        if self.messages.send(message).is_err() {
            error!("the thread that writes the append-only file is gone");
        }
    }

    fn say_place(&self, db: Option<Db>) {
        if self.says_place {
            self.tell(Message::Remark(place_remark(self.from, db)));
        }
    }

    /// With `aof-timestamp-enabled`: what follows was written in this second.
    fn stamp(&mut self, node: &Node, now_s: i64) {
        let wanted = node.config.flag(Parameter::AofTimestampEnabled)
            && now_s != self.stamped
            && self.boundary == Some(self.from.offset)
            && node.append.next_cut() != self.boundary
            && self.from.offset < node.journal.end();
        if wanted {
            self.stamped = now_s;
            self.tell(Message::Remark(format!("#TS:{now_s}\r\n").into_bytes()));
        }
    }

    /// Gives the thread what the journal has, `all` of it or as much as may be under way, and the node what the thread has done.
    fn pump(&mut self, node: &mut Node, all: bool, now_s: i64) -> Result<(), Lost> {
        let fsync = node.append_fsync();
        if fsync != self.fsync {
            self.fsync = fsync;
            self.tell(Message::Policy(fsync));
        }
        let written = self.progress.at().written.0;
        while all || self.from.offset.0.saturating_sub(written) < UNDER_WAY_BYTES_MAX {
            self.stamp(node, now_s);
            if !self.pass_on(node)? {
                break;
            }
        }
        let end = node.journal.end();
        let between = self.from.offset == end && !node.journal.has_unit();
        self.boundary = between.then_some(end);
        node.journal.set_floor(Keeper::File, Some(self.from.offset));
        node.journal.set_bell(&self.bell);
        let (at, fault) = (self.progress.at(), self.progress.fault());
        let behind = fault.is_none() && self.is_behind(node.journal.end(), at.written);
        node.append_progress(at, fault, behind);
        Ok(())
    }

    /// One message; false when there is nothing to pass on.
    fn pass_on(&mut self, node: &mut Node) -> Result<bool, Lost> {
        let place = node.journal.place().ok_or(Lost)?;
        if node.append.next_cut() == Some(self.from.offset) {
            let db = node.append.take_cut().and_then(|(_, db)| db);
            let from = self.from;
            self.tell(Message::Next { from, db });
            return Ok(true);
        }
        let mut until = node.append.next_cut().map_or(u64::MAX, |cut| cut.0);
        if place.history != self.from.history {
            let previous = node.journal.previous().ok_or(Lost)?;
            if previous.history != self.from.history || previous.offset < self.from.offset {
                return Err(Lost);
            }
            if previous.offset == self.from.offset {
                self.from.history = place.history;
                self.say_place(None);
                return Ok(true);
            }
            until = until.min(previous.offset.0);
        }
        let limit = (until - self.from.offset.0).min(MESSAGE_BYTES_MAX as u64) as usize;
        let mut bytes = Vec::new();
        let read = node.journal.read(self.from.offset, limit, &mut bytes);
        let count = read.map_err(|_| Lost)?;
        if count == 0 {
            return Ok(false);
        }
        self.from.offset.0 += count as u64;
        let end = self.from.offset;
        self.tell(Message::Bytes { bytes, end });
        Ok(true)
    }

    fn is_behind(&mut self, end: Offset, written: Offset) -> bool {
        if self.mark.is_some_and(|(mark, _)| written >= mark) {
            self.mark = None;
        }
        if written < end && self.mark.is_none() {
            self.mark = Some((end, Instant::now()));
        }
        let late =
            |(_, since): (Offset, Instant)| since.elapsed().as_millis() as u64 > BACKLOG_MS_MAX;
        end.0 - written.0.min(end.0) > BACKLOG_BYTES_MAX || self.mark.is_some_and(late)
    }

    /// All that was given is written, as far as the disk takes it, when this returns.
    fn close(self) {
        self.tell(Message::Close);
        drop(self.messages);
        if self.thread.join().is_err() {
            error!("the thread that writes the append-only file died");
        }
    }
}

/// Loads the files that are there, or else what `load_saved` gives, and begins to write. The error is for the operator.
pub(crate) async fn begin(
    shared: &Rc<Shared>,
    load_saved: impl AsyncFnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let files = Files::of(&shared.node.borrow());
    let found = files.read_manifest()?;
    match &found {
        Some(manifest) => load::load(shared, &files, manifest).await?,
        None => load_saved().await?,
    }
    // Nothing is served between the load and this.
    let manifest = match found {
        Some(manifest) if manifest.base.is_some() || !manifest.increments.is_empty() => manifest,
        Some(_) | None => first_base(shared, &files)?,
    };
    let mut node = shared.node.borrow_mut();
    let stream = Stream::start(&mut node, &shared.append_bell, Some(manifest))?;
    drop(node);
    *shared.append.borrow_mut() = Some(stream);
    pump(shared, false);
    Ok(())
}

/// What is in memory becomes the base, at once.
fn first_base(shared: &Shared, files: &Files) -> Result<Manifest, String> {
    let fault =
        |error: std::io::Error| format!("cannot write to {}: {error}", files.folder().display());
    files.make_folder().map_err(fault)?;
    let base = files.base(1);
    let folder = files.folder().display().to_string();
    let clock = shared.clocks.clock();
    shared
        .node
        .borrow_mut()
        .write_base(&folder, &base.name, clock)?;
    let manifest = Manifest {
        base: Some(base),
        ..Manifest::default()
    };
    files.write_manifest(&manifest).map_err(fault)?;
    Ok(manifest)
}

/// For as long as the node lives: starts and stops the files as the operator says, and keeps them going.
pub(crate) async fn run(shared: Rc<Shared>) {
    let _guard = EndOnPanic(Rc::clone(&shared));
    let mut not_before = Instant::now();
    loop {
        let (wants, runs) = {
            let node = shared.node.borrow();
            let runs = shared.append.borrow().is_some();
            // A base that is being made alone has the name that theirs would have.
            let free = runs || !node.is_rewriting();
            (
                node.wants_append() && node.may_append() && node.loading().is_none() && free,
                runs,
            )
        };
        match (wants, runs) {
            (true, false) if Instant::now() >= not_before => {
                not_before = Instant::now() + START_AGAIN;
                start_now(&shared);
            }
            (false, true) => {
                finish(&shared);
                shared.node.borrow_mut().end_append();
            }
            (true, true) | (false, false) | (true, false) => {}
        }
        if !pump(&shared, false) {
            warn!("the data are replaced: the append-only file will be made anew");
            finish(&shared);
            shared.node.borrow_mut().end_append();
        }
        let clock = shared.clocks.clock();
        let taken = shared.node.borrow_mut().take_rewrite(clock);
        if taken.is_some() {
            pump(&shared, false);
            tokio::task::spawn_local(rewrite(Rc::clone(&shared)));
        } else if shared.node.borrow_mut().take_lone_rewrite(clock) {
            tokio::task::spawn_local(rewrite_alone(Rc::clone(&shared)));
        }
        // A bell that was rung meanwhile is heard at once.
        let _ = tokio::time::timeout(LOOK_EVERY, shared.append_bell.notified()).await;
    }
}

/// The files begin with a rewrite.
fn start_now(shared: &Shared) {
    let mut node = shared.node.borrow_mut();
    match Stream::start(&mut node, &shared.append_bell, None) {
        Ok(stream) => *shared.append.borrow_mut() = Some(stream),
        Err(why) => warn!("{why}"),
    }
}

/// False when the files do not go on from what they have.
fn pump(shared: &Shared, all: bool) -> bool {
    let mut slot = shared.append.borrow_mut();
    let Some(stream) = slot.as_mut() else {
        return true;
    };
    let mut node = shared.node.borrow_mut();
    let now_s = shared.clocks.clock().unix_seconds();
    let pumped = stream.pump(&mut node, all, now_s);
    shared.pass_releases_on(&node);
    pumped.is_ok()
}

/// All that was written so far is in the files when this returns; nothing more will be.
pub(crate) fn finish(shared: &Shared) {
    pump(shared, true);
    if let Some(stream) = shared.append.borrow_mut().take() {
        stream.close();
    }
}

/// A snapshot becomes the base; the increment that begins at its moment is open already.
async fn rewrite(shared: Rc<Shared>) {
    let _guard = EndOnPanic(Rc::clone(&shared));
    info!("rewriting the append-only file");
    let result = make_base(&shared).await;
    end_rewrite(&shared, result);
}

/// A snapshot becomes all that there is; what was listed before is deleted.
async fn rewrite_alone(shared: Rc<Shared>) {
    let _guard = EndOnPanic(Rc::clone(&shared));
    info!("writing an append-only file of one moment");
    let result = make_lone_base(&shared).await;
    end_rewrite(&shared, result);
}

fn end_rewrite(shared: &Shared, result: Result<u64, String>) {
    match &result {
        Ok(bytes) => info!("rewrote the append-only file: {bytes} bytes"),
        Err(why) => warn!("cannot rewrite the append-only file: {why}"),
    }
    let clock = shared.clocks.clock();
    shared.node.borrow_mut().end_rewrite(result, clock);
}

/// The bytes of all files.
async fn make_base(shared: &Shared) -> Result<u64, String> {
    const GONE: &str = "it was given up";
    let (part, path): (_, PathBuf) = {
        let slot = shared.append.borrow();
        let stream = slot.as_ref().ok_or(GONE)?;
        let part = stream.files.base(stream.next_base);
        let path = stream.files.path(&part);
        (part, path)
    };
    write_base(shared, &path).await?;
    // All before the cut is given to the thread, so that the file which begins there is known.
    if !pump(shared, true) {
        return Err(GONE.to_string());
    }
    let (done, told) = oneshot::channel();
    {
        let mut slot = shared.append.borrow_mut();
        let stream = slot.as_mut().ok_or(GONE)?;
        stream.next_base += 1;
        let cut = shared.node.borrow().append.last_cut();
        stream.tell(Message::Base { part, cut, done });
    }
    told.await.map_err(|_| GONE.to_string())?
}

/// The bytes of the file.
async fn make_lone_base(shared: &Shared) -> Result<u64, String> {
    let files = Files::of(&shared.node.borrow());
    let listed = files.listed().unwrap_or_else(|why| {
        warn!("{why}: the files are made anew");
        None
    });
    let mut manifest = listed.unwrap_or_default();
    let folder = files.folder().display().to_string();
    let fault = move |error: std::io::Error| format!("cannot write to {folder}: {error}");
    files.make_folder().map_err(&fault)?;
    let base = files.base(manifest.next_base());
    write_base(shared, &files.path(&base)).await?;
    let listing = tokio::task::spawn_blocking(move || {
        let first = manifest.next_increment();
        manifest.rebase(base, first);
        files.write_manifest(&manifest)?;
        files.delete_history(&mut manifest)?;
        Ok(files.bytes(&manifest))
    });
    let listed = listing.await.map_err(|error| error.to_string())?;
    listed.map_err(fault)
}

async fn write_base(shared: &Shared, path: &Path) -> Result<(), String> {
    let mut writer = save::Writer::start(path.to_path_buf())?;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES * 2);
        let clock = shared.clocks.clock();
        let produced = shared
            .node
            .borrow_mut()
            .produce_rewrite(CHUNK_BYTES, clock, &mut chunk)
            .ok_or("it was given up")?;
        match produced {
            Produced::More | Produced::Done => {}
            Produced::Anew => writer.send(Piece::Anew).await?,
            Produced::TooSlow => return Err("the disk is too slow for the writes".to_string()),
        }
        writer.send(Piece::Bytes(chunk)).await?;
        if produced == Produced::Done {
            writer.send(Piece::End).await?;
            return writer.ended().await;
        }
        tokio::task::yield_now().await;
    }
}
