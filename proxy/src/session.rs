//! A client's socket: reads what arrived, offers the switch every request in it, finishes writes that
//! the reader of a node's replies could not finish.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use larder_wire::Refusal;
use larder_wire::resp::{RequestScanner, Scanned};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

use crate::limits::{BUFFER_KEEP_BYTES, PARKED_INPUT_BYTES_MAX, READ_BYTES};
use crate::registry::ClientInfo;
use crate::switch::{ClientKey, Flow, Switch};
use crate::worker::Worker;

/// A connection that was accepted, not yet bound to a thread's runtime.
pub(crate) enum Stream {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Stream {
    pub(crate) fn split(self) -> io::Result<(ReadHalf, WriteHalf)> {
        Ok(match self {
            Stream::Tcp(stream) => {
                let (read, write) = TcpStream::from_std(stream)?.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            Stream::Unix(stream) => {
                let (read, write) = UnixStream::from_std(stream)?.into_split();
                (ReadHalf::Unix(read), WriteHalf::Unix(write))
            }
        })
    }
}

pub(crate) enum ReadHalf {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ReadHalf::Tcp(half) => Pin::new(half).poll_read(cx, buf),
            ReadHalf::Unix(half) => Pin::new(half).poll_read(cx, buf),
        }
    }
}

pub(crate) enum WriteHalf {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
}

impl WriteHalf {
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            WriteHalf::Tcp(half) => half.try_write(bytes),
            WriteHalf::Unix(half) => half.try_write(bytes),
        }
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            WriteHalf::Tcp(half) => half.as_ref().poll_write_ready(cx),
            WriteHalf::Unix(half) => half.as_ref().poll_write_ready(cx),
        }
    }
}

/// The writing side of a client, which whoever has a reply for it uses.
pub(crate) struct Sink {
    pub(crate) write: WriteHalf,
    pub(crate) info: Arc<ClientInfo>,
    waker: RefCell<Option<Waker>>,
    /// The socket takes no more for now: since when.
    blocked: Cell<Option<Instant>>,
    failed: Cell<bool>,
    /// The client sends no more; what it asked for is still answered.
    ended: Cell<bool>,
}

impl Sink {
    pub(crate) fn new(write: WriteHalf, info: Arc<ClientInfo>) -> Sink {
        Sink {
            write,
            info,
            waker: RefCell::new(None),
            blocked: Cell::new(None),
            failed: Cell::new(false),
            ended: Cell::new(false),
        }
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.get().is_some()
    }

    pub(crate) fn block(&self) {
        if self.blocked.get().is_none() {
            self.blocked.set(Some(Instant::now()));
        }
    }

    /// The client has taken something.
    pub(crate) fn progress(&self) {
        self.blocked.set(None);
    }

    pub(crate) fn is_stuck_for(&self, time: Duration) -> bool {
        self.blocked
            .get()
            .is_some_and(|since| since.elapsed() > time)
    }

    pub(crate) fn fail(&self) {
        self.failed.set(true);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ended.get() || self.failed.get()
    }
}

/// Serves one client until it goes.
pub(crate) async fn serve(worker: Rc<Worker>, key: ClientKey, sink: Rc<Sink>, read: ReadHalf) {
    let mut session = Session {
        worker: worker.clone(),
        key,
        sink: sink.clone(),
        read,
        scanner: RequestScanner::new(),
        input: Vec::new(),
        more: 0,
        waits: false,
    };
    poll_fn(|cx| session.poll(cx)).await;
    worker.drop_client(key, &sink.info);
}

struct Session {
    worker: Rc<Worker>,
    key: ClientKey,
    sink: Rc<Sink>,
    read: ReadHalf,
    scanner: RequestScanner,
    /// A half-arrived request, or requests that have to wait.
    input: Vec<u8>,
    /// Bytes that are missing at least.
    more: usize,
    /// The first request of `input` has to wait until the session is woken.
    waits: bool,
}

/// Reads of one client before the others have their turn.
const READS_PER_TURN: usize = 4;

