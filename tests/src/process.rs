//! A child process that ends with its handle.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

/// Longest wait for a server to come up or to end, in seconds.
pub const START_WAIT_S_MAX: u64 = 20;
/// Time between two looks at a process that gives no event to wait for, in milliseconds.
const LOOK_EVERY_MS: u64 = 5;

/// A running program. Killed and waited for when dropped.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`, its output in `folder/name.log`.
    pub fn start(
        name: &str,
        program: &Path,
        args: &[String],
        envs: &[(&str, &str)],
        folder: &Path,
    ) -> io::Result<Process> {
        let log = folder.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(program)
            .args(args)
            .envs(envs.iter().copied())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{program:?}: {error}")))?;
        Ok(Process {
            name: name.to_owned(),
            child,
            log,
        })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until something listens at `addr`.
    ///
    /// # Panics
    /// When the process ends before that, or takes too long; with its output.
    pub fn wait_listening(&mut self, addr: SocketAddr) {
        self.wait_for(&format!("to listen at {addr}"), |_| {
            TcpStream::connect(addr).is_ok()
        });
    }

    /// Waits until the output has a line that starts with `start`.
    pub fn wait_line(&mut self, start: &str) {
        self.wait_for(&format!("to print {start:?}"), |process| {
            process.output().lines().any(|line| line.starts_with(start))
        });
    }

    /// Waits until `done` is true while the process runs.
    ///
    /// # Panics
    /// When the process ends before that, or takes too long; with its output.
    pub fn wait_for(&mut self, what: &str, mut done: impl FnMut(&mut Process) -> bool) {
        let give_up = Instant::now() + Duration::from_secs(START_WAIT_S_MAX);
        while !done(self) {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!(
                    "{} ended ({status}) instead {what}:\n{}",
                    self.name,
                    self.output()
                );
            }
            assert!(
                Instant::now() < give_up,
                "{} takes too long {what}:\n{}",
                self.name,
                self.output()
            );
            thread::sleep(Duration::from_millis(LOOK_EVERY_MS));
        }
    }

    /// What the process has printed.
    pub fn output(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL: the process gets no chance to tidy up.
    pub fn kill(&mut self) {
        self.strike();
        let _ = self.child.wait();
    }

    /// SIGKILL without waiting for the end: several processes can be struck at one moment.
    pub fn strike(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
    }

    /// Sends a signal by name, `TERM` or `INT` or `STOP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.id().to_string()])
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "signal {name} to {}",
            self.name
        );
    }

    /// Waits until the process ends by itself.
    pub fn wait_end(&mut self) -> ExitStatus {
        let give_up = Instant::now() + Duration::from_secs(START_WAIT_S_MAX);
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(Instant::now() < give_up, "{} does not end", self.name);
            thread::sleep(Duration::from_millis(LOOK_EVERY_MS));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ports that tests take, below the range from which the system gives ports to outgoing connections.
const PORT_FIRST: u16 = 20_000;
const PORT_END: u16 = 32_000;

/// A port of 127.0.0.1 that nothing listens on and that no other caller in this process was given.
pub fn free_port() -> u16 {
    free_ports(1)
}

/// The first of `count` free ports in a row.
pub fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at the same time begin at places of their own.
    let _ = NEXT.compare_exchange(
        0,
        PORT_FIRST + (std::process::id() as u16 % 400) * 25,
        Ordering::Relaxed,
        Ordering::Relaxed,
    );
    for _ in 0..2 * (PORT_END - PORT_FIRST) {
        let first = NEXT.fetch_add(count, Ordering::Relaxed);
        if first + count > PORT_END {
            NEXT.store(PORT_FIRST, Ordering::Relaxed);
            continue;
        }
        if (first..first + count).all(is_free) {
            return first;
        }
    }
    panic!("no {count} free ports in a row between {PORT_FIRST} and {PORT_END}");
}

/// Whether a server could listen at the port.
///
/// The look binds but does not listen: a child that another thread starts at this moment holds a copy of every socket
/// until it is its own program, and a copy that listens would keep the server out and answer in its place.
fn is_free(port: u16) -> bool {
    let bind = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(local(port)))
    };
    bind().is_ok()
}

/// `127.0.0.1:port`.
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Children started by each of the threads beside the one that takes ports.
    const CHILDREN: usize = 300;

    #[test]
    fn a_free_port_is_free_while_other_threads_start_programs() {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..CHILDREN {
                        let status = Command::new("true").status();
                        assert!(status.is_ok_and(|status| status.success()));
                    }
                });
            }
            for _ in 0..4 * CHILDREN {
                let addr = local(free_port());
                assert!(TcpStream::connect(addr).is_err(), "{addr} answers");
                TcpListener::bind(addr).unwrap_or_else(|error| panic!("{addr}: {error}"));
            }
        });
    }

    #[test]
    fn a_port_that_is_listened_at_is_not_free() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        let port = taken.local_addr().expect("it has an address").port();
        assert!(!is_free(port));
    }
}
