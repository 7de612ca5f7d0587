//! The load generator: connections spread over threads, each sending batches of requests and
//! waiting for their replies, until a number of requests or a time is used up.
//!
//! threads × (one current-thread runtime × (clients / threads) connections)

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use larder_wire::resp::{ReplyKind, ReplyScanner, reply};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::Failure;
use crate::workload::{Mix, Workload};

/// Bytes that a connection makes room for before it reads.
const READ_BYTES: usize = 16 * 1024;
/// Significant digits of a latency.
const LATENCY_DIGITS: u8 = 3;

#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArgs {
    /// The server
    #[arg(long, default_value = "127.0.0.1:6379", value_name = "A:P")]
    pub(crate) connect: SocketAddr,
    #[command(flatten)]
    pub(crate) shape: Shape,
    /// Set every key once before the load
    #[arg(long)]
    pub(crate) fill: bool,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The load itself.
#[derive(Clone, Debug, Args)]
pub(crate) struct Shape {
    /// Connections
    #[arg(long, default_value_t = 50)]
    pub(crate) clients: usize,
    /// Threads that the connections are spread over
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Requests that a connection sends before it waits for replies
    #[arg(long, default_value_t = 1)]
    pub(crate) pipeline: u64,
    /// Commands and their weights (get, set, incr, ping, mgetN, msetN), or one request: 'HSET h:{1000} f:{10} {value}'
    #[arg(long, default_value = "get=1,set=1")]
    pub(crate) mix: Mix,
    /// Bytes of a value
    #[arg(long, default_value_t = 64)]
    pub(crate) value_bytes: usize,
    /// How many keys there are
    #[arg(long, default_value_t = 100_000)]
    pub(crate) keys: u64,
    /// Ends after so many requests …
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    pub(crate) requests: u64,
    /// … or after so many seconds
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// Decides which keys are asked for
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LoadReport {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) requests_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
}

pub(crate) async fn command(args: LoadArgs) -> Result<(), Failure> {
    if args.fill {
        fill(args.connect, args.shape.keys, args.shape.value_bytes).await?;
    }
    let report = run(args.connect, args.shape).await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{report}")?;
    }
    match report.first_error {
        Some(error) => Err(format!("{} requests were refused: {error}", report.errors).into()),
        None => Ok(()),
    }
}

impl std::fmt::Display for LoadReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} requests in {:.2} s: {:.0} a second, {} errors",
            self.requests, self.seconds, self.requests_per_second, self.errors
        )?;
        writeln!(
            f,
            "latency in µs: p50 {:.0}, p99 {:.0}, p99.9 {:.0}, longest {:.0}",
            self.p50_us, self.p99_us, self.p999_us, self.max_us
        )
    }
}

/// Runs the load on threads of its own.
pub(crate) async fn run(addr: SocketAddr, shape: Shape) -> Result<LoadReport, Failure> {
    run_until(addr, shape, Stop::default()).await
}

/// Ends a load before its time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_said(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The same, until it is stopped.
pub(crate) async fn run_until(
    addr: SocketAddr,
    shape: Shape,
    stop: Stop,
) -> Result<LoadReport, Failure> {
    tokio::task::spawn_blocking(move || run_threads(addr, &shape, &stop)).await?
}

/// Sets every key once.
pub(crate) async fn fill(addr: SocketAddr, keys: u64, value_bytes: usize) -> Result<(), Failure> {
    const BATCH: u64 = 200;
    let workload = Workload::new("set".parse()?, keys, value_bytes, 1);
    let mut peer = Peer::open(addr).await?;
    let mut next = 0;
    while next < keys {
        let end = keys.min(next + BATCH);
        peer.out.clear();
        for index in next..end {
            workload.write_fill(&mut peer.out, index);
        }
        let mut tally = Tally::new();
        peer.exchange(end - next, &mut tally).await?;
        if let Some(error) = tally.first_error {
            return Err(format!("the keys cannot be set: {error}").into());
        }
        next = end;
    }
    Ok(())
}

fn run_threads(addr: SocketAddr, shape: &Shape, stop: &Stop) -> Result<LoadReport, Failure> {
    let budget = Arc::new(AtomicU64::new(shape.requests));
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(shape.seconds);
    let threads = shape.threads.clamp(1, shape.clients.max(1));
    let handles: Vec<_> = (0..threads)
        .map(|thread| {
            let (shape, budget, stop) = (shape.clone(), budget.clone(), stop.clone());
            std::thread::spawn(move || {
                // Client 0 is on thread 0, client 1 on thread 1, and so on around.
                let clients = (thread..shape.clients).step_by(threads);
                run_clients(addr, &shape, clients, budget, until, &stop)
            })
        })
        .collect();
    let mut all = Tally::new();
    for handle in handles {
        let tally = handle.join().map_err(|_| "a load thread panicked")??;
        all.add(&tally);
    }
    Ok(all.report(started.elapsed()))
}

