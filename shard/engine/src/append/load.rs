//! Carries out the commands of an append-only file, while the node answers that it loads.
//!
//! Nothing expires meanwhile: what a key's time meant for the commands after it was decided when they were written down. Commands go past the checks that a
//! client's pass: they were let pass once.

use larder_store::Db;
use larder_store::rdb::Loader;
use larder_wire::command::{self, CommandId, Found};
use larder_wire::replication::Place;
use larder_wire::resp::{OwnedRequest, Request};
use larder_wire::trust::Trust;

use super::read::{Along, NoCommand, Piece, Reader};
use crate::clock::Clock;
use crate::feed::Word;
use crate::node::Node;
use crate::session::Session;
use crate::turn::Outcome;

/// Commands carried out at once, at most.
const COMMANDS_PER_STEP: usize = 2000;

/// Why a file cannot be read is told in Redis' words, which its tools and handbooks know.
const READING: &str = "reading the append only file";

/// Why a file of commands cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {what}")]
pub struct ReplayError {
    pub offset: u64,
    pub what: String,
}

/// One file of commands on its way in. The bytes are given piece by piece, and it says how many it has no need of any more.
pub struct Replay {
    reader: Reader,
    session: Session,
    /// The commands since MULTI, which count when EXEC comes.
    transaction: Option<Vec<OwnedRequest>>,
    /// Bytes that were read.
    offset: u64,
    /// Bytes up to which all is whole.
    whole: u64,
    along: Along,
    /// The database of what comes next in the journal, if the file says it.
    db: Option<Db>,
    /// The place and the database by the last whole byte.
    whole_place: Option<Place>,
    whole_db: Option<Db>,
}

impl Replay {
    /// Bytes of the file up to which its commands are whole and were carried out.
    pub fn whole(&self) -> u64 {
        self.whole
    }

    /// Where the journal that wrote the file stood by there, if the file says it.
    pub fn place(&self) -> Option<Place> {
        self.whole_place
    }

    /// Its database there, likewise.
    pub fn place_db(&self) -> Option<Db> {
        self.whole_db
    }

    fn mark_whole(&mut self) {
        self.whole = self.offset;
        self.whole_place = self.along.place;
        self.whole_db = self.db;
    }
}

impl Node {
    /// A file of commands comes, from byte `offset` on: before that is a snapshot.
    pub fn begin_replay(&mut self, offset: u64, clock: Clock) -> Replay {
        let user = self.acl.default_user();
        let client = self
            .clients
            .add(String::new(), String::new(), user, clock.mono_ms);
        let mut session = Session::new(client, true);
        session.set_trust(Trust::Stranger, self.acl.default_user());
        Replay {
            reader: Reader::default(),
            session,
            transaction: None,
            offset,
            whole: offset,
            along: Along::default(),
            db: None,
            whole_place: None,
            whole_db: None,
        }
    }

    pub fn end_replay(&mut self, mut replay: Replay) {
        self.close_session(&mut replay.session);
        // What was written down is no change since then.
        self.saving.forget_changes();
    }

    /// Carries out whole commands at the beginning of `bytes`; how many bytes they are. 0: more is needed, or that is the end.
    pub fn replay_some(
        &mut self,
        replay: &mut Replay,
        bytes: &[u8],
        clock: Clock,
    ) -> Result<usize, ReplayError> {
        let mut at = 0;
        for _ in 0..COMMANDS_PER_STEP {
            let rest = &bytes[at..];
            let fault = |what: String, replay: &Replay| ReplayError {
                offset: replay.offset,
                what,
            };
            let piece = replay.reader.look(rest).map_err(|NoCommand(what)| {
                fault(format!("Bad file format {READING}: {what}"), replay)
            })?;
            let taken = match piece {
                Piece::Incomplete => break,
                Piece::Remark { bytes, place, db } => {
                    if place.is_some() {
                        replay.along.place = place;
                    }
                    if let Some(db) = db {
                        replay.session.set_db(db);
                        replay.db = Some(db);
                    }
                    bytes
                }
                Piece::Command { bytes } => {
                    let request = OwnedRequest::from(replay.reader.command(rest));
                    let selects = request.view().name().eq_ignore_ascii_case(b"SELECT");
                    self.replay_command(replay, request, clock)
                        .map_err(|what| fault(what, replay))?;
                    replay.along.went(bytes);
                    let known = selects || replay.db.is_some();
                    if known && replay.transaction.is_none() {
                        replay.db = Some(replay.session.db);
                    }
                    bytes
                }
            };
            at += taken;
            replay.offset += taken as u64;
            if replay.transaction.is_none() {
                replay.mark_whole();
            }
        }
        if let Some(loading) = &mut self.loading {
            loading.loaded_bytes += at as u64;
        }
        Ok(at)
    }

