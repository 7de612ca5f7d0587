//! The command line: every subcommand, flag and default in one place.
//!
//! Those of backups are in `args/backup.rs`. What a flag does is not known here; values that can be checked alone (sizes, slot ranges) are.

mod backup;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use larder_import::Extent;
use larder_plan::LostShards;
use larder_runtime::Topologies;
use larder_runtime::foreign::RedisUrl;
use larder_runtime::size::parse_size;
use larder_topology::EtcdAddress;
use larder_wire::SlotSet;
use larder_wire::replication::WriteMode;

pub(crate) use backup::{Backup, BackupVerb, ListBackups, Of, Restore, TakeBackup, VerifyBackup};

pub(crate) const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// An elastic cache that speaks Redis' protocol, on your own machines.
#[derive(Debug, Parser)]
#[command(
    name = "larder",
    version,
    about,
    propagate_version = true,
    max_term_width = 110
)]
#[command(after_help = "Start here:  larder up    then:  redis-cli -p 6379 set greeting hello")]
pub(crate) struct Line {
    #[command(subcommand)]
    pub(crate) verb: Verb,
    #[command(flatten)]
    pub(crate) everywhere: Everywhere,
}

#[derive(Debug, Args)]
pub(crate) struct Everywhere {
    /// File that holds the cluster's secret [default: LARDER_SECRET, else a file of this user's own, on loopback only]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) secret_file: Option<PathBuf>,
    /// What is logged: a level, or a filter such as info,larder_proxy=debug [default: RUST_LOG, else warn]
    #[arg(long, global = true, value_name = "FILTER", hide_short_help = true)]
    pub(crate) log: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Everything in one process: topology, shards and proxy
    Up(Up),
    /// The control plane: keeps the slot map and moves slots
    Topology(Topology),
    /// One or more nodes, which join a topology (or serve alone with --standalone)
    Shard(Shard),
    /// The front that applications talk to
    Proxy(Proxy),
    /// Show shards, nodes and what is under way
    Status(Ask),
    /// Change the number of shards while the cluster serves
    Reshard(Reshard),
    /// Move slots to a node
    Move(Move),
    /// Spread the slots evenly over the shards
    Rebalance(Rebalance),
    /// Give a shard another primary while it serves
    Failover(Failover),
    /// Show or change how many replicas each shard has
    Replicas(Replicas),
    /// Show or change when writes are answered
    Writes(WritesOrder),
    /// Show or change what becomes of a shard that has no node left
    LostShards(LostShardsOrder),
    /// Copy the keys of a live Redis or Valkey, and hand its clients over
    Import(Import),
    /// Take a backup of the whole cluster, now or every day; list and verify backups
    Backup(Backup),
    /// Restore a backup into a running cluster of any number of shards
    Restore(Restore),
    /// List the commands that clients can use
    Commands(Commands),
}

const POLICIES: [&str; 10] = [
    "noeviction",
    "allkeys-lrfu",
    "volatile-lrfu",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
];

/// `--writes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Writes {
    Async,
    Safe,
}

impl From<Writes> for WriteMode {
    fn from(writes: Writes) -> WriteMode {
        match writes {
            Writes::Async => WriteMode::Async,
            Writes::Safe => WriteMode::Safe,
        }
    }
}

