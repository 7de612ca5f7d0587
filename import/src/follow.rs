//! One source, from its first byte to the cutover: connects, takes the RDB in, reads the stream of commands, mends keys in doubt
//! (`fetch.rs`), and comes back after a lost connection where it was.
//!
//! Everything of one source happens in one task, in the order of its stream. What others want of it (how far it is, that it
//! compares some keys, that it ends) comes as an [`Order`] between two commands.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use larder_runtime::foreign::{Foreign, ForeignError, Login};
use larder_runtime::{Backoff, entropy};
use larder_store::Db;
use larder_wire::SlotSet;
use larder_wire::command::{self, CommandId, Found};
use larder_wire::resp::{OwnedRequest, RequestScanner, Scanned};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::content::{Content, text};
use crate::empty::Emptied;
use crate::ledger::{Ledger, Name};
use crate::link::Purpose;
use crate::load::{self, LoadFailure};
use crate::nodes::{Nodes, Shared, keys_of};
use crate::psync::{Answer, Point, Stream};
use crate::report::{Phase, SourceReport};
use crate::translate::{Scene, Step, brings_timed_fields, translate};

/// So often the source is told how far it was read, and asked how far it is, in milliseconds.
const ACK_MS: u64 = 1000;
const DIAL_MS_MIN: u64 = 50;
const DIAL_MS_MAX: u64 = 1000;

/// Where a source is, and which keys it has.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) addr: String,
    pub(crate) slots: SlotSet,
    pub(crate) in_cluster: bool,
}

/// What is wanted of a source.
pub(crate) enum Order {
    /// Answered once the stream was taken in up to this offset, with the offset of the last command that wrote anything
    /// but a removal.
    Reach(u64, oneshot::Sender<u64>),
    /// Answered with what the two sides hold of these keys at one place of the stream; `None`: it cannot be told now.
    Compare(Vec<Name>, oneshot::Sender<Vec<Option<(Content, Content)>>>),
    /// How the stream is taken from here on; answered once it is so.
    Mode(Mode, oneshot::Sender<()>),
    /// Fetch these keys anew.
    Mend(Vec<Name>),
    /// Stop between two commands, everything taken in, and say where.
    Stop(oneshot::Sender<Stopped>),
}

/// What becomes of the source's stream. From the cutover on clients write to Larder: what the old server does then (keys expire
/// there, too) must not reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Apply,
    /// It waits.
    Freeze,
    /// It is read, and nothing is done.
    Watch,
}

/// Where a source was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    pub(crate) point: Point,
    pub(crate) db: Db,
    pub(crate) doubts: Vec<Name>,
}

/// Why a source can no longer be followed: one line for the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Final(String),
    #[error(transparent)]
    Lost(#[from] ForeignError),
}

pub(crate) struct Follower {
    pub(crate) place: Place,
    /// Any server that may know who is primary, when this one no longer is.
    pub(crate) seeds: Vec<String>,
    pub(crate) login: Login,
    pub(crate) port: u16,
    /// How long a source that is away is waited for.
    pub(crate) patience: Duration,
    pub(crate) nodes: Rc<Nodes>,
    pub(crate) shared: Rc<Shared>,
    pub(crate) report: Rc<RefCell<SourceReport>>,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    /// `None` before the first RDB was taken in whole.
    pub(crate) point: Option<Point>,
    pub(crate) db: Db,
    pub(crate) reaching: Vec<(u64, oneshot::Sender<u64>)>,
    pub(crate) last_write: u64,
    pub(crate) mode: Mode,
    pub(crate) aux: Option<Foreign>,
    pub(crate) refused_before: u64,
    /// Offsets that the source had reached, and when, for the lag in time.
    pub(crate) milestones: Vec<(u64, Instant)>,
}

