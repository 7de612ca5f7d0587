//! SAVE, BGSAVE, LASTSAVE, BGREWRITEAOF: everything into one RDB file that any Redis can load.
//!
//! The bytes are made here, at one moment; the shell writes them. There is no append-only file: to rewrite it is nothing to do.

use larder_wire::Refusal;

use crate::clock::Clock;
use crate::config::Parameter;
use crate::node::Node;
use crate::turn::{Outcome, Turn};

/// Most bytes of data that are saved: the file is made in one piece, while the node stands still.
pub(crate) const SNAPSHOT_DATA_BYTES_MAX: u64 = 1 << 30;

/// Writes a file into a folder, whole or not at all: at once, or after it has returned.
pub type Saver = fn(folder: &str, name: &str, bytes: Vec<u8>, later: bool) -> Result<(), String>;

/// What became of the data's changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Saved {
    /// Seconds of the Unix clock; `None` before the first time.
    pub last: Option<i64>,
    pub saves: u64,
    /// Commands that changed something since.
    pub changes: u64,
}

impl Node {
    /// The shell tells who writes files; without one nothing can be saved.
    pub fn set_saver(&mut self, folder: String, saver: Saver) {
        self.config.fix(Parameter::Dir, folder);
        self.saver = Some(saver);
    }

    /// When the data was last saved, or the node started.
    pub(crate) fn last_save(&self, clock: Clock) -> i64 {
        let started = clock.unix_seconds() - (clock.mono_ms / 1000) as i64;
        self.saved.last.unwrap_or(started)
    }

    fn save(&mut self, clock: Clock, later: bool) -> Result<(), Refusal> {
        let saver = self
            .saver
            .ok_or(Refusal::fixed("ERR this server has no folder to save to"))?;
        if self.databases.used_memory() > SNAPSHOT_DATA_BYTES_MAX {
            return Err(Refusal::fixed(
                "ERR a save is made in one piece, and there is more than 1 GB of data here",
            ));
        }
        let bytes = larder_store::rdb::snapshot(&self.databases, clock.now());
        let (folder, name) = (
            self.config.get(Parameter::Dir),
            self.config.get(Parameter::Dbfilename),
        );
        saver(folder, name, bytes, later).map_err(|why| Refusal::new(format!("ERR {why}")))?;
        self.saved = Saved {
            last: Some(clock.unix_seconds()),
            saves: self.saved.saves + 1,
            changes: 0,
        };
        Ok(())
    }
}

pub fn save(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.node.save(turn.clock, false)?;
    turn.ok()
}

pub fn bgsave(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if turn.request.len() > 2 || (turn.request.len() == 2 && !turn.is_word(1, "schedule")) {
        return Err(Refusal::SYNTAX);
    }
    turn.node.save(turn.clock, true)?;
    turn.reply.simple("Background saving started");
    Ok(Outcome::Done)
}

pub fn bgrewriteaof(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.reply
        .simple("Background append only file rewriting started");
    Ok(Outcome::Done)
}

pub fn lastsave(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let at = turn.node.last_save(turn.clock);
    turn.int(at)
}

/// A node follows whom the topology says; NO ONE is what it follows by itself.
pub fn replicaof(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if !turn.node.ownership.is_standalone() {
        return Err(Refusal::fixed("ERR REPLICAOF not allowed in cluster mode."));
    }
    if turn.is_word(1, "no") && turn.is_word(2, "one") {
        return turn.ok();
    }
    Err(Refusal::fixed(
        "ERR a node becomes a replica by its topology, not by REPLICAOF",
    ))
}
