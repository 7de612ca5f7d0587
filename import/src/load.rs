//! Takes an RDB in: its bytes go to a thread that reads it record by record and makes requests of the keys, and
//! these go to the nodes. Each step waits for the next, so that memory stays flat: what the nodes do not take stays with the source.

use std::rc::Rc;

use larder_runtime::foreign::ForeignError;
use larder_store::collection::CollectionSettings;
use larder_store::rdb::{Loader, Record};
use larder_store::{Collection, Value};
use larder_wire::resp::OwnedRequest;
use larder_wire::{Slot, SlotSet, slot_of};
use tokio::sync::mpsc;
use tokio::time::{Duration, MissedTickBehavior, interval};

use crate::ledger::Name;
use crate::link::Purpose;
use crate::nodes::{Nodes, Shared};
use crate::pieces;
use crate::psync::{Cutter, Stream};

/// Chunks of the file, and requests made of it, that wait for the next step.
const CHUNKS_MAX: usize = 8;
const REQUESTS_MAX: usize = 256;
/// So often the source is told that we are alive, in milliseconds.
const ALIVE_MS: u64 = 1000;

/// How a load can end badly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadFailure {
    #[error(transparent)]
    Source(#[from] ForeignError),
    #[error("the RDB that {addr} sent cannot be read: {cause}")]
    File { addr: String, cause: String },
}

/// What the file says.
enum Loaded {
    /// One request of a key; the last of them counts the key.
    Key {
        name: Name,
        slot: Slot,
        bytes: Vec<u8>,
        is_whole: bool,
        is_last: bool,
        has_timed_fields: bool,
    },
    Library(Vec<u8>),
    Foreign(Slot),
}

/// Reads the RDB that comes on `stream` to its end. `progress` is told keys and bytes.
pub(crate) async fn load(
    stream: &mut Stream,
    slots: &SlotSet,
    nodes: &Rc<Nodes>,
    shared: &Rc<Shared>,
    mut progress: impl FnMut(u64, u64),
) -> Result<(), LoadFailure> {
    let mut cutter = Cutter::new(stream.extent().await?);
    let (chunks, mut chunk) = mpsc::channel::<Vec<u8>>(CHUNKS_MAX);
    let (requests, mut loaded) = mpsc::channel::<Loaded>(REQUESTS_MAX);
    let slots = slots.clone();
    let reader = tokio::task::spawn_blocking(move || {
        read_file(&slots, &requests, |buffer| {
            if let Some(bytes) = chunk.blocking_recv() {
                buffer.extend_from_slice(&bytes);
            }
            Ok(())
        })
    });
    let mut alive = interval(Duration::from_millis(ALIVE_MS));
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut chunks = Some(chunks);
    let mut waiting: Option<Vec<u8>> = None;
    let mut keys = 0;
    loop {
        if waiting.is_none() && chunks.is_some() {
            let cut = cutter.cut(&mut stream.input);
            progress(keys, cutter.taken);
            if !cut.is_empty() {
                waiting = Some(cut);
            } else if cutter.is_at_end() {
                chunks = None;
            }
        }
        let reading = waiting.is_none() && chunks.is_some();
        let room = async {
            match &chunks {
                Some(chunks) if waiting.is_some() => chunks.reserve().await.ok(),
                Some(_) | None => std::future::pending().await,
            }
        };
        tokio::select! {
            permit = room => match permit {
                Some(permit) => permit.send(waiting.take().unwrap_or_default()),
                // The reader has ended: its verdict is asked for below.
                None => break,
            },
            read = stream.more(), if reading => read?,
            next = loaded.recv() => match next {
                Some(next) => keys += u64::from(write(next, nodes, shared).await),
                None => break,
            },
            _ = alive.tick() => stream.send(b"\n").await?,
        }
        if let Some(cause) = shared.ledger.borrow().fatal() {
            return Err(LoadFailure::File {
                addr: stream.addr.clone(),
                cause: cause.to_string(),
            });
        }
    }
    drop(chunks);
    loaded.close();
    let verdict = reader.await.unwrap_or_else(|error| Err(error.to_string()));
    verdict.map_err(|cause| LoadFailure::File {
        addr: stream.addr.clone(),
        cause,
    })?;
    // What stands behind the data: the checksum of versions that need not have one.
    while !cutter.is_at_end() {
        stream.more().await?;
        cutter.cut(&mut stream.input);
    }
    progress(keys, cutter.taken);
    Ok(())
}