fn run_clients(
    addr: SocketAddr,
    shape: &Shape,
    clients: impl Iterator<Item = usize>,
    budget: Arc<AtomicU64>,
    until: Instant,
    stop: &Stop,
) -> Result<Tally, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = LocalSet::new();
    runtime.block_on(tasks.run_until(async move {
        let running: Vec<_> = clients
            .map(|client| {
                let seed = shape.seed.wrapping_mul(1_000_003) + client as u64;
                let workload =
                    Workload::new(shape.mix.clone(), shape.keys, shape.value_bytes, seed);
                let (budget, stop) = (budget.clone(), stop.clone());
                let client = run_client(addr, workload, shape.pipeline, budget, until, stop);
                tokio::task::spawn_local(client)
            })
            .collect();
        let mut all = Tally::new();
        for client in running {
            all.add(&client.await??);
        }
        Ok(all)
    }))
}

async fn run_client(
    addr: SocketAddr,
    mut workload: Workload,
    pipeline: u64,
    budget: Arc<AtomicU64>,
    until: Instant,
    stop: Stop,
) -> Result<Tally, Failure> {
    let mut tally = Tally::new();
    let mut peer = Peer::open(addr).await?;
    loop {
        let batch = take(&budget, pipeline.max(1));
        if batch == 0 || Instant::now() >= until || stop.is_said() {
            return Ok(tally);
        }
        peer.out.clear();
        for _ in 0..batch {
            workload.write(&mut peer.out);
        }
        peer.exchange(batch, &mut tally).await?;
    }
}

/// Takes up to `most` of what is left.
fn take(budget: &AtomicU64, most: u64) -> u64 {
    let mut left = budget.load(Ordering::Relaxed);
    loop {
        let taken = left.min(most);
        let swapped =
            budget.compare_exchange_weak(left, left - taken, Ordering::Relaxed, Ordering::Relaxed);
        match swapped {
            Ok(_) => return taken,
            Err(now) => left = now,
        }
    }
}

/// A connection that measures.
pub(crate) struct Peer {
    stream: TcpStream,
    pub(crate) out: Vec<u8>,
    buf: Vec<u8>,
    scanner: ReplyScanner,
}

impl Peer {
    pub(crate) async fn open(addr: SocketAddr) -> Result<Peer, Failure> {
        let stream = TcpStream::connect(addr)
            .await
            .map_err(|error| format!("{addr} cannot be reached: {error}"))?;
        stream.set_nodelay(true)?;
        Ok(Peer {
            stream,
            out: Vec::new(),
            buf: Vec::with_capacity(READ_BYTES),
            scanner: ReplyScanner::new(),
        })
    }

    /// Sends `out`, which holds `count` requests, and waits for their replies.
    pub(crate) async fn exchange(&mut self, count: u64, tally: &mut Tally) -> Result<(), Failure> {
        let sent = Instant::now();
        self.stream.write_all(&self.out).await?;
        let (mut missing, mut start) = (count, 0);
        while missing > 0 {
            match self.scanner.scan(&self.buf[start..])? {
                Some(end) => {
                    tally.count(&self.buf[start..start + end], sent);
                    start += end;
                    missing -= 1;
                }
                None => {
                    self.buf.drain(..start);
                    start = 0;
                    self.buf.reserve(READ_BYTES);
                    if self.stream.read_buf(&mut self.buf).await? == 0 {
                        return Err("the server closed a connection".into());
                    }
                }
            }
        }
        self.buf.drain(..start);
        Ok(())
    }
}

pub(crate) struct Tally {
    latency_ns: Histogram<u64>,
    errors: u64,
    pub(crate) first_error: Option<String>,
}

impl Tally {
    pub(crate) fn new() -> Tally {
        Tally {
            latency_ns: Histogram::new(LATENCY_DIGITS).expect("3 digits are possible"),
            errors: 0,
            first_error: None,
        }
    }

    fn count(&mut self, reply: &[u8], sent: Instant) {
        let latency_ns = sent.elapsed().as_nanos() as u64;
        self.latency_ns
            .record(latency_ns)
            .expect("the histogram grows as needed");
        if reply::kind(reply) == ReplyKind::Error {
            self.errors += 1;
            if self.first_error.is_none() {
                let text = reply::error_text(reply).unwrap_or_default();
                self.first_error = Some(String::from_utf8_lossy(text).into_owned());
            }
        }
    }

    fn add(&mut self, other: &Tally) {
        self.latency_ns += &other.latency_ns;
        self.errors += other.errors;
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
    }

    fn report(self, elapsed: Duration) -> LoadReport {
        let latency = |quantile| self.latency_ns.value_at_quantile(quantile) as f64 / 1e3;
        let requests = self.latency_ns.len();
        LoadReport {
            requests,
            seconds: elapsed.as_secs_f64(),
            requests_per_second: requests as f64 / elapsed.as_secs_f64(),
            p50_us: latency(0.5),
            p99_us: latency(0.99),
            p999_us: latency(0.999),
            max_us: self.latency_ns.max() as f64 / 1e3,
            errors: self.errors,
            first_error: self.first_error,
        }
    }
}
