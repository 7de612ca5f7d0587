//! A running `larder import`, and what it says of itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::cluster::{SECRET, larder_bin};
use crate::process::{Process, free_port, local};

/// Longest run of a question to an import, in seconds.
const ASK_S_MAX: u64 = 60;

pub struct Importer {
    pub process: Process,
    addr: SocketAddr,
}

impl Importer {
    /// Starts `larder import --from <from> --topology <topology> <more>`; its files are in `folder`.
    pub fn start(from: &str, topology: SocketAddr, folder: &Path, more: &[&str]) -> Importer {
        let addr = local(free_port());
        let state = state_file(folder).display().to_string();
        let mut args: Vec<String> = ["import", "--from", from, "--topology"]
            .map(str::to_owned)
            .to_vec();
        args.extend([
            topology.to_string(),
            "--listen".to_owned(),
            addr.to_string(),
        ]);
        args.extend(["--state-file".to_owned(), state]);
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        let envs = [("LARDER_SECRET", SECRET)];
        let process = Process::start("import", &larder_bin(), &args, &envs, folder)
            .expect("larder is built (cargo build --profile quick)");
        Importer { process, addr }
    }

    /// `larder import <verb> <more>` to its end.
    pub fn ask(&self, words: &[&str]) -> Output {
        Command::new("timeout")
            .arg(ASK_S_MAX.to_string())
            .arg(larder_bin())
            .arg("import")
            .args(words)
            .args(["--importer", &self.addr.to_string()])
            .env("LARDER_SECRET", SECRET)
            .stdin(Stdio::null())
            .output()
            .expect("larder runs")
    }

    /// `None` while it does not answer.
    pub fn status(&self) -> Option<Value> {
        let output = self.ask(&["status", "--json"]);
        let json = output.status.success().then_some(output.stdout)?;
        Some(serde_json::from_slice(&json).expect("status --json prints JSON"))
    }

    /// Waits until the status is as wanted, and gives it back.
    ///
    /// # Panics
    /// When the import ends before that, or takes too long; with its output.
    pub fn wait_until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        let addr = self.addr;
        self.process.wait_for(what, |_| {
            found = ask_status(addr).filter(|status| wanted(status));
            found.is_some()
        });
        found.expect("waited for")
    }

    /// Waits until it follows the source.
    pub fn wait_streaming(&mut self) -> Value {
        self.wait_until("to follow the source", |status| {
            status["state"] == "streaming"
        })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

fn ask_status(addr: SocketAddr) -> Option<Value> {
    let output = Command::new(larder_bin())
        .args([
            "import",
            "status",
            "--json",
            "--importer",
            &addr.to_string(),
        ])
        .env("LARDER_SECRET", SECRET)
        .output()
        .expect("larder runs");
    let json = output.status.success().then_some(output.stdout)?;
    Some(serde_json::from_slice(&json).expect("status --json prints JSON"))
}

/// Where an import in `folder` keeps its place.
pub fn state_file(folder: &Path) -> PathBuf {
    folder.join("import.json")
}