impl Session {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.keep_waker(cx.waker());
        if self.sink.failed.get() || self.sink.info.is_killed() {
            return Poll::Ready(());
        }
        if let Some(with_error) = self.sink.info.is_to_unblock() {
            let key = self.key;
            self.worker.turn(|switch| switch.unblock(key, with_error));
        }
        if self.waits {
            let input = std::mem::take(&mut self.input);
            let taken = self.offer(&input);
            self.input = input;
            self.forget(taken);
        }
        let mut reads = 0;
        loop {
            if self.finish_write(cx).is_err() {
                return Poll::Ready(());
            }
            if self.is_over() {
                return Poll::Ready(());
            }
            let waits = self.waits && !self.looks_for_its_end();
            if waits || self.sink.ended.get() || self.worker.stopping.get() {
                return Poll::Pending;
            }
            if reads == READS_PER_TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.poll_read(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(0)) => self.sink.ended.set(true),
                Poll::Ready(Ok(_)) => reads += 1,
            }
        }
    }

    fn keep_waker(&self, waker: &Waker) {
        let mut known = self.sink.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
            self.sink.info.set_waker(waker);
        }
    }

    /// A client that waits at a node is read from all the same, so that its end is seen at once.
    fn looks_for_its_end(&self) -> bool {
        let mut switch = self.worker.switch.borrow_mut();
        let parked = switch.client(self.key).is_some_and(|c| c.is_parked());
        parked && self.input.len() < PARKED_INPUT_BYTES_MAX
    }

    /// Everything is answered and written, and no more is to come. What waits at a node ends with the client.
    fn is_over(&self) -> bool {
        let mut switch = self.worker.switch.borrow_mut();
        let Some(client) = switch.client(self.key) else {
            return true;
        };
        if client.is_parked() && (self.sink.ended.get() || self.worker.stopping.get()) {
            return true;
        }
        let done = client.is_idle() && client.out.is_empty();
        let ended = self.sink.ended.get() && !self.waits;
        done && (client.closing || ended || self.worker.stopping.get())
    }

    fn finish_write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.sink.is_blocked() {
            match self.sink.write.poll_ready(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(ready) => ready?,
            }
            let since = self.sink.blocked.take();
            let mut switch = self.worker.switch.borrow_mut();
            self.worker.flush(&mut switch, self.key);
            if self.sink.failed.get() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if self.sink.is_blocked() && self.sink.blocked.get() != since {
                // Woken by itself, to ask for readiness again.
                continue;
            }
        }
        Ok(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.input.is_empty() {
            return self.poll_read_on(cx);
        }
        let worker = self.worker.clone();
        let mut scratch = worker.scratch.borrow_mut();
        let mut buf = ReadBuf::new(&mut scratch);
        match Pin::new(&mut self.read).poll_read(cx, &mut buf) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(read) => read?,
        }
        let n = buf.filled().len();
        if n > 0 {
            let taken = self.offer(&scratch[..n]);
            self.input.extend_from_slice(&scratch[taken..n]);
        }
        Poll::Ready(Ok(n))
    }

    /// More of a request that has begun to arrive.
    fn poll_read_on(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(self.more.max(READ_BYTES));
        let read = self.read.read_buf(&mut self.input);
        let n = match std::pin::pin!(read).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(n) => n?,
        };
        if n > 0 && n >= self.more {
            let input = std::mem::take(&mut self.input);
            let taken = self.offer(&input);
            self.input = input;
            self.forget(taken);
        } else {
            self.more -= n.min(self.more);
        }
        Poll::Ready(Ok(n))
    }

    fn forget(&mut self, taken: usize) {
        if taken == self.input.len() {
            self.input.clear();
            if self.input.capacity() > BUFFER_KEEP_BYTES {
                self.input = Vec::new();
            }
        } else {
            self.input.drain(..taken);
        }
    }

    /// Offers every request of `bytes` to the switch, and writes what can be answered at once. Gives the
    /// number of bytes that were taken.
    fn offer(&mut self, bytes: &[u8]) -> usize {
        let worker = self.worker.clone();
        let mut switch = worker.switch.borrow_mut();
        let now = worker.now_us(&switch);
        switch.set_now(now);
        switch.counts.from_clients.add(bytes.len() as u64);
        let taken = self.offer_all(&mut switch, bytes);
        worker.after(&mut switch);
        worker.flush(&mut switch, self.key);
        taken
    }

    fn offer_all(&mut self, switch: &mut Switch, bytes: &[u8]) -> usize {
        let mut at = 0;
        self.waits = false;
        while at < bytes.len() {
            match self.scanner.scan(&bytes[at..]) {
                Ok(Scanned::Request { consumed }) => {
                    let request = self.scanner.request(&bytes[at..]);
                    if !request.is_empty() && switch.request(self.key, &request) == Flow::Wait {
                        self.waits = true;
                        break;
                    }
                    at += consumed;
                }
                Ok(Scanned::Incomplete { more }) => {
                    self.more = more;
                    break;
                }
                Err(error) => {
                    switch.refuse(self.key, &Refusal::new(error.to_string()));
                    if let Some(client) = switch.client(self.key) {
                        client.closing = true;
                    }
                    return bytes.len();
                }
            }
        }
        at
    }
}
