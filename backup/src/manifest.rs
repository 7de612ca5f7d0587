//! What a set says of itself, and the names of sets. Pure.
//!
//! A manifest is written when all else of its set is in place, so a set that has none was interrupted. It names every part with its size and sums; the
//! parts' slots are all of the cluster's, each once, under one epoch.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime};
use larder_wire::{Epoch, ShardId, SlotSet, UnixMillis};
use serde::{Deserialize, Serialize};

/// The version of the manifest's own form, and of what it describes.
pub const VERSION: u32 = 1;
/// What a whole set has, and is written last.
pub const MANIFEST: &str = "manifest.json";
/// The manifest's own sum: SHA-256, or in a set that is encrypted what only the key's owner can make.
pub const MANIFEST_SEAL: &str = "manifest.seal";
/// What a set has while it is being made.
pub const MARKER: &str = "under-way.json";
/// Users and settings.
pub const CLUSTER: &str = "cluster.json";

const NAME_FORM: &str = "larder-%Y-%m-%dT%H-%M-%SZ";

/// `larder-2026-11-21T03-00-00Z`: when the set was begun, in UTC. Names ascend with time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetName {
    /// Of the Unix clock.
    seconds: i64,
}

impl SetName {
    /// Seconds of the Unix clock.
    pub fn at(seconds: i64) -> SetName {
        SetName { seconds }
    }

    /// When it was begun, in seconds of the Unix clock.
    pub fn seconds(self) -> i64 {
        self.seconds
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = DateTime::from_timestamp(self.seconds, 0).unwrap_or_default();
        write!(f, "{}", at.format(NAME_FORM))
    }
}

impl FromStr for SetName {
    type Err = String;

    fn from_str(text: &str) -> Result<SetName, String> {
        let name = NaiveDateTime::parse_from_str(text, NAME_FORM)
            .map(|at| SetName::at(at.and_utc().timestamp()));
        name.ok()
            .filter(|name| name.to_string() == text)
            .ok_or_else(|| {
                format!("'{text}' is no set's name (they are like larder-2026-11-21T03-00-00Z)")
            })
    }
}

/// One file of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Beside the manifest.
    pub name: String,
    /// As it is stored.
    pub bytes: u64,
    /// SHA-256 of what is stored, as hex digits.
    pub sha256: String,
    /// CRC-64s of what is stored, of each [`block_bytes`](Manifest::block_bytes), as hex digits: where damage lies.
    pub blocks: Vec<String>,
}

/// What one primary had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardPart {
    #[serde(flatten)]
    pub part: Part,
    pub shard: ShardId,
    /// `host:port` of its primary.
    pub addr: String,
    pub slots: SlotSet,
    pub keys: u64,
    /// Bytes of the RDB file that is in it.
    pub rdb_bytes: u64,
    /// The moment by its node's clock.
    pub at: UnixMillis,
}

/// How parts are sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    pub cipher: String,
    /// [`Key::id`](crate::Key::id)
    pub key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    /// Of larder, which made it.
    pub release: String,
    pub cluster: String,
    pub epoch: Epoch,
    /// The set's moment, by the clock of whoever made it.
    pub created: UnixMillis,
    /// Milliseconds from the first hold to the last snapshot's beginning: for so long writes waited.
    pub held_ms: u64,
    /// Milliseconds until all was in place.
    pub took_ms: u64,
    pub block_bytes: u64,
    pub shards: Vec<ShardPart>,
    /// Users and settings: [`ClusterFile`].
    pub cluster_file: Part,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
}

/// Users and settings of the cluster's primaries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFile {
    pub nodes: Vec<NodeSettings>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSettings {
    pub addr: String,
    /// Rules as `ACL LIST` has them.
    pub users: Vec<String>,
    /// What differs from what a node starts with.
    pub settings: std::collections::BTreeMap<String, String>,
}

