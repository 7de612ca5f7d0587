//! The store of record: where a cluster's state outlives the topology. A trait and two backends: `embedded`, one file
//! of one process, and `etcd`, which several processes share. It refuses to know what is in a state.

pub mod embedded;
mod etcd;
mod etcd_address;
mod etcd_api;

use std::io;
use std::path::PathBuf;

pub use embedded::Embedded;
pub(crate) use etcd::{Campaign, Etcd, LeaderRecord, Lease, Trouble};
pub use etcd_address::EtcdAddress;

/// Keeps one value a cluster. What `save` has answered `Ok` to is there after a crash at any moment.
pub trait Store: Send {
    /// `None`: no such cluster.
    fn load(&self, cluster: &str) -> Result<Option<Vec<u8>>, StoreError>;
    fn save(&mut self, cluster: &str, state: &[u8]) -> Result<(), StoreError>;
}

/// Why the record cannot be opened, read or written: one line for an operator. `flag` moves the directory.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("data directory {dir} is in use by another topology (stop it, or choose another with {flag})", dir = dir.display())]
    InUse { dir: PathBuf, flag: String },
    #[error("no permission for data directory {dir} (give it to this user, or choose another with {flag})", dir = dir.display())]
    Forbidden { dir: PathBuf, flag: String },
    #[error("data directory {dir} cannot be used: {error} (choose another with {flag})", dir = dir.display())]
    Io {
        dir: PathBuf,
        error: io::Error,
        flag: String,
    },
    #[error(
        "data directory {dir} is of version {found}, this larder reads {} (use the larder that wrote it, or choose another with {flag})", embedded::SCHEMA_VERSION, dir = dir.display()
    )]
    Version {
        dir: PathBuf,
        found: String,
        flag: String,
    },
    #[error("data directory {dir} is damaged: {cause} (restore {} from a backup, or choose another with {flag})", embedded::FILE, dir = dir.display())]
    Damaged {
        dir: PathBuf,
        cause: String,
        flag: String,
    },
    #[error("the record cannot be written: {0}")]
    Write(String),
    #[error("another topology leads: the record takes nothing from this one any more")]
    Deposed,
}