/// `--protected-mode`, with Redis' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum YesNo {
    Yes,
    No,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Shards that the cluster is formed with; one that exists already keeps its own
    #[arg(long, default_value_t = 3)]
    pub(crate) shards: u32,
    /// Replicas of each shard
    #[arg(long, default_value_t = 0)]
    pub(crate) replicas: u32,
    /// When a write is answered: at once, or when a replica has it; a cluster that exists already keeps its own
    #[arg(long, value_enum, default_value = "async", value_name = "MODE")]
    pub(crate) writes: Writes,
    /// What becomes of a shard whose every node is gone: its slots wait for one of them, or come up empty on spares after a
    /// time (wait, empty, empty:SECONDS); a cluster that exists already keeps its own
    #[arg(long, default_value = "wait", value_name = "WHAT")]
    pub(crate) lost_shards: LostShards,
    /// The proxy's port: point applications here
    #[arg(long, default_value_t = 6379)]
    pub(crate) port: u16,
    /// The topology's port
    #[arg(long, default_value_t = 7000)]
    pub(crate) admin_port: u16,
    /// The first node's port; further nodes take the following ones
    #[arg(long, default_value_t = 7001)]
    pub(crate) node_port: u16,
    /// The port of console, metrics and service discovery
    #[arg(long, default_value_t = 7080)]
    pub(crate) http_port: u16,
    /// Where the cluster's map is kept, and what nodes save [default: up/ in this user's state directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// When a node saves its data by itself, as Redis' `save`: seconds and changes [default: on command only]
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "\"S N …\""
    )]
    pub(crate) save: String,
    /// Keep every write in files, too (`appendonly`): what was written is there again after a crash
    #[arg(long, value_enum, default_value = "no", value_name = "YES|NO")]
    pub(crate) appendonly: YesNo,
    /// When those files are synced to the disk
    #[arg(long, default_value = "everysec", value_name = "WHEN", value_parser = ["always", "everysec", "no"])]
    pub(crate) appendfsync: String,
    /// A further parameter of CONFIG SET from the start on, as aof-load-truncated=no; also dbfilename, appendfilename and appenddirname
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub(crate) config: Vec<(String, String)>,
    /// The address that all ports are bound to
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub(crate) bind: String,
    /// Memory of each node, for example 512mb; 0 is no limit
    #[arg(long, default_value = "0", value_name = "SIZE", value_parser = parse_size)]
    pub(crate) maxmemory: u64,
    /// The proxy's threads [default: half of the cores, at least 1]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// A Unix socket for applications, beside the port
    #[arg(long, value_name = "PATH")]
    pub(crate) unix: Option<PathBuf>,
    /// What goes when memory is full [default: allkeys-lrfu where there is a limit]
    #[arg(long, value_name = "POLICY", value_parser = POLICIES)]
    pub(crate) maxmemory_policy: Option<String>,
    /// The host name or address under which others reach this process [default: that of --bind]
    #[arg(long, value_name = "HOST")]
    pub(crate) announce: Option<String>,
    /// Refuse strangers from other machines while no password is asked for
    #[arg(long, value_enum, default_value = "yes", value_name = "YES|NO")]
    pub(crate) protected_mode: YesNo,
}

#[derive(Debug, Args)]
pub(crate) struct Topology {
    /// Where nodes, proxies and operators connect to
    #[arg(long, default_value = "127.0.0.1:7000", value_name = "A:P")]
    pub(crate) listen: String,
    /// Where console, metrics and service discovery are served
    #[arg(long, default_value = "127.0.0.1:7080", value_name = "A:P")]
    pub(crate) http: String,
    /// Where the cluster's map is kept [default: topology/ in this user's state directory]
    #[arg(long, value_name = "DIR", conflicts_with = "store")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Keep the map in etcd instead, for several topologies of which one leads: etcd://host:port,host:port/prefix
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<EtcdAddress>,
    /// The host name or address under which others reach this topology [default: that of --listen]
    #[arg(long, value_name = "HOST")]
    pub(crate) announce: Option<String>,
    /// Shards that the cluster is formed with, as soon as so many nodes have joined; one that exists already keeps its own
    #[arg(long, default_value_t = 3)]
    pub(crate) shards: u32,
    /// Replicas of each shard
    #[arg(long, default_value_t = 0)]
    pub(crate) replicas: u32,
    /// When a write is answered: at once, or when a replica has it; a cluster that exists already keeps its own
    #[arg(long, value_enum, default_value = "async", value_name = "MODE")]
    pub(crate) writes: Writes,
    /// What becomes of a shard whose every node is gone: its slots wait for one of them, or come up empty on spares after a
    /// time (wait, empty, empty:SECONDS); a cluster that exists already keeps its own
    #[arg(long, default_value = "wait", value_name = "WHAT")]
    pub(crate) lost_shards: LostShards,
}

