//! A connection to a node: made and opened, then written when the switch has something for it and read when the
//! node has answered.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use larder_runtime::Secret;
use larder_runtime::foreign::Login;
use larder_runtime::listen::{Unheard, limit_silence, tune};
use larder_wire::control::{PROTOCOL_VERSION, Peer, Welcome};
use larder_wire::resp::{OwnedRequest, Protocol, ReplyScanner, reply};
use larder_wire::trust;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::limits::{
    BUFFER_KEEP_BYTES, CONNECT_MS_MAX, KEEPALIVE_MS, KEEPALIVE_PROBES_MAX, READ_BYTES,
    UNHEARD_MS_MAX,
};
use crate::switch::{LinkKey, Switch};
use crate::worker::Worker;

/// How connections to nodes are opened.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    /// For Larder's own nodes, which get `LARDER HELLO`.
    pub(crate) secret: Option<Secret>,
    /// For others.
    pub(crate) login: Login,
}

/// Makes the connection and serves it to its end.
pub(crate) async fn run(
    worker: Rc<Worker>,
    key: LinkKey,
    addr: String,
    is_larder: bool,
    protocol: Protocol,
) {
    let opening = worker.opening.borrow().clone();
    let limit = Duration::from_millis(CONNECT_MS_MAX);
    let opened = timeout(limit, open(&opening, &addr, is_larder, protocol)).await;
    let cause = match opened {
        Err(_) => format!("no answer within {CONNECT_MS_MAX} ms"),
        Ok(Err(cause)) => cause,
        Ok(Ok(stream)) => {
            let (read, write) = stream.into_split();
            let mut upstream = Upstream {
                worker: worker.clone(),
                key,
                read,
                write,
                scanner: ReplyScanner::new(),
                input: Vec::new(),
                looks: 0,
                gathered: 0,
            };
            worker.turn(|switch| switch.link_up(key));
            poll_fn(|cx| upstream.poll(cx)).await
        }
    };
    tracing::debug!("connection to node {addr} ended: {cause}");
    worker.turn(|switch| switch.link_lost(key, &cause));
}

const UNHEARD: Unheard = Unheard {
    unacknowledged: Duration::from_millis(UNHEARD_MS_MAX),
    ask_every: Duration::from_millis(KEEPALIVE_MS),
    asks_max: KEEPALIVE_PROBES_MAX,
};

async fn open(
    opening: &Opening,
    addr: &str,
    is_larder: bool,
    protocol: Protocol,
) -> Result<TcpStream, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(addr).await.map_err(text)?;
    tune(&stream).map_err(text)?;
    limit_silence(&stream, &UNHEARD).map_err(text)?;
    if let Some(secret) = opening.secret.as_ref().filter(|_| is_larder) {
        let version = PROTOCOL_VERSION.to_string();
        let hello: [&[u8]; 5] = [
            b"LARDER",
            b"HELLO",
            version.as_bytes(),
            secret.expose(),
            Peer::Proxy.word().as_bytes(),
        ];
        let answer = ask(&mut stream, &hello).await?;
        let json = bulk(&answer).ok_or("it does not answer as a larder node would")?;
        let welcome: Welcome = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        trust::judge_welcome(&welcome)?;
    }
    if let Some(login) = opening.login.request().filter(|_| !is_larder) {
        let args: Vec<&[u8]> = login.view().args_from(0).collect();
        ask(&mut stream, &args).await?;
    }
    if protocol == Protocol::Resp3 {
        ask(&mut stream, &[b"HELLO", b"3"]).await?;
    }
    Ok(stream)
}

