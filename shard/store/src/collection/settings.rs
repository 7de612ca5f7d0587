//! When a collection leaves its packed form, how its serialized form looks, and the hash that orders the tables of large ones.

use std::fmt;
use std::rc::Rc;

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

use super::stream::NodeMax;

/// The keyed hash that orders tables. The same key on every node of a cluster, so that scan cursors keep
/// their meaning when a slot moves; unknown to clients, so that they cannot craft collisions.
#[derive(Clone)]
pub struct Hasher(Rc<RapidSecrets>);

impl Hasher {
    pub fn new(seed: u64) -> Hasher {
        Hasher(Rc::new(RapidSecrets::seed(seed)))
    }

    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        rapidhash_v3_seeded(bytes, &self.0)
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

/// How large a list may be in its packed form, as `list-max-listpack-size` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListPackedMax {
    Bytes(usize),
    Entries(usize),
}

impl ListPackedMax {
    /// A positive `setting` counts elements; -1 to -5 are 4, 8, 16, 32 and 64 KB.
    pub fn from_setting(setting: i32) -> ListPackedMax {
        match setting {
            0 => ListPackedMax::Entries(1),
            1.. => ListPackedMax::Entries(setting as usize),
            ..0 => ListPackedMax::Bytes(4096 << (setting.max(-5).unsigned_abs() - 1)),
        }
    }
}

/// How OBJECT ENCODING calls the packed forms that Redis has had for lists and sets since 7.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodingNames {
    /// As the forms that Redis 7.0 has in their place: `quicklist`, `hashtable`.
    #[default]
    Redis70,
    /// `listpack`
    Redis72,
}

/// Sizes up to which collections are packed: Redis' settings with its defaults.
#[derive(Clone, Debug)]
pub struct CollectionSettings {
    pub hasher: Hasher,
    /// `hash-max-listpack-entries`, `hash-max-listpack-value`
    pub hash_entries_max: usize,
    pub hash_value_bytes_max: usize,
    /// `set-max-intset-entries`, `set-max-listpack-entries`, `set-max-listpack-value`
    pub set_ints_max: usize,
    pub set_entries_max: usize,
    pub set_value_bytes_max: usize,
    /// `zset-max-listpack-entries`, `zset-max-listpack-value`
    pub zset_entries_max: usize,
    pub zset_value_bytes_max: usize,
    /// `list-max-listpack-size`
    pub list_packed_max: ListPackedMax,
    /// `hll-sparse-max-bytes`
    pub hll_sparse_bytes_max: usize,
    /// `stream-node-max-entries`, `stream-node-max-bytes`
    pub stream_node_max: NodeMax,
    /// `encoding-names`
    pub names: EncodingNames,
    /// `rdbcompression`: long texts are compressed where values are written for keeping.
    pub compresses_dumps: bool,
}

impl CollectionSettings {
    pub fn new(seed: u64) -> CollectionSettings {
        CollectionSettings {
            hasher: Hasher::new(seed),
            hash_entries_max: 128,
            hash_value_bytes_max: 64,
            set_ints_max: 512,
            set_entries_max: 128,
            set_value_bytes_max: 64,
            zset_entries_max: 128,
            zset_value_bytes_max: 64,
            list_packed_max: ListPackedMax::from_setting(-2),
            hll_sparse_bytes_max: 3000,
            stream_node_max: NodeMax::default(),
            names: EncodingNames::default(),
            compresses_dumps: true,
        }
    }
}
