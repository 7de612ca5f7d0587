//! The record in one file (`redb`): of one topology process, which needs nothing else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase, TableDefinition};

use super::{Store, StoreError};

/// Version of the layout of the file: tables, keys.
pub const SCHEMA_VERSION: u64 = 1;
/// The file in the data directory.
pub const FILE: &str = "topology.redb";

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const CLUSTERS: TableDefinition<&str, &[u8]> = TableDefinition::new("clusters");

/// One file, written with fsync.
#[derive(Debug)]
pub struct Embedded {
    db: Database,
    dir: PathBuf,
    flag: String,
}

impl Embedded {
    /// Opens the record in `dir`, making both when they are not there. `flag` is named in errors.
    pub fn open(dir: &Path, flag: &str) -> Result<Embedded, StoreError> {
        let io_error = |error: io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => StoreError::Forbidden {
                dir: dir.to_path_buf(),
                flag: flag.to_string(),
            },
            _ => StoreError::Io {
                dir: dir.to_path_buf(),
                error,
                flag: flag.to_string(),
            },
        };
        fs::create_dir_all(dir).map_err(io_error)?;
        let db = Database::create(dir.join(FILE)).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse {
                dir: dir.to_path_buf(),
                flag: flag.to_string(),
            },
            DatabaseError::UpgradeRequired(found) => StoreError::Version {
                dir: dir.to_path_buf(),
                found: format!("file format {found}"),
                flag: flag.to_string(),
            },
            DatabaseError::Storage(redb::StorageError::Io(error)) => io_error(error),
            other => StoreError::Damaged {
                dir: dir.to_path_buf(),
                cause: other.to_string(),
                flag: flag.to_string(),
            },
        })?;
        let store = Embedded {
            db,
            dir: dir.to_path_buf(),
            flag: flag.to_string(),
        };
        store.check_schema()?;
        Ok(store)
    }

    fn check_schema(&self) -> Result<(), StoreError> {
        let found = self
            .read(|txn| {
                let table = match txn.open_table(META) {
                    Ok(table) => table,
                    Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                    Err(error) => return Err(error.into()),
                };
                Ok(table.get("schema")?.map(|found| found.value()))
            })
            .map_err(|error| self.damaged(&error))?;
        match found {
            Some(SCHEMA_VERSION) => Ok(()),
            Some(other) => Err(StoreError::Version {
                dir: self.dir.clone(),
                found: other.to_string(),
                flag: self.flag.clone(),
            }),
            None => self.write(|txn| {
                txn.open_table(META)?.insert("schema", SCHEMA_VERSION)?;
                txn.open_table(CLUSTERS)?;
                Ok(())
            }),
        }
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        read(&self.db.begin_read()?)
    }

    /// One transaction, on disk when this returns.
    fn write(
        &self,
        write: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let wrong = |error: redb::Error| StoreError::Write(error.to_string());
        let txn = self.db.begin_write().map_err(|error| wrong(error.into()))?;
        write(&txn).map_err(wrong)?;
        txn.commit().map_err(|error| wrong(error.into()))
    }

    fn damaged(&self, error: &redb::Error) -> StoreError {
        StoreError::Damaged {
            dir: self.dir.clone(),
            cause: error.to_string(),
            flag: self.flag.clone(),
        }
    }
}

