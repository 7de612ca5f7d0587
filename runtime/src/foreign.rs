//! Servers that are not ours: the URL of a Redis or Valkey, a connection to one, and what it says of its cluster.
//!
//! Replies are read by the hot path's scanner for their ends and by the `redis-protocol` crate for their contents. What is asked, and
//! why, is not known here.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use larder_wire::resp::{OwnedRequest, ReplyScanner};
use larder_wire::{Slot, SlotSet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Reply;

/// Longest wait for a connection and the answer to AUTH, in milliseconds.
pub const CONNECT_MS_MAX: u64 = 2000;
/// Longest wait for the answers to one request or pipeline, in milliseconds.
pub const ANSWER_MS_MAX: u64 = 30_000;
const PORT: u16 = 6379;

/// Who one is to a server. Never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    user: Option<String>,
    password: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

impl Login {
    /// Without a user the password is the default user's.
    pub fn new(user: Option<String>, password: Option<String>) -> Login {
        Login { user, password }
    }

    /// The request that shows it; `None`: there is nothing to show.
    pub fn request(&self) -> Option<OwnedRequest> {
        let password = self.password.as_deref()?;
        Some(match &self.user {
            Some(user) => OwnedRequest::from_args(["AUTH", user, password]),
            None => OwnedRequest::from_args(["AUTH", password]),
        })
    }
}

/// `redis://[[user][:password]@]host[:port]`. Shown without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    host: String,
    port: u16,
    pub login: Login,
    text: String,
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl RedisUrl {
    pub fn addr(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// User and password as they stand in the URL; `None`: there are none. For [`crate::sealed`], and for nothing else.
    pub(crate) fn login_text(&self) -> Option<&str> {
        let rest = match self.text.split_once("://") {
            Some((_, rest)) => rest,
            None => &self.text,
        };
        let rest = rest.split_once('/').map_or(rest, |(rest, _)| rest);
        rest.rsplit_once('@').map(|(login, _)| login)
    }

    /// The same server with another password, which a file holds and no command line shows.
    pub fn with_password(mut self, password: &str) -> RedisUrl {
        let encoded =
            |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02x}")).collect() };
        let user = encoded(self.login.user.as_deref().unwrap_or(""));
        self.text = format!("redis://{user}:{}@{}", encoded(password), self.addr());
        self.login.password = Some(password.to_string());
        self
    }

    /// A user is named, and no password.
    pub fn lacks_password(&self) -> bool {
        self.login.user.is_some() && self.login.password.is_none()
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis://{}:{}", self.host, self.port)
    }
}

impl FromStr for RedisUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<RedisUrl, String> {
        const FORM: &str = "redis://[[user][:password]@]host[:port]";
        let wrong = |cause: &str| Err(format!("{cause} (expected {FORM})"));
        if text.starts_with("rediss://") {
            return wrong(
                "connections with TLS are not spoken yet: use a port without it, or a tunnel",
            );
        }
        let rest = match text.split_once("://") {
            Some(("redis" | "valkey", rest)) => rest,
            Some(_) => return wrong("the scheme is not known"),
            None => text,
        };
        let (rest, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !matches!(path, "" | "0") {
            return wrong("all databases are meant: leave out the path");
        }
        let (login, place) = match rest.rsplit_once('@') {
            None => (Login::default(), rest),
            Some((login, place)) => {
                // The password may come from elsewhere.
                let (user, password) = match login.split_once(':') {
                    Some((user, password)) => (user, Some(decoded(password)?)),
                    None => (login, None),
                };
                let user = Some(decoded(user)?).filter(|user| !user.is_empty());
                (Login { user, password }, place)
            }
        };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !place.ends_with(']') => match port.parse() {
                Ok(port) => (host, port),
                Err(_) => return wrong("the port is no number"),
            },
            Some(_) | None => (place, PORT),
        };
        if host.is_empty() {
            return wrong("the host is missing");
        }
        Ok(RedisUrl {
            host: host.to_string(),
            port,
            login,
            text: text.to_string(),
        })
    }
}

/// Without `%41` and its like.
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or("a % that no two hexadecimal digits follow")?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| "user and password are UTF-8".to_string())
}

