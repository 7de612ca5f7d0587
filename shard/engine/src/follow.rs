//! Followers: connections that sent SYNC get a snapshot of everything, then the journal as it grows.
//!
//! A follower is a reader: it acknowledges nothing, and nothing is repeated for it.

use std::rc::Rc;

use larder_wire::Refusal;
use larder_wire::resp::write::bulk_header;

use crate::client::Client;
use crate::journal::write_command;
use crate::turn::{Outcome, Turn};

/// Most bytes of data that SYNC sends: its snapshot is made in one piece, while the node stands still.
const SNAPSHOT_DATA_BYTES_MAX: u64 = 1 << 30;

/// Who follows.
#[derive(Default)]
pub struct Followers {
    clients: Vec<Rc<Client>>,
}

impl Followers {
    #[inline]
    pub(crate) fn any(&self) -> bool {
        !self.clients.is_empty()
    }

    pub(crate) fn forget(&mut self, client: &Rc<Client>) {
        self.clients.retain(|other| other.id != client.id);
    }

    /// What came into the journal, to all.
    pub(crate) fn pass_on(&self, bytes: &[u8]) {
        for client in &self.clients {
            client.post(|reply| reply.buffer().extend_from_slice(bytes));
        }
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
    turn.node.settle_journal();
    match turn.node.journal.db() {
        // A copy of another's stream is not this node's to say it again in.
        Some(db) if turn.node.is_replica() => {
            let number = db.to_string();
            write_command(turn.reply.buffer(), ["SELECT", &number]);
        }
        Some(_) | None => turn.node.journal.forget_db(),
    }
    Ok(Outcome::Done)
}
