//! Keys in doubt are fetched: written here as the source has them at one moment, with the offset of its stream at which that is.
//!
//! What a fetch means for commands that the stream still brings is the ledger's to say (`ledger.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use larder_runtime::Reply;
use larder_runtime::foreign::ForeignError;
use larder_store::Db;
use larder_wire::resp::OwnedRequest;
use larder_wire::{Slot, UnixMillis, slot_of};
use tokio::time::sleep;

use crate::content::{self, text};
use crate::follow::{Failure, Follower};
use crate::ledger::Name;
use crate::link::Purpose;
use crate::pieces;

/// Keys that are fetched from the source at once.
const FETCH_KEYS_MAX: usize = 256;
/// Pause before keys are fetched again that a node has just refused, in milliseconds.
const REFUSED_MS: u64 = 10;

impl Follower {
    /// Fetches keys in doubt until there are none, or a node has just refused some.
    pub(crate) async fn fetch_doubts(&mut self) -> Result<(), Failure> {
        loop {
            let (names, refused) = {
                let mut ledger = self.shared.ledger.borrow_mut();
                (ledger.take_dirty(FETCH_KEYS_MAX), ledger.counts.refused)
            };
            if names.is_empty() {
                return Ok(());
            }
            if std::mem::replace(&mut self.refused_before, refused) != refused {
                sleep(Duration::from_millis(REFUSED_MS)).await;
            }
            for group in self.at_once(&names) {
                if let Err(failure) = self.fetch(&group).await {
                    let mut ledger = self.shared.ledger.borrow_mut();
                    names.into_iter().for_each(|name| ledger.doubt(name));
                    return Err(failure);
                }
            }
        }
    }

    /// A server in cluster mode takes keys of one slot in a transaction.
    fn at_once(&self, names: &[Name]) -> Vec<Vec<Name>> {
        if !self.place.in_cluster {
            return vec![names.to_vec()];
        }
        let mut groups: BTreeMap<Slot, Vec<Name>> = BTreeMap::new();
        for name in names {
            groups
                .entry(slot_of(&name.key))
                .or_default()
                .push(name.clone());
        }
        groups.into_values().collect()
    }

    /// Writes keys as the source has them at this moment, and notes at which offset that is.
    async fn fetch(&mut self, names: &[Name]) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        content::push(&mut bytes, &[b"MULTI"]);
        content::push(&mut bytes, &[b"TIME"]);
        content::push(&mut bytes, &[b"INFO", b"replication"]);
        let (mut queued, mut db) = (3, None);
        for name in names {
            if db.replace(name.db) != Some(name.db) && self.needs_select() {
                content::push(&mut bytes, &[b"SELECT", name.db.to_string().as_bytes()]);
                queued += 1;
            }
            content::push(&mut bytes, &[b"PTTL", &name.key]);
            content::push(&mut bytes, &[b"DUMP", &name.key]);
            queued += 2;
        }
        content::push(&mut bytes, &[b"EXEC"]);
        let mut replies = self.aux().await?.ask_all(&bytes, queued + 1).await?;
        let executed = replies.pop();
        let Some(Reply::Array(items)) = executed else {
            let refusal = replies
                .iter()
                .chain(&executed)
                .find_map(|reply| match reply {
                    Reply::Error(text) => Some(text.clone()),
                    _ => None,
                });
            return Err(Failure::Lost(ForeignError::Refused {
                addr: self.place.addr.clone(),
                text: refusal.unwrap_or_else(|| "EXEC was not carried out".to_string()),
            }));
        };
        let mut items = items.into_iter();
        let now_ms = items.next().as_ref().and_then(millis).unwrap_or(0);
        let info = items.next().map(|info| text(&info)).unwrap_or_default();
        let at = self.offset_in(&info)?;
        let mut db = None;
        for name in names {
            if db.replace(name.db) != Some(name.db) && self.needs_select() {
                items.next();
            }
            let ttl_ms = match items.next() {
                Some(Reply::Int(ttl)) => ttl,
                _ => -1,
            };
            let expires = (ttl_ms >= 0).then_some(UnixMillis(now_ms + ttl_ms));
            let request = match items.next() {
                Some(Reply::Bulk(payload)) => pieces::restore(&name.key, &payload, expires),
                Some(Reply::Null) => {
                    OwnedRequest::from_args([b"UNLINK", &name.key[..]]).into_bytes()
                }
                Some(Reply::Error(text)) => {
                    return Err(Failure::Final(format!(
                        "key {} cannot be read from the source: {text}",
                        String::from_utf8_lossy(&name.key)
                    )));
                }
                _ => return Err(Failure::Final("the source's EXEC is too short".to_string())),
            };
            self.nodes.ready(&self.shared).await;
            self.shared.ledger.borrow_mut().fetched(name.clone(), at);
            let (slot, purpose) = (slot_of(&name.key), Purpose::Whole);
            self.nodes.send(
                slot,
                name.db,
                &request,
                purpose,
                vec![name.clone()],
                &self.shared,
            );
        }
        Ok(())
    }

    /// Servers in cluster mode had one database before Valkey 9, and some refuse any SELECT.
    fn needs_select(&self) -> bool {
        !self.place.in_cluster || self.db != Db::ZERO
    }
}

/// Milliseconds of a TIME reply.
fn millis(time: &Reply) -> Option<i64> {
    let Reply::Array(parts) = time else {
        return None;
    };
    let number = |at: usize| {
        parts
            .get(at)
            .and_then(|part| text(part).parse::<i64>().ok())
    };
    Some(number(0)? * 1000 + number(1)? / 1000)
}
