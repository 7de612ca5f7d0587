//! SELECT, and the commands that reach across databases: MOVE, SWAPDB, COPY, FLUSHALL, FLUSHDB.
//!
//! What they do to a key is told as such, not as a command: a feed sends the key whole, whoever listens hears of it in its database.

use larder_store::{Captured, Classes, Db};
use larder_wire::Refusal;

use crate::clock::Clock;
use crate::node::Node;
use crate::turn::{Outcome, Turn};

const OUT_OF_RANGE: Refusal = Refusal::fixed("ERR DB index is out of range");
const SAME_OBJECT: Refusal = Refusal::fixed("ERR source and destination objects are the same");

/// Argument `index` as C's int; `wrong` when it is none.
fn int_arg(turn: &Turn<'_>, index: usize, wrong: Option<&'static str>) -> Result<i64, Refusal> {
    let number = larder_store::number::parse_i64(turn.request.arg(index))
        .ok_or_else(|| wrong.map_or(Refusal::NOT_AN_INTEGER, Refusal::fixed))?;
    if i32::try_from(number).is_ok() {
        return Ok(number);
    }
    Err(match wrong {
        Some(text) => Refusal::fixed(text),
        None => Refusal::new(format!(
            "ERR value is out of range, value must between {} and {}",
            i32::MIN,
            i32::MAX
        )),
    })
}

fn db_arg(turn: &Turn<'_>, index: usize) -> Result<Db, Refusal> {
    Db::new(int_arg(turn, index, None)?).ok_or(OUT_OF_RANGE)
}

/// In a cluster, too: every slot has its keys in each database.
pub fn select(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let db = db_arg(turn, 1)?;
    turn.session.set_db(db);
    turn.ok()
}

pub fn move_(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let (from, to) = (turn.session.db, db_arg(turn, 2)?);
    let (key, now) = (turn.request.arg(1), turn.clock.now());
    turn.node.stats.writes.add(1);
    turn.node.before_change(from, key);
    turn.node.before_change(to, key);
    let moved = {
        let Some((source, target)) = turn.node.databases.pair(from, to) else {
            return Err(SAME_OBJECT);
        };
        let free = source.is_there(key, now) && !target.is_there(key, now);
        let captured = if free { source.extract(key, now) } else { None };
        captured.is_some_and(|Captured { value, expires }| {
            target.insert(key, value, expires, now);
            true
        })
    };
    turn.node.settle_gone(turn.clock);
    if moved {
        turn.node.key_went(from, key, turn.clock);
        turn.node.key_came(to, key, turn.clock);
        turn.node.say(from, Classes::GENERIC, "move_from", key);
        turn.node.say(to, Classes::GENERIC, "move_to", key);
    }
    turn.int(moved.into())
}

pub fn copy(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let from = turn.session.db;
    let (mut to, mut replace) = (from, false);
    let mut at = 3;
    while at < turn.request.len() {
        if turn.is_word(at, "replace") {
            replace = true;
        } else if turn.is_word(at, "db") && at + 1 < turn.request.len() {
            at += 1;
            to = db_arg(turn, at)?;
        } else {
            return Err(Refusal::SYNTAX);
        }
        at += 1;
    }
    let (key, other, now) = (turn.request.arg(1), turn.request.arg(2), turn.clock.now());
    if from == to && key == other {
        return Err(SAME_OBJECT);
    }
    turn.node.stats.writes.add(1);
    turn.node.before_change(to, other);
    let databases = &mut turn.node.databases;
    let there = databases.at(from).exists(key, now);
    let free = there && (!databases.at(to).is_there(other, now) || replace);
    let captured = if free {
        databases.at(from).capture(key)
    } else {
        None
    };
    turn.node.settle_gone(turn.clock);
    let copied = captured.is_some();
    if let Some(Captured { value, expires }) = captured {
        let target = turn.node.databases.at(to);
        target.say_replaced(other, now);
        target.insert(other, value, expires, now);
        turn.node.key_came(to, other, turn.clock);
        turn.node.say(to, Classes::GENERIC, "copy_to", other);
    }
    turn.int(copied.into())
}

