//! A network of invented hosts: one network namespace each, all on one bridge, which lies in a namespace of its own so that no
//! firewall of this machine looks at what crosses it. The tests themselves have a foot in it.
//!
//! Faults are rules of nftables on the host that *receives*: a cut from A to B is a rule on B about packets of A. Programs run through
//! `ip netns exec`, which becomes the program, so that a handle ends it. Everything is named after the process of the tests; what an
//! earlier one left when it was killed is removed by the next.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::Process;

/// What the names of all our namespaces and interfaces begin with.
const PREFIX: &str = "lrd";
/// Hosts of one network.
const HOSTS_MAX: u8 = 200;
/// The link of a slow host: so late is what it sends, in milliseconds, where the kernel can delay packets…
const SLOW_DELAY_MS: u32 = 20;
/// … and so much gets through where it can only limit them, in kilobits a second.
const SLOW_KBIT: u32 = 1000;

/// One host of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host(u8);

/// What becomes of packets that do not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// They are gone, and nobody says so.
    Silent,
    /// The sender is told: a host that is up and a port that is closed.
    Refused,
}

pub struct Network {
    name: String,
    /// The first three parts of every address.
    subnet: [u8; 3],
    hosts: u8,
}

impl Network {
    /// Fails, with the reason, where namespaces are not permitted or a program is missing.
    pub fn new() -> Result<Network, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_leftovers();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}x{number}", std::process::id());
        // From here on, dropping it tidies up.
        let network = Network {
            subnet: free_subnet(std::process::id(), number)?,
            name,
            hosts: 0,
        };
        let (hub, foot) = (network.hub(), network.foot());
        ip(&format!("netns add {hub}"))?;
        ip(&format!(
            "link add name {foot} type veth peer name p0 netns {hub}"
        ))?;
        ip(&format!("addr add {}/24 dev {foot}", network.addr(0)))?;
        ip(&format!("link set {foot} up"))?;
        ip_in(
            &hub,
            "link add name bridge type bridge\nlink set bridge up\nlink set p0 master bridge\nlink set p0 up\n",
        )?;
        Ok(network)
    }

    /// A new host, with an address that all others reach.
    pub fn add_host(&mut self) -> Result<Host, String> {
        assert!(self.hosts < HOSTS_MAX, "a network has {HOSTS_MAX} hosts");
        self.hosts += 1;
        let host = Host(self.hosts);
        let (space, hub, n) = (self.space(host), self.hub(), self.hosts);
        ip(&format!("netns add {space}"))?;
        ip(&format!(
            "-n {hub} link add name p{n} type veth peer name eth0 netns {space}"
        ))?;
        ip_in(
            &hub,
            &format!("link set p{n} master bridge\nlink set p{n} up\n"),
        )?;
        let addr = self.ip(host);
        ip_in(
            &space,
            &format!("link set lo up\naddr add {addr}/24 dev eth0\nlink set eth0 up\n"),
        )?;
        self.nft(
            host,
            "add table inet faults\n\
             add chain inet faults input { type filter hook input priority 0; }\n\
             add chain inet faults output { type filter hook output priority 0; }\n",
        )?;
        Ok(host)
    }

    pub fn ip(&self, host: Host) -> Ipv4Addr {
        self.addr(host.0)
    }

    pub fn socket(&self, host: Host, port: u16) -> SocketAddr {
        SocketAddr::from((self.ip(host), port))
    }

    /// Starts a program on a host; the handle ends it.
    pub fn start(
        &self,
        host: Host,
        name: &str,
        program: &Path,
        args: &[String],
        envs: &[(&str, &str)],
        folder: &Path,
    ) -> std::io::Result<Process> {
        let space = self.space(host);
        let mut all = vec!["netns".to_owned(), "exec".to_owned(), space];
        all.push(program.display().to_string());
        all.extend(args.iter().cloned());
        Process::start(name, &tool("ip"), &all, envs, folder)
    }

    /// What `from` sends no longer gets to `to`; the other direction is as it was.
    pub fn cut(&self, from: Host, to: Host, how: Cut) {
        self.rule(to, &format!("ip saddr {} {}", self.ip(from), words(how)));
    }

    /// Nothing gets through between these two.
    pub fn part(&self, one: Host, other: Host, how: Cut) {
        self.cut(one, other, how);
        self.cut(other, one, how);
    }

    /// Of the packets between these two, so many of a hundred are lost, by chance.
    pub fn lose(&self, one: Host, other: Host, of_hundred: u8) {
        for (from, to) in [(one, other), (other, one)] {
            let from = self.ip(from);
            let chance = match of_hundred {
                // nftables wants a bound below the modulus.
                100.. => String::new(),
                _ => format!("numgen random mod 100 < {of_hundred} "),
            };
            self.rule(to, &format!("ip saddr {from} {chance}drop"));
        }
    }

    /// The host vanishes: it hears nobody and nobody hears it, the tests included.
    pub fn vanish(&self, host: Host) {
        let wanted = self.nft(
            host,
            "add rule inet faults output oif eth0 drop\nadd rule inet faults input iif eth0 drop\n",
        );
        wanted.expect("a rule of nftables");
    }

    /// What the host sends is late, or narrow where the kernel cannot delay packets; says which.
    pub fn slow(&self, host: Host) -> String {
        let space = self.space(host);
        let delay = format!("delay {SLOW_DELAY_MS}ms {}ms", SLOW_DELAY_MS / 4);
        let late = run(
            "tc",
            &format!("-n {space} qdisc add dev eth0 root netem {delay}"),
            "",
        );
        if late.is_ok() {
            return delay;
        }
        let narrow = format!("rate {SLOW_KBIT}kbit burst 8kb latency 400ms");
        let limited = format!("-n {space} qdisc add dev eth0 root tbf {narrow}");
        run("tc", &limited, "").expect("the kernel delays packets, or limits them");
        narrow
    }

    /// All faults end.
    pub fn heal(&self) {
        for host in (1..=self.hosts).map(Host) {
            let healed = self.nft(host, "flush table inet faults\n");
            healed.expect("rules of nftables");
            // An error says that there was none.
            let space = self.space(host);
            let _ = run("tc", &format!("-n {space} qdisc del dev eth0 root"), "");
        }
    }

    fn rule(&self, host: Host, rule: &str) {
        let added = self.nft(host, &format!("add rule inet faults input {rule}\n"));
        added.expect("a rule of nftables");
    }

    fn nft(&self, host: Host, script: &str) -> Result<(), String> {
        let space = self.space(host);
        let nft = tool("nft");
        run(
            "ip",
            &format!("netns exec {space} {} -f -", nft.display()),
            script,
        )
    }

    fn addr(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, last + 1)
    }

    fn space(&self, host: Host) -> String {
        format!("{}-{}", self.name, host.0)
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.name)
    }

    /// The tests' own interface: at most 15 bytes.
    fn foot(&self) -> String {
        self.name.clone()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Whatever is missing was never made.
        let _ = run("ip", &format!("link del {}", self.foot()), "");
        for host in (1..=self.hosts).map(Host) {
            let _ = run("ip", &format!("netns del {}", self.space(host)), "");
        }
        let _ = run("ip", &format!("netns del {}", self.hub()), "");
    }
}

