//! What one command of a source's stream means over here.
//!
//! A command whose keys lie in one slot goes to that slot's node as it came. One that joins slots, or touches a key in doubt
//! (`ledger.rs`), is not carried out: the keys that it writes are fetched from the source. What is not known, or cannot be followed,
//! ends the import with a line that names it; nothing is passed over in silence.
//!
//! Pure: bytes in, a [`Step`] out.

use larder_store::{DB_COUNT, Db};
use larder_wire::command::{self, CommandId, Found, KeyFlags, keys};
use larder_wire::resp::{OwnedRequest, Request};
use larder_wire::{Slot, SlotSet, slot_of};

use crate::ledger::{Name, Standing};

/// What is to be done for one command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: it changes no key.
    Nothing,
    /// Tell how far the stream was read.
    Acknowledge,
    Select(Db),
    Send(Vec<Command>),
    /// To every node: functions and scripts.
    Everywhere(Vec<u8>),
    /// All keys of one database, or of all.
    Empty(Option<Db>),
    /// The keys are to be fetched.
    Fetch(Vec<Name>),
}

/// A request for the node of one slot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) slot: Slot,
    pub(crate) bytes: Vec<u8>,
    /// Keys that it changes: in doubt when it goes wrong.
    pub(crate) writes: Vec<Name>,
    /// Keys whose value it builds on. When one is not there, it may have expired here and not at the source when the
    /// command ran there: then what it writes is in doubt.
    pub(crate) needs: Vec<Box<[u8]>>,
    /// Likewise of fields of its key.
    pub(crate) fields: Vec<Box<[u8]>>,
}

/// Why the stream cannot be followed: one line for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfollowable {
    #[error("the source's stream has the command {0}, which is not known here (of a module?)")]
    Unknown(String),
    #[error(
        "the source ran SWAPDB, which a cluster cannot follow (begin anew: larder import --clear)"
    )]
    SwapDb,
    #[error(
        "the source has a key in slot {0}, which it did not own when the import began: the old cluster is being resharded (finish that, then begin anew with --clear)"
    )]
    ForeignSlot(Slot),
    #[error("the source uses database {0}, and there are {DB_COUNT}")]
    NoSuchDb(String),
}

/// What a command meets.
pub(crate) struct Scene<'a> {
    /// The stream's database.
    pub(crate) db: Db,
    /// The source's slots.
    pub(crate) slots: &'a SlotSet,
    /// Whether no key at all is in doubt.
    pub(crate) is_level: bool,
    /// Whether hashes may have fields that expire.
    pub(crate) has_timed_fields: bool,
    pub(crate) standing: &'a dyn Fn(&Name) -> Standing,
}

pub(crate) fn translate(request: &Request<'_>, scene: &Scene<'_>) -> Result<Step, Unfollowable> {
    let id = match command::lookup(request.name(), request.get(1)) {
        Found::Command(id) => id,
        Found::UnknownSubcommand(_) | Found::Unknown => {
            return Err(Unfollowable::Unknown(shown(request)));
        }
    };
    match id {
        CommandId::Select => {
            let db = request.get(1).unwrap_or(b"");
            Ok(Step::Select(db_of(db)?))
        }
        CommandId::Replconf => {
            let getack = request
                .get(1)
                .is_some_and(|word| word.eq_ignore_ascii_case(b"getack"));
            Ok(if getack {
                Step::Acknowledge
            } else {
                Step::Nothing
            })
        }
        CommandId::Flushall => Ok(Step::Empty(None)),
        CommandId::Flushdb => Ok(Step::Empty(Some(scene.db))),
        CommandId::Swapdb => Err(Unfollowable::SwapDb),
        CommandId::FunctionLoad
        | CommandId::FunctionDelete
        | CommandId::FunctionFlush
        | CommandId::FunctionRestore
        | CommandId::ScriptLoad
        | CommandId::ScriptFlush => Ok(Step::Everywhere(request.bytes().to_vec())),
        id => with_keys(id, request, scene),
    }
}

/// A key of a command, and what the command does with it.
struct Touched<'a> {
    at: usize,
    key: &'a [u8],
    db: Db,
    slot: Slot,
    flags: KeyFlags,
    standing: Standing,
}

