//! One pipelined connection to a node: what goes out, and for each request what its answer means to the ledger of its source.
//!
//! A request has a ticket. It is settled by the answer, or by the connection's loss: then nobody knows whether it was carried
//! out, and its keys are in doubt.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use larder_store::Db;
use larder_wire::resp::{ReplyScanner, reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::ledger::{Ledger, Name};
use crate::nodes::Shared;

/// Most that is under way to one node, in bytes and in requests.
const LINK_BYTES_MAX: usize = 4 * 1024 * 1024;
const LINK_REQUESTS_MAX: usize = 4096;
const READ_BYTES: usize = 64 * 1024;

/// What the answer to a request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A command of the stream, or a piece of a large key: when it is refused, its keys are in doubt.
    Write,
    /// The EXEC of a command, and of questions before it that count the keys and fields that it builds on: when fewer than so many
    /// are there, or the command is refused, its keys are in doubt.
    Guarded(usize),
    /// A key as the source had it: only a refusal that passes by itself puts it in doubt, any other ends the import.
    Whole,
    /// Of the link itself.
    Own,
}

pub(crate) struct Ticket {
    pub(crate) shared: Option<Rc<Shared>>,
    pub(crate) purpose: Purpose,
    /// Keys that are in doubt when it goes wrong.
    pub(crate) names: Vec<Name>,
    /// Keys that others of `names` are made of.
    pub(crate) builds_on: Vec<Name>,
    pub(crate) bytes: usize,
}

pub(crate) struct Link {
    pub(crate) out: RefCell<Vec<u8>>,
    pub(crate) tickets: RefCell<VecDeque<Ticket>>,
    pub(crate) open_bytes: Cell<usize>,
    pub(crate) db: Cell<Db>,
    pub(crate) wake: Notify,
    /// Why nothing is sent to the node any more.
    pub(crate) ended: RefCell<Option<String>>,
    pub(crate) room: Rc<Notify>,
    pub(crate) task: RefCell<Option<JoinHandle<()>>>,
}

impl Link {
    pub(crate) fn has_room(&self) -> bool {
        self.open_bytes.get() < LINK_BYTES_MAX && self.tickets.borrow().len() < LINK_REQUESTS_MAX
    }
}

impl Ticket {
    /// What the link asks for itself.
    pub(crate) fn of_link(bytes: usize) -> Ticket {
        Ticket {
            shared: None,
            purpose: Purpose::Own,
            names: Vec::new(),
            builds_on: Vec::new(),
            bytes,
        }
    }
}

pub(crate) fn push(link: &Link, bytes: &[u8], ticket: Ticket) {
    if let (Some(cause), Some(shared)) = (&*link.ended.borrow(), &ticket.shared) {
        shared.fail(cause.clone());
    }
    link.out.borrow_mut().extend_from_slice(bytes);
    link.open_bytes.set(link.open_bytes.get() + bytes.len());
    link.tickets.borrow_mut().push_back(ticket);
}

pub(crate) async fn write_all(link: &Link, mut write: OwnedWriteHalf) -> String {
    loop {
        let bytes = std::mem::take(&mut *link.out.borrow_mut());
        if bytes.is_empty() {
            link.wake.notified().await;
            continue;
        }
        if let Err(error) = write.write_all(&bytes).await {
            return error.to_string();
        }
    }
}

