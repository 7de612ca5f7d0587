//! `larder up` on free ports, in a folder of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::client::Client;
use crate::cluster::{SECRET, larder_bin};
use crate::process::{Process, free_ports, local};

/// Ports kept free for nodes that are started later.
const NODE_PORTS: u16 = 8;

/// Longest run of an operator's command, in seconds.
pub const LARDER_S_MAX: u64 = 60;

/// A running `larder up`, or one that may be started again on the same ports and data.
pub struct Up {
    pub process: Option<Process>,
    first_port: u16,
    more: Vec<String>,
    folder: PathBuf,
}

impl Up {
    /// Starts one in `folder` and waits for its `ready` line. `more`: further arguments.
    pub fn start(folder: &Path, more: &[&str]) -> Up {
        let mut up = Up {
            process: None,
            first_port: free_ports(3 + NODE_PORTS),
            more: more.iter().map(|arg| (*arg).to_owned()).collect(),
            folder: folder.to_path_buf(),
        };
        up.start_again();
        up
    }

    /// Starts it at its old place, and waits for its `ready` line.
    pub fn start_again(&mut self) {
        let args: Vec<String> = self.args();
        let _ = std::fs::remove_file(self.folder.join("up.log"));
        let envs = [("LARDER_SECRET", SECRET)];
        let mut process = Process::start("up", &larder_bin(), &args, &envs, &self.folder)
            .expect("larder is built (cargo build --profile quick)");
        process.wait_line("ready");
        self.process = Some(process);
    }

    /// The whole command line but the program's name.
    pub fn args(&self) -> Vec<String> {
        let data = self.folder.join("data").display().to_string();
        let ports = [
            ("--port", self.first_port),
            ("--admin-port", self.first_port + 1),
            ("--http-port", self.first_port + 2),
            ("--node-port", self.first_port + 3),
        ];
        let mut args = vec!["up".to_owned(), "--data-dir".to_owned(), data];
        args.extend(
            ports
                .into_iter()
                .flat_map(|(flag, port)| [flag.to_owned(), port.to_string()]),
        );
        args.extend(self.more.iter().cloned());
        args
    }

    pub fn proxy_addr(&self) -> SocketAddr {
        local(self.first_port)
    }

    pub fn topology_addr(&self) -> SocketAddr {
        local(self.first_port + 1)
    }

    pub fn http_addr(&self) -> SocketAddr {
        local(self.first_port + 2)
    }

    pub fn node_addr(&self, index: u16) -> SocketAddr {
        local(self.first_port + 3 + index)
    }

    /// A client of the proxy.
    pub fn client(&self) -> Client {
        Client::to(self.proxy_addr())
    }

    /// Runs `larder <args> --topology …` to its end, for [`LARDER_S_MAX`] at most.
    pub fn larder(&self, args: &[&str]) -> Output {
        Command::new("timeout")
            .arg(LARDER_S_MAX.to_string())
            .arg(larder_bin())
            .args(args)
            .args(["--topology", &self.topology_addr().to_string()])
            .env("LARDER_SECRET", SECRET)
            .stdin(Stdio::null())
            .output()
            .expect("larder runs")
    }
}
