//! Servers under test: started on a core, watched through `/proc`, ended with the run.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::connection::Connection;

/// How long a server may take to answer its first question.
const READY_SECONDS_MAX: u64 = 30;
/// Between two tries to connect to a server that starts.
const READY_RETRY_MS: u64 = 10;

/// A server that ends when this is dropped; and, should this process be killed, with it.
pub(crate) struct Server {
    child: Child,
    name: String,
    log: PathBuf,
}

/// Which cores a process may run on, as `taskset` has it: `0`, `0,1`.
#[derive(Clone, Debug)]
pub(crate) struct Cores(pub(crate) String);

impl Server {
    /// Starts `command` (program and arguments) on `cores`; what it prints goes to a file in
    /// `folder`.
    pub(crate) fn start(
        name: &str,
        command: &[String],
        cores: &Cores,
        folder: &Path,
    ) -> Result<Server, Failure> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let child = Command::new("taskset")
            .args(["-c", &cores.0, "setpriv", "--pdeathsig", "KILL"])
            .args(command)
            // All processes of a run trust one another, and nobody else's files are touched.
            .env("LARDER_SECRET", secret())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|error| format!("taskset and setpriv (util-linux) do not start: {error}"))?;
        Ok(Server {
            child,
            name: name.to_owned(),
            log,
        })
    }

    /// Returns once `question` sent to `addr` is answered by anything but an error.
    pub(crate) async fn ready(
        &mut self,
        addr: SocketAddr,
        question: &[&str],
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + Duration::from_secs(READY_SECONDS_MAX);
        loop {
            let why = match Connection::open(addr).await {
                Ok(mut connection) => match connection.ask(question).await {
                    Ok(_) => return Ok(()),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("{} ended ({status}):\n{}", self.name, self.tail()).into());
            }
            if Instant::now() > deadline {
                let tail = self.tail();
                return Err(format!("{} is not ready: {why}\n{tail}", self.name).into());
            }
            // A foreign server has no event to wait for.
            tokio::time::sleep(Duration::from_millis(READY_RETRY_MS)).await;
        }
    }

    /// User and system time so far, of all its threads.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        cpu_time(self.child.id())
            .map_err(|error| format!("{} is gone ({error}):\n{}", self.name, self.tail()).into())
    }

    /// Memory that is in RAM, in bytes.
    pub(crate) fn rss(&self) -> Result<u64, Failure> {
        const PAGE_BYTES: u64 = 4096;
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id()))?;
        let pages = text.split(' ').nth(1).and_then(|it| it.parse::<u64>().ok());
        Ok(pages.ok_or("statm has no resident pages")? * PAGE_BYTES)
    }

    /// The highest that its memory in RAM has been, in bytes.
    pub(crate) fn peak(&self) -> Result<u64, Failure> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|it| it.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kib.ok_or("status has no VmHWM")? * 1024)
    }

    /// The highest counts from here.
    pub(crate) fn forget_peak(&self) -> Result<(), Failure> {
        const PEAK: &str = "5";
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), PEAK)?;
        Ok(())
    }

    /// How long the thread that serves has stood ready while others had the cores.
    pub(crate) fn waited_serving(&self) -> Result<Duration, Failure> {
        run_delay(&self.serving()?)
    }

    /// Keeps the thread that serves on `cores`.
    pub(crate) fn pin_serving(&self, cores: &Cores) -> Result<(), Failure> {
        let serving = self.serving()?;
        let thread = serving.file_name().unwrap_or_default().to_string_lossy();
        pin("-cp", cores, &thread)
    }

    /// In `/proc`.
    fn serving(&self) -> Result<PathBuf, Failure> {
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let thread = thread?.path();
            if std::fs::read_to_string(thread.join("comm"))?.starts_with("node ") {
                return Ok(thread);
            }
        }
        Err(format!("{} has no thread of a node", self.name).into())
    }

    /// How long its threads have stood ready while others had the cores.
    pub(crate) fn waited(&self) -> Result<Duration, Failure> {
        let mut sum = Duration::ZERO;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            sum += run_delay(&thread?.path())?;
        }
        Ok(sum)
    }

    fn tail(&self) -> String {
        const LINES_MAX: usize = 15;
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES_MAX)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time of a process, ended threads included, in steps of 10 ms.
fn cpu_time(pid: u32) -> std::io::Result<Duration> {
    const TICK_MS: u64 = 10;
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name stands in parentheses and may hold anything.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(ticks * TICK_MS))
}

/// How long the calling thread has stood ready while others had the cores.
pub(crate) fn waited_here() -> Result<Duration, Failure> {
    run_delay(Path::new("/proc/thread-self"))
}

/// The kernel adds a wait when it ends, so what a thread does next comes after it.
fn run_delay(thread: &Path) -> Result<Duration, Failure> {
    let text = std::fs::read_to_string(thread.join("schedstat"))?;
    let nanos = text.split(' ').nth(1).and_then(|it| it.parse().ok());
    Ok(Duration::from_nanos(
        nanos.ok_or("schedstat has no time of waiting")?,
    ))
}

/// The secret of the clusters of this run.
pub(crate) fn secret() -> String {
    format!("bench-{}", std::process::id())
}

/// `COUNT` addresses that nothing listens on; nor on the port 10000 above, which a node of a
/// Valkey cluster takes too.
pub(crate) fn free_addrs<const COUNT: usize>() -> Result<[SocketAddr; COUNT], Failure> {
    const TRIES_MAX: usize = 1000;
    let mut held = Vec::new();
    let mut found = Vec::new();
    for _ in 0..TRIES_MAX {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let bus = addr.port().checked_add(10_000);
        let bus = bus.and_then(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
        if bus.is_some() {
            found.push(addr);
        }
        // Held until all are found, so that none is found twice.
        held.push((listener, bus));
        if let Ok(addrs) = <[SocketAddr; COUNT]>::try_from(&found[..]) {
            return Ok(addrs);
        }
    }
    Err("too few ports are free".into())
}

/// Keeps this process, and the load it makes, on `cores`.
pub(crate) fn pin_self(cores: &Cores) -> Result<(), Failure> {
    pin("-acp", cores, &std::process::id().to_string())
}

fn pin(how: &str, cores: &Cores, id: &str) -> Result<(), Failure> {
    let done = Command::new("taskset")
        .args([how, &cores.0, id])
        .stdout(Stdio::null())
        .status()?;
    match done.success() {
        true => Ok(()),
        false => Err(format!("{id} cannot run on cores {}", cores.0).into()),
    }
}
