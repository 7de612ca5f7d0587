//! Snapshots onto the disk: the files, and the task that writes one while the node serves.
//!
//! ```text
//! node's thread: a chunk of the snapshot, clients, a chunk, … ──a few chunks at most──▶ writer's thread: write, … , sync, rename
//! ```
//! A file is written beside its place and takes it when all of it is on the disk. What was there before stays as `NAME.previous`, to be loaded if the new
//! one turns out to be damaged.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_engine::saving::{Host, SaveFile, SaveTo};
use larder_engine::snapshot::Produced;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::shared::{EndOnPanic, Shared};

/// Bytes of a snapshot made between two turns of the clients: a fraction of a millisecond of work.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that wait for the disk.
const CHUNKS_AHEAD_MAX: usize = 16;

/// Where the file that was in `path`'s place before is.
pub(crate) fn previous(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".previous");
    name.into()
}

/// Writes into the file system.
pub(crate) struct Folder;

impl Host for Folder {
    fn create(&self, folder: &str, name: &str) -> Result<Box<dyn SaveFile>, String> {
        let file = Beside::create(Path::new(folder).join(name))?;
        Ok(Box::new(file))
    }
}

/// A file under another name until it is finished.
struct Beside {
    file: File,
    beside: PathBuf,
    path: PathBuf,
    finished: bool,
}

impl Beside {
    fn create(path: PathBuf) -> Result<Beside, String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let beside = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
        match File::create(&beside) {
            Ok(file) => Ok(Beside {
                file,
                beside,
                path,
                finished: false,
            }),
            Err(error) => Err(fault(&path, &error)),
        }
    }

    /// Takes the place of what was there, which stays as the previous one.
    fn take_place(&self) -> io::Result<()> {
        self.file.sync_all()?;
        if self.path.exists() {
            keep_as(&self.path, &previous(&self.path));
        }
        fs::rename(&self.beside, &self.path)?;
        // The name, too, is on the disk.
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
            Some(_) | None => File::open(".")?.sync_all(),
        }
    }
}

impl Beside {
    fn truncate(&mut self) -> Result<(), String> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(|error| fault(&self.path, &error))
    }
}

impl SaveFile for Beside {
    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| fault(&self.path, &error))
    }

    fn finish(mut self: Box<Self>) -> Result<(), String> {
        let placed = self.take_place();
        self.finished = placed.is_ok();
        placed.map_err(|error| fault(&self.path, &error))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.finished {
            // What is half written is of no use; it may not even be there.
            let _ = fs::remove_file(&self.beside);
        }
    }
}

/// A second name for a file. Where the file system has no links, there is no previous file.
fn keep_as(path: &Path, name: &Path) {
    let free = match fs::remove_file(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    };
    if let Err(error) = free.and_then(|()| fs::hard_link(path, name)) {
        warn!(
            "cannot keep {} as {}: {error}",
            path.display(),
            name.display()
        );
    }
}

fn fault(path: &Path, error: &io::Error) -> String {
    format!("cannot save to {}: {error}", path.display())
}

/// Writes the snapshot that was begun, if nobody does yet.
pub(crate) fn write_when_begun(shared: &Rc<Shared>) {
    let to = shared.node.borrow_mut().take_save();
    if let Some(to) = to {
        tokio::task::spawn_local(write(Rc::clone(shared), to));
    }
}

async fn write(shared: Rc<Shared>, to: SaveTo) {
    let _guard = EndOnPanic(Rc::clone(&shared));
    let path = Path::new(&to.folder).join(&to.name);
    info!("saving to {}", path.display());
    let written = write_chunks(&shared, &path).await;
    match &written {
        Ok(bytes) => info!("saved {bytes} bytes to {}", path.display()),
        Err(why) => warn!("{why}"),
    }
    let clock = shared.clocks.clock();
    shared
        .node
        .borrow_mut()
        .end_save(written.map(|_| ()), clock);
}

/// The bytes of the file.
async fn write_chunks(shared: &Shared, path: &Path) -> Result<u64, String> {
    let mut writer = Writer::start(path.to_path_buf())?;
    let mut bytes = 0;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES * 2);
        let produced = shared
            .node
            .borrow_mut()
            .produce_save(CHUNK_BYTES, &mut chunk)
            .ok_or("the save was given up")?;
        match produced {
            Produced::More | Produced::Done => {}
            Produced::Anew => {
                bytes = 0;
                writer.send(Piece::Anew).await?;
            }
            Produced::TooSlow => {
                let path = path.display();
                return Err(format!(
                    "cannot save to {path}: the disk is too slow for the writes"
                ));
            }
        }
        bytes += chunk.len() as u64;
        writer.send(Piece::Bytes(chunk)).await?;
        if produced == Produced::Done {
            writer.send(Piece::End).await?;
            return writer.ended().await.map(|()| bytes);
        }
        tokio::task::yield_now().await;
    }
}

/// What goes to the writer's thread.
pub(crate) enum Piece {
    Bytes(Vec<u8>),
    /// What was written so far is void.
    Anew,
    End,
}

/// A thread that writes a file.
pub(crate) struct Writer {
    pieces: mpsc::Sender<Piece>,
    /// What became of the file.
    end: oneshot::Receiver<Result<(), String>>,
}

impl Writer {
    pub(crate) fn start(path: PathBuf) -> Result<Writer, String> {
        let (pieces, arriving) = mpsc::channel(CHUNKS_AHEAD_MAX);
        let (ended, end) = oneshot::channel();
        std::thread::Builder::new()
            .name("save".to_string())
            .spawn(move || {
                // Nobody may be waiting any more.
                let _ = ended.send(write_pieces(path, arriving));
            })
            .map_err(|error| format!("cannot start to save: {error}"))?;
        Ok(Writer { pieces, end })
    }

    /// The error is the thread's, which has ended before its time.
    pub(crate) async fn send(&mut self, piece: Piece) -> Result<(), String> {
        match self.pieces.send(piece).await {
            Ok(()) => Ok(()),
            Err(_) => self.ended().await,
        }
    }

    pub(crate) async fn ended(&mut self) -> Result<(), String> {
        let ended = (&mut self.end).await;
        ended.unwrap_or_else(|_| Err("the thread that saves died".to_string()))
    }
}

fn write_pieces(path: PathBuf, mut arriving: mpsc::Receiver<Piece>) -> Result<(), String> {
    let mut file = Beside::create(path)?;
    while let Some(piece) = arriving.blocking_recv() {
        match piece {
            Piece::Bytes(bytes) => file.write(&bytes)?,
            Piece::Anew => file.truncate()?,
            Piece::End => return Box::new(file).finish(),
        }
    }
    Err("the save was given up".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(folder: &Path, bytes: &[u8]) -> Result<(), String> {
        let mut file = Folder.create(folder.to_str().unwrap(), "dump.rdb")?;
        file.write(bytes)?;
        file.finish()
    }

    #[test]
    fn a_file_is_there_whole_or_as_it_was_and_the_one_before_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump.rdb");
        saved(folder.path(), b"one").unwrap();
        assert!(!previous(&path).exists());
        saved(folder.path(), b"two").unwrap();
        let mut given_up = Folder
            .create(folder.path().to_str().unwrap(), "dump.rdb")
            .unwrap();
        given_up.write(b"three").unwrap();
        drop(given_up);
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read(previous(&path)).unwrap(), b"one");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let refused = saved(Path::new("/nowhere/at/all"), b"four").unwrap_err();
        assert!(
            refused.starts_with("cannot save to /nowhere/at/all/dump.rdb: "),
            "{refused}"
        );
    }
}