#[derive(Debug, Args)]
pub(crate) struct Shard {
    /// The topology to join; where there are several, all of them
    #[arg(
        long,
        env = "LARDER_TOPOLOGY",
        default_value = "127.0.0.1:7000",
        value_name = "A:P,…",
        conflicts_with = "standalone"
    )]
    pub(crate) topology: Topologies,
    /// The first node's address; further nodes take the following ports
    #[arg(long, default_value = "127.0.0.1:7001", value_name = "A:P")]
    pub(crate) listen: String,
    /// One node that owns all slots, alone: a server like Redis
    #[arg(long)]
    pub(crate) standalone: bool,
    /// Nodes in this process; each is one thread
    #[arg(
        long,
        default_value_t = 1,
        value_name = "N",
        conflicts_with = "standalone"
    )]
    pub(crate) nodes: u16,
    /// Memory of each node, for example 512mb; 0 is no limit
    #[arg(long, default_value = "0", value_name = "SIZE", value_parser = parse_size)]
    pub(crate) maxmemory: u64,
    /// What goes when memory is full, with Redis' words
    #[arg(long, default_value = "noeviction", value_name = "POLICY", value_parser = POLICIES)]
    pub(crate) maxmemory_policy: String,
    /// The file of users, one a line, as ACL LOAD and ACL SAVE have it [default: users are kept in memory]
    #[arg(long, value_name = "FILE")]
    pub(crate) aclfile: Option<PathBuf>,
    /// The failure zone that these nodes are in
    #[arg(long, value_name = "Z")]
    pub(crate) zone: Option<String>,
    /// Where the nodes keep their ids and what they save, so that they come back as the same nodes [default: ids are made anew]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// When a node saves its data by itself, as Redis' `save`: seconds and changes [default: on command only]
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "\"S N …\""
    )]
    pub(crate) save: String,
    /// Keep every write in files, too (`appendonly`): what was written is there again after a crash
    #[arg(long, value_enum, default_value = "no", value_name = "YES|NO")]
    pub(crate) appendonly: YesNo,
    /// When those files are synced to the disk
    #[arg(long, default_value = "everysec", value_name = "WHEN", value_parser = ["always", "everysec", "no"])]
    pub(crate) appendfsync: String,
    /// A further parameter of CONFIG SET from the start on, as aof-load-truncated=no; also dbfilename, appendfilename and appenddirname
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub(crate) config: Vec<(String, String)>,
    /// Where metrics are served [default: not at all]
    #[arg(long, value_name = "A:P")]
    pub(crate) http: Option<String>,
    /// The host name or address under which others reach these nodes [default: that of --listen]
    #[arg(long, value_name = "HOST")]
    pub(crate) announce: Option<String>,
    /// Refuse strangers from other machines while no password is asked for
    #[arg(long, value_enum, default_value = "yes", value_name = "YES|NO")]
    pub(crate) protected_mode: YesNo,
}

#[derive(Debug, Args)]
pub(crate) struct Proxy {
    /// The topology to take the map from; where there are several, all of them
    #[arg(
        long,
        env = "LARDER_TOPOLOGY",
        default_value = "127.0.0.1:7000",
        value_name = "A:P,…"
    )]
    pub(crate) topology: Topologies,
    /// Any nodes of a Redis or Valkey cluster that the proxy shall stand before, instead of a topology
    #[arg(
        long,
        value_name = "A:P,…",
        conflicts_with = "server",
        value_delimiter = ',',
        value_parser = one_address
    )]
    pub(crate) cluster: Vec<String>,
    /// One Redis or Valkey that the proxy shall stand before, instead of a topology
    #[arg(long, value_name = "A:P", value_parser = one_address)]
    pub(crate) server: Option<String>,
    /// File that holds the password for those servers
    #[arg(long, value_name = "FILE", env = "LARDER_SERVER_PASSWORD_FILE")]
    pub(crate) server_password_file: Option<PathBuf>,
    /// Whose password that is [default: the default user's]
    #[arg(long, value_name = "NAME", requires = "server_password_file")]
    pub(crate) server_user: Option<String>,
    /// Where applications connect to
    #[arg(long, default_value = "127.0.0.1:6379", value_name = "A:P")]
    pub(crate) listen: String,
    /// Threads [default: one a core]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// A Unix socket for applications, beside the port
    #[arg(long, value_name = "PATH")]
    pub(crate) unix: Option<PathBuf>,
    /// Where metrics are served [default: not at all]
    #[arg(long, value_name = "A:P")]
    pub(crate) http: Option<String>,
    /// Refuse strangers from other machines while no password is asked for
    #[arg(long, value_enum, default_value = "yes", value_name = "YES|NO")]
    pub(crate) protected_mode: YesNo,
}

/// Where an operator's question goes, and how the answer is written.
#[derive(Debug, Args)]
pub(crate) struct Ask {
    /// The topology, or all where there are several (or a proxy, which passes the question on)
    #[arg(
        long,
        env = "LARDER_TOPOLOGY",
        default_value = "127.0.0.1:7000",
        value_name = "A:P,…"
    )]
    pub(crate) topology: Topologies,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Reshard {
    /// How many shards there shall be
    #[arg(long, value_name = "N")]
    pub(crate) shards: u32,
    /// Print the plan and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Args)]
pub(crate) struct Move {
    /// The slots, for example 0-99,512
    #[arg(long, value_name = "A-B")]
    pub(crate) slots: SlotSet,
    /// The node that takes them: its address, its id or the beginning of its id
    #[arg(long, value_name = "NODE")]
    pub(crate) to: String,
    /// Print the plan and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Args)]
pub(crate) struct Rebalance {
    /// Print the plan and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Args)]
pub(crate) struct Failover {
    /// The shard's number, as larder status has it
    pub(crate) shard: u32,
    /// The replica that takes over: its address, its id or the beginning of its id [default: the one that is closest]
    #[arg(long, value_name = "NODE")]
    pub(crate) to: Option<String>,
    /// Let a failover that waits for lost nodes go on without them: writes that only they have are lost
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Args)]
pub(crate) struct Replicas {
    /// How many replicas each shard shall have
    #[arg(long, value_name = "N")]
    pub(crate) set: Option<u32>,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Args)]
pub(crate) struct WritesOrder {
    /// async: at once. safe: when a replica has the write
    #[arg(long, value_enum, value_name = "MODE")]
    pub(crate) set: Option<Writes>,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Args)]
