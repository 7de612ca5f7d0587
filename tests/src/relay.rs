//! A relay between a client and a server: bytes go on after a delay, or not until they are let go, or answers get lost. What passed
//! is counted.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::local;

/// Bytes read at once at most.
const CHUNK_BYTES: usize = 64 * 1024;

/// Ends with its handle, and with it all connections.
pub struct Relay {
    addr: SocketAddr,
    inside: Arc<Inside>,
}

struct Inside {
    to: SocketAddr,
    delay_ms: AtomicU64,
    loses_answers: AtomicBool,
    held: Mutex<bool>,
    let_go: Condvar,
    requests: AtomicU64,
    ended: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Relay {
    pub fn to(to: SocketAddr) -> Relay {
        let listener = TcpListener::bind(local(0)).expect("a port for the relay");
        let addr = listener.local_addr().expect("it has an address");
        let inside = Arc::new(Inside {
            to,
            delay_ms: AtomicU64::new(0),
            loses_answers: AtomicBool::new(false),
            held: Mutex::new(false),
            let_go: Condvar::new(),
            requests: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let accepting = inside.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.ended.load(Ordering::SeqCst) {
                    return;
                }
                // A client that is gone already, or a server that is down: the connection ends.
                let _ = stream.and_then(|client| accepting.connect(client));
            }
        });
        Relay { addr, inside }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What comes from now on is passed on so much later, in both directions.
    pub fn delay(&self, delay: Duration) {
        let ms = delay.as_millis() as u64;
        self.inside.delay_ms.store(ms, Ordering::SeqCst);
    }

    /// Nothing is passed on until [`Relay::release`]; nothing is lost either.
    pub fn hold(&self) {
        *self.inside.held.lock().expect("no thread panics with it") = true;
    }

    pub fn release(&self) {
        *self.inside.held.lock().expect("no thread panics with it") = false;
        self.inside.let_go.notify_all();
    }

    /// While `loses`, what clients send arrives, and what the server answers does not: the connection ends instead.
    pub fn lose_answers(&self, loses: bool) {
        self.inside.loses_answers.store(loses, Ordering::SeqCst);
    }

    /// Pieces of bytes that clients have sent: for small requests, one each or two.
    pub fn pieces(&self) -> u64 {
        self.inside.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.inside.ended.store(true, Ordering::SeqCst);
        self.release();
        // The accepting thread looks up.
        let _ = TcpStream::connect(self.addr);
        for stream in self.inside.streams.lock().expect("no panics").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Inside {
    fn connect(self: &Arc<Inside>, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(self.to)?;
        for (stream, other) in [(&client, &server), (&server, &client)] {
            stream.set_nodelay(true)?;
            let (from, to) = (stream.try_clone()?, other.try_clone()?);
            let mut streams = self.streams.lock().expect("no panics");
            streams.push(stream.try_clone()?);
            let (inside, counted) = (self.clone(), std::ptr::eq(stream, &client));
            thread::spawn(move || inside.pass(from, to, counted));
        }
        Ok(())
    }

    /// Reads at once, writes when it is due.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, counted: bool) {
        let (sender, pieces) = mpsc::channel::<(Instant, Vec<u8>)>();
        let Ok(closing) = from.try_clone() else {
            return;
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                for (due, piece) in pieces {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    let held = self.held.lock().expect("no panics");
                    drop(
                        self.let_go
                            .wait_while(held, |held| *held)
                            .expect("no panics"),
                    );
                    let lost = !counted && self.loses_answers.load(Ordering::SeqCst);
                    if lost || to.write_all(&piece).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Both);
                let _ = closing.shutdown(Shutdown::Both);
            });
            let mut piece = vec![0; CHUNK_BYTES];
            while let Ok(length @ 1..) = from.read(&mut piece) {
                self.requests
                    .fetch_add(u64::from(counted), Ordering::SeqCst);
                let delay = Duration::from_millis(self.delay_ms.load(Ordering::SeqCst));
                // The writing thread ends when the other side is gone.
                if sender
                    .send((Instant::now() + delay, piece[..length].to_vec()))
                    .is_err()
                {
                    break;
                }
            }
            drop(sender);
        });
    }
}
