//! Compares what the source holds with what Larder holds, while both are written to.
//!
//! 1. Keys are read on both sides, one side after the other. Most are the same.
//! 2. A key that is not may have changed in between: it is compared once more by the follower of its source, at one place of the
//!    stream (`follow.rs`), where there are no false alarms.
//! 3. What is still not the same is counted, named, and fetched anew.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use larder_runtime::foreign::{Foreign, ForeignError, Login, info_field};
use larder_runtime::{Reply, entropy};
use larder_store::Db;
use larder_wire::{Slot, SlotSet, slot_of};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::content::{self, text};
use crate::follow::Order;
use crate::ledger::Name;
use crate::nodes::{Nodes, keys_of};
use crate::report::Verified;

/// Keys that are read at once, and that one SCAN asks for.
const BATCH_KEYS: usize = 64;
const SCAN_COUNT: &str = "500";
/// Differing keys that are named.
const NAMED_MAX: usize = 10;
/// Tries to compare a key at one place of the stream, and the pause between them in milliseconds.
const TRIES_MAX: u32 = 20;
const TRY_MS: u64 = 50;

/// How much is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    All,
    /// About so many keys, drawn by chance.
    Sample(u64),
}

/// A source as its verification sees it.
#[derive(Clone)]
pub(crate) struct Side {
    pub(crate) addr: String,
    pub(crate) slots: SlotSet,
    pub(crate) login: Login,
    pub(crate) orders: mpsc::UnboundedSender<Order>,
}

/// `progress`: keys compared, of how many.
pub(crate) async fn verify(
    sides: &[Side],
    nodes: &Rc<Nodes>,
    extent: Extent,
    verified: &Rc<RefCell<Verified>>,
    mut progress: impl FnMut(u64, u64),
) -> Result<(), String> {
    let told = |error: ForeignError| error.to_string();
    let mut servers = Vec::new();
    let mut total = 0;
    for side in sides {
        let mut server = Foreign::connect(&side.addr, &side.login)
            .await
            .map_err(told)?;
        let info = text(&server.ask(["INFO", "keyspace"]).await.map_err(told)?);
        total += keys_of(&info);
        servers.push((server, info));
    }
    let share = match extent {
        Extent::All => 1.0,
        Extent::Sample(keys) => keys as f64 / total.max(1) as f64,
    };
    let wanted = (total as f64 * share.min(1.0)) as u64;
    for (side, (server, info)) in sides.iter().zip(&mut servers) {
        for db in dbs(info) {
            let mut cursor = "0".to_string();
            loop {
                let names;
                (cursor, names) = scan(server, db, &cursor).await?;
                let drawn: Vec<Name> = names
                    .into_iter()
                    .filter(|_| share >= 1.0 || entropy::jitter() < share)
                    .collect();
                for batch in drawn.chunks(BATCH_KEYS) {
                    let unlike = differing(server, nodes, db, batch).await?;
                    settle(side, unlike, verified).await?;
                    verified.borrow_mut().checked += batch.len() as u64;
                    progress(verified.borrow().checked, wanted);
                }
                if cursor == "0" {
                    break;
                }
            }
        }
    }
    if extent == Extent::All {
        for addr in nodes.primaries() {
            too_many(&addr, sides, &mut servers, nodes, verified).await?;
        }
    }
    Ok(())
}

/// Databases that hold keys.
fn dbs(info: &str) -> Vec<Db> {
    let holds = |db: &Db| info_field(info, &format!("db{db}")).is_some();
    Db::all().filter(holds).collect()
}

async fn scan(server: &mut Foreign, db: Db, cursor: &str) -> Result<(String, Vec<Name>), String> {
    let told = |error: ForeignError| error.to_string();
    if db != Db::ZERO {
        server
            .ask(["SELECT", &db.to_string()])
            .await
            .map_err(told)?;
    }
    let reply = server
        .ask(["SCAN", cursor, "COUNT", SCAN_COUNT])
        .await
        .map_err(told)?;
    match reply {
        Reply::Array(parts) => match parts.as_slice() {
            [cursor, Reply::Array(keys)] => {
                let keys = keys.iter().filter_map(Reply::bytes);
                Ok((text(cursor), keys.map(|key| Name::new(db, key)).collect()))
            }
            _ => Err(format!(
                "{} answers SCAN with something else",
                server.addr()
            )),
        },
        _ => Err(format!(
            "{} answers SCAN with something else",
            server.addr()
        )),
    }
}