/// One request and its whole reply; an error reply is an error.
async fn ask(stream: &mut TcpStream, args: &[&[u8]]) -> Result<Vec<u8>, String> {
    let request = OwnedRequest::from_args(args).into_bytes();
    stream
        .write_all(&request)
        .await
        .map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let mut scanner = ReplyScanner::new();
    loop {
        let n = stream.read_buf(&mut answer).await;
        match n {
            Ok(0) => return Err("it closed the connection".to_string()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
        match scanner.scan(&answer).map_err(|error| error.to_string())? {
            None => {}
            Some(_) => break,
        }
    }
    match reply::error_text(&answer) {
        Some(text) => Err(String::from_utf8_lossy(text).into_owned()),
        None => Ok(answer),
    }
}

/// The bytes of a bulk string.
fn bulk(answer: &[u8]) -> Option<&[u8]> {
    if answer.first() != Some(&b'$') {
        return None;
    }
    let start = answer.iter().position(|&byte| byte == b'\n')? + 1;
    answer.get(start..)?.strip_suffix(b"\r\n")
}

struct Upstream {
    worker: Rc<Worker>,
    key: LinkKey,
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    scanner: ReplyScanner,
    /// A half-arrived reply.
    input: Vec<u8>,
    /// Looks taken for clients that are about to be served, so that their requests leave in the same write; and
    /// bytes to be written at the last look.
    looks: u32,
    gathered: usize,
}

/// With fewer clients a request is written at once.
const GATHERING_CLIENTS_MIN: i64 = 4;

/// Looks before a write, as long as each brings something.
const LOOKS_MAX: u32 = 4;

/// Reads of one node before others have their turn.
const READS_PER_TURN: usize = 8;

impl Upstream {
    /// Ends with the reason.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        self.worker.set_link_waker(self.key, cx.waker());
        let mut reads = 0;
        loop {
            match self.poll_read(cx) {
                Poll::Pending => break,
                Poll::Ready(Err(cause)) => return Poll::Ready(cause),
                Poll::Ready(Ok(())) => reads += 1,
            }
            if reads == READS_PER_TURN {
                cx.waker().wake_by_ref();
                break;
            }
        }
        if self.gathers_on(cx) {
            return Poll::Pending;
        }
        match self.write_all(cx) {
            Ok(true) => Poll::Pending,
            Ok(false) => Poll::Ready("it is no longer needed".to_string()),
            Err(error) => Poll::Ready(error.to_string()),
        }
    }

    /// Whether to look once more for clients that have sent something, before what they and others have sent is
    /// written. A look costs a tenth
    /// of a write.
    fn gathers_on(&mut self, cx: &mut Context<'_>) -> bool {
        let mut switch = self.worker.switch.borrow_mut();
        let waiting = switch
            .link(self.key)
            .filter(|link| link.woken)
            .map_or(0, |link| link.unwritten().len());
        let more = waiting > self.gathered;
        let many = switch.counts.clients.get() >= GATHERING_CLIENTS_MIN;
        if !more || !many || self.looks == LOOKS_MAX {
            (self.looks, self.gathered) = (0, 0);
            return false;
        }
        self.looks += 1;
        self.gathered = waiting;
        // Wakes this task after the sockets have been looked at, behind the tasks that this wakes.
        let mut look = std::pin::pin!(tokio::task::yield_now());
        look.as_mut().poll(cx).is_pending()
    }

    /// Writes what the switch has for the node. False when the switch has forgotten the link.
    fn write_all(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        let mut switch = self.worker.switch.borrow_mut();
        let counts = switch.counts.clone();
        let Some(link) = switch.link(self.key) else {
            return Ok(false);
        };
        while !link.unwritten().is_empty() {
            match Pin::new(&mut self.write).poll_write(cx, link.unwritten()) {
                Poll::Pending => break,
                Poll::Ready(written) => {
                    let n = written?;
                    counts.to_nodes.add(n as u64);
                    counts.node_writes.inc();
                    link.wrote(n);
                }
            }
        }
        link.woken = false;
        Ok(true)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        let worker = self.worker.clone();
        if self.input.is_empty() {
            let mut scratch = worker.scratch.borrow_mut();
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.read).poll_read(cx, &mut buf) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(read) => read.map_err(|error| error.to_string())?,
            }
            let n = buf.filled().len();
            if n == 0 {
                return Poll::Ready(Err("it closed the connection".to_string()));
            }
            let taken = self.take(&scratch[..n], n)?;
            self.input.extend_from_slice(&scratch[taken..n]);
        } else {
            self.input.reserve(READ_BYTES);
            let before = self.input.len();
            let read = self.read.read_buf(&mut self.input);
            let n = match std::pin::pin!(read).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(n) => n.map_err(|error| error.to_string())?,
            };
            if n == 0 {
                return Poll::Ready(Err("it closed the connection".to_string()));
            }
            debug_assert_eq!(before + n, self.input.len());
            let input = std::mem::take(&mut self.input);
            let taken = self.take(&input, n)?;
            self.input = input;
            if taken == self.input.len() {
                self.input.clear();
                if self.input.capacity() > BUFFER_KEEP_BYTES {
                    self.input = Vec::new();
                }
            } else {
                self.input.drain(..taken);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the switch every whole reply in `bytes`; then each client that got some is written to once.
    fn take(&mut self, bytes: &[u8], fresh: usize) -> Result<usize, String> {
        let worker = self.worker.clone();
        let mut switch = worker.switch.borrow_mut();
        let now = worker.now_us(&switch);
        switch.set_now(now);
        switch.counts.from_nodes.add(fresh as u64);
        let taken = self.take_all(&mut switch, bytes);
        switch.pump();
        worker.after(&mut switch);
        taken
    }

    fn take_all(&mut self, switch: &mut Switch, bytes: &[u8]) -> Result<usize, String> {
        let mut at = 0;
        while at < bytes.len() {
            match self.scanner.scan(&bytes[at..]) {
                Ok(Some(len)) => {
                    switch.reply(self.key, &bytes[at..at + len])?;
                    at += len;
                }
                Ok(None) => break,
                Err(error) => return Err(format!("it sent garbage: {error}")),
            }
        }
        Ok(at)
    }
}
