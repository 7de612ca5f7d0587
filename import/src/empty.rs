//! Larder is emptied as the source was: all that it holds, or the slots of one source of several.
//!
//! By one map each slot is one node's. With two of them a slot that changes hands at this moment could be passed over by both of its
//! owners: so every node does its part by the map that it was chosen by, or not at all, and what was missed is done again by the next map. A
//! node that is away is waited for.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use larder_runtime::Reply;
use larder_runtime::foreign::{Foreign, ForeignError, info_field};
use larder_store::Db;
use larder_wire::{ClusterMap, Epoch, Slot, SlotSet};
use tokio::time::sleep;

use crate::content::{self, text};
use crate::link::passes_by_itself;
use crate::nodes::Nodes;

/// Pause before nodes are told again that were away or knew another map, in milliseconds.
const AGAIN_MS: u64 = 10;
/// Slots that are emptied at once.
const SLOTS_MAX: usize = 512;
const KEYS_AT_ONCE: &[u8] = b"1000";

/// What is to hold no keys.
pub(crate) enum Emptied {
    All,
    Slots(SlotSet),
}

/// Why a part was not emptied.
enum Miss {
    /// Another try may do it.
    Passing(String),
    Final(String),
}

impl From<ForeignError> for Miss {
    fn from(error: ForeignError) -> Miss {
        let told = error.to_string();
        match error {
            ForeignError::Lost { .. } => Miss::Passing(told),
            ForeignError::Refused { text, .. } => {
                let code = text.split(' ').next().unwrap_or("");
                match passes_by_itself(code) {
                    true => Miss::Passing(told),
                    false => Miss::Final(told),
                }
            }
        }
    }
}

impl Nodes {
    /// Removes all keys of one database, or of all. An error is a refusal that would not pass; what passes is waited for as long as
    /// `goes_on` says so.
    pub(crate) async fn empty(
        self: &Rc<Nodes>,
        mut what: Emptied,
        db: Option<Db>,
        goes_on: impl Fn() -> bool,
    ) -> Result<(), String> {
        let mut was_away = false;
        while goes_on() {
            let map = self.map.borrow().clone();
            let missed = match &mut what {
                Emptied::All => self.flush(&map, db).await,
                Emptied::Slots(left) => self.empty_slots(&map, left, db).await,
            };
            match missed {
                Ok(()) if was_away => {
                    *self.trouble.borrow_mut() = None;
                    return Ok(());
                }
                Ok(()) => return Ok(()),
                Err(Miss::Final(cause)) => return Err(cause),
                Err(Miss::Passing(cause)) => {
                    tracing::debug!("not emptied: {cause}");
                    was_away = true;
                    *self.trouble.borrow_mut() = Some(cause);
                }
            }
            sleep(Duration::from_millis(AGAIN_MS)).await;
        }
        Ok(())
    }

    /// Every primary is told the map's epoch, and refuses by another.
    async fn flush(&self, map: &ClusterMap, db: Option<Db>) -> Result<(), Miss> {
        if let Some(slot) = map.unowned().first_from(Slot::FIRST) {
            return Err(Miss::Passing(format!("nobody owns slot {slot}")));
        }
        let epoch = map.epoch.to_string();
        for shard in map.shards().iter().filter(|shard| !shard.slots.is_empty()) {
            let Some(primary) = shard.primary() else {
                continue;
            };
            let mut node = self.reader_at(&primary.addr).await?;
            match db {
                Some(db) => {
                    node.ask(["SELECT", &db.to_string()]).await?;
                    node.ask(["FLUSHDB", "EPOCH", &epoch]).await?;
                }
                None => {
                    node.ask(["FLUSHALL", "EPOCH", &epoch]).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes out of `left` what was emptied by this map.
    async fn empty_slots(
        &self,
        map: &ClusterMap,
        left: &mut SlotSet,
        db: Option<Db>,
    ) -> Result<(), Miss> {
        let mut by_owner: BTreeMap<&str, SlotSet> = BTreeMap::new();
        for slot in left.iter() {
            let owner = map.primary_of(slot);
            let owner = owner.ok_or_else(|| Miss::Passing(format!("nobody owns slot {slot}")))?;
            by_owner.entry(&owner.addr).or_default().insert(slot);
        }
        for (owner, slots) in by_owner {
            let mut node = self.reader_at(owner).await?;
            empty_at(&mut node, map.epoch, &slots, db).await?;
            *left = left.difference(&slots);
        }
        Ok(())
    }
}

/// Removes the keys of some slots that one node owns by the map of an epoch. A node's map never goes back: what it says of its keys
/// between two looks at the same epoch is by that map.
async fn empty_at(
    node: &mut Foreign,
    epoch: Epoch,
    slots: &SlotSet,
    db: Option<Db>,
) -> Result<(), Miss> {
    be_at(node, epoch).await?;
    let info = text(&node.ask(["INFO", "keyspace"]).await?);
    let holding = Db::all().filter(|db| info_field(&info, &format!("db{db}")).is_some());
    let slots: Vec<Slot> = slots.iter().collect();
    for db in holding.filter(|held| db.is_none_or(|db| db == *held)) {
        node.ask(["SELECT", &db.to_string()]).await?;
        for slots in slots.chunks(SLOTS_MAX) {
            empty_some(node, slots).await?;
        }
    }
    be_at(node, epoch).await
}

async fn be_at(node: &mut Foreign, epoch: Epoch) -> Result<(), Miss> {
    let info = text(&node.ask(["CLUSTER", "INFO"]).await?);
    let known = info_field(&info, "cluster_my_epoch").unwrap_or("none");
    match known == epoch.to_string() {
        true => Ok(()),
        false => Err(Miss::Passing(format!(
            "the slot map of node {} is of epoch {known}, not {epoch}",
            node.addr()
        ))),
    }
}

/// Removes the keys of some slots of the database that is selected.
async fn empty_some(node: &mut Foreign, slots: &[Slot]) -> Result<(), ForeignError> {
    let mut slots = slots.to_vec();
    while !slots.is_empty() {
        let mut questions = Vec::new();
        for slot in &slots {
            let number = slot.number().to_string();
            let question: [&[u8]; 4] = [
                b"CLUSTER",
                b"GETKEYSINSLOT",
                number.as_bytes(),
                KEYS_AT_ONCE,
            ];
            content::push(&mut questions, &question);
        }
        let found = node.ask_all(&questions, slots.len()).await?;
        let (mut removals, mut left) = (Vec::new(), Vec::new());
        for (slot, keys) in slots.into_iter().zip(&found) {
            let keys: Vec<&[u8]> = match keys {
                Reply::Array(keys) => keys.iter().filter_map(Reply::bytes).collect(),
                Reply::Error(text) => return Err(refused(node, text)),
                Reply::Simple(_) | Reply::Int(_) | Reply::Bulk(_) | Reply::Null => Vec::new(),
            };
            if !keys.is_empty() {
                let args: Vec<&[u8]> = std::iter::once(&b"UNLINK"[..]).chain(keys).collect();
                content::push(&mut removals, &args);
                left.push(slot);
            }
        }
        for reply in node.ask_all(&removals, left.len()).await? {
            if let Reply::Error(text) = &reply {
                return Err(refused(node, text));
            }
        }
        slots = left;
    }
    Ok(())
}

fn refused(node: &Foreign, text: &str) -> ForeignError {
    ForeignError::Refused {
        addr: node.addr().to_string(),
        text: text.to_string(),
    }
}
