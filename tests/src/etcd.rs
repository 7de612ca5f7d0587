//! A real etcd of one member, which can be killed and started again with what it had.

use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use crate::http;
use crate::process::{Process, free_port, local};

pub struct Etcd {
    // Dropped before the folder.
    process: Process,
    addr: SocketAddr,
    peer: SocketAddr,
    folder: TempDir,
}

impl Etcd {
    pub fn start() -> Etcd {
        // In memory where that is possible: a disk that is busy with other things makes etcd's answers slow.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.expect("a folder for etcd");
        let (addr, peer) = (local(free_port()), local(free_port()));
        Etcd {
            process: run(folder.path(), addr, peer),
            addr,
            peer,
            folder,
        }
    }

    /// Where its clients connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn start_again(&mut self) {
        self.process = run(self.folder.path(), self.addr, self.peer);
    }
}

/// Starts it, and waits until it serves.
fn run(folder: &Path, addr: SocketAddr, peer: SocketAddr) -> Process {
    let (client_url, peer_url) = (format!("http://{addr}"), format!("http://{peer}"));
    let args = [
        "--name",
        "one",
        "--data-dir",
        "data",
        "--listen-client-urls",
        &client_url,
        "--advertise-client-urls",
        &client_url,
        "--listen-peer-urls",
        &peer_url,
        "--initial-advertise-peer-urls",
        &peer_url,
        "--initial-cluster",
        &format!("one={peer_url}"),
        "--logger",
        "zap",
    ];
    let args = args.map(str::to_owned);
    let mut process = Process::start("etcd", Path::new("etcd"), &args, &[], folder)
        .expect("etcd is installed (Debian's etcd-server)");
    process.wait_for("to be healthy", |_| {
        http::get(addr, "/health").is_some_and(|(_, body)| body.contains("true"))
    });
    process
}
