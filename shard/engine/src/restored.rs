//! What a node of a cluster loaded from files of its own: where it was in the journal, and which of it stays when the first map says what is its.
//!
//! ```text
//! loading (no map is taken) ──▶ loaded, waits for a map ──first map──▶ its slots' keys stay, the others go
//! ```
//! A standalone node has no map and keeps all. Where it was is written into every file (`repl-id`, `repl-offset`, `repl-stream-db`, as Redis names them): a node that comes back
//! says it to the topology, and a replica goes on from there. Reads no files.

use larder_store::Db;
use larder_wire::replication::Place;
use larder_wire::{History, Offset, Role, SlotSet};

use crate::node::Node;

/// What a file said of its making, and what becomes of its keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoadedFrom {
    history: Option<History>,
    offset: Option<Offset>,
    /// The database of what comes next in that journal.
    db: Option<Db>,
    /// The keys here are of this node's files, and no map has said yet which of them are its.
    unsettled: bool,
    /// Where the data that was loaded stands; `None`: nothing was loaded.
    place: Option<Place>,
}

impl LoadedFrom {
    /// A pair of name and value from the beginning of a file. Those that are of no use here, or make no sense, are passed over as Redis does.
    pub(crate) fn hear(&mut self, name: &[u8], value: &[u8]) {
        let Ok(text) = std::str::from_utf8(value) else {
            return;
        };
        match name {
            b"repl-id" => self.history = text.parse().ok(),
            b"repl-offset" => self.offset = text.parse().ok().map(Offset),
            b"repl-stream-db" => self.db = text.parse().ok().and_then(Db::new),
            _ => {}
        }
    }

    /// Commands that follow took the data to there, or to nobody knows where.
    pub(crate) fn went_on(&mut self, place: Option<Place>, db: Option<Db>) {
        self.history = place.map(|place| place.history);
        self.offset = place.map(|place| place.offset);
        self.db = db;
    }
}

impl Node {
    /// Where the data that this node loaded from its own files stands. `None`: it loaded nothing.
    pub fn restored_place(&self) -> Option<Place> {
        self.loaded_from.place
    }

    pub(crate) fn begin_restoring(&mut self) {
        self.loaded_from = LoadedFrom {
            unsettled: !self.ownership.is_standalone(),
            ..LoadedFrom::default()
        };
    }

    /// Nothing of what was loaded is here any more.
    pub(crate) fn forget_restored(&mut self) {
        self.loaded_from = LoadedFrom::default();
    }

    /// All is loaded: the journal goes on from the file's place. A file that says none (another server's, or one of before there was a journal) is a beginning.
    pub(crate) fn settle_restored(&mut self) {
        let LoadedFrom {
            history,
            offset,
            db,
            ..
        } = self.loaded_from;
        let place = match (history, offset) {
            (Some(history), Some(offset)) => Place { history, offset },
            _ => Place {
                history: self.new_history(),
                offset: Offset(0),
            },
        };
        self.loaded_from.place = Some(place);
        if self.ownership.is_standalone() {
            return;
        }
        self.journal.begin_at(place);
        self.journal.set_db(db);
    }

    /// The map that was just taken says which keys are this node's: the slots whose keys are here.
    pub(crate) fn keep_restored(&mut self) -> SlotSet {
        if !self.loaded_from.unsettled {
            return SlotSet::new();
        }
        self.loaded_from.unsettled = false;
        let mut others = SlotSet::full().difference(self.ownership.slots());
        for import in &self.imports {
            others = others.difference(import.slots());
        }
        self.databases.drop_slots(&others);
        if self.ownership.role() == Role::Primary && self.journal.is_on() {
            // Replicas may have more of the old history than the file: what is written here from now on is another.
            let history = self.new_history();
            self.journal.begin_history(history);
        }
        self.settle_journal();
        self.ownership.slots().clone()
    }

    /// True while a map is still to say what of the files stays: until then the journal keeps the place.
    pub(crate) fn is_restoring(&self) -> bool {
        self.loaded_from.unsettled
    }

    /// What a file says of the place of its data.
    pub(crate) fn place_aux(&self) -> Vec<(&'static str, String)> {
        // In the middle of a transaction the data are ahead of the journal.
        let Some(place) = self.journal.place().filter(|_| !self.journal.has_unit()) else {
            return Vec::new();
        };
        let mut aux = vec![
            ("repl-id", place.history.to_string()),
            ("repl-offset", place.offset.0.to_string()),
        ];
        if let Some(db) = self.journal.db() {
            aux.insert(0, ("repl-stream-db", db.to_string()));
        }
        aux
    }
}
