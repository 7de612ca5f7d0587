//! Loading an append-only file at the start: the base, then what was written since, in steps between which clients are told that the node loads.
//!
//! What a kill left half written at the end of the last file is cut off and told; anything else that makes no sense is refused with its place, and the node does not start.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use larder_engine::Parameter;
use larder_engine::append::load::{Replay, ReplayError};
use larder_engine::append::manifest::Manifest;
use larder_store::rdb::{LoadError, Loader};
use tracing::{info, warn};

use super::files::Files;
use crate::shared::Shared;

/// Bytes read from a file at once.
const READ_BYTES: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("Can't open the append-only file {path} for reading: {error}", path = path.display())]
    Open { path: PathBuf, error: io::Error },
    #[error("cannot read {path}: {error}", path = path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{path} is damaged {error}", path = path.display())]
    Snapshot { path: PathBuf, error: LoadError },
    #[error("{what} (at byte {offset} of {path})", what = error.what, offset = error.offset, path = path.display())]
    Commands { path: PathBuf, error: ReplayError },
    #[error(
        "Unexpected end of file reading the append only file {path}: whole up to byte {whole} of {total} (`aof-load-truncated no`: cut it off there to go on)",
        path = path.display()
    )]
    Torn {
        path: PathBuf,
        whole: u64,
        total: u64,
    },
    #[error("Unexpected end of file reading the append only file {path} at byte {whole}, and it is not the last file", path = path.display())]
    TornBefore { path: PathBuf, whole: u64 },
}

/// Loads all files of `manifest`. The error is for the operator.
pub(super) async fn load(
    shared: &Rc<Shared>,
    files: &Files,
    manifest: &Manifest,
) -> Result<(), String> {
    let started = Instant::now();
    let total = files.bytes(manifest);
    info!("loading {} ({total} bytes)", files.folder().display());
    let clock = shared.clocks.clock();
    shared.node.borrow_mut().begin_loading(total, clock);
    let last = manifest.parts().last();
    for part in manifest.parts() {
        let path = files.path(part);
        let is_last = last == Some(part);
        let loaded = load_file(shared, &path, is_last).await;
        loaded.map_err(|fault| format!("{fault} (move the folder away to start with no data)"))?;
    }
    let mut node = shared.node.borrow_mut();
    node.end_loading();
    info!(
        "loaded {} keys in {:.1} s from the append-only file",
        node.databases.len(),
        started.elapsed().as_secs_f64(),
    );
    Ok(())
}

async fn load_file(shared: &Rc<Shared>, path: &Path, is_last: bool) -> Result<(), Fault> {
    let read = |error| Fault::Read {
        path: path.to_path_buf(),
        error,
    };
    let mut file = File::open(path).map_err(|error| Fault::Open {
        path: path.to_path_buf(),
        error,
    })?;
    let total = file.metadata().map_err(read)?.len();
    let mut magic = Vec::new();
    let mut head = file.by_ref().take(6);
    head.read_to_end(&mut magic).map_err(read)?;
    file.seek(SeekFrom::Start(0)).map_err(read)?;
    let (mut bytes, mut offset) = (Vec::new(), 0);
    if magic.starts_with(b"REDIS") || magic.starts_with(b"VALKEY") {
        (bytes, offset) = load_snapshot(shared, &file, path).await?;
    }
    if offset == total {
        return Ok(());
    }
    let clock = shared.clocks.clock();
    let mut replay = shared.node.borrow_mut().begin_replay(offset, clock);
    let replayed = replay_file(shared, &mut file, &mut replay, &mut bytes, path).await;
    let (whole, place, db) = (replay.whole(), replay.place(), replay.place_db());
    let mut node = shared.node.borrow_mut();
    node.end_replay(replay);
    replayed?;
    node.restored_to(place, db);
    if whole == total {
        return Ok(());
    }
    let path = path.to_path_buf();
    if !is_last {
        return Err(Fault::TornBefore { path, whole });
    }
    if !node.config.flag(Parameter::AofLoadTruncated) {
        return Err(Fault::Torn { path, whole, total });
    }
    warn!(
        "{} ends in the middle of a command: {} bytes from byte {whole} on are cut off",
        path.display(),
        total - whole
    );
    cut(&path, whole).map_err(|error| Fault::Read { path, error })
}

fn cut(path: &Path, whole: u64) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(path)?;
    file.set_len(whole)?;
    file.sync_all()
}

/// What follows the snapshot and was read already, and where it begins.
async fn load_snapshot(
    shared: &Rc<Shared>,
    mut file: &File,
    path: &Path,
) -> Result<(Vec<u8>, u64), Fault> {
    let damaged = |error| Fault::Snapshot {
        path: path.to_path_buf(),
        error,
    };
    let more = |buffer: &mut Vec<u8>| {
        let read = file.by_ref().take(READ_BYTES as u64).read_to_end(buffer);
        read.map(|_| ())
            .map_err(|error| format!("it cannot be read: {error}"))
    };
    let mut loader = Loader::open(more).map_err(damaged)?;
    loop {
        let clock = shared.clocks.clock();
        let loaded = {
            let mut node = shared.node.borrow_mut();
            node.load_some_base(&mut loader, clock)
        };
        if !loaded.map_err(damaged)? {
            break;
        }
        tokio::task::yield_now().await;
    }
    let offset = loader.offset();
    Ok((loader.take_rest(), offset))
}

async fn replay_file(
    shared: &Rc<Shared>,
    file: &mut File,
    replay: &mut Replay,
    bytes: &mut Vec<u8>,
    path: &Path,
) -> Result<(), Fault> {
    let mut at = 0;
    loop {
        let clock = shared.clocks.clock();
        let replayed = {
            let mut node = shared.node.borrow_mut();
            node.replay_some(replay, &bytes[at..], clock)
        };
        let taken = replayed.map_err(|error| Fault::Commands {
            path: path.to_path_buf(),
            error,
        })?;
        at += taken;
        if taken == 0 {
            bytes.drain(..at);
            at = 0;
            let mut next = file.by_ref().take(READ_BYTES as u64);
            let read = next.read_to_end(bytes).map_err(|error| Fault::Read {
                path: path.to_path_buf(),
                error,
            })?;
            if read == 0 {
                return Ok(());
            }
        }
        tokio::task::yield_now().await;
    }
}
