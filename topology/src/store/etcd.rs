//! The record in etcd: two keys of a cluster, and the transactions on them.
//!
//! ```text
//! <prefix>/<cluster>/leader   who leads; bound to a lease, so that it goes when its owner is gone
//! <prefix>/<cluster>/state    the state, as the plan writes it
//! ```
//!
//! 1. A campaign makes the leader's key if there is none, and reads the state in the same transaction. The revision
//!    at which the key was made numbers the term: no other term has it.
//! 2. A save is taken only while the leader's key is the one of that term, and while the state is at the revision that
//!    this term last saw. So a leader that was deposed writes nothing, however late its request arrives, and of
//!    a leader's own requests none overtakes a later one.
//! 3. A save without an answer may have been taken. The next one then finds the state at another revision while the leader's key
//!    is still its own: it goes on from there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::etcd_api::{Api, bytes, encode, number};
use super::{EtcdAddress, Store, StoreError};
use crate::authority::Authority;

pub(crate) use super::etcd_api::Trouble;

/// Longest wait for a save, in milliseconds: below the time after which the plan says it again.
const SAVE_MS_MAX: u64 = 8_000;
/// Saves that are tried while the state's revision proves to be another.
const SAVE_TRIES_MAX: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease(i64);

/// What the leader's key holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaderRecord {
    /// `host:port` as others reach it.
    pub(crate) addr: String,
    #[serde(default)]
    pub(crate) http: Option<String>,
}

pub(crate) enum Campaign {
    Won {
        /// The revision at which the leader's key was made.
        term: i64,
        state: Option<Vec<u8>>,
        /// Of the state; 0 when there is none.
        revision: i64,
    },
    Lost(Option<LeaderRecord>),
}

/// One user's way to etcd: questions go one after the other.
pub(crate) struct Etcd {
    api: Api,
    address: EtcdAddress,
    cluster: String,
    leader: String,
    state: String,
}

#[derive(Deserialize)]
struct Header {
    #[serde(deserialize_with = "number")]
    revision: i64,
}

#[derive(Deserialize)]
struct Granted {
    #[serde(rename = "ID", deserialize_with = "number")]
    id: i64,
    #[serde(rename = "TTL", deserialize_with = "number")]
    seconds: i64,
}

#[derive(Deserialize)]
struct Kept {
    result: KeptResult,
}

#[derive(Deserialize)]
struct KeptResult {
    /// Absent when the lease is gone.
    #[serde(rename = "TTL", default, deserialize_with = "number")]
    seconds: i64,
}

#[derive(Default, Deserialize)]
struct Range {
    #[serde(default)]
    kvs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    #[serde(deserialize_with = "number")]
    create_revision: i64,
    #[serde(deserialize_with = "number")]
    mod_revision: i64,
    #[serde(default, deserialize_with = "bytes")]
    value: Vec<u8>,
}

#[derive(Deserialize)]
struct Txn {
    header: Header,
    #[serde(default)]
    succeeded: bool,
    #[serde(default)]
    responses: Vec<TxnResponse>,
}

#[derive(Deserialize)]
struct TxnResponse {
    #[serde(default)]
    response_range: Range,
}

impl Txn {
    /// The pair that the range at `place` of the branch taken found.
    fn pair(&mut self, place: usize) -> Option<Pair> {
        let response = self.responses.get_mut(place)?;
        response.response_range.kvs.pop()
    }
}

impl Etcd {
    pub(crate) fn new(address: &EtcdAddress, cluster: &str) -> Etcd {
        let key = |name: &str| encode(format!("{}/{cluster}/{name}", address.prefix()).as_bytes());
        Etcd {
            api: Api::new(address.clone()),
            address: address.clone(),
            cluster: cluster.to_string(),
            leader: key("leader"),
            state: key("state"),
        }
    }

    /// As one member knows it, which may be a little behind: good for looking, never for deciding.
    pub(crate) fn leader(&mut self, limit: Duration) -> Result<Option<LeaderRecord>, Trouble> {
        let body = json!({ "key": self.leader, "serializable": true });
        let mut found: Range = self.api.ask("/v3/kv/range", &body, limit)?;
        Ok(found.kvs.pop().and_then(leader_of))
    }

    /// The state as it stands, without any claim to it.
    pub(crate) fn state(&mut self, limit: Duration) -> Result<Option<Vec<u8>>, Trouble> {
        let mut found: Range =
            self.api
                .ask("/v3/kv/range", &json!({ "key": self.state }), limit)?;
        Ok(found.kvs.pop().map(|pair| pair.value))
    }

    /// The lease and how long it lives: etcd may give more than was asked for.
    pub(crate) fn grant(
        &mut self,
        seconds: u64,
        limit: Duration,
    ) -> Result<(Lease, Duration), Trouble> {
        let body = json!({ "TTL": seconds.to_string() });
        let granted: Granted = self.api.ask("/v3/lease/grant", &body, limit)?;
        Ok((Lease(granted.id), whole(granted.seconds)))
    }

