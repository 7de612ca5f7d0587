//! The folder of an append-only file: names, the manifest on the disk, and files that are not needed any more.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use larder_engine::append::manifest::{Manifest, Part};
use larder_engine::{Node, Parameter};
use tracing::warn;

/// Where the files are, and what their names begin with.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// Above the files' own folder.
    parent: PathBuf,
    folder: PathBuf,
    name: String,
}

impl Files {
    pub(crate) fn of(node: &Node) -> Files {
        let parent = PathBuf::from(node.config.get(Parameter::Dir));
        Files {
            folder: parent.join(node.config.get(Parameter::Appenddirname)),
            parent,
            name: node.config.get(Parameter::Appendfilename).to_string(),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn path(&self, part: &Part) -> PathBuf {
        self.folder.join(&part.name)
    }

    pub(crate) fn base(&self, seq: u64) -> Part {
        let name = format!("{}.{seq}.base.rdb", self.name);
        Part { name, seq }
    }

    pub(crate) fn increment(&self, seq: u64) -> Part {
        let name = format!("{}.{seq}.incr.aof", self.name);
        Part { name, seq }
    }

    fn manifest_path(&self) -> PathBuf {
        self.folder.join(format!("{}.manifest", self.name))
    }

    /// `None`: there is none. A single file, as Redis had it before 7, becomes the base of one.
    pub(crate) fn read_manifest(&self) -> Result<Option<Manifest>, String> {
        let Some(manifest) = self.listed()? else {
            return self.adopt_single();
        };
        if let Some(base) = &manifest.base
            && !self.path(base).exists()
            && self.parent.join(&base.name).exists()
        {
            // A start that adopted a single file did not come to its end.
            self.move_in(base)?;
        }
        Ok(Some(manifest))
    }

    /// What the manifest on the disk says.
    pub(crate) fn listed(&self) -> Result<Option<Manifest>, String> {
        let path = self.manifest_path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        };
        Manifest::parse(&text)
            .map(Some)
            .map_err(|error| format!("{} is damaged at {error}", path.display()))
    }

    fn adopt_single(&self) -> Result<Option<Manifest>, String> {
        let single = self.parent.join(&self.name);
        if !single.is_file() {
            return Ok(None);
        }
        let manifest = Manifest {
            base: Some(Part {
                name: self.name.clone(),
                seq: 1,
            }),
            ..Manifest::default()
        };
        self.make_folder()
            .and_then(|()| self.write_manifest(&manifest))
            .map_err(|error| format!("cannot write to {}: {error}", self.folder.display()))?;
        manifest
            .base
            .iter()
            .try_for_each(|base| self.move_in(base))?;
        Ok(Some(manifest))
    }

    fn move_in(&self, part: &Part) -> Result<(), String> {
        let from = self.parent.join(&part.name);
        fs::rename(&from, self.path(part))
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(|error| format!("cannot move {}: {error}", from.display()))
    }

    pub(crate) fn make_folder(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)
    }

    /// All of it is on the disk when this returns.
    pub(crate) fn write_manifest(&self, manifest: &Manifest) -> io::Result<()> {
        let path = self.manifest_path();
        let draft = path.with_extension("manifest.tmp");
        let mut file = File::create(&draft)?;
        file.write_all(manifest.text().as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(&self.folder)?.sync_all()
    }

    /// Deletes what the manifest calls history, and forgets it.
    pub(crate) fn delete_history(&self, manifest: &mut Manifest) -> io::Result<()> {
        if manifest.history.is_empty() {
            return Ok(());
        }
        for part in manifest.history.drain(..) {
            let path = self.folder.join(&part.name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    warn!("cannot delete {}: {error}", path.display());
                }
                Ok(()) | Err(_) => {}
            }
        }
        self.write_manifest(manifest)
    }

    /// Bytes of the files that a start would load.
    pub(crate) fn bytes(&self, manifest: &Manifest) -> u64 {
        let sizes = manifest.parts().map(|part| fs::metadata(self.path(part)));
        sizes.flatten().map(|file| file.len()).sum()
    }
}