impl Store for Embedded {
    fn load(&self, cluster: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|txn| {
            let table = txn.open_table(CLUSTERS)?;
            Ok(table.get(cluster)?.map(|found| found.value().to_vec()))
        })
        .map_err(|error| self.damaged(&error))
    }

    fn save(&mut self, cluster: &str, state: &[u8]) -> Result<(), StoreError> {
        self.write(|txn| {
            txn.open_table(CLUSTERS)?.insert(cluster, state)?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_was_saved_is_there_again_and_each_cluster_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let nested = dir.path().join("a/b");
        {
            let mut store = Embedded::open(&nested, "--data-dir").unwrap();
            assert_eq!(store.load("one").unwrap(), None);
            store.save("one", b"1").unwrap();
            store.save("two", b"2").unwrap();
            store.save("one", b"3").unwrap();
        }
        let store = Embedded::open(&nested, "--data-dir").unwrap();
        assert_eq!(store.load("one").unwrap(), Some(b"3".to_vec()));
        assert_eq!(store.load("two").unwrap(), Some(b"2".to_vec()));
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_one_clear_line() {
        let dir = tempfile::tempdir().unwrap();
        let open = |path: &Path| Embedded::open(path, "--data-dir").unwrap_err().to_string();
        let used = dir.path().join("used");
        let first = Embedded::open(&used, "--data-dir").unwrap();
        assert!(
            open(&used).contains("in use by another topology"),
            "{}",
            open(&used)
        );
        let txn = first.db.begin_write().unwrap();
        txn.open_table(META).unwrap().insert("schema", 9).unwrap();
        txn.commit().unwrap();
        drop(first);
        assert!(
            open(&used).contains("is of version 9, this larder reads 1"),
            "{}",
            open(&used)
        );
        let junk = dir.path().join("junk");
        fs::create_dir(&junk).unwrap();
        fs::write(
            junk.join(FILE),
            b"this is not a database at all, but some text",
        )
        .unwrap();
        assert!(
            open(&junk).contains("(choose another with --data-dir)")
                || open(&junk).contains("damaged")
        );
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        assert!(open(&file).contains("cannot be used"), "{}", open(&file));
        let closed = dir.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
        // Root may write everywhere.
        if fs::write(closed.join("probe"), b"").is_err() {
            assert!(open(&closed).contains("no permission"), "{}", open(&closed));
        }
        for text in [open(&junk), open(&file)] {
            assert!(!text.contains('\n'), "{text}");
        }
    }

    /// The child of the next test: saves ever greater numbers and says each once it is safe.
    #[test]
    fn writes_until_killed() {
        let Ok(dir) = std::env::var("LARDER_TEST_STORE_DIR") else {
            return;
        };
        let mut store = Embedded::open(Path::new(&dir), "--data-dir").unwrap();
        let from = store.load("c").unwrap().map_or(0, |value| number(&value));
        println!("opened");
        for next in from + 1.. {
            // Of changing length, so that pages are split and freed.
            let mut value = next.to_le_bytes().to_vec();
            value.resize(8 + (next as usize * 7919) % 30_000, next as u8);
            store.save("c", &value).unwrap();
            println!("saved {next}");
        }
    }

    fn number(value: &[u8]) -> u64 {
        let number = u64::from_le_bytes(value[..8].try_into().unwrap());
        assert_eq!(
            value.len(),
            8 + (number as usize * 7919) % 30_000,
            "a torn value"
        );
        assert!(
            value[8..].iter().all(|&byte| byte == number as u8),
            "a torn value"
        );
        number
    }

    #[test]
    fn nothing_that_was_saved_is_lost_to_kill_9_at_any_moment() {
        let dir = tempfile::tempdir().unwrap();
        let seed: u64 = std::env::var("LARDER_TEST_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(20);
        let mut random = seed;
        let mut safe = 0;
        for round in 0..12 {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let lines_to_live = (random >> 33) % 25;
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "store::embedded::tests::writes_until_killed",
                    "--nocapture",
                ])
                .env("LARDER_TEST_STORE_DIR", dir.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let said = |line: &str| {
                line.strip_prefix("saved ")
                    .and_then(|n| n.parse::<u64>().ok())
            };
            for line in lines
                .by_ref()
                .map_while(Result::ok)
                .take(4 + lines_to_live as usize)
            {
                safe = said(&line).unwrap_or(safe);
            }
            // In the midst of some write, or of opening.
            std::thread::sleep(std::time::Duration::from_micros((random >> 20) % 3_000));
            child.kill().unwrap();
            for line in lines.map_while(Result::ok) {
                safe = said(&line).unwrap_or(safe);
            }
            child.wait().unwrap();
            let store = Embedded::open(dir.path(), "--data-dir").unwrap();
            let found = store.load("c").unwrap().map_or(0, |value| number(&value));
            assert!(
                found == safe || found == safe + 1,
                "seed {seed}, round {round}: {safe} was safe, {found} is there"
            );
            safe = found;
        }
        assert!(safe > 20, "the child wrote next to nothing: {safe}");
    }
}