const fn words(how: Cut) -> &'static str {
    match how {
        Cut::Silent => "drop",
        Cut::Refused => "ip protocol tcp reject with tcp reset",
    }
}

/// Three parts of an address that no interface of this machine has.
fn free_subnet(pid: u32, number: u32) -> Result<[u8; 3], String> {
    let taken = output_of("ip", "-4 -o addr")?;
    let first = pid.wrapping_add(number.wrapping_mul(7919));
    (0..64 * 250)
        .map(|step| first.wrapping_add(step) % (64 * 250))
        .map(|at| [10, 190 + (at / 250) as u8, (at % 250) as u8])
        .find(|[a, b, c]| !taken.contains(&format!(" {a}.{b}.{c}.")))
        .ok_or_else(|| "no subnet is free".to_owned())
}

/// Ends what earlier tests left, when their process is gone.
fn remove_leftovers() {
    let spaces = output_of("ip", "netns list").unwrap_or_default();
    let is_left = |name: &&str| {
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('x').next());
        pid.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists())
    };
    let names = spaces
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    for space in names.filter(is_left) {
        for pid in output_of("ip", &format!("netns pids {space}"))
            .unwrap_or_default()
            .split_whitespace()
        {
            let _ = run("kill", &format!("-KILL {pid}"), "");
        }
        let _ = run("ip", &format!("netns del {space}"), "");
    }
}

/// Where a program of the system is: `sbin` is not in everybody's path.
fn tool(name: &str) -> PathBuf {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from(name))
}

fn ip(args: &str) -> Result<(), String> {
    run("ip", args, "")
}

/// Commands of `ip` inside a namespace, a line each.
fn ip_in(space: &str, lines: &str) -> Result<(), String> {
    run("ip", &format!("-n {space} -batch -"), lines)
}

