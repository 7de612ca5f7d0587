//! What users need of the process: the ACL file, and randomness for passwords.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use larder_engine::acl::AclHost;
use larder_runtime::entropy;
use tracing::warn;

#[derive(Debug)]
pub(crate) struct Host {
    /// `None`: users are kept in memory alone.
    pub(crate) file: Option<PathBuf>,
}

impl Host {
    fn path(&self) -> Result<&PathBuf, String> {
        self.file.as_ref().ok_or_else(|| "no file".to_string())
    }
}

impl AclHost for Host {
    fn read(&self) -> Result<Vec<u8>, String> {
        fs::read(self.path()?).map_err(|error| reason(&error))
    }

    /// The new file takes the old one's place in one step: whoever reads sees one or the other.
    fn write(&self, text: &[u8]) -> Result<(), String> {
        let path = self.path()?;
        let mut beside = path.clone().into_os_string();
        beside.push(format!(".tmp-{}", std::process::id()));
        let beside = PathBuf::from(beside);
        let written = create_private(&beside)
            .and_then(|mut file| {
                file.write_all(text)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&beside, path));
        written.map_err(|error| {
            // It may never have been made.
            let _ = fs::remove_file(&beside);
            warn!("cannot write the ACL file {}: {error}", path.display());
            reason(&error)
        })
    }

    fn fill_random(&self, bytes: &mut [u8]) -> Result<(), String> {
        for chunk in bytes.chunks_mut(32) {
            let random: [u8; 32] = entropy::bytes().map_err(|error| reason(&error))?;
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
        Ok(())
    }
}

/// Nobody but its owner reads the hashes.
fn create_private(path: &PathBuf) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// The system's words without Rust's number after them.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_string(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let host = Host {
            file: Some(folder.path().join("users.acl")),
        };
        assert_eq!(host.read(), Err("No such file or directory".to_string()));
        host.write(b"user default on\n").unwrap();
        host.write(b"user a off\n").unwrap();
        assert_eq!(host.read().unwrap(), b"user a off\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let nowhere = Host {
            file: Some(folder.path().join("none/users.acl")),
        };
        assert!(nowhere.write(b"").is_err());
    }

    #[test]
    fn random_bytes_are_filled_to_the_last() {
        let host = Host { file: None };
        let mut bytes = [0; 100];
        host.fill_random(&mut bytes).unwrap();
        assert!(
            bytes
                .rchunks(10)
                .all(|part| part.iter().any(|byte| *byte != 0))
        );
    }
}