pub(crate) async fn read_all(link: &Link, mut read: OwnedReadHalf) -> String {
    let mut input = Vec::new();
    let mut scanner = ReplyScanner::new();
    loop {
        input.reserve(READ_BYTES);
        match read.read_buf(&mut input).await {
            Ok(0) => return "it closed the connection".to_string(),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
        let mut at = 0;
        loop {
            match scanner.scan(&input[at..]) {
                Ok(Some(len)) => {
                    let ticket = link.tickets.borrow_mut().pop_front();
                    let Some(ticket) = ticket else {
                        return "it sent a reply that nothing asked for".to_string();
                    };
                    link.open_bytes.set(link.open_bytes.get() - ticket.bytes);
                    settle(link, ticket, Some(&input[at..at + len]));
                    at += len;
                }
                Ok(None) => break,
                Err(error) => return format!("it sent garbage: {error}"),
            }
        }
        input.drain(..at);
        if at > 0 {
            link.room.notify_waiters();
        }
    }
}

/// A request has its answer; `None`: its connection was lost.
pub(crate) fn settle(link: &Link, ticket: Ticket, answer: Option<&[u8]>) {
    let Some(shared) = ticket.shared else {
        return;
    };
    let mut ledger = shared.ledger.borrow_mut();
    ledger.closed();
    let is_answered = answer.is_some();
    let outcome = match ticket.purpose {
        Purpose::Guarded(needs) => answer.map(|answer| guarded(answer, needs)),
        Purpose::Write | Purpose::Whole | Purpose::Own => answer.map(plain),
    };
    let refusal = match outcome {
        None => "the connection was lost".to_string(),
        Some(Outcome::Refused(text)) => text,
        Some(Outcome::Done) => {
            drop(ledger);
            return shared.changed.notify_one();
        }
        Some(Outcome::Missing) => {
            doubt(&mut ledger, link, &shared, ticket.names);
            drop(ledger);
            return shared.changed.notify_one();
        }
    };
    ledger.counts.refused += 1;
    let code = refusal.split(' ').next().unwrap_or("");
    let shown = ticket
        .names
        .first()
        .map(|name| String::from_utf8_lossy(&name.key).into_owned());
    if code == "OOM" {
        ledger.fail(format!(
            "Larder's memory is full: {refusal} (more shards: larder reshard, or a larger --maxmemory; then begin anew with --clear)"
        ));
    } else if ticket.purpose == Purpose::Whole && is_answered && !passes_by_itself(code) {
        ledger.fail(format!(
            "key {} cannot be written: {refusal}",
            shown.as_deref().unwrap_or("?")
        ));
    } else if ticket.names.is_empty() && is_answered && !passes_by_itself(code) {
        ledger.fail(format!(
            "a node refuses what the source carried out: {refusal}"
        ));
    } else if ticket.names.is_empty() {
        ledger.fail(format!(
            "a node was lost while it was told what concerns all nodes: {refusal} (begin anew with --clear)"
        ));
    }
    tracing::debug!("refused: {refusal}");
    doubt(&mut ledger, link, &shared, ticket.names);
    drop(ledger);
    shared.changed.notify_one();
}

/// Puts keys in doubt, and what was made of them by requests that are still under way behind.
fn doubt(ledger: &mut Ledger, link: &Link, shared: &Rc<Shared>, names: Vec<Name>) {
    let mut wrong: BTreeSet<Name> = names.into_iter().collect();
    for later in link.tickets.borrow().iter() {
        let is_ours = later
            .shared
            .as_ref()
            .is_some_and(|of| Rc::ptr_eq(of, shared));
        if is_ours && later.builds_on.iter().any(|name| wrong.contains(name)) {
            wrong.extend(later.names.iter().cloned());
        }
    }
    wrong.into_iter().for_each(|name| ledger.doubt(name));
}

/// What an answer says.
enum Outcome {
    Done,
    /// A key that the command builds on was not there.
    Missing,
    Refused(String),
}

fn plain(answer: &[u8]) -> Outcome {
    match reply::error_text(answer) {
        Some(text) => Outcome::Refused(String::from_utf8_lossy(text).into_owned()),
        None => Outcome::Done,
    }
}

/// The answer to an EXEC: numbers that are `needs` together, and that of the command.
fn guarded(answer: &[u8], needs: usize) -> Outcome {
    let Some((count, start)) = reply::array_header(answer) else {
        return match plain(answer) {
            Outcome::Done => Outcome::Refused("EXEC was not carried out".to_string()),
            refused => refused,
        };
    };
    let (mut rest, mut there) = (&answer[start..], 0);
    for _ in 1..count {
        let end = rest.windows(2).position(|two| two == b"\r\n");
        let (number, behind) = rest.split_at(end.map_or(rest.len(), |end| end + 2));
        there += reply::integer(number).unwrap_or(0);
        rest = behind;
    }
    match there == needs as i64 {
        true => plain(rest),
        false => Outcome::Missing,
    }
}

/// Whether a refusal by this code is one of a moment.
pub(crate) fn passes_by_itself(code: &str) -> bool {
    matches!(
        code,
        "MOVED"
            | "ASK"
            | "TRYAGAIN"
            | "CLUSTERDOWN"
            | "LOADING"
            | "READONLY"
            | "MASTERDOWN"
            | "NOREPLICAS"
            | "BUSY"
    )
}