    /// How long it lives from now on; `None`: it lives no more.
    pub(crate) fn keep(
        &mut self,
        lease: Lease,
        limit: Duration,
    ) -> Result<Option<Duration>, Trouble> {
        let body = json!({ "ID": lease.0.to_string() });
        let kept: Kept = self.api.ask("/v3/lease/keepalive", &body, limit)?;
        Ok((kept.result.seconds > 0).then(|| whole(kept.result.seconds)))
    }

    /// With the lease goes the leader's key.
    pub(crate) fn revoke(&mut self, lease: Lease, limit: Duration) -> Result<(), Trouble> {
        let body = json!({ "ID": lease.0.to_string() });
        match self.api.ask::<Value>("/v3/lease/revoke", &body, limit) {
            Ok(_) => Ok(()),
            Err(trouble) if trouble.lease_gone => Ok(()),
            Err(trouble) => Err(trouble),
        }
    }

    pub(crate) fn campaign(
        &mut self,
        lease: Lease,
        me: &LeaderRecord,
        limit: Duration,
    ) -> Result<Campaign, Trouble> {
        let record = serde_json::to_vec(me).expect("two strings are plain JSON");
        let body = json!({
            "compare": [{ "key": self.leader, "target": "CREATE", "result": "EQUAL", "create_revision": "0" }],
            "success": [
                { "request_put": { "key": self.leader, "value": encode(&record), "lease": lease.0.to_string() } },
                { "request_range": { "key": self.state } },
            ],
            "failure": [{ "request_range": { "key": self.leader } }],
        });
        let mut txn: Txn = self.api.ask("/v3/kv/txn", &body, limit)?;
        if !txn.succeeded {
            return Ok(Campaign::Lost(txn.pair(0).and_then(leader_of)));
        }
        let state = txn.pair(1);
        Ok(Campaign::Won {
            term: txn.header.revision,
            revision: state.as_ref().map_or(0, |pair| pair.mod_revision),
            state: state.map(|pair| pair.value),
        })
    }

    /// The store of one term, on a connection of its own.
    pub(crate) fn store(&self, term: i64, revision: i64, authority: &Arc<Authority>) -> Fenced {
        Fenced {
            etcd: Etcd::new(&self.address, &self.cluster),
            term,
            revision,
            authority: authority.clone(),
        }
    }
}

fn leader_of(pair: Pair) -> Option<LeaderRecord> {
    serde_json::from_slice(&pair.value).ok()
}

fn whole(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// The record as the leader of one term writes it.
pub(crate) struct Fenced {
    etcd: Etcd,
    term: i64,
    /// Of the state, as this term last saw it.
    revision: i64,
    authority: Arc<Authority>,
}

enum Saved {
    Yes,
    /// The state is at another revision: an earlier save of this term, whose answer was lost.
    At(i64),
    Deposed,
}

impl Fenced {
    fn try_to_save(&mut self, state: &[u8], limit: Duration) -> Result<Saved, Trouble> {
        let (leader, key) = (&self.etcd.leader, &self.etcd.state);
        let body = json!({
            "compare": [
                { "key": leader, "target": "CREATE", "result": "EQUAL", "create_revision": self.term.to_string() },
                { "key": key, "target": "MOD", "result": "EQUAL", "mod_revision": self.revision.to_string() },
            ],
            "success": [{ "request_put": { "key": key, "value": encode(state) } }],
            "failure": [{ "request_range": { "key": leader } }, { "request_range": { "key": key } }],
        });
        let mut txn: Txn = self.etcd.api.ask("/v3/kv/txn", &body, limit)?;
        if txn.succeeded {
            self.revision = txn.header.revision;
            return Ok(Saved::Yes);
        }
        let ours = txn
            .pair(0)
            .is_some_and(|pair| pair.create_revision == self.term);
        Ok(match ours {
            true => Saved::At(txn.pair(1).map_or(0, |pair| pair.mod_revision)),
            false => Saved::Deposed,
        })
    }
}

impl Store for Fenced {
    fn load(&self, cluster: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Etcd::new(&self.etcd.address, cluster)
            .state(Duration::from_millis(SAVE_MS_MAX))
            .map_err(|trouble| StoreError::Write(trouble.text))
    }

    fn save(&mut self, cluster: &str, state: &[u8]) -> Result<(), StoreError> {
        assert_eq!(cluster, self.etcd.cluster, "one store is of one cluster");
        let began = Instant::now();
        for _ in 0..SAVE_TRIES_MAX {
            let limit = Duration::from_millis(SAVE_MS_MAX).saturating_sub(began.elapsed());
            match self.try_to_save(state, limit) {
                Ok(Saved::Yes) => return Ok(()),
                Ok(Saved::At(revision)) => self.revision = revision,
                Ok(Saved::Deposed) => {
                    self.authority.end();
                    return Err(StoreError::Deposed);
                }
                Err(trouble) => return Err(StoreError::Write(trouble.text)),
            }
        }
        Err(StoreError::Write(
            "something else writes to its key in etcd".to_string(),
        ))
    }
}