pub(crate) struct LostShardsOrder {
    /// wait: its slots wait for one of its nodes. empty, empty:SECONDS: spares serve them without data after that time
    #[arg(long, value_name = "WHAT")]
    pub(crate) set: Option<LostShards>,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Import {
    #[command(subcommand)]
    pub(crate) verb: Option<ImportVerb>,
    #[command(flatten)]
    pub(crate) start: ImportStart,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImportVerb {
    /// Show how far the import is
    Status(AskImporter),
    /// Hand the clients over to Larder
    Cutover(AskImporter),
    /// End the import; clients stay with the old server
    Abort {
        /// Remove the keys that were copied
        #[arg(long)]
        clear: bool,
        /// Have proxies serve Larder, no longer forward to the old server
        #[arg(long)]
        serve: bool,
        #[command(flatten)]
        ask: AskImporter,
    },
}

/// Where a question about an import goes.
#[derive(Debug, Args)]
pub(crate) struct AskImporter {
    /// The import that runs
    #[arg(
        long,
        env = "LARDER_IMPORTER",
        default_value = "127.0.0.1:7079",
        value_name = "A:P"
    )]
    pub(crate) importer: String,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportStart {
    /// The server, or any node of the cluster, to copy from: redis://[[user][:password]@]host[:port]
    #[arg(long, value_name = "URL", required = true)]
    pub(crate) from: Option<RedisUrl>,
    /// The password at the server, out of sight of whoever lists processes
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// The topology of the cluster that takes the keys
    #[arg(
        long,
        env = "LARDER_TOPOLOGY",
        default_value = "127.0.0.1:7000",
        value_name = "A:P,…"
    )]
    pub(crate) topology: Topologies,
    /// Where larder import status, cutover and abort find this import
    #[arg(long, default_value = "127.0.0.1:7079", value_name = "A:P")]
    pub(crate) listen: String,
    /// Compare so many keys, drawn by chance, or all, once the source is caught up with
    #[arg(long, value_name = "N|all", value_parser = parse_extent)]
    pub(crate) verify: Option<Extent>,
    /// Remove all keys that Larder holds first
    #[arg(long, conflicts_with = "keep")]
    pub(crate) clear: bool,
    /// Keep the keys that Larder holds beside those that come
    #[arg(long)]
    pub(crate) keep: bool,
    /// Where metrics are served [default: not at all]
    #[arg(long, value_name = "A:P")]
    pub(crate) http: Option<String>,
    /// Where an import that is stopped with Ctrl-C keeps its place [default: a file in this user's state directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) state_file: Option<PathBuf>,
    /// Have proxies serve Larder from the beginning: clients come to the old server without them
    #[arg(long)]
    pub(crate) no_forward: bool,
    /// How long clients may wait at the cutover, in milliseconds; what takes longer is not done
    #[arg(long, default_value_t = 500, value_name = "MS", value_parser = clap::value_parser!(u64).range(10..=5000))]
    pub(crate) hold: u64,
    /// How long a source that is away is waited for, in seconds
    #[arg(long, default_value_t = 60, value_name = "S")]
    pub(crate) patience: u64,
}

/// `NAME=VALUE`.
fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_string(), value.to_string()))
}

/// `host:port`.
fn one_address(text: &str) -> Result<String, String> {
    let text = text.trim();
    let port = text
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(_) => Ok(text.to_string()),
        None => Err("write host:port".to_string()),
    }
}