fn with_keys(
    id: CommandId,
    request: &Request<'_>,
    scene: &Scene<'_>,
) -> Result<Step, Unfollowable> {
    let mut touched = Vec::new();
    for found in keys::positions(id, request) {
        let Some(key) = request.get(found.at) else {
            continue;
        };
        let slot = slot_of(key);
        if !scene.slots.contains(slot) {
            return Err(Unfollowable::ForeignSlot(slot));
        }
        touched.push(Touched {
            at: found.at,
            key,
            db: scene.db,
            slot,
            flags: found.flags,
            standing: Standing::Level,
        });
    }
    // PFCOUNT keeps its count in the value.
    let is_write = command::spec(id).is_write() || id == CommandId::Pfcount;
    if touched.is_empty() || !is_write {
        // PUBLISH, PING, MULTI and EXEC; a script without keys left its effects as commands of their own.
        let harmless = !is_write || matches!(id, CommandId::Eval | CommandId::Evalsha);
        return match harmless {
            true => Ok(Step::Nothing),
            false => Err(Unfollowable::Unknown(shown(request))),
        };
    }
    elsewhere(id, request, &mut touched)?;
    if !scene.is_level {
        for touched in &mut touched {
            touched.standing = (scene.standing)(&Name::new(touched.db, touched.key));
        }
    }
    let slot = touched[0].slot;
    let is_plain = touched
        .iter()
        .all(|touched| touched.slot == slot && touched.standing == Standing::Level);
    if is_plain && !reads_by_pattern(id, request) {
        let all_needed = looks_before_it_sets(id, request);
        return Ok(Step::Send(vec![Command {
            slot,
            bytes: as_sent(id, request),
            writes: names(touched.iter().filter(|touched| touched.is_written())),
            needs: touched
                .iter()
                .filter(|touched| all_needed || touched.is_needed())
                .filter(|touched| touched.db == scene.db)
                .map(|touched| touched.key.into())
                .collect(),
            fields: fields_needed(id, request, scene.has_timed_fields),
        }]));
    }
    if let Some(parts) = split(id, request, &touched) {
        return Ok(Step::Send(parts));
    }
    let doubtful = touched
        .iter()
        .filter(|touched| touched.is_written() && touched.standing == Standing::Level);
    Ok(Step::Fetch(names(doubtful)))
}

