//! SAVE, BGSAVE, LASTSAVE, BGREWRITEAOF, and REPLICAOF's refusal. What becomes of a snapshot is in `saving.rs`.

use larder_wire::Refusal;

use crate::turn::{Outcome, Turn};

pub fn save(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if !turn.node.saving.is_rewriting() {
        turn.node.refuse_second_save()?;
    }
    turn.node.save_at_once(turn.clock)?;
    turn.ok()
}

pub fn bgsave(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if turn.request.len() > 2 || (turn.request.len() == 2 && !turn.is_word(1, "schedule")) {
        return Err(Refusal::SYNTAX);
    }
    turn.node.refuse_second_save()?;
    turn.node.begin_save(turn.clock)?;
    turn.reply.simple("Background saving started");
    Ok(Outcome::Done)
}

pub fn bgrewriteaof(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let word = match turn.node.schedule_rewrite(turn.clock)? {
        true => "started",
        false => "scheduled",
    };
    turn.reply
        .simple(&format!("Background append only file rewriting {word}"));
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