/// Why a server has no good answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForeignError {
    /// No connection, a lost one, no answer in time, or garbage.
    #[error("cannot reach {addr}: {cause}")]
    Lost { addr: String, cause: String },
    #[error("{addr} refuses: {text}")]
    Refused { addr: String, text: String },
}

/// One connection.
#[derive(Debug)]
pub struct Foreign {
    addr: String,
    stream: TcpStream,
    input: Vec<u8>,
    scanner: ReplyScanner,
}

impl Foreign {
    /// Connects to `addr` (`host:port`) and shows the login, when there is one.
    pub async fn connect(addr: &str, login: &Login) -> Result<Foreign, ForeignError> {
        let lost = |cause: String| ForeignError::Lost {
            addr: addr.to_string(),
            cause,
        };
        let connected = timeout(
            Duration::from_millis(CONNECT_MS_MAX),
            TcpStream::connect(addr),
        );
        let stream = match connected.await {
            Ok(stream) => stream.map_err(|error| lost(error.to_string()))?,
            Err(_) => return Err(lost(format!("no answer within {CONNECT_MS_MAX} ms"))),
        };
        crate::listen::tune(&stream).map_err(|error| lost(error.to_string()))?;
        let mut foreign = Foreign {
            addr: addr.to_string(),
            stream,
            input: Vec::new(),
            scanner: ReplyScanner::new(),
        };
        if let Some(request) = login.request() {
            foreign.ask_bytes(&request.into_bytes()).await?;
        }
        Ok(foreign)
    }

    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// One request; an error reply is an error.
    pub async fn ask<A: AsRef<[u8]>>(
        &mut self,
        args: impl IntoIterator<Item = A, IntoIter: ExactSizeIterator>,
    ) -> Result<Reply, ForeignError> {
        let request = OwnedRequest::from_args(args).into_bytes();
        self.ask_bytes(&request).await
    }

    async fn ask_bytes(&mut self, request: &[u8]) -> Result<Reply, ForeignError> {
        let mut replies = self.ask_all(request, 1).await?;
        match replies.pop() {
            Some(Reply::Error(text)) => Err(ForeignError::Refused {
                addr: self.addr.clone(),
                text,
            }),
            Some(reply) => Ok(reply),
            None => Err(self.lost("no reply")),
        }
    }

    /// Several requests in one write, and so many replies, errors among them.
    pub async fn ask_all(
        &mut self,
        requests: &[u8],
        count: usize,
    ) -> Result<Vec<Reply>, ForeignError> {
        let limit = Duration::from_millis(ANSWER_MS_MAX);
        match timeout(limit, self.exchange(requests, count)).await {
            Ok(replies) => replies,
            Err(_) => Err(self.lost(format!("no answer within {ANSWER_MS_MAX} ms"))),
        }
    }

    async fn exchange(
        &mut self,
        requests: &[u8],
        count: usize,
    ) -> Result<Vec<Reply>, ForeignError> {
        let written = self.stream.write_all(requests).await;
        written.map_err(|error| self.lost(error))?;
        let mut replies = Vec::with_capacity(count);
        let mut at = 0;
        while replies.len() < count {
            let scanned = self.scanner.scan(&self.input[at..]);
            match scanned.map_err(|error| self.lost(error))? {
                Some(len) => {
                    let reply = Reply::parse(&self.input[at..at + len]);
                    replies.push(reply.map_err(|cause| self.lost(cause))?);
                    at += len;
                }
                None => {
                    self.input.drain(..at);
                    at = 0;
                    match self.stream.read_buf(&mut self.input).await {
                        Ok(0) => return Err(self.lost("it closed the connection")),
                        Ok(_) => {}
                        Err(error) => return Err(self.lost(error)),
                    }
                }
            }
        }
        self.input.drain(..at);
        Ok(replies)
    }

    /// The connection, and what was already read of it.
    pub fn into_stream(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.input)
    }

    fn lost(&self, cause: impl fmt::Display) -> ForeignError {
        ForeignError::Lost {
            addr: self.addr.clone(),
            cause: cause.to_string(),
        }
    }
}

