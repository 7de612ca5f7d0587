//! One client connection: reads what has arrived, calls the engine for each request, writes all replies at once.
//!
//! ```text
//! write what is owed ─▶ read into the thread's buffer ─▶ scan, call, scan, call … ─▶ one write
//!        ▲                                                       │ held: wait, call again
//!        └── what the socket did not take, or must wait ◀──────────┘
//! ```
//!
//! Only what is left over (half a request, replies that the socket did not take) is kept per connection. While replies are owed
//! nothing is read, so a client that does not read holds a bounded amount of memory.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use larder_engine::ahead::Look;
use larder_engine::backup::StreamId;
use larder_engine::limits::REPLY_BUFFER_BYTES;
use larder_engine::replication::LinkId;
use larder_engine::{Answer, Outcome, Session};
use larder_runtime::protect::{self, Admission, Arrival};
use larder_wire::control::FeedAsk;
use larder_wire::resp::RequestScanner;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::shared::{EndOnPanic, READ_BYTES, Scratch, Shared};
use crate::stream_out::Out;
use crate::thread::NodeEnd;
use crate::waiting::{WAITING_BYTES_MAX, Waiting};
use crate::{backup_stream, feed_source, feed_target, replicate_source};

/// Replies of one batch are written once they are this long, even if there are more requests, in bytes.
const OUTPUT_BATCH_BYTES_MAX: usize = 256 * 1024;
/// Requests that are kept while one before them is blocked, in bytes; more are left to the socket.
const BEHIND_BYTES_MAX: usize = 1024 * 1024;
/// Buffers of a connection larger than this are given back when they are empty, in bytes.
const BUFFER_KEPT_BYTES_MAX: usize = 64 * 1024;
/// The thread's own output buffer is given back when it has grown past this, in bytes.
const SCRATCH_KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Replies that a client which has yet to log in may leave unread, in bytes; with more it is let go.
const STRANGER_OWED_BYTES_MAX: usize = 1024;

/// Why a batch ended.
enum After {
    /// All that arrived is answered.
    Read,
    /// Replies have to go out before more is executed.
    Write,
    Held,
    /// A script goes on in slices; nothing else of the connection does.
    Script,
    /// The client's command waits; what arrives behind it is kept.
    Blocked,
    Close,
    Feed(FeedAsk),
    Stream(StreamId),
    Replicate(LinkId),
}

/// What the connection's task does next.
enum Next {
    Wait,
    /// Others are served before the script's next slice.
    Yield,
    Feed(FeedAsk),
    Stream(StreamId),
    Replicate(LinkId),
    Close,
}

pub(crate) struct Connection {
    shared: Rc<Shared>,
    stream: TcpStream,
    session: Session,
    scanner: RequestScanner,
    /// Arrived and not yet executed; `pending_at` is where the rest starts.
    pending: Vec<u8>,
    pending_at: usize,
    /// Bytes that the request at the start of `pending` needs at least.
    wanted: usize,
    /// `pending` may hold a whole request.
    unread: bool,
    /// Replies that the socket has not taken; `owed_at` is where the rest starts.
    owed: Vec<u8>,
    owed_at: usize,
    /// Replies that may not leave yet, behind all that is owed.
    waiting: Waiting,
    /// What is done with the replies of the batch at hand.
    answer: Answer,
    closing: bool,
    /// A script of this client's is under way.
    scripting: bool,
    /// The feed, or the replica's stream, that this connection has become.
    feed: Option<Out>,
    /// The snapshot's stream that it has become.
    snapshot: Option<StreamId>,
}

/// Serves one accepted connection to its end.
pub(crate) async fn serve(shared: Rc<Shared>, stream: TcpStream) {
    let _guard = EndOnPanic(Rc::clone(&shared));
    let Some(connection) = Connection::open(shared, stream) else {
        return;
    };
    connection.run().await;
}