impl Manifest {
    pub fn parse(json: &[u8]) -> Result<Manifest, String> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let versioned: Versioned =
            serde_json::from_slice(json).map_err(|error| format!("it is no manifest: {error}"))?;
        if versioned.version > VERSION {
            return Err(format!(
                "a newer larder made it (version {}; this one knows {VERSION})",
                versioned.version
            ));
        }
        let manifest: Manifest =
            serde_json::from_slice(json).map_err(|error| format!("it is no manifest: {error}"))?;
        manifest.check()?;
        Ok(manifest)
    }

    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("texts and numbers are JSON")
    }

    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        let shards = self.shards.iter().map(|shard| &shard.part);
        shards.chain([&self.cluster_file])
    }

    pub fn keys(&self) -> u64 {
        self.shards.iter().map(|shard| shard.keys).sum()
    }

    pub fn bytes(&self) -> u64 {
        self.parts().map(|part| part.bytes).sum()
    }

    /// All slots are there, each once; parts have names of their own within the set.
    pub fn check(&self) -> Result<(), String> {
        let mut seen = SlotSet::new();
        for shard in &self.shards {
            let twice = seen.intersection(&shard.slots);
            if !twice.is_empty() {
                return Err(format!("slots {twice} are in two parts"));
            }
            seen = seen.union(&shard.slots);
        }
        let missing = SlotSet::full().difference(&seen);
        if !missing.is_empty() {
            return Err(format!("slots {missing} are in no part"));
        }
        let mut names = BTreeSet::from([MANIFEST, MANIFEST_SEAL, MARKER]);
        for part in self.parts() {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if part.name.starts_with('.') || !part.name.bytes().all(plain) {
                return Err(format!("'{}' is no name of a part", part.name));
            }
            if !names.insert(&part.name) {
                return Err(format!("'{}' stands twice in it", part.name));
            }
            let blocks = part.bytes.div_ceil(self.block_bytes.max(1));
            if part.blocks.len() as u64 != blocks {
                return Err(format!("the sums of '{}' are not all there", part.name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn manifest(created_s: i64, cluster: &str) -> Manifest {
        let part = |name: &str| Part {
            name: name.into(),
            bytes: 10,
            sha256: "00".repeat(32),
            blocks: vec!["0".repeat(16), "1".repeat(16)],
        };
        let shard = |id: u32, slots: &str| ShardPart {
            part: part(&format!("shard-{id}.rdb")),
            shard: ShardId(id),
            addr: "127.0.0.1:7001".into(),
            slots: slots.parse().unwrap(),
            keys: 3,
            rdb_bytes: 10,
            at: UnixMillis(created_s * 1000),
        };
        Manifest {
            version: VERSION,
            release: "0.1.0".into(),
            cluster: cluster.into(),
            epoch: Epoch(7),
            created: UnixMillis(created_s * 1000),
            held_ms: 2,
            took_ms: 100,
            block_bytes: 8,
            shards: vec![shard(1, "0-8191"), shard(2, "8192-16383")],
            cluster_file: part(CLUSTER),
            encryption: None,
        }
    }

    #[test]
    fn a_name_says_when_in_utc_and_is_read_back() {
        let name = SetName::at(1_795_230_000);
        assert_eq!(name.to_string(), "larder-2026-11-21T03-00-00Z");
        assert_eq!("larder-2026-11-21T03-00-00Z".parse(), Ok(name));
        for wrong in [
            "",
            "larder",
            "larder-2026-11-21T03-00-00",
            "larder-2026-11-21T3-00-00Z",
            "larder-2026-13-21T03-00-00Z",
            "other-2026-11-21T03-00-00Z",
        ] {
            assert!(wrong.parse::<SetName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_manifest_is_read_back_and_one_that_misses_something_is_refused() {
        let whole = manifest(1_795_230_000, "larder");
        assert_eq!(Manifest::parse(&whole.to_json()), Ok(whole.clone()));
        assert_eq!((whole.keys(), whole.bytes()), (6, 30));
        let refused = |change: fn(&mut Manifest)| {
            let mut changed = whole.clone();
            change(&mut changed);
            Manifest::parse(&changed.to_json()).expect_err("it is refused")
        };
        type Change = fn(&mut Manifest);
        let cases: [(Change, &str); 6] = [
            (
                |m| {
                    m.shards[1]
                        .slots
                        .insert_range(larder_wire::Slot::FIRST, larder_wire::Slot::FIRST)
                },
                "slots 0 are in two parts",
            ),
            (|m| drop(m.shards.pop()), "slots 8192-16383 are in no part"),
            (|m| m.version = 2, "a newer larder"),
            (
                |m| m.shards[0].part.name = "../x".into(),
                "no name of a part",
            ),
            (|m| m.shards[0].part.name = MANIFEST.into(), "stands twice"),
            (|m| drop(m.cluster_file.blocks.pop()), "not all there"),
        ];
        for (change, why) in cases {
            let told = refused(change);
            assert!(told.contains(why), "{told}");
        }
        assert!(Manifest::parse(b"{}").is_err());
    }
}
