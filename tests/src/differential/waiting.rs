//! One client waits, another does what may serve it: what both are told.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use super::Args;
use super::case::line;
use super::grammar::Template;
use crate::chance::Chance;
use crate::client::Client;
use crate::reply::Reply;

/// Requests that wait for ever, as the templates of `templates.rs` are written.
const WAITERS: &[&str] = &[
    "BLMOVE l l (LEFT|RIGHT) (LEFT|RIGHT) 0",
    "BLMPOP 0 N:l (LEFT|RIGHT) [COUNT n]",
    "BLPOP l+ 0",
    "BRPOP l+ 0",
    "BRPOPLPUSH l l 0",
    "BZMPOP 0 N:z (MIN|MAX) [COUNT n]",
    "BZPOPMAX z+ 0",
    "BZPOPMIN z+ 0",
];
/// What may serve them, or take away what would.
const WAKERS: &[&str] = &[
    "RPUSH l v+",
    "LPUSH l v+",
    "RPUSH l int+",
    "LMOVE l l (LEFT|RIGHT) (LEFT|RIGHT)",
    "RPOPLPUSH l l",
    "LPOP l",
    "SORT l ALPHA STORE l",
    "ZADD z (score m)+",
    "ZUNIONSTORE z N:z",
    "ZRANGESTORE z z idx idx",
    "ZPOPMIN z",
    "RENAME l l",
    "RENAME z z",
    "COPY l l REPLACE",
    "COPY z z REPLACE",
    "DEL l",
    "DEL z",
    "SET l v",
    "MOVE l db",
    "SWAPDB 0 db",
    "EVAL lua 2 l l v",
    "MULTI",
    "EXEC",
];
/// Most requests while one waits.
const MEANWHILE_MAX: usize = 5;

/// A request that may wait, and what another client does meanwhile.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// What the other client does first.
    before: Vec<Args>,
    request: Args,
    meanwhile: Vec<Args>,
    resp3: bool,
}

/// In most cases what is waited for is emptied before: the request would be answered at once otherwise.
pub fn waiting(chance: &mut Chance) -> Waiting {
    let parsed = |lines: &[&str], chance: &mut Chance| {
        let line = lines[chance.below(lines.len())];
        Template::parse(line).request(chance)
    };
    let request = parsed(WAITERS, chance);
    let is_key = |arg: &Args, at: usize| {
        let arg = &arg[at];
        arg.len() == 2 && (arg[0] == b'l' || arg[0] == b'z') && arg[1].is_ascii_digit()
    };
    let keys = (1..request.len()).filter(|at| is_key(&request, *at));
    let before = keys
        .map(|at| vec![b"DEL".to_vec(), request[at].clone()])
        .collect();
    let meanwhile = (0..1 + chance.below(MEANWHILE_MAX))
        .map(|_| parsed(WAKERS, chance))
        .collect();
    let before = if chance.one_in(6) { Vec::new() } else { before };
    Waiting {
        before,
        request,
        meanwhile,
        resp3: chance.one_in(2),
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = |requests: &[Args]| requests.iter().map(line).collect::<Vec<_>>().join("; ");
        let (before, meanwhile) = (lines(&self.before), lines(&self.meanwhile));
        let protocol = if self.resp3 { 3 } else { 2 };
        write!(
            f,
            "in RESP{protocol} after {before}: {} meanwhile {meanwhile}",
            line(&self.request)
        )
    }
}

impl Waiting {
    /// What is asked, in the order of the replies that [`Waiting::run`] gives.
    pub fn requests(&self) -> Vec<Args> {
        let unblock = vec![b"CLIENT".to_vec(), b"UNBLOCK".to_vec()];
        let mut requests = [&self.before[..], &self.meanwhile].concat();
        requests.extend([vec![b"DISCARD".to_vec()], unblock, self.request.clone()]);
        requests
    }

    /// The other client's replies, whether the first one still waited at the end, and what that one was told.
    pub fn run(&self, server: SocketAddr) -> io::Result<Vec<Reply>> {
        let (mut waiter, mut other) = (Client::connect(server)?, Client::connect(server)?);
        if self.resp3 {
            waiter.ask(&["HELLO", "3"])?;
        }
        let mut replies = Vec::new();
        for args in &self.before {
            replies.push(other.ask(args)?);
        }
        let id = waiter
            .ask(&["CLIENT", "ID"])?
            .as_int()
            .unwrap_or(0)
            .to_string();
        waiter.send(&self.request)?;
        // It waits or is answered once its last command is no longer the question for its id.
        loop {
            let list = other.ask(&["CLIENT", "LIST", "ID", &id])?;
            if !list.as_text().unwrap_or_default().contains("cmd=client|id") {
                break;
            }
        }
        for args in &self.meanwhile {
            replies.push(other.ask(args)?);
        }
        replies.push(other.ask(&["DISCARD"])?);
        replies.push(other.ask(&["CLIENT", "UNBLOCK", &id])?);
        replies.push(waiter.read()?);
        Ok(replies)
    }
}