impl Connection {
    fn open(shared: Rc<Shared>, stream: TcpStream) -> Option<Connection> {
        larder_runtime::listen::tune(&stream).ok()?;
        let peer = stream.peer_addr().ok()?;
        let local = stream.local_addr().ok()?;
        let session = {
            let mut node = shared.node.borrow_mut();
            let clock = shared.clocks.clock();
            let mut session = node.open_session(peer.to_string(), local.to_string(), clock);
            let admission = protect::admit(Arrival {
                peer: Some(peer.ip()),
                needs_auth: !node.acl.default_user().rules().nopass,
                has_secret: node.settings.secret.is_some(),
                unprotected: !node.config.flag(larder_engine::Parameter::ProtectedMode),
            });
            match admission {
                Admission::Open => {}
                Admission::AuthOnly => session.denied = Some(protect::DENIED),
                Admission::Closed => {
                    refuse(&stream, protect::DENIED);
                    node.stats.connections_rejected.add(1);
                    node.close_session(&mut session);
                    return None;
                }
            }
            let clients_max = node.config.int(larder_engine::Parameter::Maxclients) as usize;
            if node.clients.len() > clients_max {
                refuse(&stream, "ERR max number of clients reached");
                node.stats.connections_rejected.add(1);
                node.close_session(&mut session);
                return None;
            }
            session
        };
        Some(Connection {
            shared,
            stream,
            session,
            scanner: RequestScanner::new(),
            pending: Vec::new(),
            pending_at: 0,
            wanted: 0,
            unread: false,
            owed: Vec::new(),
            owed_at: 0,
            waiting: Waiting::default(),
            answer: Answer::AtOnce,
            closing: false,
            scripting: false,
            feed: None,
            snapshot: None,
        })
    }

    async fn run(mut self) {
        loop {
            let next = std::future::poll_fn(|cx| self.poll(cx)).await;
            match next {
                Ok(Next::Wait) if self.waiting.is_empty() => {
                    self.shared.released.notified().await;
                }
                Ok(Next::Wait) => tokio::select! {
                    () = self.shared.released.notified() => {}
                    () = rung(&self.session) => {}
                },
                Ok(Next::Yield) => tokio::task::yield_now().await,
                Ok(Next::Feed(ask)) => {
                    self.session.client.feeding.set(true);
                    let (owed, pending) = (
                        self.owed.split_off(self.owed_at),
                        self.pending.split_off(self.pending_at),
                    );
                    feed_source::serve(&self.shared, &mut self.stream, owed, pending, ask).await;
                    break;
                }
                Ok(Next::Replicate(link)) => {
                    self.session.client.feeding.set(true);
                    let (owed, pending) = (
                        self.owed.split_off(self.owed_at),
                        self.pending.split_off(self.pending_at),
                    );
                    let stream = &mut self.stream;
                    replicate_source::serve(&self.shared, stream, owed, pending, link).await;
                    break;
                }
                Ok(Next::Stream(id)) => {
                    self.session.client.feeding.set(true);
                    let owed = self.owed.split_off(self.owed_at);
                    backup_stream::serve(&self.shared, &mut self.stream, owed, id).await;
                    break;
                }
                Ok(Next::Close) | Err(_) => break,
            }
        }
    }

