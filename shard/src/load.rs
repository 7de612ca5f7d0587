//! Loading a node's file at its start: in steps, between which clients are told that it loads.
//!
//! A damaged file is not used, and neither is half of it: the one before it is loaded in its place, and the damaged one stays beside, to be looked
//! at. When there is none the node does not start: an empty cache in place of the data is for the operator to decide.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use larder_store::rdb::{LoadError, Loader};
use tracing::{error, info, warn};

use crate::save::previous;
use crate::shared::Shared;

/// Bytes read from the file at once.
const READ_BYTES: usize = 1 << 20;
/// The log tells of the progress each time so many percent more are there.
const LOGGED_PERCENT: u64 = 10;

/// Why a file was not loaded.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("cannot open {path}: {error}")]
    Open { path: PathBuf, error: io::Error },
    #[error("{path} is damaged {error}")]
    Damaged { path: PathBuf, error: LoadError },
}

/// Loads `path`, or else the one before; that there is neither is no error. The error is for the operator.
pub(crate) async fn load(shared: &Rc<Shared>, path: &Path) -> Result<(), String> {
    let before = previous(path);
    let fault = match load_file(shared, path).await {
        Ok(true) => return Ok(()),
        Ok(false) if !before.exists() => return Ok(()),
        Ok(false) => {
            warn!("{} is gone, {} is there", path.display(), before.display());
            None
        }
        Err(fault) => Some(fault),
    };
    if let Some(fault) = &fault {
        error!("{fault}");
    }
    match load_file(shared, &before).await {
        Ok(true) => {
            set_aside(path);
            warn!("the file before it was loaded: {}", before.display());
            Ok(())
        }
        Ok(false) => Err(match fault {
            Some(fault) => format!("{fault} (move the file away to start with no data)"),
            None => format!("{} is gone", before.display()),
        }),
        Err(second) => Err(format!(
            "{second} (move the files away to start with no data)"
        )),
    }
}

/// The next save puts another file in the damaged one's place.
fn set_aside(path: &Path) {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    match fs::rename(path, &name) {
        Ok(()) => warn!("the damaged file is {}", Path::new(&name).display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => warn!("cannot set {} aside: {error}", path.display()),
    }
}

/// False when there is no such file.
async fn load_file(shared: &Rc<Shared>, path: &Path) -> Result<bool, Fault> {
    let open = |error| Fault::Open {
        path: path.to_path_buf(),
        error,
    };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(open(error)),
    };
    let total = file.metadata().map_err(open)?.len();
    let started = Instant::now();
    info!("loading {} ({total} bytes)", path.display());
    let clock = shared.clocks.clock();
    shared.node.borrow_mut().begin_loading(total, clock);
    let more = move |buffer: &mut Vec<u8>| {
        let read = file.by_ref().take(READ_BYTES as u64).read_to_end(buffer);
        read.map(|_| ())
            .map_err(|error| format!("it cannot be read: {error}"))
    };
    match load_records(shared, more, total).await {
        Ok(()) => {
            let mut node = shared.node.borrow_mut();
            node.end_loading();
            let loaded = node.loaded();
            info!(
                "loaded {} keys in {:.1} s; {} more had expired",
                loaded.keys,
                started.elapsed().as_secs_f64(),
                loaded.expired
            );
            Ok(true)
        }
        Err(error) => {
            shared.node.borrow_mut().forget_loaded();
            Err(Fault::Damaged {
                path: path.to_path_buf(),
                error,
            })
        }
    }
}

async fn load_records(
    shared: &Rc<Shared>,
    more: impl FnMut(&mut Vec<u8>) -> Result<(), String>,
    total: u64,
) -> Result<(), LoadError> {
    let mut loader = Loader::open(more)?;
    let mut logged = 0;
    loop {
        let clock = shared.clocks.clock();
        if !shared.node.borrow_mut().load_some(&mut loader, clock)? {
            return Ok(());
        }
        let percent = loader.offset() * 100 / total.max(1);
        if percent >= logged + LOGGED_PERCENT {
            logged = percent;
            info!("{percent} % of the file is loaded");
        }
        tokio::task::yield_now().await;
    }
}