    fn replay_command(
        &mut self,
        replay: &mut Replay,
        request: OwnedRequest,
        clock: Clock,
    ) -> Result<(), String> {
        if Word::read(&request.view()).is_some() {
            // Of a cluster's journal: slots that left.
            return match &mut replay.transaction {
                Some(open) => {
                    open.push(request);
                    Ok(())
                }
                None => self.apply_effect(&mut replay.session, &request.view(), clock),
            };
        }
        let id = known(&request.view())?;
        match (id, &mut replay.transaction) {
            (CommandId::Multi, None) => {
                replay.transaction = Some(Vec::new());
                Ok(())
            }
            (CommandId::Multi, Some(_)) => {
                Err(format!("Bad file format {READING}: MULTI within MULTI"))
            }
            (CommandId::Exec, open @ Some(_)) => {
                let commands = open.take().unwrap_or_default();
                commands.iter().try_for_each(|request| {
                    if Word::read(&request.view()).is_some() {
                        return self.apply_effect(&mut replay.session, &request.view(), clock);
                    }
                    let id = known(&request.view())?;
                    self.carry_out(&mut replay.session, id, request.view(), clock)
                })
            }
            (CommandId::Exec, None) => {
                Err(format!("Bad file format {READING}: EXEC without MULTI"))
            }
            (_, Some(open)) => {
                open.push(request);
                Ok(())
            }
            (_, None) => self.carry_out(&mut replay.session, id, request.view(), clock),
        }
    }

    /// The time stands still at the beginning of time: nothing has expired by then.
    fn carry_out(
        &mut self,
        session: &mut Session,
        id: CommandId,
        request: Request<'_>,
        clock: Clock,
    ) -> Result<(), String> {
        let clock = Clock {
            unix_us: 0,
            mono_ms: clock.mono_ms,
        };
        let mut reply = Vec::new();
        let mut outcome = self.run(session, id, request, None, clock, &mut reply);
        while outcome == Outcome::Script {
            outcome = self.go_on(session, clock, &mut reply);
        }
        // What it told of keys is nobody's news.
        session.client.take_post(&mut reply);
        match reply.first() {
            // What a script answers is its own affair.
            Some(b'-') if !runs_a_script(id) => {
                let end = reply.iter().position(|byte| *byte == b'\r');
                let text = String::from_utf8_lossy(&reply[1..end.unwrap_or(reply.len())]);
                let name = command::spec(id).name.to_ascii_uppercase();
                Err(format!("{name} is refused: {text}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Where the files of commands end, and in which database. `None`: they do not say it.
    pub fn restored_to(&mut self, place: Option<Place>, db: Option<Db>) {
        self.loaded_from.went_on(place, db);
    }

    /// As [`Node::load_some`], of what an append-only file begins with: keys whose time has come stay, for what was written after them may need them.
    pub fn load_some_base<F>(
        &mut self,
        loader: &mut Loader<F>,
        clock: Clock,
    ) -> Result<bool, larder_store::rdb::LoadError>
    where
        F: FnMut(&mut Vec<u8>) -> Result<(), String>,
    {
        let clock = Clock {
            unix_us: 0,
            mono_ms: clock.mono_ms,
        };
        self.load_some(loader, clock)
    }
}

fn known(request: &Request<'_>) -> Result<CommandId, String> {
    let name = || String::from_utf8_lossy(request.name()).into_owned();
    match command::lookup(request.name(), request.get(1)) {
        Found::Command(id) if !command::spec(id).takes(request.len()) => Err(format!(
            "Bad file format {READING}: {} has a wrong number of arguments",
            name()
        )),
        Found::Command(id) if crate::call::is_control(id) => Err(format!(
            "Bad file format {READING}: {} is no command of a file",
            name()
        )),
        Found::Command(id) => Ok(id),
        Found::Unknown | Found::UnknownSubcommand(_) => {
            Err(format!("Unknown command '{}' {READING}", name()))
        }
    }
}

fn runs_a_script(id: CommandId) -> bool {
    matches!(
        id,
        CommandId::Eval
            | CommandId::Evalsha
            | CommandId::EvalRo
            | CommandId::EvalshaRo
            | CommandId::Fcall
            | CommandId::FcallRo
    )
}