    /// Goes on until the socket has no more to give or to take.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Next>> {
        loop {
            if self.scripting && self.go_on_with_script() {
                return Poll::Ready(Ok(Next::Yield));
            }
            self.session.client.set_bell(cx.waker());
            self.release_waiting();
            if self.session.client.is_killed() {
                // Who is let go may have stopped reading: it gets what the socket takes at once.
                if !self.session.client.is_overrun()
                    && let Poll::Ready(written) = self.poll_write_owed(cx)
                {
                    written?;
                }
                return Poll::Ready(Ok(Next::Close));
            }
            ready!(self.poll_write_owed(cx))?;
            if self.session.client.has_post() {
                let mark = self.owed.len();
                self.session.client.take_post(&mut self.owed);
                self.hold_back(mark);
                continue;
            }
            if self.closing && self.waiting.is_empty() {
                return Poll::Ready(Ok(Next::Close));
            }
            if self.closing || self.waiting.len() > WAITING_BYTES_MAX {
                return Poll::Pending;
            }
            let after = if self.session.client.is_blocked() {
                ready!(self.poll_read_behind(cx))?
            } else if self.unread {
                self.unread = false;
                self.execute_pending()?
            } else if self.pending_at == self.pending.len() {
                ready!(self.poll_read_fresh(cx))?
            } else {
                ready!(self.poll_read_rest(cx))?
            };
            match after {
                After::Read => {}
                After::Write | After::Blocked => self.unread = true,
                After::Script => {
                    self.unread = true;
                    self.scripting = true;
                }
                After::Close => self.closing = true,
                After::Held => {
                    self.unread = true;
                    // What was answered before is sent before the wait.
                    if self.owed_at == self.owed.len() {
                        return Poll::Ready(Ok(Next::Wait));
                    }
                }
                After::Feed(_) | After::Stream(_) | After::Replicate(_)
                    if !self.waiting.is_empty() =>
                {
                    return Poll::Ready(Ok(Next::Close));
                }
                After::Feed(ask) => return Poll::Ready(Ok(Next::Feed(ask))),
                After::Stream(id) => return Poll::Ready(Ok(Next::Stream(id))),
                After::Replicate(link) => return Poll::Ready(Ok(Next::Replicate(link))),
            }
        }
    }

    /// Reads into the thread's buffer and executes from there.
    fn poll_read_fresh(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<After>> {
        let shared = Rc::clone(&self.shared);
        let mut scratch = shared.scratch.borrow_mut();
        let Scratch { input, output } = &mut *scratch;
        let mut buffer = ReadBuf::new(input);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let filled = buffer.filled().len();
        if filled == 0 {
            return Poll::Ready(Ok(After::Close));
        }
        let input = &input[..filled];
        let (consumed, after) = self.execute(input, filled, output);
        self.pending.clear();
        self.pending_at = 0;
        if consumed < filled {
            self.pending.extend_from_slice(&input[consumed..]);
            self.count_query_room();
        }
        self.send(output)?;
        Poll::Ready(Ok(after))
    }

    /// Half a request is here: reads what follows behind it.
    fn poll_read_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<After>> {
        if self.pending_at > 0 {
            self.pending.drain(..self.pending_at);
            self.pending_at = 0;
        }
        // Never memory in proportion to what a client merely claims.
        let room = self.wanted.clamp(READ_BYTES / 4, 4 * READ_BYTES);
        self.pending.reserve(room);
        self.count_query_room();
        let read = ready!(pin!(self.stream.read_buf(&mut self.pending)).poll(cx))?;
        if read == 0 {
            return Poll::Ready(Ok(After::Close));
        }
        self.shared
            .node
            .borrow()
            .stats
            .net_input_bytes
            .add(read as u64);
        Poll::Ready(self.execute_pending())
    }

    /// Takes in what arrives while a command is blocked, to notice a client that leaves.
    fn poll_read_behind(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<After>> {
        if self.pending.len() - self.pending_at >= BEHIND_BYTES_MAX {
            return Poll::Pending;
        }
        self.pending.reserve(READ_BYTES / 4);
        self.count_query_room();
        let read = ready!(pin!(self.stream.read_buf(&mut self.pending)).poll(cx))?;
        Poll::Ready(Ok(if read == 0 {
            After::Close
        } else {
            After::Blocked
        }))
    }

    fn execute_pending(&mut self) -> io::Result<After> {
        let shared = Rc::clone(&self.shared);
        let mut scratch = shared.scratch.borrow_mut();
        let pending = std::mem::take(&mut self.pending);
        let (consumed, after) = self.execute(&pending[self.pending_at..], 0, &mut scratch.output);
        self.pending = pending;
        self.pending_at += consumed;
        if self.pending_at == self.pending.len() {
            self.pending.clear();
            self.pending_at = 0;
            if self.pending.capacity() > BUFFER_KEPT_BYTES_MAX {
                self.pending = Vec::new();
            }
        }
        self.count_query_room();
        self.send(&mut scratch.output)?;
        Ok(after)
    }

    /// Executes the whole requests of `input`; returns the bytes that are done with.
    fn execute(&mut self, input: &[u8], arrived: usize, out: &mut Vec<u8>) -> (usize, After) {
        assert!(out.is_empty(), "replies of another connection are left");
        let mut node = self.shared.node.borrow_mut();
        let (clock, started) = self.shared.clocks.read();
        node.begin_batch(clock);
        self.answer = Answer::AtOnce;
        let mut was_posted = false;
        node.stats.net_input_bytes.add(arrived as u64);
        self.session.client.query_bytes.set(input.len());
        if node.is_evicted_ahead(&self.session) {
            return (0, After::Close);
        }
        let mut ahead = node.take_ahead();
        let bulk_bytes_max = node.clients.limits().bulk_bytes_max.get();
        self.scanner.set_bulk_bytes_max(bulk_bytes_max);
        let mut at = 0;
        let mut looked_from = 0;
        let after = loop {
            let (outcome, end) = if let Some((request, known, end)) =
                ahead.next(&input[looked_from..])
            {
                let outcome = if request.is_empty() {
                    Outcome::Done
                } else {
                    node.call_known(&mut self.session, request, known, clock, out)
                };
                (outcome, looked_from + end)
            } else if at == input.len() {
                self.wanted = 1;
                break After::Read;
            } else {
                looked_from = at;
                let may_be_large = !node.needs_login(&self.session);
                self.scanner.set_authenticated(may_be_large);
                match node.look_ahead(self.session.db, &mut self.scanner, &input[at..], &mut ahead)
                {
                    Look::Requests => continue,
                    Look::Inline { consumed } => {
                        let request = self.scanner.request(&input[at..]);
                        let outcome = node.call(&mut self.session, request, clock, out);
                        (outcome, at + consumed)
                    }
                    Look::Incomplete { more } => {
                        self.wanted = more;
                        break After::Read;
                    }
                    Look::Wrong(error) => {
                        out.extend_from_slice(format!("-{error}\r\n").as_bytes());
                        break After::Close;
                    }
                }
            };
            if matches!(outcome, Outcome::Held) {
                break After::Held;
            }
            at = end;
            if self.session.client.has_post() {
                self.session.client.take_post(out);
                was_posted = true;
            }
            if out.len() > REPLY_BUFFER_BYTES && self.session.client.is_beyond_limit(out.len()) {
                self.session.client.overrun();
                break After::Close;
            }
            match outcome {
                Outcome::Done if out.len() > OUTPUT_BATCH_BYTES_MAX => break After::Write,
                Outcome::Done | Outcome::Held => {}
                Outcome::Close => break After::Close,
                Outcome::Shutdown => {
                    self.shared.end_with(NodeEnd::Stopped);
                    break After::Close;
                }
                // What it waits for may have come by the time it is asked for.
                Outcome::Blocked if self.session.client.is_blocked() => break After::Blocked,
                Outcome::Blocked => {}
                Outcome::Script => break After::Script,
                // The whole node stands still, as a server that is busy does.
                Outcome::Stall { us } => std::thread::sleep(Duration::from_micros(us)),
                Outcome::Feed(ask) => {
                    self.feed = Some(Out::Feed(ask.attempt));
                    break After::Feed(ask);
                }
                Outcome::Stream(id) => {
                    self.snapshot = Some(id);
                    break After::Stream(id);
                }
                Outcome::Replicate(link) => {
                    self.feed = Some(Out::Link(link));
                    break After::Replicate(link);
                }
                Outcome::Import(import) => {
                    let shared = Rc::clone(&self.shared);
                    tokio::task::spawn_local(feed_target::run(shared, import));
                }
            }
        };
        node.put_ahead(ahead);
        let took = started.elapsed().as_nanos() as u64;
        node.batch_took(took);
        self.session.client.query_bytes.set(input.len() - at);
        node.end_batch(&self.session);
        if node.answers_may_wait() && !out.is_empty() {
            let (client, clock) = (&self.session.client, self.shared.clocks.clock());
            self.answer = match was_posted {
                true => node.answer(client, clock),
                false => node.answer_batch(client, clock),
            };
        }
        self.shared.pass_releases_on(&node);
        let queued = self.session.multi.as_ref().map_or(0, |multi| multi.bytes);
        if input.len() - at + queued > node.clients.limits().query_bytes_max.get() {
            return (at, After::Close);
        }
        if self.session.client.is_overrun() {
            out.clear();
            self.owed.clear();
            self.owed_at = 0;
            return (at, After::Close);
        }
        (at, after)
    }

    /// A slice of the script of this client: all of it until it is busy, then as much as others may wait for. True when it goes on.
    /// The client may be gone; its script runs to its end all the same.
    fn go_on_with_script(&mut self) -> bool {
        let mark = self.owed.len();
        let goes_on = self.go_on();
        self.hold_back(mark);
        goes_on
    }

    fn go_on(&mut self) -> bool {
        let mut node = self.shared.node.borrow_mut();
        loop {
            let (clock, started) = self.shared.clocks.read();
            let outcome = node.go_on(&mut self.session, clock, &mut self.owed);
            node.batch_took(started.elapsed().as_nanos() as u64);
            node.end_batch(&self.session);
            self.shared.pass_releases_on(&node);
            match outcome {
                Outcome::Script if node.script_is_busy() => return true,
                Outcome::Script => {}
                outcome => {
                    self.scripting = false;
                    self.closing |= outcome == Outcome::Close;
                    if let Outcome::Stall { us } = outcome {
                        std::thread::sleep(Duration::from_micros(us));
                    }
                    return false;
                }
            }
        }
    }

    /// What was appended to the replies behind `mark` leaves only when it may.
    fn hold_back(&mut self, mark: usize) {
        let mut node = self.shared.node.borrow_mut();
        let new = mark < self.owed.len();
        if new && (node.answers_may_wait() || !self.waiting.is_empty()) {
            let client = &self.session.client;
            let place = match node.answer(client, self.shared.clocks.clock()) {
                Answer::AtOnce => None,
                Answer::At(place) => Some(place),
                Answer::Never => {
                    self.owed.truncate(mark);
                    client.kill();
                    None
                }
            };
            if place.is_some() || !self.waiting.is_empty() {
                self.waiting.push(&self.owed[mark..], place);
                self.owed.truncate(mark);
            }
        }
        drop(node);
        self.count_owed();
    }

    /// What waited and may leave is owed from here on.
    fn release_waiting(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut node = self.shared.node.borrow_mut();
        match node.answered_up_to(self.shared.clocks.clock()) {
            Some(place) => self.waiting.release(place, &mut self.owed),
            None => self.session.client.kill(),
        }
        drop(node);
        self.count_owed();
    }

    /// Passes the replies of a batch on and leaves the thread's buffer empty, whatever becomes of this connection: the next one
    /// writes its own replies there.
    fn send(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let sent = self.try_send(out);
        out.clear();
        if out.capacity() > SCRATCH_KEPT_BYTES_MAX {
            *out = Vec::new();
        }
        sent
    }

    /// One attempt to write; what the socket does not take is kept, as is what may not leave yet.
    fn try_send(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let place = match self.answer {
            Answer::AtOnce => None,
            Answer::At(place) => Some(place),
            Answer::Never => return Err(io::ErrorKind::ConnectionAborted.into()),
        };
        if place.is_some() || !self.waiting.is_empty() {
            self.waiting.push(out, place);
            out.clear();
        }
        let mut sent = 0;
        let nothing_owed = self.owed_at == self.owed.len();
        if nothing_owed && !out.is_empty() {
            // Who is to be woken when the socket takes more is said where it is owed more.
            sent = match self.stream.try_write(out) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                written => written?,
            };
            let node = self.shared.node.borrow();
            node.stats.net_output_bytes.add(sent as u64);
        }
        self.owed.extend_from_slice(&out[sent..]);
        if self.owed.len() - self.owed_at > STRANGER_OWED_BYTES_MAX
            && self.shared.node.borrow().needs_login(&self.session)
        {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.count_owed();
        Ok(())
    }

    fn count_owed(&self) {
        let owed = self.owed.len() - self.owed_at + self.waiting.len();
        let client = &self.session.client;
        client.output_bytes.set(owed);
        let room = self.owed.capacity() + self.waiting.room();
        client.reply_room_bytes.set(room);
    }

    fn count_query_room(&self) {
        let room = self.pending.capacity();
        self.session.client.query_room_bytes.set(room);
    }

    fn poll_write_owed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.owed_at < self.owed.len() {
            let rest = &self.owed[self.owed_at..];
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.owed_at += written;
            self.count_owed();
            let node = self.shared.node.borrow();
            node.stats.net_output_bytes.add(written as u64);
        }
        if self.owed_at > 0 {
            self.owed.clear();
            self.owed_at = 0;
            if self.owed.capacity() > BUFFER_KEPT_BYTES_MAX {
                self.owed = Vec::new();
            }
            self.count_owed();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // In a panic the node may be borrowed, and is about to end anyway.
        if let Ok(mut node) = self.shared.node.try_borrow_mut() {
            if let Some(feed) = self.feed {
                feed.lost(&mut node);
                self.shared.pass_releases_on(&node);
            }
            if let Some(id) = self.snapshot {
                node.end_stream(id);
            }
            node.close_session(&mut self.session);
        }
    }
}

/// Until something is to be looked at that the client did not send.
async fn rung(session: &Session) {
    std::future::poll_fn(|cx| {
        if session.client.is_rung() {
            return Poll::Ready(());
        }
        session.client.set_bell(cx.waker());
        Poll::Pending
    })
    .await;
}

/// Says why and lets the connection close; a socket that has just been accepted has room for a line.
fn refuse(stream: &TcpStream, text: &str) {
    let _ = stream.try_write(format!("-{text}\r\n").as_bytes());
}
