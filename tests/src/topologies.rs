//! Several topology processes that share a record in etcd, each of which can be killed, stopped and started again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::Client;
use crate::cluster::{SECRET, larder_bin};
use crate::process::{Process, free_port, local};
use crate::reply::Reply;

/// Longest wait for a leader, in seconds: generous, the tests measure how long it took.
pub const LEADER_WAIT_S_MAX: u64 = 30;
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub struct Topologies {
    // Dropped before the folder.
    processes: Vec<Option<Process>>,
    addrs: Vec<SocketAddr>,
    http: Vec<SocketAddr>,
    /// Where each finds etcd.
    stores: Vec<SocketAddr>,
    shards: usize,
    /// Further flags of all.
    flags: Vec<String>,
    folder: TempDir,
}

impl Topologies {
    /// One topology for each of `stores`, addresses of one etcd; they form clusters of `shards` shards.
    pub fn start(stores: &[SocketAddr], shards: usize) -> Topologies {
        Topologies::start_flagged(stores, shards, &[])
    }

    /// With further flags, `["--replicas", "1"]`.
    pub fn start_flagged(stores: &[SocketAddr], shards: usize, flags: &[&str]) -> Topologies {
        let port = |_| local(free_port());
        let mut topologies = Topologies {
            processes: stores.iter().map(|_| None).collect(),
            addrs: stores.iter().map(port).collect(),
            http: stores.iter().map(port).collect(),
            stores: stores.to_vec(),
            shards,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            folder: tempfile::tempdir().expect("a folder for the topologies"),
        };
        for index in 0..stores.len() {
            topologies.start_one(index);
        }
        topologies
    }

    pub fn start_one(&mut self, index: usize) {
        let args = [
            "topology",
            "--listen",
            &self.addrs[index].to_string(),
            "--http",
            &self.http[index].to_string(),
            "--store",
            &format!("etcd://{}/tests", self.stores[index]),
            "--shards",
            &self.shards.to_string(),
            "--log",
            "info",
        ];
        let mut args = args.map(str::to_owned).to_vec();
        args.extend_from_slice(&self.flags);
        let envs = [("LARDER_SECRET", SECRET)];
        let name = format!("topology-{index}");
        let mut process = Process::start(&name, &larder_bin(), &args, &envs, self.folder.path())
            .expect("larder is built (cargo build --profile quick)");
        process.wait_listening(self.addrs[index]);
        self.processes[index] = Some(process);
    }

    /// What `--topology` takes.
    pub fn list(&self) -> String {
        let addrs: Vec<String> = self.addrs.iter().map(SocketAddr::to_string).collect();
        addrs.join(",")
    }

    pub fn addr(&self, index: usize) -> SocketAddr {
        self.addrs[index]
    }

    pub fn http(&self, index: usize) -> SocketAddr {
        self.http[index]
    }

    /// # Panics
    /// When it was never started.
    pub fn process(&mut self, index: usize) -> &mut Process {
        self.processes[index].as_mut().expect("it was started")
    }

    pub fn kill_all(&mut self) {
        for process in self.processes.iter_mut().flatten() {
            process.kill();
        }
    }

    /// Whether it says that it leads; `false` when it says nothing.
    pub fn leads(&self, index: usize) -> bool {
        let asked = Client::connect(self.addrs[index]).and_then(|mut client| client.ask(&["INFO"]));
        matches!(asked, Ok(reply) if reply.as_text().is_some_and(|text: String| text.contains("larder_leads:1")))
    }

    /// The one that leads, once one of `among` does.
    ///
    /// # Panics
    /// When that takes too long; with what they logged.
    pub fn wait_leader(&self, among: &[usize]) -> usize {
        let give_up = Instant::now() + Duration::from_secs(LEADER_WAIT_S_MAX);
        while Instant::now() < give_up {
            if let Some(leader) = among.iter().find(|index| self.leads(**index)) {
                return *leader;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let logs = self.processes.iter().flatten().map(Process::output);
        panic!("nobody leads:\n{}", logs.collect::<String>());
    }

    /// All but one.
    pub fn others(&self, one: usize) -> Vec<usize> {
        (0..self.addrs.len())
            .filter(|index| *index != one)
            .collect()
    }

    /// What a Redis client that shows the secret is answered by one of them.
    pub fn ask(&self, index: usize, line: &str) -> Reply {
        let mut client = Client::to(self.addrs[index]);
        assert_eq!(
            client.run(&format!("AUTH larder {SECRET}")),
            Reply::Simple("OK".into())
        );
        client.run(line)
    }
}
