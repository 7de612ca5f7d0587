//! What a node puts into its journal: the effects of commands, of commands that the engine carries out itself, and what went by itself.

use larder_store::{Db, GoneFields};
use larder_wire::SlotSet;
use larder_wire::command::CommandId;
use larder_wire::resp::Request;

use super::{Unit, write_command};
use crate::feed::Word;
use crate::node::Node;
use crate::session::Session;

impl Node {
    /// The effects of a command of the store.
    #[cold]
    pub(crate) fn journal_effects(&mut self, db: Db, request: Request<'_>) {
        for effect in self.effects.iter(request) {
            self.journal.add(db, effect.bytes());
        }
    }

    /// A command of the engine was carried out; `reply` is what it answered.
    #[cold]
    pub(crate) fn journal_command(
        &mut self,
        db: Db,
        id: CommandId,
        request: &Request<'_>,
        reply: &[u8],
    ) {
        match id {
            CommandId::Move | CommandId::Copy if reply.starts_with(b":1") => {
                self.journal.add(db, request.bytes());
            }
            CommandId::Publish if self.ownership.is_standalone() => {
                self.journal.add(db, request.bytes());
            }
            // What nobody sees yet stays.
            CommandId::Flushall | CommandId::Flushdb if !self.imports.is_empty() => {
                let slots = self.ownership.slots().clone();
                self.journal_drop(&slots, (id == CommandId::Flushdb).then_some(db));
            }
            // By which map and in which way it was said is of this node alone.
            CommandId::Flushall | CommandId::Flushdb => {
                let mut bytes = Vec::new();
                write_command(&mut bytes, [request.name()]);
                self.journal.add(db, &bytes);
            }
            CommandId::Swapdb
            | CommandId::FunctionLoad
            | CommandId::FunctionDelete
            | CommandId::FunctionFlush
            | CommandId::FunctionRestore => self.journal.add(db, request.bytes()),
            _ => {}
        }
    }

    /// Every key of some slots is gone, from one database or from all.
    pub(crate) fn journal_drop(&mut self, slots: &SlotSet, db: Option<Db>) {
        if slots.is_empty() {
            return;
        }
        let mut bytes = Vec::new();
        let slots = slots.clone();
        Word::Drop { slots, db }.write(&mut bytes);
        self.journal.add(db.unwrap_or(Db::ZERO), &bytes);
    }

    #[cold]
    pub(crate) fn journal_gone(&mut self, db: Db, key: &[u8]) {
        let mut bytes = Vec::new();
        write_command(&mut bytes, [b"DEL", key]);
        self.journal.add(db, &bytes);
    }

    #[cold]
    pub(crate) fn journal_gone_fields(&mut self, db: Db, gone: &GoneFields) {
        let mut args = vec![&b"HDEL"[..], &gone.key];
        args.extend(gone.fields.iter().map(|field| &**field));
        let mut bytes = Vec::new();
        write_command(&mut bytes, args);
        self.journal.add(db, &bytes);
    }

    /// A command, a transaction or a script is at its end. Keys that expire under a walk go out each by itself.
    #[cold]
    pub(crate) fn close_journal_unit(&mut self, session: &Session) {
        let walks = matches!(
            session.client.last_command.get(),
            Some(CommandId::Scan | CommandId::Randomkey)
        );
        self.close_unit(if walks { Unit::Single } else { Unit::Whole });
        session.client.wrote_up_to.set(self.journal.end());
    }

    /// What came so far is a whole of its own, or went by itself; nothing happens when nothing came, or in the middle of a script.
    pub(crate) fn close_unit(&mut self, unit: Unit) {
        if self.journal.has_unit() && !self.scripts.is_busy() {
            let bytes = self.journal.close_unit(unit);
            self.followers.pass_on(bytes);
        }
    }
}