/// The value of `name:value` in an INFO reply.
pub fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// Reads a CLUSTER SLOTS reply: the primaries by address, each with its slots. An empty host is that of `asked`.
pub fn primaries(slots: &Reply, asked: &str) -> Option<Vec<(String, SlotSet)>> {
    let mut found: Vec<(String, SlotSet)> = Vec::new();
    for range in array(slots)? {
        let [Reply::Int(first), Reply::Int(last), primary, ..] = array(range)? else {
            return None;
        };
        let [host, Reply::Int(port), ..] = array(primary)? else {
            return None;
        };
        let host = host.bytes().and_then(|host| std::str::from_utf8(host).ok());
        let host = match host {
            Some("") | None => asked.rsplit_once(':')?.0,
            Some(host) => host,
        };
        let addr = format!("{host}:{port}");
        let slot = |number: i64| u16::try_from(number).ok().and_then(Slot::new);
        let (first, last) = (slot(*first)?, slot(*last)?);
        let index = match found.iter().position(|(known, _)| *known == addr) {
            Some(index) => index,
            None => {
                found.push((addr, SlotSet::new()));
                found.len() - 1
            }
        };
        found[index].1.insert_range(first, last);
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Some(found)
}

fn array(reply: &Reply) -> Option<&[Reply]> {
    match reply {
        Reply::Array(items) => Some(items),
        Reply::Simple(_) | Reply::Int(_) | Reply::Bulk(_) | Reply::Null | Reply::Error(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_host_port_and_login_and_never_shows_the_password() {
        let url: RedisUrl = "redis://ann:p%40ss@old.example:6380/0".parse().unwrap();
        assert_eq!(url.addr(), "old.example:6380");
        assert_eq!(url.to_string(), "redis://old.example:6380");
        assert!(!format!("{:?}", url.login).contains("p@ss"));
        let shown = OwnedRequest::from_args(["AUTH", "ann", "p@ss"]);
        assert_eq!(url.login.request(), Some(shown));
        let url: RedisUrl = "redis://:only@h".parse().unwrap();
        let shown = OwnedRequest::from_args(["AUTH", "only"]);
        assert_eq!(
            (url.addr().as_str(), url.login.request()),
            ("h:6379", Some(shown))
        );
        assert_eq!("h:1".parse::<RedisUrl>().unwrap().login.request(), None);
        let url: RedisUrl = "redis://ann@h".parse().unwrap();
        assert!(url.lacks_password());
        let url = url.with_password("p@/:ss");
        assert!(!url.lacks_password() && !format!("{url:?}").contains("ss"));
        let read: RedisUrl = url.text.parse().unwrap();
        assert_eq!((read.addr(), read.login), (url.addr(), url.login));
        for (text, cause) in [
            ("rediss://h", "TLS"),
            ("http://h", "scheme"),
            ("redis://h/3", "all databases"),
            ("redis://h:x", "port"),
            ("redis://", "host"),
            ("redis://:%4@h", "hexadecimal"),
        ] {
            let error = text.parse::<RedisUrl>().unwrap_err();
            assert!(error.contains(cause), "{text}: {error}");
        }
    }

    #[test]
    fn the_slots_that_a_cluster_tells_are_read_with_their_primaries() {
        let answer = b"*3\r\n*4\r\n:0\r\n:5460\r\n*4\r\n$0\r\n\r\n:7001\r\n$2\r\nab\r\n*0\r\n*3\r\n$9\r\n127.0.0.1\r\n:7004\r\n$2\r\nxy\r\n\
            *3\r\n:5461\r\n:16382\r\n*3\r\n$9\r\n127.0.0.1\r\n:7002\r\n$2\r\ncd\r\n\
            *3\r\n:16383\r\n:16383\r\n*3\r\n$8\r\n10.0.0.1\r\n:7001\r\n$2\r\nab\r\n";
        let slots = Reply::parse(answer).unwrap();
        let found = primaries(&slots, "10.0.0.1:7009").unwrap();
        let shown: Vec<String> = found
            .iter()
            .map(|(addr, slots)| format!("{addr} {slots}"))
            .collect();
        assert_eq!(
            shown,
            ["10.0.0.1:7001 0-5460,16383", "127.0.0.1:7002 5461-16382"]
        );
        assert_eq!(primaries(&Reply::Int(1), "h:1"), None);
    }
}
