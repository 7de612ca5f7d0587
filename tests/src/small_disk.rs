//! A file system of a few megabytes in memory (tmpfs), gone with its handle: to be filled, and to have room again.
//!
//! Where it is not permitted to mount there is none. Processes that still have files open there end it with themselves.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What [`SmallDisk::fill`] writes at once, in bytes: a page, so that next to nothing is left.
const PAGE_BYTES: usize = 4096;

pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Over this folder, which must be there. `None` where it is not permitted to mount.
    pub fn mount(folder: &Path, bytes: u64) -> Option<SmallDisk> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(folder)
            .status();
        let folder = folder.to_path_buf();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(SmallDisk { folder })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes till there is no room.
    ///
    /// # Panics
    /// When something else ends it.
    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("a file on the small disk");
        loop {
            match ballast.write_all(&[0; PAGE_BYTES]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return,
                Err(error) => panic!("the small disk is not full: {error}"),
            }
        }
    }

    /// What [`SmallDisk::fill`] wrote goes.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).expect("it was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: what still has files open there ends by itself.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}
