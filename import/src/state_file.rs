//! Where an import was left when it was stopped: a small file, so that it goes on from there when it is started again.
//!
//! It is written when the import stops between two commands with everything taken in, and removed when it goes on: what is not
//! certain is not there.

use std::path::Path;

use larder_store::Db;
use larder_wire::SlotSet;
use serde::{Deserialize, Serialize};

use crate::follow::Stopped;
use crate::ledger::Name;
use crate::psync::Point;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Left {
    pub(crate) from: String,
    pub(crate) topology: String,
    pub(crate) sources: Vec<LeftSource>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LeftSource {
    pub(crate) addr: String,
    pub(crate) slots: SlotSet,
    replid: String,
    offset: u64,
    db: u8,
    /// Database and key of each, in hexadecimal.
    doubts: Vec<(u8, String)>,
}

impl LeftSource {
    pub(crate) fn new(addr: &str, slots: &SlotSet, stopped: &Stopped) -> LeftSource {
        let hex = |key: &[u8]| key.iter().map(|byte| format!("{byte:02x}")).collect();
        let doubts = stopped.doubts.iter();
        LeftSource {
            addr: addr.to_string(),
            slots: slots.clone(),
            replid: stopped.point.replid.clone(),
            offset: stopped.point.offset,
            db: stopped.db.number(),
            doubts: doubts
                .map(|name| (name.db.number(), hex(&name.key)))
                .collect(),
        }
    }

    /// `None` when the file was tampered with.
    pub(crate) fn stopped(&self) -> Option<Stopped> {
        let byte = |text: &[u8]| u8::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok();
        let doubt = |(db, hex): &(u8, String)| {
            let key: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(byte).collect();
            Some(Name::new(Db::new((*db).into())?, &key?))
        };
        Some(Stopped {
            point: Point {
                replid: self.replid.clone(),
                offset: self.offset,
            },
            db: Db::new(self.db.into())?,
            doubts: self.doubts.iter().map(doubt).collect::<Option<_>>()?,
        })
    }
}

/// `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Left>, String> {
    let told = |cause: String| {
        format!(
            "{} cannot be read: {cause} (remove it to begin anew)",
            path.display()
        )
    };
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| told(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(told(error.to_string())),
    }
}

pub(crate) fn write(path: &Path, left: &Left) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(told)?;
    }
    let json = serde_json::to_vec_pretty(left).map_err(|error| error.to_string())?;
    std::fs::write(path, json).map_err(told)
}

pub(crate) fn remove(path: &Path) -> Result<(), String> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("{} cannot be removed: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_read_as_it_was_written() {
        let stopped = Stopped {
            point: Point {
                replid: "ab".to_string(),
                offset: 77,
            },
            db: Db::new(3).unwrap(),
            doubts: vec![
                Name::new(Db::ZERO, b"a\xff\0"),
                Name::new(Db::new(9).unwrap(), b""),
            ],
        };
        let left = Left {
            from: "redis://h:1".to_string(),
            topology: "t:1".to_string(),
            sources: vec![LeftSource::new("h:1", &SlotSet::full(), &stopped)],
        };
        let dir = std::env::temp_dir().join(format!("larder-import-{}", std::process::id()));
        let path = dir.join("nested/state.json");
        assert!(read(&path).unwrap().is_none());
        write(&path, &left).unwrap();
        let again = read(&path).unwrap().unwrap();
        assert_eq!(again.sources[0].stopped(), Some(stopped));
        std::fs::write(&path, b"{").unwrap();
        assert!(read(&path).unwrap_err().contains("remove it"));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
