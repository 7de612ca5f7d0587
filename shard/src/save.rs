//! Writes what SAVE and BGSAVE make into a file: beside it first, then in its place.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// `later`: the file is written by a thread of its own, and a failure is logged.
pub(crate) fn save(folder: &str, name: &str, bytes: Vec<u8>, later: bool) -> Result<(), String> {
    let path = Path::new(folder).join(name);
    if !later {
        return write(&path, &bytes)
            .map_err(|error| format!("cannot save to {}: {error}", path.display()));
    }
    let writer = std::thread::Builder::new().name("save".to_string());
    writer
        .spawn(move || {
            if let Err(error) = write(&path, &bytes) {
                tracing::error!("cannot save to {}: {error}", path.display());
            }
        })
        .map(|_| ())
        .map_err(|error| format!("cannot start to save: {error}"))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let beside = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written
        .and_then(|()| fs::rename(&beside, path))
        .inspect_err(|_| {
            // What is half written is of no use; it may not even be there.
            let _ = fs::remove_file(&beside);
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_whole_or_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_str().unwrap();
        save(place, "dump.rdb", b"one".to_vec(), false).unwrap();
        save(place, "dump.rdb", b"two".to_vec(), false).unwrap();
        assert_eq!(fs::read(folder.path().join("dump.rdb")).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let refused = save("/nowhere/at/all", "dump.rdb", b"three".to_vec(), false);
        assert!(
            refused
                .unwrap_err()
                .starts_with("cannot save to /nowhere/at/all/dump.rdb: ")
        );
    }
}