/// Keys that the two sides do not hold alike at a first look.
async fn differing(
    server: &mut Foreign,
    nodes: &Rc<Nodes>,
    db: Db,
    batch: &[Name],
) -> Result<Vec<Name>, String> {
    let told = |error: ForeignError| error.to_string();
    let mut by_owner: BTreeMap<Option<String>, Vec<&Name>> = BTreeMap::new();
    for name in batch {
        by_owner
            .entry(nodes.owner(slot_of(&name.key)))
            .or_default()
            .push(name);
    }
    let mut unlike = Vec::new();
    for (owner, names) in by_owner {
        let (there, _) = content::read(server, db, &names, None)
            .await
            .map_err(told)?;
        let here = match owner {
            Some(owner) => {
                let mut node = nodes.reader_at(&owner).await.map_err(told)?;
                content::read(&mut node, db, &names, None)
                    .await
                    .map_err(told)?
                    .0
            }
            None => vec![None; names.len()],
        };
        for ((name, there), here) in names.into_iter().zip(there).zip(here) {
            let same = there
                .zip(here)
                .is_some_and(|(there, here)| there.is_like(&here));
            if !same {
                unlike.push(name.clone());
            }
        }
    }
    Ok(unlike)
}

/// Compares keys at one place of the stream, and has those fetched anew that differ there.
async fn settle(
    side: &Side,
    mut names: Vec<Name>,
    verified: &Rc<RefCell<Verified>>,
) -> Result<(), String> {
    let gone = || "the source is no longer followed".to_string();
    let mut tries = 0;
    while !names.is_empty() {
        let (answer, answered) = oneshot::channel();
        side.orders
            .send(Order::Compare(names.clone(), answer))
            .map_err(|_| gone())?;
        // A follower that has lost its source drops the question and takes the next one when it is back.
        let told = answered.await.unwrap_or_else(|_| vec![None; names.len()]);
        let mut again = Vec::new();
        for (name, told) in names.into_iter().zip(told) {
            match told {
                None if tries < TRIES_MAX => again.push(name),
                Some((there, here))
                    if there.is_like(&here) || there.is_about_to_go() || here.is_about_to_go() => {}
                None | Some(_) => {
                    let mut verified = verified.borrow_mut();
                    verified.different += 1;
                    if verified.named.len() < NAMED_MAX {
                        let key = String::from_utf8_lossy(&name.key).into_owned();
                        verified.named.push(key);
                    }
                    side.orders
                        .send(Order::Mend(vec![name]))
                        .map_err(|_| gone())?;
                }
            }
        }
        names = again;
        tries += 1;
        if !names.is_empty() {
            sleep(Duration::from_millis(TRY_MS)).await;
        }
    }
    Ok(())
}

/// Keys of a node that no source has.
async fn too_many(
    addr: &str,
    sides: &[Side],
    servers: &mut [(Foreign, String)],
    nodes: &Rc<Nodes>,
    verified: &Rc<RefCell<Verified>>,
) -> Result<(), String> {
    let told = |error: ForeignError| error.to_string();
    let mut node = nodes.reader_at(addr).await.map_err(told)?;
    let info = text(&node.ask(["INFO", "keyspace"]).await.map_err(told)?);
    for db in dbs(&info) {
        let mut cursor = "0".to_string();
        loop {
            let names;
            (cursor, names) = scan(&mut node, db, &cursor).await?;
            for (side, (server, _)) in sides.iter().zip(servers.iter_mut()) {
                let owned = |slot: Slot| side.slots.contains(slot);
                let asked: Vec<&Name> = names
                    .iter()
                    .filter(|name| owned(slot_of(&name.key)))
                    .collect();
                let (there, _) = content::read(server, db, &asked, None)
                    .await
                    .map_err(told)?;
                let missing = asked
                    .iter()
                    .zip(there)
                    .filter(|(_, there)| there.as_ref().is_none_or(|there| there.kind == "none"));
                let missing: Vec<Name> = missing.map(|(name, _)| (*name).clone()).collect();
                settle(side, missing, verified).await?;
            }
            if cursor == "0" {
                break;
            }
        }
    }
    Ok(())
}
