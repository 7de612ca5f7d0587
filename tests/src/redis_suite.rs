//! Redis' own test suite, file by file, each against a server of its own, or with servers that the suite starts itself: those are nodes by
//! `tests/redis-suite/redis-server`.
//!
//! The suite is Debian's source package of redis, which `tests/run` fetches into `target/redis-suite`; nothing of it is in
//! this repository but names of tests. `tests/redis-suite/` says what is left out and why, what is not expected yet,
//! and how many tests of each file a real redis-server passes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cluster::{Cluster, larder_bin};
use crate::process::{free_ports, local};
use crate::redis::RedisServer;
use crate::reply::Reply;
use crate::standalone::Standalone;

/// Longest run of one file, in seconds: the longest takes a minute on a quiet machine.
pub const FILE_S_MAX: u64 = 400;
const LOOK_EVERY_MS: u64 = 20;
/// Ports that one run of the suite may take for itself: the first are its own, the last are for its servers.
const SUITE_PORTS: u16 = 64;
const SERVER_PORTS: u16 = 32;

/// How the suite sees its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Uses database 9.
    Databases,
    SingleDb,
    /// One node that owns all slots.
    Cluster,
    /// Starts servers itself, as the tests of files and restarts do.
    Own,
}

impl Mode {
    pub const ALL: [Mode; 4] = [Mode::Databases, Mode::SingleDb, Mode::Cluster, Mode::Own];

    pub fn name(self) -> &'static str {
        match self {
            Mode::Databases => "databases",
            Mode::SingleDb => "singledb",
            Mode::Cluster => "cluster",
            Mode::Own => "own",
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Mode::Databases => &[],
            Mode::SingleDb => &["--singledb"],
            Mode::Cluster => &["--cluster-mode", "--singledb"],
            Mode::Own => &["--clients", "1"],
        }
    }
}

/// A server that the suite runs against. Ends with its handle.
pub enum Server {
    Standalone(Standalone),
    Cluster(Box<Cluster>),
    Redis(RedisServer),
    /// The program that the suite starts.
    Program(PathBuf),
}

impl Server {
    pub fn larder(mode: Mode) -> Server {
        match mode {
            Mode::Databases | Mode::SingleDb => Server::Standalone(Standalone::start()),
            Mode::Cluster => Server::Cluster(Box::new(Cluster::start(1, 0))),
            Mode::Own => Server::Program(Lists::folder().join("redis-server")),
        }
    }

    pub fn redis(mode: Mode) -> Server {
        let debug = ["--enable-debug-command", "yes"];
        let cluster = ["--cluster-enabled", "yes"];
        let server = match mode {
            Mode::Databases | Mode::SingleDb => RedisServer::start_with(&debug),
            Mode::Cluster => RedisServer::start_with(&[debug, cluster].concat()),
            Mode::Own => return Server::Program(installed("redis-server")),
        };
        if mode == Mode::Cluster {
            let taken = server.client().run("CLUSTER ADDSLOTSRANGE 0 16383");
            assert_eq!(taken, Reply::Simple("OK".to_owned()));
        }
        Server::Redis(server)
    }

    /// None of a program.
    pub fn addr(&self) -> Option<SocketAddr> {
        match self {
            Server::Standalone(node) => Some(node.addr()),
            Server::Cluster(cluster) => Some(local_addr(cluster.node_addr(0))),
            Server::Redis(redis) => Some(redis.addr()),
            Server::Program(_) => None,
        }
    }

    pub fn is_running(&mut self) -> bool {
        match self {
            Server::Standalone(node) => node.process().is_running(),
            Server::Cluster(cluster) => cluster.nodes[0]
                .as_mut()
                .is_some_and(|node| node.is_running()),
            Server::Redis(redis) => redis.process().is_running(),
            Server::Program(program) => program.exists(),
        }
    }
}

/// Where a program is that the search path has.
fn installed(name: &str) -> PathBuf {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed (tests/run does that)"))
}

fn local_addr(addr: SocketAddr) -> SocketAddr {
    local(addr.port())
}

/// Where the suite is unpacked.
pub struct Suite {
    folder: PathBuf,
}

/// What came of one file.
#[derive(Debug, Default)]
pub struct Run {
    pub passed: Vec<String>,
    /// Each with what the suite says about it.
    pub failed: Vec<(String, String)>,
    pub skipped: Vec<String>,
    /// Why the file did not come to its end.
    pub broken: Option<String>,
}