impl Follower {
    /// Ends with where it stopped when that was ordered.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        let mut backoff = Backoff::new(
            Duration::from_millis(DIAL_MS_MIN),
            Duration::from_millis(DIAL_MS_MAX),
        );
        let mut away_since: Option<Instant> = None;
        loop {
            let failure = match self.follow(&mut away_since, &mut backoff).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            self.aux = None;
            let cause = match failure {
                Failure::Final(cause) => return Err(Failure::Final(cause)),
                Failure::Lost(ForeignError::Refused { addr, text }) if !passes(&text) => {
                    return Err(Failure::Final(format!("{addr} refuses: {text}")));
                }
                Failure::Lost(error) => error.to_string(),
            };
            let since = *away_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= self.patience {
                return Err(Failure::Final(format!(
                    "the source has been away for {} s: {cause} (what was copied stays; start the import again when it is back)",
                    self.patience.as_secs()
                )));
            }
            tracing::warn!("source {}: {cause}", self.place.addr);
            self.report.borrow_mut().trouble = Some(cause);
            sleep(backoff.next(entropy::jitter())).await;
            if self.place.in_cluster {
                self.find_primary().await?;
            }
        }
    }

    async fn follow(
        &mut self,
        away_since: &mut Option<Instant>,
        backoff: &mut Backoff,
    ) -> Result<(), Failure> {
        let (addr, from) = (self.place.addr.clone(), self.point.clone());
        let opened = Stream::open(&addr, &self.login, self.port, from.as_ref()).await?;
        let mut stream = match opened {
            (stream, Answer::Continue { replid }) => {
                if let (Some(point), Some(replid)) = (&mut self.point, replid) {
                    point.replid = replid;
                }
                stream
            }
            (_, Answer::Full(_)) if self.point.is_some() => {
                return Err(Failure::Final(format!(
                    "source {addr} can no longer tell what was written while the connection was lost: its backlog is too short, or it has started anew (set repl-backlog-size higher there, then begin anew: larder import --clear)"
                )));
            }
            (mut stream, Answer::Full(point)) => {
                self.take_rdb(&mut stream).await?;
                self.last_write = point.offset;
                self.point = Some(point);
                stream
            }
        };
        if self.point.is_none() {
            return Err(Failure::Final(format!(
                "source {addr} goes on where nothing has begun"
            )));
        }
        *away_since = None;
        backoff.reset();
        {
            let mut report = self.report.borrow_mut();
            report.trouble = None;
            report.phase = Phase::Streaming;
        }
        let offset = self.offset();
        stream.acknowledge(offset).await?;
        self.read_stream(&mut stream).await
    }

    async fn take_rdb(&mut self, stream: &mut Stream) -> Result<(), Failure> {
        let total = match self.aux().await?.ask(["INFO", "keyspace"]).await {
            Ok(info) => keys_of(&text(&info)),
            Err(error) => return Err(error.into()),
        };
        {
            let mut report = self.report.borrow_mut();
            report.phase = Phase::FullSync;
            report.keys_total = total;
        }
        let report = self.report.clone();
        let progress = move |keys, bytes| {
            let mut report = report.borrow_mut();
            (report.keys_copied, report.bytes_copied) = (keys, bytes);
        };
        let loaded = load::load(
            stream,
            &self.place.slots,
            &self.nodes,
            &self.shared,
            progress,
        );
        match loaded.await {
            Ok(()) => Ok(()),
            Err(LoadFailure::File { addr, cause }) => Err(Failure::Final(format!(
                "the data of {addr} cannot be taken in: {cause}"
            ))),
            Err(LoadFailure::Source(error)) => Err(Failure::Final(format!(
                "the source was lost before its data was copied: {error} (begin anew with --clear; is its client-output-buffer-limit for replicas large enough for what is written meanwhile?)"
            ))),
        }
    }

    /// Until the connection is lost, or it was ordered to stop.
    async fn read_stream(&mut self, stream: &mut Stream) -> Result<(), Failure> {
        let mut tick = interval(Duration::from_millis(ACK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut scanner = RequestScanner::new();
        loop {
            if self.mode != Mode::Freeze {
                self.consume(stream, &mut scanner, u64::MAX).await?;
                self.fetch_doubts().await?;
            }
            self.tell_reached();
            if let Some(cause) = self.shared.ledger.borrow().fatal() {
                return Err(Failure::Final(cause.to_string()));
            }
            let shared = self.shared.clone();
            tokio::select! {
                read = stream.more() => read?,
                () = shared.changed.notified() => {}
                _ = tick.tick() => {
                    let offset = self.offset();
                    stream.acknowledge(offset).await?;
                    self.look_at_source().await?;
                }
                order = self.orders.recv() => match order {
                    None => return Ok(()),
                    Some(Order::Reach(offset, answer)) => self.reaching.push((offset, answer)),
                    Some(Order::Mode(mode, answer)) => {
                        self.mode = mode;
                        // Whoever asked may have gone.
                        let _ = answer.send(());
                    }
                    Some(Order::Mend(names)) => {
                        let mut ledger = self.shared.ledger.borrow_mut();
                        names.into_iter().for_each(|name| ledger.doubt(name));
                    }
                    Some(Order::Compare(names, answer)) => {
                        let told = self.compare(stream, &mut scanner, &names).await?;
                        // Whoever asked may have gone.
                        let _ = answer.send(told);
                    }
                    Some(Order::Stop(answer)) => {
                        self.settle().await?;
                        let stopped = Stopped {
                            point: self.point.clone().unwrap_or(Point { replid: String::new(), offset: 0 }),
                            db: self.db,
                            doubts: self.shared.ledger.borrow().in_doubt(),
                        };
                        let _ = answer.send(stopped);
                        return Ok(());
                    }
                },
            }
        }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.point.as_ref().map_or(0, |point| point.offset)
    }

    /// Carries out every command that has arrived and that ends at or before `limit`.
    pub(crate) async fn consume(
        &mut self,
        stream: &mut Stream,
        scanner: &mut RequestScanner,
        limit: u64,
    ) -> Result<(), Failure> {
        let input = std::mem::take(&mut stream.input);
        let mut at = 0;
        let mut result = Ok(());
        while at < input.len() && self.offset() < limit {
            match scanner.scan(&input[at..]) {
                Ok(Scanned::Request { consumed }) => {
                    let ends_at = self.offset() + consumed as u64;
                    let owned = OwnedRequest::from(scanner.request(&input[at..]));
                    at += consumed;
                    result = self.carry_out(stream, owned, ends_at).await;
                    if let Some(point) = &mut self.point {
                        point.offset = ends_at;
                    }
                    self.shared.ledger.borrow_mut().passed(ends_at);
                    if result.is_err() {
                        break;
                    }
                }
                Ok(Scanned::Incomplete { .. }) => break,
                Err(error) => {
                    result = Err(Failure::Final(format!(
                        "source {} sends what is no command: {error}",
                        self.place.addr
                    )));
                    break;
                }
            }
        }
        // What came in while commands were carried out stands behind the rest of what came before.
        let mut rest = input;
        rest.drain(..at);
        rest.append(&mut stream.input);
        stream.input = rest;
        self.report.borrow_mut().offset = self.offset();
        result
    }

    async fn carry_out(
        &mut self,
        stream: &mut Stream,
        owned: OwnedRequest,
        ends_at: u64,
    ) -> Result<(), Failure> {
        let request = owned.view();
        if request.is_empty() {
            return Ok(());
        }
        if brings_timed_fields(&request) {
            self.shared.has_timed_fields.set(true);
        }
        self.nodes.ready(&self.shared).await;
        let step = {
            let ledger = self.shared.ledger.borrow();
            let scene = Scene {
                db: self.db,
                slots: &self.place.slots,
                is_level: ledger.is_level(),
                has_timed_fields: self.shared.has_timed_fields.get(),
                standing: &|name| ledger.standing(name, ends_at),
            };
            translate(&request, &scene).map_err(|error| Failure::Final(error.to_string()))?
        };
        self.note_write(&owned, &step, ends_at);
        match step {
            Step::Select(db) => self.db = db,
            _ if self.mode == Mode::Watch => {}
            Step::Nothing => {}
            Step::Acknowledge => stream.acknowledge(ends_at).await?,
            Step::Send(commands) => {
                self.report.borrow_mut().commands += 1;
                for command in commands {
                    self.nodes.carry_out(command, self.db, &self.shared);
                }
            }
            Step::Everywhere(bytes) => self.send_everywhere(&bytes),
            Step::Empty(db) => self.empty(db).await?,
            Step::Fetch(names) => {
                let mut ledger = self.shared.ledger.borrow_mut();
                names.into_iter().for_each(|name| ledger.doubt(name));
            }
        }
        Ok(())
    }

    /// Keeps where something was last written that is no removal: keys expire by themselves.
    fn note_write(&mut self, request: &OwnedRequest, step: &Step, ends_at: u64) {
        let name = request.view().name();
        let removes = matches!(
            command::lookup(name, None),
            Found::Command(CommandId::Del | CommandId::Unlink | CommandId::Hdel)
        );
        match step {
            Step::Send(_) | Step::Everywhere(_) | Step::Empty(_) | Step::Fetch(_) if !removes => {
                self.last_write = ends_at;
            }
            Step::Send(_)
            | Step::Everywhere(_)
            | Step::Empty(_)
            | Step::Fetch(_)
            | Step::Nothing
            | Step::Acknowledge
            | Step::Select(_) => {}
        }
    }

    fn send_everywhere(&self, bytes: &[u8]) {
        for addr in self.nodes.primaries() {
            let purpose = Purpose::Write;
            self.nodes
                .send_to(&addr, self.db, bytes, purpose, Vec::new(), &self.shared);
        }
    }

    /// A FLUSHALL or FLUSHDB of the source: it concerns the source's slots alone. What was sent before has its answers first, and
    /// nothing is sent before it is done.
    async fn empty(&mut self, db: Option<Db>) -> Result<(), Failure> {
        self.settle_open().await;
        let what = match self.place.in_cluster {
            true => Emptied::Slots(self.place.slots.clone()),
            false => Emptied::All,
        };
        let goes_on = || self.shared.ledger.borrow().fatal().is_none();
        let emptied = self.nodes.empty(what, db, goes_on).await;
        emptied.map_err(Failure::Final)?;
        let mut ledger = self.shared.ledger.borrow_mut();
        ledger.emptied(|name| db.is_none_or(|db| name.db == db));
        Ok(())
    }

    fn tell_reached(&mut self) {
        let (offset, last_write) = (self.offset(), self.last_write);
        if !self.shared.ledger.borrow().is_settled() {
            return;
        }
        {
            let mut report = self.report.borrow_mut();
            report.applied = offset;
        }
        let mut index = 0;
        while index < self.reaching.len() {
            if self.reaching[index].0 <= offset {
                let (_, answer) = self.reaching.remove(index);
                // Whoever asked may have given up.
                let _ = answer.send(last_write);
            } else {
                index += 1;
            }
        }
    }

    /// Waits till every request has its answer.
    pub(crate) async fn settle_open(&self) {
        while self.shared.ledger.borrow().open() > 0
            && self.shared.ledger.borrow().fatal().is_none()
        {
            self.shared.changed.notified().await;
        }
    }

    /// Waits till every request has its answer and no key is in doubt.
    pub(crate) async fn settle(&mut self) -> Result<(), Failure> {
        loop {
            self.settle_open().await;
            if let Some(cause) = self.shared.ledger.borrow().fatal() {
                return Err(Failure::Final(cause.to_string()));
            }
            if self.shared.ledger.borrow().is_settled() {
                return Ok(());
            }
            self.fetch_doubts().await?;
        }
    }

    /// The connection for questions, beside the one that is followed.
    pub(crate) async fn aux(&mut self) -> Result<&mut Foreign, Failure> {
        let server = match self.aux.take() {
            Some(server) => server,
            None => Foreign::connect(&self.place.addr, &self.login).await?,
        };
        Ok(self.aux.insert(server))
    }
}

/// Refusals of a source that pass by themselves.
fn passes(text: &str) -> bool {
    let code = text.split(' ').next().unwrap_or("");
    matches!(
        code,
        "LOADING" | "NOMASTERLINK" | "MASTERDOWN" | "BUSY" | "EXECABORT" | "CLUSTERDOWN"
    )
}

impl Ledger {
    /// As it was left in an earlier run.
    pub(crate) fn with_doubts(doubts: Vec<Name>) -> Ledger {
        let mut ledger = Ledger::default();
        doubts.into_iter().for_each(|name| ledger.doubt(name));
        ledger
    }
}