/// Keys that a command takes from one database to another.
fn elsewhere<'a>(
    id: CommandId,
    request: &Request<'a>,
    touched: &mut Vec<Touched<'a>>,
) -> Result<(), Unfollowable> {
    match id {
        CommandId::Move => {
            let target = db_of(request.get(2).unwrap_or(b""))?;
            let (key, slot) = (touched[0].key, touched[0].slot);
            touched.push(Touched {
                at: 1,
                key,
                db: target,
                slot,
                flags: KeyFlags::OW,
                standing: Standing::Level,
            });
        }
        CommandId::Copy => {
            let word = (3..request.len()).find(|at| {
                let word = request.get(*at);
                word.is_some_and(|word| word.eq_ignore_ascii_case(b"db"))
            });
            if let (Some(at), Some(target)) = (word, touched.get_mut(1)) {
                target.db = db_of(request.get(at + 1).unwrap_or(b""))?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Commands that are the same key by key: each key that is as the stream says gets its own.
fn split(id: CommandId, request: &Request<'_>, touched: &[Touched<'_>]) -> Option<Vec<Command>> {
    let with_value = match id {
        CommandId::Del | CommandId::Unlink => false,
        CommandId::Mset => true,
        _ => return None,
    };
    let level = touched
        .iter()
        .filter(|touched| touched.standing == Standing::Level);
    Some(
        level
            .map(|touched| {
                let args: Vec<&[u8]> = match (with_value, request.get(touched.at + 1)) {
                    (true, Some(value)) => vec![b"SET", touched.key, value],
                    (true, None) | (false, _) => vec![b"UNLINK", touched.key],
                };
                Command {
                    slot: touched.slot,
                    bytes: OwnedRequest::from_args(args).into_bytes(),
                    writes: vec![Name::new(touched.db, touched.key)],
                    needs: Vec::new(),
                    fields: Vec::new(),
                }
            })
            .collect(),
    )
}

/// SORT with BY or GET reads keys that no position tells.
fn reads_by_pattern(id: CommandId, request: &Request<'_>) -> bool {
    let mut words = request.args_from(2);
    id == CommandId::Sort
        && words.any(|word| word.eq_ignore_ascii_case(b"by") || word.eq_ignore_ascii_case(b"get"))
}

/// Whether a command that is flagged as setting a key blindly looks at what was there: by XX, KEEPTTL or IFEQ. A value that is such
/// a word asks once too often, which harms nobody.
fn looks_before_it_sets(id: CommandId, request: &Request<'_>) -> bool {
    let mut words = match id {
        CommandId::Set => request.args_from(3),
        CommandId::Msetex => request.args_from(2),
        _ => return false,
    };
    words.any(|word| {
        [&b"xx"[..], b"keepttl", b"ifeq"]
            .iter()
            .any(|option| word.eq_ignore_ascii_case(option))
    })
}

/// Whether the command gives fields of a hash a life of their own, or brings a hash that may have such.
pub(crate) fn brings_timed_fields(request: &Request<'_>) -> bool {
    matches!(
        command::lookup(request.name(), request.get(1)),
        Found::Command(
            CommandId::Hexpire
                | CommandId::Hpexpire
                | CommandId::Hexpireat
                | CommandId::Hpexpireat
                | CommandId::Hsetex
                | CommandId::Hgetex
                | CommandId::Restore
                | CommandId::RestoreAsking
        )
    )
}

/// Fields of a hash that a command builds on. They expire as keys do.
fn fields_needed(id: CommandId, request: &Request<'_>, has_timed_fields: bool) -> Vec<Box<[u8]>> {
    let word = |of: &[u8]| {
        let mut places = 2..request.len();
        places.find(|at| {
            let word = request.get(*at);
            word.is_some_and(|word| word.eq_ignore_ascii_case(of))
        })
    };
    let listed = |stride: usize| -> Vec<Box<[u8]>> {
        let first = word(b"fields").map_or(request.len(), |at| at + 2);
        let fields = request.args_from(first.min(request.len()));
        fields.step_by(stride).map(Box::from).collect()
    };
    match id {
        CommandId::Hincrby | CommandId::Hincrbyfloat if has_timed_fields => {
            request.get(2).map(Box::from).into_iter().collect()
        }
        CommandId::Hexpire
        | CommandId::Hpexpire
        | CommandId::Hexpireat
        | CommandId::Hpexpireat
        | CommandId::Hpersist
        | CommandId::Hgetex => listed(1),
        CommandId::Hsetex if word(b"keepttl").is_some() || word(b"fxx").is_some() => listed(2),
        _ => Vec::new(),
    }
}

impl Touched<'_> {
    fn is_written(&self) -> bool {
        !self.flags.has(KeyFlags::RO)
    }

    /// Whether what the command does depends on what the key holds.
    fn is_needed(&self) -> bool {
        self.flags.any_of(KeyFlags::RW.with(KeyFlags::RO))
    }
}

fn names<'a>(touched: impl Iterator<Item = &'a Touched<'a>>) -> Vec<Name> {
    touched
        .map(|touched| Name::new(touched.db, touched.key))
        .collect()
}

/// MIGRATE of a source restores keys by another name, which only a slot on its way takes.
fn as_sent(id: CommandId, request: &Request<'_>) -> Vec<u8> {
    match id {
        CommandId::RestoreAsking => {
            let mut args: Vec<&[u8]> = request.args_from(0).collect();
            args[0] = b"RESTORE";
            OwnedRequest::from_args(args).into_bytes()
        }
        _ => request.bytes().to_vec(),
    }
}

fn db_of(text: &[u8]) -> Result<Db, Unfollowable> {
    let text = String::from_utf8_lossy(text);
    let db = text.parse().ok().and_then(Db::new);
    db.ok_or_else(|| Unfollowable::NoSuchDb(text.into_owned()))
}

fn shown(request: &Request<'_>) -> String {
    const SHOWN_BYTES_MAX: usize = 64;
    let words = request.args_from(0).take(2);
    let words: Vec<String> = words
        .map(|word| String::from_utf8_lossy(&word[..word.len().min(SHOWN_BYTES_MAX)]).into_owned())
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step_in(
        line: &str,
        slots: &SlotSet,
        doubt: &[(&str, Standing)],
    ) -> Result<Step, Unfollowable> {
        let request = OwnedRequest::from_args(line.split(' ').collect::<Vec<_>>());
        let scene = Scene {
            db: Db::ZERO,
            slots,
            is_level: doubt.is_empty(),
            has_timed_fields: false,
            standing: &|name| {
                let found = doubt.iter().find(|(key, _)| key.as_bytes() == &*name.key);
                found.map_or(Standing::Level, |(_, standing)| *standing)
            },
        };
        translate(&request.view(), &scene)
    }

    fn step(line: &str) -> Step {
        step_in(line, &SlotSet::full(), &[]).unwrap()
    }

    /// What is sent, as lines; keys that are needed behind a bar.
    fn sent(step: Step) -> Vec<String> {
        let Step::Send(commands) = step else {
            panic!("{step:?}");
        };
        let line = |command: Command| {
            let mut scanner = larder_wire::resp::RequestScanner::new();
            scanner.scan(&command.bytes).unwrap();
            let request = scanner.request(&command.bytes);
            let words: Vec<_> = request.args_from(0).map(String::from_utf8_lossy).collect();
            let needs: Vec<_> = command
                .needs
                .iter()
                .map(|key| String::from_utf8_lossy(key))
                .collect();
            format!("{}|{}", words.join(" "), needs.join(" "))
        };
        commands.into_iter().map(line).collect()
    }

    fn fetched(step: Step) -> Vec<String> {
        let Step::Fetch(names) = step else {
            panic!("{step:?}");
        };
        let key = |name: Name| String::from_utf8(name.key.to_vec()).unwrap();
        names.into_iter().map(key).collect()
    }

    #[test]
    fn a_command_of_one_slot_goes_as_it_came_and_says_what_it_builds_on() {
        assert_eq!(sent(step("SET a 1")), ["SET a 1|"]);
        assert_eq!(sent(step("INCR a")), ["INCR a|a"]);
        assert_eq!(sent(step("SET a 1 PXAT 9")), ["SET a 1 PXAT 9|"]);
        assert_eq!(sent(step("SET a 1 KEEPTTL")), ["SET a 1 KEEPTTL|a"]);
        assert_eq!(sent(step("SET a 1 xx")), ["SET a 1 xx|a"]);
        assert_eq!(sent(step("SET a 1 IFEQ 2")), ["SET a 1 IFEQ 2|a"]);
        assert_eq!(
            sent(step("MSETEX 1 a 1 KEEPTTL")),
            ["MSETEX 1 a 1 KEEPTTL|a"]
        );
        assert_eq!(sent(step("DEL a")), ["DEL a|"]);
        assert_eq!(
            sent(step("SINTERSTORE {a}d {a}1 {a}2")),
            ["SINTERSTORE {a}d {a}1 {a}2|{a}d {a}1 {a}2"]
        );
        assert_eq!(sent(step("PEXPIREAT a 9")), ["PEXPIREAT a 9|a"]);
        assert_eq!(sent(step("PFCOUNT a")), ["PFCOUNT a|a"]);
        assert_eq!(sent(step("RESTORE-ASKING a 0 x")), ["RESTORE a 0 x|"]);
    }

    #[test]
    fn what_joins_slots_is_split_where_that_is_the_same_else_what_it_writes_is_fetched() {
        assert_eq!(sent(step("DEL a b")), ["UNLINK a|", "UNLINK b|"]);
        assert_eq!(sent(step("MSET a 1 b 2")), ["SET a 1|", "SET b 2|"]);
        assert_eq!(fetched(step("RENAME a b")), ["a", "b"]);
        assert_eq!(fetched(step("SINTERSTORE d a b")), ["d"]);
        assert_eq!(fetched(step("LMOVE a b LEFT LEFT")), ["a", "b"]);
        assert_eq!(fetched(step("BITOP AND d a b")), ["d"]);
        assert_eq!(fetched(step("SORT a STORE d")), ["d"]);
        assert_eq!(
            sent(step("SORT {a}l STORE {a}d")),
            ["SORT {a}l STORE {a}d|{a}l"]
        );
        assert_eq!(fetched(step("SORT {a}l BY {a}w* STORE {a}d")), ["{a}d"]);
    }

    #[test]
    fn fields_that_a_command_builds_on_are_named_where_they_can_have_expired() {
        let fields = |line: &str, has_timed_fields| {
            let request = OwnedRequest::from_args(line.split(' ').collect::<Vec<_>>());
            let Found::Command(id) = command::lookup(request.view().name(), None) else {
                panic!("{line} is a command");
            };
            let fields = fields_needed(id, &request.view(), has_timed_fields);
            let fields: Vec<&[u8]> = fields.iter().map(AsRef::as_ref).collect();
            String::from_utf8(fields.join(&b' ')).expect("text")
        };
        assert_eq!(fields("HINCRBY h f 1", false), "");
        assert_eq!(fields("HINCRBY h f 1", true), "f");
        assert_eq!(fields("HSET h f 1", true), "");
        assert_eq!(fields("HPERSIST h FIELDS 2 f g", false), "f g");
        assert_eq!(fields("HPEXPIREAT h 9 GT FIELDS 1 f", false), "f");
        assert_eq!(fields("HSETEX h PXAT 9 FIELDS 1 f v", false), "");
        assert_eq!(fields("HSETEX h KEEPTTL FIELDS 2 f v g w", false), "f g");
        assert_eq!(fields("HSETEX h fxx fields 1 f v", false), "f");
    }

    #[test]
    fn keys_in_doubt_are_passed_over_and_what_depends_on_them_is_fetched() {
        let all = SlotSet::full();
        let step = |line: &str, standing| step_in(line, &all, &[("a", standing)]).unwrap();
        for standing in [Standing::Ahead, Standing::Dirty] {
            assert!(fetched(step("INCR a", standing)).is_empty());
            assert!(sent(step("DEL a", standing)).is_empty());
            assert_eq!(sent(step("DEL a b", standing)), ["UNLINK b|"]);
            assert_eq!(fetched(step("COPY a b", standing)), ["b"]);
            assert_eq!(sent(step("INCR b", standing)), ["INCR b|b"]);
        }
    }

    #[test]
    fn databases_are_followed() {
        let Step::Send(commands) = step("MOVE a 3") else {
            panic!("one command");
        };
        let three = Db::new(3).unwrap();
        assert_eq!(
            commands[0].writes,
            [Name::new(Db::ZERO, b"a"), Name::new(three, b"a")]
        );
        assert_eq!(step("SELECT 3"), Step::Select(three));
        assert_eq!(step("FLUSHDB"), Step::Empty(Some(Db::ZERO)));
        assert_eq!(step("FLUSHALL ASYNC"), Step::Empty(None));
        assert_eq!(
            step_in("SELECT 16", &SlotSet::full(), &[]),
            Err(Unfollowable::NoSuchDb("16".to_string()))
        );
    }

    #[test]
    fn what_cannot_be_followed_ends_the_import_and_what_changes_nothing_does_not() {
        for line in [
            "PING",
            "MULTI",
            "EXEC",
            "PUBLISH a b",
            "SPUBLISH a b",
            "REPLCONF x",
        ] {
            assert_eq!(step(line), Step::Nothing, "{line}");
        }
        assert_eq!(step("REPLCONF GETACK *"), Step::Acknowledge);
        assert!(matches!(step("FUNCTION FLUSH"), Step::Everywhere(_)));
        let all = SlotSet::full();
        assert!(matches!(
            step_in("JSON.SET a $ 1", &all, &[]),
            Err(Unfollowable::Unknown(_))
        ));
        assert_eq!(step_in("SWAPDB 0 1", &all, &[]), Err(Unfollowable::SwapDb));
        assert!(matches!(
            step_in("SET a 1", &SlotSet::new(), &[]),
            Err(Unfollowable::ForeignSlot(_))
        ));
    }
}