/// `all`, or a number of keys.
fn parse_extent(text: &str) -> Result<Extent, String> {
    match (text, text.parse()) {
        ("all", _) => Ok(Extent::All),
        (_, Ok(keys)) if keys > 0 => Ok(Extent::Sample(keys)),
        (_, _) => Err("expected all, or a number of keys".to_string()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct Commands {
    /// Only those that Redis has and that larder does not carry out yet
    #[arg(long)]
    pub(crate) missing: bool,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Line, clap::Error> {
        Line::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn flags_do_not_contradict_one_another() {
        Line::command().debug_assert();
    }

    #[test]
    fn the_command_line_that_scripts_rely_on_is_understood() {
        for line in [
            "larder up",
            "larder up --shards 3 --replicas 0 --port 6379 --admin-port 7000 --node-port 7001 --http-port 7080 --data-dir d --bind 127.0.0.1",
            "larder topology --listen 127.0.0.1:7000 --http 127.0.0.1:7080 --data-dir d --shards 3 --replicas 1",
            "larder topology --listen 0.0.0.0:7000 --announce cache-1 --store etcd://etcd-1:2379,etcd-2:2379/caches",
            "larder shard --topology 127.0.0.1:7000 --listen 127.0.0.1:7001 --nodes 4 --maxmemory 512mb --zone a --data-dir d",
            "larder shard --standalone --listen 127.0.0.1:6379",
            "larder shard --data-dir d --save 3600 --appendonly yes --appendfsync always",
            "larder shard --config aof-load-truncated=no --config dbfilename=kept.rdb",
            "larder proxy --topology 127.0.0.1:7000 --listen 127.0.0.1:6379 --threads 2 --unix /tmp/l.sock --http 127.0.0.1:7081",
            "larder status --topology 127.0.0.1:7000 --json",
            "larder status --topology 10.0.0.1:7000,10.0.0.2:7000",
            "larder reshard --shards 5 --dry-run --topology 127.0.0.1:7000 --json",
            "larder move --slots 0-99,512 --to 127.0.0.1:7002",
            "larder rebalance --json",
            "larder failover 1",
            "larder failover 2 --to 127.0.0.1:7004 --json",
            "larder failover 2 --force",
            "larder replicas --set 1",
            "larder replicas --json",
            "larder writes --set safe",
            "larder lost-shards --set empty:30 --topology 127.0.0.1:7000",
            "larder lost-shards --json",
            "larder up --replicas 1 --writes safe --lost-shards empty:30",
            "larder topology --lost-shards empty",
            "larder backup",
            "larder backup --to /backups --key-file k --verify --topology 127.0.0.1:7000 --json",
            "larder backup --to s3://bucket/prefix --endpoint http://127.0.0.1:9000 --window 03:00-04:00 --keep 7 --http 127.0.0.1:7082",
            "larder backup list /backups --json",
            "larder backup verify s3://bucket/prefix --set larder-2026-11-21T03-00-00Z --key-file k",
            "larder backup keygen k",
            "larder restore --from /backups --only keys,functions --replace --topology 127.0.0.1:7000",
            "larder commands --missing --json",
            "larder import --from redis://:secret@old:6379 --topology 127.0.0.1:7000 --verify 1000 --clear --listen 127.0.0.1:7079",
            "larder import --from old --verify all --keep --state-file s --patience 5",
            "larder import status --json",
            "larder import cutover --importer 127.0.0.1:7079",
            "larder import abort --clear --serve",
            "larder import --from old --no-forward --hold 800 --http 127.0.0.1:7082",
            "larder status --secret-file s",
            "larder --secret-file s status",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn values_that_mean_nothing_are_refused_by_name() {
        for (line, named) in [
            ("larder up --port 99999", "--port"),
            ("larder shard --maxmemory lots", "512mb"),
            ("larder up --maxmemory-policy lru", "allkeys-lru"),
            ("larder move --slots 0-99999 --to x", "--slots"),
            ("larder shard --standalone --nodes 2", "--nodes"),
            ("larder reshard", "--shards"),
            ("larder up --lost-shards full", "empty:SECONDS"),
            ("larder lost-shards --set full", "empty:SECONDS"),
            ("larder topology --store etcd://x", "host:port"),
            (
                "larder topology --store etcd://x:1 --data-dir d",
                "--data-dir",
            ),
            ("larder status --topology 127.0.0.1", "a:7000,b:7000"),
            ("larder import", "--from"),
            ("larder import --from rediss://h", "TLS"),
            ("larder import --from h --verify some", "--verify"),
            ("larder import --from h --clear --keep", "--keep"),
            ("larder backup --to x --window 3-4", "03:00-04:00"),
            ("larder backup --to x --keep 7", "--window"),
            (
                "larder backup --to x --window 03:00-04:00 --keep 0",
                "--keep",
            ),
            ("larder restore --from x --replace --flush", "--flush"),
            (
                "larder restore --from x --set yesterday",
                "larder-2026-11-21T03-00-00Z",
            ),
            ("larder dance", "dance"),
        ] {
            let error = parse(line).expect_err(line).to_string();
            assert!(error.contains(named), "{line}: {error}");
        }
    }
}
