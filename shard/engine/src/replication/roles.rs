//! What a change of role is: a replica becomes a primary, a primary a replica; and what a former primary has that its shard does not.

use larder_wire::replication::Place;
use larder_wire::resp::{RequestScanner, Scanned};
use larder_wire::{History, NodeId, Offset, Role, SlotSet};

use crate::clock::Clock;
use crate::journal::{Journal, write_command};
use crate::node::Node;

/// Writes of this node that its shard does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The file in the data folder; or why there is none.
    pub kept: Result<String, String>,
    /// Commands; `None`: nobody knows how many.
    pub commands: Option<u64>,
    pub bytes: u64,
}

impl Node {
    pub fn is_replica(&self) -> bool {
        self.ownership.role() == Role::Replica
    }

    /// A map was taken by which this node is something else in its shard than before.
    pub(crate) fn settle_role(&mut self, before: Role, clock: Clock) {
        match (before, self.ownership.role()) {
            (Role::Primary, Role::Primary) | (Role::Replica, Role::Replica) => {}
            (Role::Replica, Role::Primary) => self.begin_reign(),
            (Role::Primary, Role::Replica) => self.end_reign(clock),
        }
        self.settle_upstream();
        self.settle_journal();
        self.settle_passive();
    }

    /// What is here is what the shard has, from here on under a history of its own.
    fn begin_reign(&mut self) {
        self.cut_upstream();
        let history = self.new_history();
        match self.journal.is_on() {
            true => self.journal.begin_history(history),
            false => self.journal.turn_on(history),
        }
        self.ownership.set_whole(true);
        self.replication.was_primary = false;
        // Keys of moves that ended with the former primary.
        let strays = SlotSet::full().difference(self.ownership.slots());
        self.drop_slots(&strays, None);
    }

    fn end_reign(&mut self, _clock: Clock) {
        self.end_links();
        for feed in &mut self.feeds {
            feed.end("the source is no primary any more");
        }
        self.fail_imports("the target is no primary any more");
        // What becomes of their keys is the next primary's to say.
        self.handed_over.clear();
        self.settle_holds();
        self.ownership.set_whole(self.journal.is_on());
        self.replication.was_primary = self.journal.is_on();
        self.journal.stop_recording();
    }

    pub(crate) fn new_history(&mut self) -> History {
        History(NodeId::from_bytes(std::array::from_fn(|_| {
            self.random.below(256) as u8
        })))
    }

    /// All data comes anew, from a primary whose history went on from `fork`: what this node has of that older history beyond the fork, nobody else
    /// may have. It is kept in a file, and counted.
    pub(crate) fn keep_lost(&mut self, fork: Option<Place>, clock: Clock) {
        let was_primary = std::mem::take(&mut self.replication.was_primary);
        let Some(own) = self.journal.place() else {
            return;
        };
        let fork = fork.filter(|fork| fork.history == own.history);
        let lost = match fork {
            Some(fork) if fork.offset >= own.offset => return,
            Some(fork) => self.keep_tail(own, fork.offset),
            None if was_primary => Lost {
                kept: Err("the new primary's history did not go on from this node's".to_string()),
                commands: None,
                bytes: 0,
            },
            None => return,
        };
        self.stats.lost_writes.add(lost.commands.unwrap_or(0));
        if lost.commands.is_none() {
            self.stats.lost_unknown.add(1);
        }
        self.replication.lost.push((clock.mono_ms, lost));
    }

    fn keep_tail(&mut self, own: Place, from: Offset) -> Lost {
        let bytes = own.offset.0 - from.0;
        let Some((commands, tail)) = read_tail(&self.journal, from) else {
            return Lost {
                kept: Err("they are out of the journal's reach".to_string()),
                commands: None,
                bytes,
            };
        };
        let found = self.ownership.map().find_node(self.settings.id);
        let shard = found.map_or_else(String::new, |(shard, _)| shard.id.to_string());
        let history = own.history.to_string();
        let name = format!("lost-{shard}-{}-{from}.aof", &history[..8]);
        Lost {
            kept: self.write_file(&name, &tail),
            commands: Some(commands),
            bytes,
        }
    }

    /// What was lost since this was last asked.
    pub fn take_lost(&mut self) -> Vec<Lost> {
        let lost = std::mem::take(&mut self.replication.lost);
        lost.into_iter().map(|(_, lost)| lost).collect()
    }
}

/// The commands from `from` to the end of a journal and how many they are, for a client to repeat; `None`: they are out of reach. The first
/// names its database.
pub(super) fn read_tail(journal: &Journal, from: Offset) -> Option<(u64, Vec<u8>)> {
    let mut kept = Vec::new();
    journal.read(journal.start(), usize::MAX, &mut kept).ok()?;
    let fork = usize::try_from(from.0.checked_sub(journal.start().0)?).ok()?;
    let mut scanner = RequestScanner::new();
    let mut at = 0;
    let mut commands = 0;
    let mut db = None;
    while let Ok(Scanned::Request { consumed }) = scanner.scan(&kept[at..]) {
        let request = scanner.request(&kept[at..]);
        let name = request.name();
        if at < fork {
            if name.eq_ignore_ascii_case(b"SELECT") {
                db = request.get(1).map(<[u8]>::to_vec);
            }
        } else if ![&b"SELECT"[..], b"MULTI", b"EXEC"]
            .iter()
            .any(|word| name.eq_ignore_ascii_case(word))
        {
            commands += 1;
        }
        at += consumed;
    }
    let mut tail = Vec::new();
    if let Some(db) = db {
        write_command(&mut tail, [&b"SELECT"[..], &db]);
    }
    tail.extend_from_slice(kept.get(fork..)?);
    Some((commands, tail))
}