/// A cluster's databases are not swapped, as in Valkey: no other node would.
pub fn swapdb(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if !turn.node.ownership.is_standalone() {
        return Err(Refusal::fixed("ERR SWAPDB is not allowed in cluster mode"));
    }
    let one = int_arg(turn, 1, Some("ERR invalid first DB index"))?;
    let other = int_arg(turn, 2, Some("ERR invalid second DB index"))?;
    let (one, other) = Db::new(one).zip(Db::new(other)).ok_or(OUT_OF_RANGE)?;
    if one != other {
        turn.node.stats.writes.add(1);
        turn.node.touch_all(one, Some(other), turn.clock);
        turn.node.touch_all(other, Some(one), turn.clock);
        turn.node.databases.swap(one, other);
        turn.node.saving.count_change();
        turn.node.snapshot_anew(turn.clock);
    }
    turn.ok()
}

pub fn flushall(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    check_flush(turn)?;
    turn.node.flush(None, turn.clock);
    turn.ok()
}

pub fn flushdb(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    check_flush(turn)?;
    let db = turn.session.db;
    turn.node.flush(Some(db), turn.clock);
    turn.ok()
}

/// `EPOCH n`, which Redis does not have, was judged when the command was admitted.
fn check_flush(turn: &Turn<'_>) -> Result<(), Refusal> {
    let rest = 1 + usize::from(turn.is_word(1, "async") || turn.is_word(1, "sync"));
    let epoch = !turn.node.ownership.is_standalone() && turn.is_word(rest, "epoch");
    if turn.request.len() != rest + 2 * usize::from(epoch) {
        return Err(Refusal::SYNTAX);
    }
    Ok(())
}

impl Node {
    /// A command that reaches across databases may change `key` in one.
    fn before_change(&mut self, db: Db, key: &[u8]) {
        if let Some(snapshot) = self.saving.snapshot() {
            snapshot.before_change(db, key, self.databases.at(db));
        }
        if self.backups.any() {
            self.backups.before_change(db, key, self.databases.at(db));
        }
    }

    /// A command that reaches across databases has taken `key` out of one.
    fn key_went(&mut self, db: Db, key: &[u8], clock: Clock) {
        self.feed_gone(db, key, clock);
        self.touch_key(db, key);
        self.blocked.signal(db, key);
    }

    /// A command that reaches across databases has put `key` into one, whatever was there.
    fn key_came(&mut self, db: Db, key: &[u8], clock: Clock) {
        self.saving.count_change();
        self.feed_came(db, key, clock);
        self.touch_key(db, key);
        self.blocked.signal(db, key);
    }

    /// Drops what clients see of one database, or of all.
    fn flush(&mut self, only: Option<Db>, clock: Clock) {
        self.stats.writes.add(1);
        for db in Db::all().filter(|db| only.is_none_or(|only| only == *db)) {
            if self.databases.get(db).is_some() {
                self.touch_all(db, None, clock);
                self.databases.at(db).drop_visible();
            }
        }
        if self.tracking.hears() {
            self.tracking.invalidate_all(&self.clients);
        }
        self.feed_flush(only);
        self.saving.count_change();
        self.snapshot_anew(clock);
    }

    /// All keys of `db` are about to go, or to make place for those of `replaced_by`: whoever waits to hear of one that is in
    /// either is told.
    fn touch_all(&mut self, db: Db, replaced_by: Option<Db>, clock: Clock) {
        let heard: Vec<Box<[u8]>> = self
            .watched
            .keys()
            .filter(|(of, key)| {
                let spaces = [Some(db), replaced_by].into_iter().flatten();
                let mut spaces = spaces.filter_map(|db| self.databases.get(db));
                *of == db && spaces.any(|space| space.peek_type(&**key, clock.now()).is_some())
            })
            .map(|(_, key)| key.clone())
            .collect();
        for key in heard {
            self.break_watches(db, &key);
        }
        self.blocked.signal_all(db);
    }
}