/// True for the last request of a key.
async fn write(loaded: Loaded, nodes: &Rc<Nodes>, shared: &Rc<Shared>) -> bool {
    nodes.ready(shared).await;
    match loaded {
        Loaded::Key {
            name,
            slot,
            bytes,
            is_whole,
            is_last,
            has_timed_fields,
        } => {
            if has_timed_fields {
                shared.has_timed_fields.set(true);
            }
            let purpose = if is_whole {
                Purpose::Whole
            } else {
                Purpose::Write
            };
            let db = name.db;
            nodes.send(slot, db, &bytes, purpose, vec![name], shared);
            is_last
        }
        Loaded::Library(source) => {
            let args: [&[u8]; 4] = [b"FUNCTION", b"LOAD", b"REPLACE", &source];
            let bytes = OwnedRequest::from_args(args).into_bytes();
            for addr in nodes.primaries() {
                let db = larder_store::Db::ZERO;
                nodes.send_to(&addr, db, &bytes, Purpose::Write, Vec::new(), shared);
            }
            false
        }
        Loaded::Foreign(slot) => {
            shared.fail(format!(
                "the source holds a key of slot {slot}, which is not its own: the old cluster is being resharded (finish that, then begin anew with --clear)"
            ));
            false
        }
    }
}

/// Runs on a thread of its own; ends early when nobody takes what it makes.
fn read_file(
    slots: &SlotSet,
    requests: &mpsc::Sender<Loaded>,
    more: impl FnMut(&mut Vec<u8>) -> Result<(), String>,
) -> Result<(), String> {
    // The seed only orders elements in memory.
    let settings = CollectionSettings::new(0);
    let mut loader = Loader::open(more).map_err(|error| error.to_string())?;
    loop {
        let record = loader
            .next_record(&settings)
            .map_err(|error| error.to_string())?;
        let taken = match record {
            None => return Ok(()),
            // Of the file's making, which is of no use elsewhere.
            Some(Record::Aux { .. }) => true,
            Some(Record::Library(source)) => {
                requests.blocking_send(Loaded::Library(source)).is_ok()
            }
            Some(Record::Key {
                db,
                key,
                value,
                expires,
            }) => {
                let slot = slot_of(&key);
                if !slots.contains(slot) {
                    // Whoever takes it ends the import.
                    let _ = requests.blocking_send(Loaded::Foreign(slot));
                    return Ok(());
                }
                let has_timed_fields = matches!(
                    &value,
                    Value::Collection(Collection::Hash(hash)) if hash.next_due().is_some()
                );
                let mut last: Option<Vec<u8>> = None;
                let mut is_whole = true;
                let mut taken = true;
                let send = |bytes, is_whole, is_last| {
                    requests
                        .blocking_send(Loaded::Key {
                            name: Name {
                                db,
                                key: key.clone(),
                            },
                            slot,
                            bytes,
                            is_whole,
                            is_last,
                            has_timed_fields,
                        })
                        .is_ok()
                };
                pieces::requests(&key, &value, expires, |bytes| {
                    if let Some(before) = last.replace(bytes) {
                        is_whole = false;
                        taken &= send(before, false, false);
                    }
                });
                taken && last.is_none_or(|bytes| send(bytes, is_whole, true))
            }
        };
        if !taken {
            return Err("it was no longer wanted".to_string());
        }
    }
}
