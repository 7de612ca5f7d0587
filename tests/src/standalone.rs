//! One larder node that owns all slots, in a process of its own.

use std::net::SocketAddr;
use std::process::ExitStatus;

use tempfile::TempDir;

use crate::client::Client;
use crate::cluster::{SECRET, larder_bin};
use crate::process::{Process, free_port, local};

pub struct Standalone {
    // Dropped before the folder.
    process: Process,
    addr: SocketAddr,
    folder: TempDir,
}

impl Standalone {
    /// `larder shard --standalone` on a free port.
    ///
    /// # Panics
    /// When it does not come up; with its output.
    pub fn start() -> Standalone {
        Standalone::start_with(&[])
    }

    /// With further flags, `["--aclfile", "users.acl"]`.
    pub fn start_with(more: &[&str]) -> Standalone {
        let mut node = Standalone::begin(more);
        node.process.wait_listening(node.addr);
        node
    }

    /// One that cannot serve: waits for its end, which may come before anybody can connect. How it ended, and what it printed.
    pub fn refused(more: &[&str]) -> (ExitStatus, String) {
        let mut node = Standalone::begin(more);
        let ended = node.process.wait_end();
        (ended, node.process.output())
    }

    fn begin(more: &[&str]) -> Standalone {
        let folder = tempfile::tempdir().expect("a folder for the node");
        let addr = local(free_port());
        let listen = addr.to_string();
        let args: Vec<String> = ["shard", "--standalone", "--listen", &listen]
            .iter()
            .chain(more)
            .map(|arg| (*arg).to_owned())
            .collect();
        let envs = [("LARDER_SECRET", SECRET)];
        let process = Process::start("node", &larder_bin(), &args, &envs, folder.path())
            .expect("larder is built (cargo build --profile quick)");
        Standalone {
            process,
            addr,
            folder,
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn client(&self) -> Client {
        Client::to(self.addr)
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}
