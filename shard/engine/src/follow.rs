//! Followers: connections that sent SYNC get a snapshot of everything, then what every write did, as Redis sends it to its replicas.
//!
//! What one command, transaction or script did goes out together, between MULTI and EXEC when it is more than one command. A follower
//! is a reader: it acknowledges nothing, and nothing is repeated for it. Without one, a write costs no more than the question whether there is any.

use std::rc::Rc;

use larder_store::{Db, GoneFields};
use larder_wire::Refusal;
use larder_wire::command::CommandId;
use larder_wire::resp::write::{array_header, bulk_header};
use larder_wire::resp::{OwnedRequest, Request};

use crate::client::Client;
use crate::node::Node;
use crate::session::Session;
use crate::turn::{Outcome, Turn};

/// Most bytes of data that SYNC sends: its snapshot is made in one piece, while the node stands still.
const SNAPSHOT_DATA_BYTES_MAX: u64 = 1 << 30;

/// Who follows, and what they were not yet sent.
#[derive(Default)]
pub struct Followers {
    clients: Vec<Rc<Client>>,
    /// The database that the stream is about; `None` until the next command says it.
    db: Option<Db>,
    unit: Vec<(Db, OwnedRequest)>,
}

impl Followers {
    #[inline]
    pub(crate) fn any(&self) -> bool {
        !self.clients.is_empty()
    }

    pub(crate) fn forget(&mut self, client: &Rc<Client>) {
        self.clients.retain(|other| other.id != client.id);
    }

    fn add(&mut self, db: Db, effect: &Request<'_>) {
        self.unit.push((db, OwnedRequest::from(*effect)));
    }

    /// Sends what was gathered: together as one transaction, or each by itself.
    fn send(&mut self, together: bool) {
        if self.unit.is_empty() {
            return;
        }
        let mut bytes = Vec::new();
        let wrapped = together && self.unit.len() > 1;
        for (index, (db, effect)) in self.unit.iter().enumerate() {
            if self.db != Some(*db) {
                self.db = Some(*db);
                write_command(&mut bytes, [&b"SELECT"[..], db.to_string().as_bytes()]);
            }
            if wrapped && index == 0 {
                write_command(&mut bytes, [b"MULTI"]);
            }
            write_command(&mut bytes, effect.view().args_from(0));
        }
        if wrapped {
            write_command(&mut bytes, [b"EXEC"]);
        }
        self.unit.clear();
        for client in &self.clients {
            client.post(|reply| reply.buffer().extend_from_slice(&bytes));
        }
    }
}

fn write_command<A: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    args: impl IntoIterator<Item = A, IntoIter: ExactSizeIterator>,
) {
    let args = args.into_iter();
    array_header(out, args.len());
    for arg in args {
        bulk_header(out, arg.as_ref().len());
        out.extend_from_slice(arg.as_ref());
        out.extend_from_slice(b"\r\n");
    }
}

pub fn sync(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if turn.node.databases.used_memory() > SNAPSHOT_DATA_BYTES_MAX {
        return Err(Refusal::fixed(
            "ERR SYNC makes its snapshot in one piece, and there is more than 1 GB of data here",
        ));
    }
    let mut snapshot = Vec::new();
    let made = turn.node.snapshot(turn.clock);
    made.produce_all(&turn.node.databases, &mut snapshot);
    let out = turn.reply.buffer();
    bulk_header(out, snapshot.len());
    out.extend_from_slice(&snapshot);
    let client = Rc::clone(&turn.session.client);
    client.feeding.set(true);
    // The snapshot is no backlog.
    client.allowed_bytes.set(snapshot.len());
    let followers = &mut turn.node.followers;
    followers.forget(&client);
    followers.clients.push(client);
    followers.db = None;
    Ok(Outcome::Done)
}

impl Node {
    /// The effects of a command of the store.
    #[cold]
    pub(crate) fn follow_effects(&mut self, db: Db, request: Request<'_>) {
        for effect in self.effects.iter(request) {
            self.followers.add(db, &effect);
        }
    }

    /// A command of the engine was carried out; `reply` is what it answered.
    #[cold]
    pub(crate) fn follow_command(
        &mut self,
        db: Db,
        id: CommandId,
        request: &Request<'_>,
        reply: &[u8],
    ) {
        let happened = match id {
            CommandId::Move | CommandId::Copy => reply.starts_with(b":1"),
            CommandId::Publish => self.ownership.is_standalone(),
            CommandId::Swapdb
            | CommandId::Flushall
            | CommandId::Flushdb
            | CommandId::FunctionLoad
            | CommandId::FunctionDelete
            | CommandId::FunctionFlush
            | CommandId::FunctionRestore => true,
            _ => false,
        };
        if happened {
            self.followers.add(db, request);
        }
    }

    #[cold]
    pub(crate) fn follow_gone(&mut self, db: Db, key: &[u8]) {
        let effect = OwnedRequest::from_args([b"DEL", key]);
        self.followers.unit.push((db, effect));
    }

    #[cold]
    pub(crate) fn follow_gone_fields(&mut self, db: Db, gone: &GoneFields) {
        let mut args = vec![&b"HDEL"[..], &gone.key];
        args.extend(gone.fields.iter().map(|field| &**field));
        let effect = OwnedRequest::from_args(args);
        self.followers.unit.push((db, effect));
    }

    /// A command, a transaction or a script is at its end. Keys that expire under a walk go out each by itself.
    pub(crate) fn follow_unit(&mut self, session: &Session) {
        let walks = matches!(
            session.client.last_command.get(),
            Some(CommandId::Scan | CommandId::Randomkey)
        );
        self.followers.send(!walks);
    }

    /// What came so far is a whole of its own.
    pub(crate) fn follow_end(&mut self) {
        if self.followers.any() {
            self.followers.send(true);
        }
    }

    /// What happened by itself goes out each by itself.
    pub(crate) fn follow_singly(&mut self) {
        if self.followers.any() {
            self.followers.send(false);
        }
    }
}