fn run(program: &str, args: &str, input: &str) -> Result<(), String> {
    let fault = |cause: String| format!("{program} {args}: {cause}");
    let mut child = Command::new(tool(program))
        .args(args.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| fault(error.to_string()))?;
    let mut stdin = child.stdin.take().expect("it is piped");
    // A program that ends without reading says why itself.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child
        .wait_with_output()
        .map_err(|error| fault(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(fault(text.trim().to_owned()))
}

fn output_of(program: &str, args: &str) -> Result<String, String> {
    let output = Command::new(tool(program))
        .args(args.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program} {args}: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::Client;
    use crate::process::START_WAIT_S_MAX;
    use crate::reply::Reply;

    const PORT: u16 = 6379;
    /// How long a silent connection is listened to, in milliseconds.
    const SILENT_MS: u64 = 300;

    fn network() -> Option<Network> {
        match Network::new() {
            Ok(network) => Some(network),
            Err(reason) => {
                println!("SKIPPED, no network of our own can be made: {reason}");
                None
            }
        }
    }

    fn server(network: &Network, host: Host, folder: &Path) -> Process {
        let args = [
            "--bind",
            "0.0.0.0",
            "--protected-mode",
            "no",
            "--save",
            "",
            "--port",
            "6379",
        ];
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let redis = tool("redis-server");
        let mut process = network
            .start(host, "redis", &redis, &args, &[], folder)
            .expect("redis-server is installed");
        process.wait_listening(network.socket(host, PORT));
        process
    }

    /// From one host to another: `redis-cli PING` there.
    fn hears(network: &Network, from: Host, to: Host) -> bool {
        let program = tool("redis-cli");
        let args = format!(
            "1 {} -h {} -p {PORT} PING",
            program.display(),
            network.ip(to)
        );
        let all = format!("netns exec {} timeout {args}", network.space(from));
        output_of("ip", &all).is_ok_and(|out| out.trim() == "PONG")
    }

    #[test]
    fn hosts_hear_one_another_until_they_are_cut_off_and_when_that_is_healed() {
        let Some(mut network) = network() else { return };
        let folder = tempfile::tempdir().expect("a folder");
        let (a, b) = (network.add_host().unwrap(), network.add_host().unwrap());
        let _a = server(&network, a, folder.path());
        let _b = server(&network, b, folder.path());
        assert!(hears(&network, a, b) && hears(&network, b, a));

        let mut client = Client::to(network.socket(b, PORT));
        assert_eq!(client.run("PING"), Reply::Simple("PONG".into()));
        network.part(a, b, Cut::Silent);
        assert!(!hears(&network, a, b) && !hears(&network, b, a));
        assert_eq!(client.run("PING"), Reply::Simple("PONG".into()));
        network.heal();
        assert!(hears(&network, a, b) && hears(&network, b, a));

        network.part(a, b, Cut::Refused);
        assert!(!hears(&network, a, b));
        network.heal();

        network.lose(a, b, 100);
        assert!(!hears(&network, a, b) && !hears(&network, b, a));
        network.heal();
        assert!(hears(&network, a, b));

        network.vanish(b);
        let wait = Duration::from_millis(SILENT_MS);
        client.set_read_timeout(Some(wait)).unwrap();
        assert!(client.ask(&["PING"]).is_err(), "the tests hear it still");
        network.heal();
        let wait = Duration::from_secs(START_WAIT_S_MAX);
        client.set_read_timeout(Some(wait)).unwrap();
        assert_eq!(client.read().unwrap(), Reply::Simple("PONG".into()));

        println!("a slow host: {}", network.slow(b));
        assert!(hears(&network, a, b));
        network.heal();
    }

    #[test]
    fn a_network_leaves_nothing_behind_and_removes_what_a_killed_test_left() {
        let Some(mut network) = network() else { return };
        let host = network.add_host().unwrap();
        let (space, foot) = (network.space(host), network.foot());
        drop(network);
        let left = output_of("ip", "netns list").unwrap();
        assert!(!left.contains(&space), "{left}");
        assert!(!output_of("ip", "-o link").unwrap().contains(&foot));

        // The process with this number has ended.
        let mut child = Command::new("true").spawn().unwrap();
        let gone = child.id();
        child.wait().unwrap();
        ip(&format!("netns add {PREFIX}{gone}x0-1")).unwrap();
        remove_leftovers();
        let left = output_of("ip", "netns list").unwrap();
        assert!(!left.contains(&format!("{PREFIX}{gone}x")), "{left}");
    }
}
