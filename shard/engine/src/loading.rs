//! Loading: the data of a file, taken in while the node answers that it does.
//!
//! The shell reads the file and gives records; a command that is not marked `LOADING` is refused until it has given all.

use larder_store::rdb::{LoadError, Loader, Record};
use larder_wire::{Refusal, SlotSet, UnixMillis};

use crate::clock::Clock;
use crate::node::Node;
use crate::script::library::Policy;

/// Records taken in at once, at most.
const RECORDS_PER_STEP: usize = 1000;
/// Bytes of the file taken in at once, or a record more.
const BYTES_PER_STEP: u64 = 256 * 1024;

/// A file that is being loaded.
#[derive(Clone, Copy, Debug)]
pub struct Loading {
    /// Seconds of the Unix clock.
    pub began: i64,
    pub began_ms: u64,
    pub total_bytes: u64,
    pub loaded_bytes: u64,
}

/// What the last file gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    pub keys: u64,
    /// Keys that had expired by the time they were read.
    pub expired: u64,
}

impl Node {
    /// A file of `total_bytes` is about to be loaded.
    pub fn begin_loading(&mut self, total_bytes: u64, clock: Clock) {
        self.loading = Some(Loading {
            began: clock.unix_seconds(),
            began_ms: clock.mono_ms,
            total_bytes,
            loaded_bytes: 0,
        });
        self.loaded = Loaded::default();
        self.begin_restoring();
    }

    pub fn loading(&self) -> Option<Loading> {
        self.loading
    }

    /// What the file that was loaded last gave.
    pub fn loaded(&self) -> Loaded {
        self.loaded
    }

    /// Takes in some records; true while there are more.
    pub fn load_some<F>(&mut self, loader: &mut Loader<F>, clock: Clock) -> Result<bool, LoadError>
    where
        F: FnMut(&mut Vec<u8>) -> Result<(), String>,
    {
        let collections = self.databases.collections();
        let until = loader.offset() + BYTES_PER_STEP;
        let mut more = true;
        for _ in 0..RECORDS_PER_STEP {
            match loader.next_record(&collections)? {
                Some(record) => self.load_record(record, loader.offset(), clock.now())?,
                None => more = false,
            }
            if !more || loader.offset() >= until {
                break;
            }
        }
        if let Some(loading) = &mut self.loading {
            loading.loaded_bytes = loader.offset();
        }
        Ok(more)
    }

    fn load_record(
        &mut self,
        record: Record,
        offset: u64,
        now: UnixMillis,
    ) -> Result<(), LoadError> {
        match record {
            Record::Key { expires, .. } if expires.is_some_and(|at| at <= now) => {
                self.loaded.expired += 1;
            }
            Record::Key {
                db,
                key,
                value,
                expires,
            } => {
                self.loaded.keys += 1;
                self.databases.at(db).insert(&*key, value, expires, now);
            }
            Record::Aux { name, value } => self.loaded_from.hear(&name, &value),
            Record::Library(source) => {
                let restored = self.scripts.restore_libraries(&[source], Policy::Replace);
                restored.map_err(|refusal| LoadError {
                    offset,
                    what: format!("a library of functions is refused: {}", refusal.text()),
                })?;
            }
        }
        Ok(())
    }

    /// The file is in memory, all of it.
    pub fn end_loading(&mut self) {
        self.loading = None;
        self.settle_restored();
    }

    /// The file is damaged: nothing of it is kept.
    pub fn forget_loaded(&mut self) {
        self.databases.drop_slots(&SlotSet::full());
        self.scripts.flush_functions();
        self.loaded = Loaded::default();
        self.loading = None;
        self.forget_restored();
    }

    /// While a file is loaded, to a command that needs the data.
    #[cold]
    pub(crate) fn loading_refusal(&self) -> Option<Refusal> {
        self.loading.map(|_| Refusal::LOADING)
    }
}