impl Suite {
    /// # Panics
    /// When it was not fetched.
    pub fn unpacked() -> Suite {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
            PathBuf::from,
        );
        let folder = target.join("redis-suite/source");
        assert!(
            folder.join("tests/test_helper.tcl").is_file(),
            "Redis' test suite is not at {folder:?} (tests/run fetches it)"
        );
        Suite { folder }
    }

    /// A file of data that the suite brings: of servers that nobody runs any more.
    pub fn asset(&self, name: &str) -> PathBuf {
        self.folder.join("tests/assets").join(name)
    }

    /// Runs one file to its end, with options of the suite besides.
    pub fn run(&self, file: &str, mode: Mode, server: &mut Server, more: &[&str]) -> Run {
        let work = self.work_folder();
        let base = free_ports(SUITE_PORTS) + SUITE_PORTS - SERVER_PORTS;
        let mut place = Vec::new();
        match (server.addr(), &*server) {
            (Some(addr), _) => {
                let port = addr.port().to_string();
                place.extend(["--host", "127.0.0.1", "--port"].map(str::to_owned));
                place.push(port);
            }
            (None, Server::Program(program)) => link_programs(&work.path().join("src"), program),
            (None, _) => unreachable!("every server but a program has an address"),
        }
        let log = work.path().join("output");
        let out = File::create(&log).expect("a file for the suite's output");
        let child = Command::new("tclsh")
            .arg("tests/test_helper.tcl")
            .args(place)
            .args(["--baseport", &base.to_string()])
            .args(["--portcount", &SERVER_PORTS.to_string()])
            .args(["--single", file, "--durable", "--tags", "-slow"])
            .args(mode.options())
            .args(more)
            .current_dir(work.path())
            .env("TERM", "dumb")
            .env("LARDER_BIN", larder_bin())
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a second handle of the output"))
            .stderr(out)
            // Its own processes end with it.
            .process_group(0)
            .spawn()
            .expect("tclsh is installed (tests/run does that)");
        let in_time = wait(child);
        let output = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
        let mut run = parse(&output);
        if !in_time {
            run.broken = Some(format!("took longer than {FILE_S_MAX} s"));
        } else if !output.contains("The End") && run.broken.is_none() {
            run.broken = Some("ended early".to_owned());
        }
        if !server.is_running() {
            run.broken = Some("the server ended".to_owned());
        }
        run
    }

    /// A folder that looks like the source's, with a place of its own for what the suite writes.
    fn work_folder(&self) -> TempDir {
        let work = tempfile::tempdir().expect("a folder for the suite");
        let link = |from: &Path, to: &Path, but: &str| {
            for entry in fs::read_dir(from).expect("the suite can be read").flatten() {
                if entry.file_name() != but {
                    symlink(entry.path(), to.join(entry.file_name())).expect("a link");
                }
            }
        };
        let tests = work.path().join("tests");
        fs::create_dir_all(tests.join("tmp")).expect("a folder");
        link(&self.folder, work.path(), "tests");
        link(&self.folder.join("tests"), &tests, "tmp");
        work
    }
}

/// The suite finds its programs in a folder: all are as installed, but the server.
fn link_programs(folder: &Path, server: &Path) {
    fs::remove_file(folder).expect("the link to the source's folder");
    fs::create_dir(folder).expect("a folder for programs");
    let tools = ["redis-cli", "redis-benchmark", "redis-check-aof"];
    for name in tools {
        symlink(installed(name), folder.join(name)).expect("a link");
    }
    symlink(server, folder.join("redis-server")).expect("a link");
}

/// False when its time ran out, and it was ended.
fn wait(mut child: Child) -> bool {
    let give_up = Instant::now() + Duration::from_secs(FILE_S_MAX);
    let in_time = loop {
        match child.try_wait() {
            Ok(Some(_)) => break true,
            Ok(None) if Instant::now() < give_up => {
                thread::sleep(Duration::from_millis(LOOK_EVERY_MS));
            }
            Ok(None) | Err(_) => break false,
        }
    };
    // What it left behind goes too; there may be nothing.
    let group = format!("-{}", child.id());
    let _ = Command::new("kill")
        .args(["-s", "KILL", "--", &group])
        .stderr(Stdio::null())
        .status();
    let _ = child.wait();
    in_time
}

