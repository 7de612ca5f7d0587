//! The oracle: a real redis-server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::client::Client;
use crate::process::{Process, free_port, local};
use crate::reply::Reply;

pub struct RedisServer {
    // Dropped in this order: the server first, then its folder.
    process: Process,
    addr: SocketAddr,
    folder: TempDir,
}

impl RedisServer {
    /// Starts one that keeps everything in memory.
    ///
    /// # Panics
    /// When there is no redis-server on this machine (`tests/run` installs it).
    pub fn start() -> RedisServer {
        RedisServer::start_with(&[])
    }

    /// With further arguments, `["--cluster-enabled", "yes"]`.
    pub fn start_with(more: &[&str]) -> RedisServer {
        RedisServer::start_program(Path::new("redis-server"), more)
    }

    /// Another program of that kind (a newer redis-server, a valkey-server).
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_program(program: &Path, more: &[&str]) -> RedisServer {
        let folder = tempfile::tempdir().expect("a folder for redis-server");
        let port = free_port();
        let port_text = port.to_string();
        // By itself it takes the port 10,000 further up, which may be the kernel's for some outgoing connection.
        let bus_port = free_port().to_string();
        let is_cluster = more.contains(&"--cluster-enabled") && !more.contains(&"--cluster-port");
        let bus: &[&str] = if is_cluster {
            &["--cluster-port", &bus_port]
        } else {
            &[]
        };
        let args = [
            "--port",
            &port_text,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
        ]
        .iter()
        .chain(bus)
        .chain(more)
        .map(|arg| (*arg).to_owned())
        .collect::<Vec<_>>();
        let mut process = Process::start("redis-server", program, &args, &[], folder.path())
            .expect("redis-server is installed (tests/run does that)");
        let addr = local(port);
        process.wait_listening(addr);
        process.wait_for("to answer PING", |_| {
            let answer = Client::connect(addr).and_then(|mut client| client.ask(&["PING"]));
            answer.is_ok_and(|answer| answer == Reply::Simple("PONG".to_owned()))
        });
        RedisServer {
            process,
            addr,
            folder,
        }
    }

    /// A newest valkey-server, where `bench/peers/fetch` has brought one.
    pub fn valkey_program() -> Option<PathBuf> {
        peer("valkey-server")
    }

    /// A redis-server newer than Debian's, likewise.
    pub fn newer_redis_program() -> Option<PathBuf> {
        peer("redis-server")
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn client(&self) -> Client {
        Client::to(self.addr)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn peer(name: &str) -> Option<PathBuf> {
    let folder = match std::env::var_os("LARDER_PEERS_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".cache/larder/sid"),
    };
    Some(folder.join("bin").join(name)).filter(|program| program.exists())
}
