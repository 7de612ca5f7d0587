//! One source, from its first byte to the cutover: connects, takes the RDB in, reads the stream of commands, mends keys in doubt, and
//! comes back after a lost connection where it was.
//!
//! Everything of one source happens in one task, in the order of its stream. What others want of it (how far it is, that it
//! compares some keys, that it ends) comes as an [`Order`] between two commands.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use larder_runtime::foreign::{self, Foreign, ForeignError, Login, info_field};
use larder_runtime::{Backoff, Reply, entropy};
use larder_store::Db;
use larder_wire::command::{self, CommandId, Found};
use larder_wire::resp::{OwnedRequest, RequestScanner, Scanned};
use larder_wire::{Slot, SlotSet, UnixMillis, slot_of};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::content::{self, Content, text};
use crate::ledger::{Ledger, Name};
use crate::load::{self, LoadFailure};
use crate::nodes::{Nodes, Purpose, Shared, keys_of};
use crate::pieces;
use crate::psync::{Answer, Point, Stream};
use crate::report::{Phase, SourceReport};
use crate::translate::{Scene, Step, brings_timed_fields, translate};

/// Keys that are fetched from the source at once.
const FETCH_KEYS_MAX: usize = 256;
/// Pause before keys are fetched again that a node has just refused, in milliseconds.
const REFUSED_MS: u64 = 10;
/// Slots that are emptied at once.
const EMPTY_SLOTS_MAX: usize = 512;
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

    fn offset(&self) -> u64 {
        self.point.as_ref().map_or(0, |point| point.offset)
    }

    /// Carries out every command that has arrived and that ends at or before `limit`.
    async fn consume(
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

    /// A FLUSHALL or FLUSHDB of the source: it concerns the source's slots alone.
    async fn empty(&mut self, db: Option<Db>) -> Result<(), Failure> {
        if self.place.in_cluster {
            self.settle_open().await;
            let emptied = empty_slots(&self.nodes, &self.place.slots, db).await;
            emptied.map_err(Failure::Final)?;
        } else {
            let word = if db.is_some() { "FLUSHDB" } else { "FLUSHALL" };
            let bytes = OwnedRequest::from_args([word]).into_bytes();
            self.send_everywhere(&bytes);
        }
        let mut ledger = self.shared.ledger.borrow_mut();
        ledger.emptied(|name| db.is_none_or(|db| name.db == db));
        Ok(())
    }

    /// Fetches keys in doubt until there are none, or a node has just refused some.
    async fn fetch_doubts(&mut self) -> Result<(), Failure> {
        loop {
            let (names, refused) = {
                let mut ledger = self.shared.ledger.borrow_mut();
                (ledger.take_dirty(FETCH_KEYS_MAX), ledger.counts.refused)
            };
            if names.is_empty() {
                return Ok(());
            }
            if std::mem::replace(&mut self.refused_before, refused) != refused {
                sleep(Duration::from_millis(REFUSED_MS)).await;
            }
            for group in self.at_once(&names) {
                if let Err(failure) = self.fetch(&group).await {
                    let mut ledger = self.shared.ledger.borrow_mut();
                    names.into_iter().for_each(|name| ledger.doubt(name));
                    return Err(failure);
                }
            }
        }
    }

    /// A server in cluster mode takes keys of one slot in a transaction.
    fn at_once(&self, names: &[Name]) -> Vec<Vec<Name>> {
        if !self.place.in_cluster {
            return vec![names.to_vec()];
        }
        let mut groups: BTreeMap<Slot, Vec<Name>> = BTreeMap::new();
        for name in names {
            groups
                .entry(slot_of(&name.key))
                .or_default()
                .push(name.clone());
        }
        groups.into_values().collect()
    }

    /// Writes keys as the source has them at this moment, and notes at which offset that is.
    async fn fetch(&mut self, names: &[Name]) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        content::push(&mut bytes, &[b"MULTI"]);
        content::push(&mut bytes, &[b"TIME"]);
        content::push(&mut bytes, &[b"INFO", b"replication"]);
        let (mut queued, mut db) = (3, None);
        for name in names {
            if db.replace(name.db) != Some(name.db) && self.needs_select() {
                content::push(&mut bytes, &[b"SELECT", name.db.to_string().as_bytes()]);
                queued += 1;
            }
            content::push(&mut bytes, &[b"PTTL", &name.key]);
            content::push(&mut bytes, &[b"DUMP", &name.key]);
            queued += 2;
        }
        content::push(&mut bytes, &[b"EXEC"]);
        let mut replies = self.aux().await?.ask_all(&bytes, queued + 1).await?;
        let executed = replies.pop();
        let Some(Reply::Array(items)) = executed else {
            let refusal = replies
                .iter()
                .chain(&executed)
                .find_map(|reply| match reply {
                    Reply::Error(text) => Some(text.clone()),
                    _ => None,
                });
            return Err(Failure::Lost(ForeignError::Refused {
                addr: self.place.addr.clone(),
                text: refusal.unwrap_or_else(|| "EXEC was not carried out".to_string()),
            }));
        };
        let mut items = items.into_iter();
        let now_ms = items.next().as_ref().and_then(millis).unwrap_or(0);
        let info = items.next().map(|info| text(&info)).unwrap_or_default();
        let at = self.offset_in(&info)?;
        let mut db = None;
        for name in names {
            if db.replace(name.db) != Some(name.db) && self.needs_select() {
                items.next();
            }
            let ttl_ms = match items.next() {
                Some(Reply::Int(ttl)) => ttl,
                _ => -1,
            };
            let expires = (ttl_ms >= 0).then_some(UnixMillis(now_ms + ttl_ms));
            let request = match items.next() {
                Some(Reply::Bulk(payload)) => pieces::restore(&name.key, &payload, expires),
                Some(Reply::Null) => {
                    OwnedRequest::from_args([b"UNLINK", &name.key[..]]).into_bytes()
                }
                Some(Reply::Error(text)) => {
                    return Err(Failure::Final(format!(
                        "key {} cannot be read from the source: {text}",
                        String::from_utf8_lossy(&name.key)
                    )));
                }
                _ => return Err(Failure::Final("the source's EXEC is too short".to_string())),
            };
            self.nodes.ready(&self.shared).await;
            self.shared.ledger.borrow_mut().fetched(name.clone(), at);
            let (slot, purpose) = (slot_of(&name.key), Purpose::Whole);
            self.nodes.send(
                slot,
                name.db,
                &request,
                purpose,
                vec![name.clone()],
                &self.shared,
            );
        }
        Ok(())
    }

    /// Servers in cluster mode had one database before Valkey 9, and some refuse any SELECT.
    fn needs_select(&self) -> bool {
        !self.place.in_cluster || self.db != Db::ZERO
    }

    /// The offset that INFO tells, if it is of the history that is followed.
    fn offset_in(&self, info: &str) -> Result<u64, Failure> {
        let followed = self.point.as_ref().map(|point| point.replid.as_str());
        let told = info_field(info, "master_replid");
        let offset = info_field(info, "master_repl_offset").and_then(|text| text.parse().ok());
        match offset {
            Some(offset) if followed.is_none() || followed == told => Ok(offset),
            Some(_) | None => Err(Failure::Lost(ForeignError::Lost {
                addr: self.place.addr.clone(),
                cause: "it has begun another history of writes".to_string(),
            })),
        }
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
    async fn settle_open(&self) {
        while self.shared.ledger.borrow().open() > 0
            && self.shared.ledger.borrow().fatal().is_none()
        {
            self.shared.changed.notified().await;
        }
    }

    /// Waits till every request has its answer and no key is in doubt.
    async fn settle(&mut self) -> Result<(), Failure> {
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

    /// What both sides hold of some keys of one database, each at one place of the stream, in the order of the keys.
    async fn compare(
        &mut self,
        stream: &mut Stream,
        scanner: &mut RequestScanner,
        names: &[Name],
    ) -> Result<Vec<Option<(Content, Content)>>, Failure> {
        if !self.place.in_cluster {
            return self.compare_at_once(stream, scanner, names).await;
        }
        let mut told = Vec::new();
        for name in names {
            let name = std::slice::from_ref(name);
            told.append(&mut self.compare_at_once(stream, scanner, name).await?);
        }
        Ok(told)
    }

    async fn compare_at_once(
        &mut self,
        stream: &mut Stream,
        scanner: &mut RequestScanner,
        names: &[Name],
    ) -> Result<Vec<Option<(Content, Content)>>, Failure> {
        let Some(db) = names.first().map(|name| name.db) else {
            return Ok(Vec::new());
        };
        let asked: Vec<&Name> = names.iter().collect();
        let info: &[&str] = &["INFO", "replication"];
        let (there, info) = content::read(self.aux().await?, db, &asked, Some(info)).await?;
        let at = self.offset_in(&info.map(|info| text(&info)).unwrap_or_default())?;
        while self.offset() < at {
            self.consume(stream, scanner, at).await?;
            if self.offset() < at {
                stream.more().await?;
            }
        }
        self.settle().await?;
        let mut told = Vec::new();
        for (name, there) in names.iter().zip(there) {
            let is_level = {
                let ledger = self.shared.ledger.borrow();
                // Fetched beyond the place at which it was read.
                ledger.standing(name, at + 1) == crate::ledger::Standing::Level
            };
            let here = match self.nodes.reader(slot_of(&name.key)).await {
                Ok(mut node) => content::read(&mut node, db, &[name], None).await?.0.pop(),
                Err(_) => None,
            };
            told.push(match (there, here.flatten()) {
                (Some(there), Some(here)) if is_level => Some((there, here)),
                _ => None,
            });
        }
        Ok(told)
    }

    /// How far the source is, and whether it is still the server whose keys are wanted.
    async fn look_at_source(&mut self) -> Result<(), Failure> {
        let info = text(&self.aux().await?.ask(["INFO", "replication"]).await?);
        let offset = self.offset_in(&info)?;
        let now = Instant::now();
        self.milestones.push((offset, now));
        let applied = self.offset();
        let passed = self.milestones.iter().rposition(|(at, _)| *at <= applied);
        if let Some(passed) = passed {
            self.milestones.drain(..passed);
        }
        {
            let mut report = self.report.borrow_mut();
            report.source_offset = offset;
            report.lag_bytes = offset.saturating_sub(applied);
            let since = self.milestones.first().filter(|_| offset > applied);
            report.lag_seconds = since.map_or(0.0, |(_, since)| (now - *since).as_secs_f64());
            let ledger = self.shared.ledger.borrow();
            report.counts = ledger.counts;
            report.in_doubt = ledger.dirty() as u64;
        }
        if self.place.in_cluster {
            let addr = self.place.addr.clone();
            let slots = self.aux().await?.ask(["CLUSTER", "SLOTS"]).await?;
            let primaries = foreign::primaries(&slots, &addr).unwrap_or_default();
            if let Some((_, slots)) = primaries.iter().find(|(known, _)| *known == addr)
                && *slots != self.place.slots
            {
                return Err(Failure::Final(resharded(&addr)));
            }
        }
        Ok(())
    }

    /// After a failover of the old cluster the slots have another primary, which goes on with the same history.
    async fn find_primary(&mut self) -> Result<(), Failure> {
        for seed in self.seeds.clone() {
            let Ok(mut server) = Foreign::connect(&seed, &self.login).await else {
                continue;
            };
            let Ok(slots) = server.ask(["CLUSTER", "SLOTS"]).await else {
                continue;
            };
            let Some(primaries) = foreign::primaries(&slots, &seed) else {
                continue;
            };
            let owner = primaries
                .into_iter()
                .find(|(_, slots)| !slots.is_disjoint(&self.place.slots));
            match owner {
                Some((addr, slots)) if slots == self.place.slots => {
                    if addr != self.place.addr {
                        tracing::warn!("the primary of slots {slots} is now {addr}");
                        self.report.borrow_mut().addr = addr.clone();
                        self.place.addr = addr;
                    }
                    return Ok(());
                }
                Some((addr, _)) => return Err(Failure::Final(resharded(&addr))),
                None => continue,
            }
        }
        Ok(())
    }

    /// The connection for questions, beside the one that is followed.
    async fn aux(&mut self) -> Result<&mut Foreign, Failure> {
        let server = match self.aux.take() {
            Some(server) => server,
            None => Foreign::connect(&self.place.addr, &self.login).await?,
        };
        Ok(self.aux.insert(server))
    }
}

fn resharded(addr: &str) -> String {
    format!(
        "the slots of {addr} have changed: the old cluster is being resharded (finish that, then begin anew with --clear)"
    )
}

/// Refusals of a source that pass by themselves.
fn passes(text: &str) -> bool {
    let code = text.split(' ').next().unwrap_or("");
    matches!(
        code,
        "LOADING" | "NOMASTERLINK" | "MASTERDOWN" | "BUSY" | "EXECABORT" | "CLUSTERDOWN"
    )
}

/// Milliseconds of a TIME reply.
fn millis(time: &Reply) -> Option<i64> {
    let Reply::Array(parts) = time else {
        return None;
    };
    let number = |at: usize| {
        parts
            .get(at)
            .and_then(|part| text(part).parse::<i64>().ok())
    };
    Some(number(0)? * 1000 + number(1)? / 1000)
}

/// Removes all keys of some slots, of one database or of all that hold any.
pub(crate) async fn empty_slots(
    nodes: &Rc<Nodes>,
    slots: &SlotSet,
    db: Option<Db>,
) -> Result<(), String> {
    let mut by_owner: BTreeMap<String, Vec<Slot>> = BTreeMap::new();
    for slot in slots.iter() {
        let owner = nodes.owner(slot);
        let owner = owner.ok_or_else(|| format!("nobody owns slot {slot}"))?;
        by_owner.entry(owner).or_default().push(slot);
    }
    for (owner, slots) in by_owner {
        let told = |error: ForeignError| error.to_string();
        let mut node = nodes.reader_at(&owner).await?;
        let info = text(&node.ask(["INFO", "keyspace"]).await.map_err(told)?);
        let holding = Db::all().filter(|db| info_field(&info, &format!("db{db}")).is_some());
        for db in holding.filter(|held| db.is_none_or(|db| db == *held)) {
            node.ask(["SELECT", &db.to_string()]).await.map_err(told)?;
            for slots in slots.chunks(EMPTY_SLOTS_MAX) {
                empty_some(&mut node, slots).await.map_err(told)?;
            }
        }
    }
    Ok(())
}

/// Removes the keys of some slots that one node owns.
async fn empty_some(node: &mut Foreign, slots: &[Slot]) -> Result<(), ForeignError> {
    const KEYS_AT_ONCE: &[u8] = b"1000";
    let mut slots = slots.to_vec();
    while !slots.is_empty() {
        let mut questions = Vec::new();
        for slot in &slots {
            let number = slot.number().to_string();
            let question: [&[u8]; 4] = [
                b"CLUSTER",
                b"GETKEYSINSLOT",
                number.as_bytes(),
                KEYS_AT_ONCE,
            ];
            content::push(&mut questions, &question);
        }
        let found = node.ask_all(&questions, slots.len()).await?;
        let (mut removals, mut left) = (Vec::new(), Vec::new());
        for (slot, keys) in slots.into_iter().zip(&found) {
            let keys: Vec<&[u8]> = match keys {
                Reply::Array(keys) => keys.iter().filter_map(Reply::bytes).collect(),
                _ => Vec::new(),
            };
            if !keys.is_empty() {
                let args: Vec<&[u8]> = std::iter::once(&b"UNLINK"[..]).chain(keys).collect();
                content::push(&mut removals, &args);
                left.push(slot);
            }
        }
        let removed = node.ask_all(&removals, left.len()).await?;
        if let Some(Reply::Error(text)) = removed
            .into_iter()
            .find(|reply| matches!(reply, Reply::Error(_)))
        {
            return Err(ForeignError::Refused {
                addr: node.addr().to_string(),
                text,
            });
        }
        slots = left;
    }
    Ok(())
}

impl Ledger {
    /// As it was left in an earlier run.
    pub(crate) fn with_doubts(doubts: Vec<Name>) -> Ledger {
        let mut ledger = Ledger::default();
        doubts.into_iter().for_each(|name| ledger.doubt(name));
        ledger
    }
}