fn parse(output: &str) -> Run {
    let mut run = Run::default();
    let mut lines = output.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((word, rest)) = line
            .strip_prefix('[')
            .and_then(|line| line.split_once("]: "))
        else {
            continue;
        };
        let detail = |lines: &mut std::iter::Peekable<std::str::Lines<'_>>| {
            let mut text = String::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with('[')) {
                text += line;
                text.push('\n');
            }
            text
        };
        match word {
            "ok" => run.passed.push(without_time(rest).to_owned()),
            "skip" => run.skipped.push(rest.to_owned()),
            "err" => {
                let name = rest
                    .rsplit_once(" in tests/")
                    .map_or(rest, |(name, _)| name);
                run.failed.push((name.to_owned(), detail(&mut lines)));
            }
            "exception" => run.broken = Some(format!("{rest}\n{}", detail(&mut lines))),
            _ => {}
        }
    }
    run
}

/// `name (12 ms)`.
fn without_time(text: &str) -> &str {
    match text.rsplit_once(" (") {
        Some((name, time)) if time.ends_with(" ms)") => name,
        Some(_) | None => text,
    }
}

/// The lists of `tests/redis-suite/`.
pub struct Lists {
    /// Names of tests, or `/pattern`, and why each is left out.
    pub skips: Vec<(String, String)>,
    /// What is missing for a file, by mode and file.
    pub not_yet: BTreeMap<(String, String), String>,
    /// Tests that a real redis-server passes, by file and mode.
    pub redis_passes: BTreeMap<(String, Mode), usize>,
}

/// Begins the reason of a test that is run all the same, without its questions for encodings.
pub const ENCODING: &str = "encoding:";

/// Begins the reason of a test that the suite itself leaves out where the allocator is not jemalloc; its file follows.
pub const ALLOCATOR: &str = "allocator: ";

impl Lists {
    pub fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("redis-suite")
    }

    /// # Panics
    /// At a line that is not of its list's form.
    pub fn read() -> Lists {
        let pairs = |name: &str| -> Vec<(String, String)> {
            lines(name)
                .map(|line| {
                    let (what, why) = line
                        .split_once(" — ")
                        .unwrap_or_else(|| panic!("{name}: no reason: {line}"));
                    (what.to_owned(), why.to_owned())
                })
                .collect()
        };
        let not_yet = pairs("not-yet")
            .into_iter()
            .map(|(what, why)| {
                let (mode, file) = what.split_once(' ').expect("not-yet: mode file — reason");
                ((mode.to_owned(), file.to_owned()), why)
            })
            .collect();
        let mut redis_passes = BTreeMap::new();
        for line in lines("redis-passes") {
            let mut words = line.split_whitespace();
            let file = words.next().expect("a line is not empty").to_owned();
            for (mode, count) in Mode::ALL.into_iter().zip(words) {
                let count = count.parse().expect("redis-passes: file and counts");
                redis_passes.insert((file.clone(), mode), count);
            }
        }
        Lists {
            skips: pairs("skip"),
            not_yet,
            redis_passes,
        }
    }

    /// What is missing for a file in a mode; `*` stands for all modes.
    pub fn missing(&self, mode: Mode, file: &str) -> Option<&str> {
        let of = |mode: &str| self.not_yet.get(&(mode.to_owned(), file.to_owned()));
        of(mode.name()).or_else(|| of("*")).map(String::as_str)
    }
}

fn lines(name: &str) -> impl Iterator<Item = String> {
    let path = Lists::folder().join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suites_output_is_read() {
        let run = parse(
            "Cleanup: may take some time... OK\n[ready]: 7\n[ok]: one (more) (12 ms)\n[err]: two in tests/unit/x.tcl\nExpected 1\nto be 2\n[skip]: three\n[ignore]: four: Tag\n[ok]: five (0 ms)\n",
        );
        assert_eq!(run.passed, ["one (more)", "five"]);
        assert_eq!(run.skipped, ["three"]);
        assert_eq!(
            run.failed,
            [("two".to_owned(), "Expected 1\nto be 2\n".to_owned())]
        );
        assert_eq!(run.broken, None);
        let run = parse("[exception]: Executing test client: lost.\nwhile doing\n");
        assert_eq!(
            run.broken.as_deref(),
            Some("Executing test client: lost.\nwhile doing\n")
        );
    }
}
