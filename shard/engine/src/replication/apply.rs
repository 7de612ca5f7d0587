//! A journal's commands on a node that did not think of them: a replica, or a node that loads its own journal from a file.
//!
//! What a journal says is what happened: nothing is admitted, nothing expires on the way and nothing is evicted. Whoever listens here (blocked
//! readers, tracking, watches, keyspace events) hears of it as of any other write.

use larder_store::Db;
use larder_wire::SlotSet;
use larder_wire::command::{self, CommandId, Found};
use larder_wire::resp::{ReplyWriter, Request};

use crate::clock::Clock;
use crate::dispatch::{Run, run_of};
use crate::feed::Word;
use crate::node::Node;
use crate::session::Session;
use crate::turn::Turn;

impl Node {
    /// Carries out one command of a journal in the session's database; MULTI and EXEC are not among them. With an error the data is not what
    /// the journal says.
    pub(crate) fn apply_effect(
        &mut self,
        session: &mut Session,
        frame: &Request<'_>,
        clock: Clock,
    ) -> Result<(), String> {
        match Word::read(frame) {
            Some(Ok(Word::Drop { slots, db })) => {
                self.apply_drop(&slots, db);
                return Ok(());
            }
            Some(_) => return Err(format!("a journal has no word {frame:?}")),
            None => {}
        }
        let Found::Command(id) = command::lookup(frame.name(), frame.get(1)) else {
            return Err(format!("{frame:?} is no command of this release"));
        };
        if !command::spec(id).takes(frame.len()) {
            return Err(format!("{frame:?} has a wrong number of arguments"));
        }
        match id {
            CommandId::Flushall => {
                self.apply_drop(&SlotSet::full(), None);
                return Ok(());
            }
            CommandId::Flushdb => {
                self.apply_drop(&SlotSet::full(), Some(session.db));
                return Ok(());
            }
            _ => {}
        }
        // No key's time has come at the beginning of time.
        let clock = Clock {
            unix_us: 0,
            ..clock
        };
        let mut waste = std::mem::take(&mut self.waste);
        waste.clear();
        let result = match run_of(id) {
            Run::Store(exec) => self.run_store(exec, id, session, *frame, None, clock, &mut waste),
            Run::Engine(exec) => exec(&mut Turn {
                node: self,
                id,
                request: *frame,
                clock,
                reply: ReplyWriter::new(&mut waste, session.protocol),
                session,
            }),
            Run::Container | Run::Nobody => {
                self.waste = waste;
                return Err(format!("{frame:?} is no effect"));
            }
        };
        self.waste = waste;
        self.count_call(id, None, &result);
        result.map(|_| ()).map_err(|refusal| {
            let name = command::spec(id).name;
            format!("cannot apply {name}: {}", refusal.text())
        })
    }

    /// Every key of some slots is gone, as whoever wrote the journal says.
    fn apply_drop(&mut self, slots: &SlotSet, db: Option<Db>) {
        for db in Db::all().filter(|it| db.is_none_or(|only| only == *it)) {
            if self.databases.get(db).is_some() {
                self.touch_slots(db, slots);
                self.databases.at(db).drop_slots(slots);
            }
        }
        if self.tracking.hears() {
            self.tracking.invalidate_all(&self.clients);
        }
        self.saving.count_change();
    }

    /// All keys of these slots are about to go: whoever waits to hear of one is told.
    pub(crate) fn touch_slots(&mut self, db: Db, slots: &SlotSet) {
        let watched = self.watched.keys().filter(|(of, key)| {
            let there = slots.contains(larder_wire::slot_of(key));
            *of == db && there
        });
        let watched: Vec<Box<[u8]>> = watched.map(|(_, key)| key.clone()).collect();
        for key in watched {
            self.break_watches(db, &key);
        }
        self.blocked.signal_all(db);
    }
}
