//! Backups of clusters of real processes: what is restored is what was there, at one moment; an interrupted backup is never taken for one; damage is found.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use larder_tests::chance::{Chance, seeds};
use larder_tests::cluster::{SECRET, array, larder_bin};
use larder_tests::process::{free_port, local};
use larder_tests::{Client, Cluster, Process, RedisServer, Reply, http};
use serde_json::Value;

/// A library of one function.
const LIBRARY: &str =
    "#!lua name=shelf\nredis.register_function('answer', function() return 42 end)";
/// Keys with a single value each, for a backup that takes a moment.
const PLAIN_KEYS: usize = 40_000;
/// Pairs of keys that are always written one after the other.
const PAIRS: usize = 24;
/// Longest wait for a service, in seconds.
const SERVICE_S_MAX: u64 = 60;

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Runs `larder …` without a cluster.
fn larder(args: &[&str]) -> Output {
    let mut command = Command::new(larder_bin());
    command.args(args).stdin(Stdio::null());
    command.output().expect("larder runs")
}

#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn refused(output: &Output) -> String {
    assert!(!output.status.success(), "{}", text(output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn backup(cluster: &Cluster, to: &str, more: &[&str]) -> Value {
    let args = [&["backup", "--to", to, "--json"], more].concat();
    let output = cluster.larder(&args);
    serde_json::from_str(&done(&output)).expect("backup --json prints JSON")
}

/// `ACL LIST`, without the word that says what is so anyhow: a user that was reset has it, as in Redis.
fn users_of(node: &mut Client) -> Vec<String> {
    let Reply::Array(users) = node.run("ACL LIST") else {
        panic!("ACL LIST is a list")
    };
    let texts = users
        .iter()
        .map(|user| user.as_text().expect("a line of text"));
    texts
        .map(|text| text.replace(" sanitize-payload", ""))
        .collect()
}

/// Every set of a place, with whether it is whole.
fn sets(at: &Path) -> BTreeMap<String, bool> {
    let output = larder(&["backup", "list", path(at), "--json"]);
    let listed: Value = serde_json::from_str(&done(&output)).expect("list --json prints JSON");
    let sets = array(&listed, "sets").iter();
    sets.map(|set| {
        let name = set["set"].as_str().expect("a name").to_owned();
        (name, set["whole"] == true)
    })
    .collect()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

#[track_caller]
fn ok(client: &mut Client, words: &[&str]) {
    let reply = client.ask(words).expect("a reply");
    assert!(!reply.is_error(), "{words:?}: {reply:?}");
}

/// Values of every type and form, small and large, through the proxy.
fn fill(client: &mut Client) {
    let mut lines: Vec<String> = Vec::new();
    for n in 0..1200 {
        lines.push(format!("HSET hash:large field:{n} value:{n}"));
        lines.push(format!("ZADD zset:large {n}.25 member:{n}"));
        lines.push(format!("SADD set:large member:{n}"));
        lines.push(format!("RPUSH list:large element:{n} {n}"));
        lines.push(format!("XADD stream:large {}-1 field value:{n}", n + 1));
        lines.push(format!("SET key:{n} value:{n}"));
        if n < 20 {
            lines.push(format!("HSET hash:{n} field:{n} {n}"));
            lines.push(format!("ZADD zset:{n} {n} member:{n}"));
            lines.push(format!("SADD set:{n} member:{n} 17"));
            lines.push(format!("SADD set:ints {}", n * 70_000));
            lines.push(format!("RPUSH list:{n} element:{n}"));
            lines.push(format!("PFADD hll:{n} visitor:{n}"));
            lines.push(format!("SET int:{n} {}", 1_i64 << (n * 3)));
            lines.push(format!("SET timed:{n} value EX {}", 10_000 + n));
            lines.push(format!("SET binary:{n} \u{0}\u{1}é"));
        }
    }
    lines.push("PEXPIRE hash:large 90000000".to_owned());
    lines.push("PEXPIRE list:1 90000001".to_owned());
    lines.push(format!("SET string:large {}", "some-text-".repeat(20_000)));
    lines.push("XGROUP CREATE stream:large readers 0".to_owned());
    // As if a consumer had read them: what blocks is not for proxies.
    let read: Vec<String> = (1..=300).map(|n| format!("{n}-1")).collect();
    lines.push(format!(
        "XCLAIM stream:large readers me 0 {} FORCE JUSTID",
        read.join(" ")
    ));
    lines.push("XDEL stream:large 7-1".to_owned());
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        ok(client, &words);
    }
}

/// Questions whose answers `DEBUG DIGEST` knows nothing of.
const QUESTIONS: &[&str] = &[
    "PEXPIRETIME hash:large",
    "PEXPIRETIME list:1",
    "PEXPIRETIME timed:7",
    "XPENDING stream:large readers",
    "XINFO GROUPS stream:large",
    "HPEXPIRETIME hash:timed FIELDS 3 a b c",
    "FCALL answer 0",
    "OBJECT ENCODING hash:3",
];

fn answers(client: &mut Client) -> Vec<Reply> {
    let asked = QUESTIONS.iter().map(|question| client.run(question));
    asked.collect()
}

/// What a digest has of database 0 itself, however many keys it holds: SHA-1 of SHA-1 of its number.
const OF_DATABASE: [u8; 20] = [
    0xaa, 0x30, 0x98, 0xf3, 0xaa, 0xe9, 0x4b, 0xaa, 0xc1, 0x4e, 0x3b, 0x8b, 0x8d, 0xca, 0xe9, 0x89,
    0xaf, 0x93, 0xf6, 0xa2,
];

/// Of a whole cluster, none of whose nodes is empty: Redis' digests of their keys, xored.
fn digest(nodes: &[std::net::SocketAddr]) -> Vec<u8> {
    let mut whole = vec![0; 20];
    for addr in nodes {
        let digest = Client::to(*addr).run("DEBUG DIGEST");
        let Reply::Simple(hex) = digest else {
            panic!("a digest, not {digest:?}")
        };
        for (index, byte) in whole.iter_mut().enumerate() {
            let part = u8::from_str_radix(&hex[index * 2..index * 2 + 2], 16).expect("hex digits");
            *byte ^= part ^ OF_DATABASE[index];
        }
    }
    whole
}

fn primaries(cluster: &Cluster) -> Vec<std::net::SocketAddr> {
    let status = cluster.status().expect("the topology answers");
    let shards = array(&status, "shards").iter();
    let addrs = shards.map(|shard| shard["node"]["addr"].as_str().expect("an address"));
    addrs
        .map(|addr| addr.parse().expect("an address"))
        .collect()
}

#[test]
fn a_backup_restored_into_other_numbers_of_shards_is_the_same_data_users_functions_and_settings() {
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("backups");
    let source = Cluster::start(3, 0);
    let mut client = source.client();
    fill(&mut client);
    ok(&mut client, &["FUNCTION", "LOAD", LIBRARY]);
    for addr in primaries(&source) {
        let mut node = Client::to(addr);
        ok(
            &mut node,
            &[
                "ACL",
                "SETUSER",
                "reader",
                "on",
                ">pass word",
                "~cache:*",
                "+@read",
                "(+set ~w:*)",
            ],
        );
        ok(
            &mut node,
            &["CONFIG", "SET", "hash-max-listpack-entries", "7"],
        );
    }
    // Redis itself loads what each primary had.
    let taken = backup(&source, path(&to), &[]);
    assert_eq!(taken["cluster"], "larder");
    assert!(taken["held_ms"].as_u64().expect("a number") < 1000);
    let set = to.join(taken["set"].as_str().expect("a name"));
    let mut digests = Vec::new();
    for shard in 1..=3 {
        let data = folder.path().join(format!("redis-{shard}"));
        fs::create_dir(&data).expect("a folder");
        fs::copy(
            set.join(format!("shard-{shard}.rdb")),
            data.join("dump.rdb"),
        )
        .expect("an RDB file");
        let redis =
            RedisServer::start_with(&["--enable-debug-command", "local", "--dir", path(&data)]);
        digests.push(digest(&[redis.addr()]));
    }
    let whole = digests.into_iter().reduce(|mut all, digest| {
        all.iter_mut()
            .zip(digest)
            .for_each(|(all, byte)| *all ^= byte);
        all
    });
    assert_eq!(whole, Some(digest(&primaries(&source))));
    // Fields that expire, which Redis 7 does not know.
    ok(
        &mut client,
        &["HSET", "hash:timed", "a", "1", "b", "2", "c", "3"],
    );
    ok(
        &mut client,
        &[
            "HPEXPIRE",
            "hash:timed",
            "80000000",
            "FIELDS",
            "2",
            "a",
            "b",
        ],
    );
    backup(&source, path(&to), &["--verify"]);
    let meant = digest(&primaries(&source));
    let told = answers(&mut client);
    let users = users_of(&mut Client::to(source.node_addr(0)));
    drop(source);
    assert_eq!(sets(&to).values().filter(|whole| **whole).count(), 2);
    for shards in [2, 5] {
        let target = Cluster::start(shards, 0);
        let restored = target.larder(&["restore", "--from", path(&to)]);
        println!("{}", done(&restored));
        assert_eq!(digest(&primaries(&target)), meant, "{shards} shards");
        assert_eq!(answers(&mut target.client()), told, "{shards} shards");
        for addr in primaries(&target) {
            let mut node = Client::to(addr);
            assert_eq!(
                node.run("CONFIG GET hash-max-listpack-entries"),
                Reply::Array(vec![
                    Reply::bulk("hash-max-listpack-entries"),
                    Reply::bulk("7")
                ])
            );
            assert_eq!(users_of(&mut node), users);
            ok(&mut node, &["AUTH", "reader", "pass word"]);
            assert!(node.run("GET key:1").is_error());
        }
        if shards == 2 {
            into_a_cluster_that_has_keys(&target, &to, &meant);
        }
    }
}

/// What is there already is not touched unless that is said.
fn into_a_cluster_that_has_keys(target: &Cluster, to: &Path, meant: &[u8]) {
    let mut client = target.client();
    ok(&mut client, &["SET", "key:1", "changed"]);
    ok(&mut client, &["SET", "more", "value"]);
    let told = refused(&target.larder(&["restore", "--from", path(to)]));
    assert!(
        told.contains("--replace") && told.contains("--flush"),
        "{told}"
    );
    assert_eq!(client.run("GET key:1"), Reply::bulk("changed"));
    done(&target.larder(&["restore", "--from", path(to), "--replace"]));
    assert_eq!(client.run("GET key:1"), Reply::bulk("value:1"));
    assert_eq!(client.run("GET more"), Reply::bulk("value"));
    done(&target.larder(&["restore", "--from", path(to), "--flush"]));
    assert_eq!(digest(&primaries(target)), meant);
}

/// Writes `a:0`, `b:0`, `a:1`, … with one number each round, each after the one before was answered, until `stop`.
fn write_in_order(cluster: &Cluster, stop: &AtomicBool) {
    let mut client = cluster.client();
    for round in 1.. {
        for pair in 0..PAIRS {
            for half in ["a", "b"] {
                let (key, value) = (format!("{half}:{pair}"), format!("{round}"));
                ok(&mut client, &["SET", &key, &value]);
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }
}

fn preload(cluster: &Cluster) {
    let mut client = cluster.client();
    for chunk in (0..PLAIN_KEYS).collect::<Vec<_>>().chunks(500) {
        let sets: Vec<Vec<String>> = chunk
            .iter()
            .map(|key| vec!["SET".into(), format!("plain:{key}"), "v".repeat(300)])
            .collect();
        let replies = client.pipeline(&sets).expect("the proxy serves");
        assert!(replies.iter().all(|reply| *reply == Reply::ok()));
    }
}

struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The values of [`write_in_order`] are those of one moment: no write is there without those that were answered before it was sent.
fn assert_one_moment(client: &mut Client) {
    let keys = (0..PAIRS).flat_map(|pair| [format!("a:{pair}"), format!("b:{pair}")]);
    let numbers: Vec<i64> = keys
        .map(|key| match client.ask(&["GET", &key]).expect("a reply") {
            Reply::Bulk(digits) => String::from_utf8_lossy(&digits).parse().expect("a number"),
            other => panic!("{key}: {other:?}"),
        })
        .collect();
    let falls = numbers.windows(2).all(|two| two[1] <= two[0]);
    let last = numbers.first().zip(numbers.last());
    assert!(
        falls && last.is_some_and(|(first, last)| first - last <= 1),
        "of more than one moment: {numbers:?}"
    );
}

#[test]
fn backups_under_writes_and_reshards_are_whole_and_of_one_moment_across_shards() {
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("backups");
    let source = Cluster::start(3, 1);
    preload(&source);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stopper = Stopper(&stop);
        scope.spawn(|| write_in_order(&source, &stop));
        let mut client = source.client();
        let last = format!("b:{}", PAIRS - 1);
        let give_up = Instant::now() + Duration::from_secs(30);
        while client.ask(&["GET", &last]).expect("a reply") == Reply::Null {
            assert!(Instant::now() < give_up, "the writer writes");
        }
        for round in 0..3 {
            let taken = backup(&source, path(&to), &[]);
            println!("quiet {round}: {taken}");
        }
        for shards in [4_u64, 3] {
            let mut reshard = source
                .operator(&["reshard", "--shards", &shards.to_string()])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("larder runs");
            source.wait_until("the reshard has begun", |status| {
                !status["operation"].is_null() || reshard_is_over(status, shards)
            });
            let taken = backup(&source, path(&to), &["--verify"]);
            println!("during the reshard to {shards}: {taken}");
            assert!(reshard.wait().expect("it ends").success());
        }
        // One that begins while a backup is under way.
        let mut under_way = source
            .operator(&["backup", "--to", path(&to)])
            .stdout(Stdio::null())
            .spawn()
            .expect("larder runs");
        done(&source.larder(&["reshard", "--shards", "4"]));
        assert!(under_way.wait().expect("it ends").success());
    });
    let target = Cluster::start(2, 0);
    let sets = sets(&to);
    assert_eq!(sets.len(), 6);
    for (set, whole) in sets {
        assert!(whole, "{set}");
        done(&larder(&["backup", "verify", path(&to), "--set", &set]));
        let restored = target.larder(&["restore", "--from", path(&to), "--set", &set, "--flush"]);
        println!("{}", done(&restored));
        let mut client = target.client();
        assert_one_moment(&mut client);
        assert_eq!(
            client.run("DBSIZE"),
            Reply::Int((PLAIN_KEYS + 2 * PAIRS) as i64)
        );
    }
}

fn reshard_is_over(status: &Value, shards: u64) -> bool {
    status["shards_wanted"] == shards && status["operation"].is_null()
}

/// Marks of backups under way look as if they were old.
fn age_marks(to: &Path) {
    let long_ago = SystemTime::now() - Duration::from_secs(600);
    for set in fs::read_dir(to).expect("a folder") {
        let mark = set.expect("a set").path().join("under-way.json");
        if let Ok(file) = fs::File::options().write(true).open(mark) {
            file.set_modified(long_ago).expect("its time is set");
        }
    }
}

#[test]
fn a_backup_that_is_killed_leaves_nothing_that_looks_whole_and_the_next_one_cleans_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("backups");
    let cluster = Cluster::start(2, 0);
    preload(&cluster);
    let began = Instant::now();
    backup(&cluster, path(&to), &[]);
    let usual_ms = began.elapsed().as_millis() as i64;
    for seed in seeds(1) {
        let mut chance = Chance::from_seed(seed);
        for kill in 0..8 {
            let mut child = cluster
                .operator(&["backup", "--to", path(&to)])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("larder runs");
            let after_ms = chance.between(0, usual_ms) as u64;
            thread::sleep(Duration::from_millis(after_ms));
            match kill % 2 {
                0 => child.kill().expect("it is killed"),
                _ => interrupt(&child),
            }
            let ended = child.wait().expect("it ends");
            println!("seed {seed}: ended after {after_ms} ms: {ended}");
        }
    }
    let listed = sets(&to);
    println!("{listed:?}");
    for (set, whole) in &listed {
        let verified = larder(&["backup", "verify", path(&to), "--set", set]);
        assert_eq!(
            verified.status.success(),
            *whole,
            "{set}: {}",
            text(&verified)
        );
    }
    age_marks(&to);
    backup(&cluster, path(&to), &[]);
    assert!(sets(&to).values().all(|whole| *whole), "{:?}", sets(&to));
    let kept = listed.values().filter(|whole| **whole).count();
    assert_eq!(fs::read_dir(&to).expect("a folder").count(), kept + 1);
}

fn interrupt(child: &Child) {
    let id = child.id().to_string();
    // It may have ended by itself.
    let _ = Command::new("kill").args(["-INT", &id]).status();
}

/// Changes one byte of a file.
fn damage(file: &Path, at: usize) {
    let mut bytes = fs::read(file).expect("a part");
    bytes[at] ^= 1;
    fs::write(file, bytes).expect("it is written");
}

#[test]
fn damage_is_found_with_its_part_and_place_and_only_the_right_key_opens() {
    let folder = tempfile::tempdir().expect("a folder");
    let (plain, sealed) = (folder.path().join("plain"), folder.path().join("sealed"));
    let (key, other) = (folder.path().join("key"), folder.path().join("other"));
    for file in [&key, &other] {
        done(&larder(&["backup", "keygen", path(file)]));
    }
    let told = refused(&larder(&["backup", "keygen", path(&key)]));
    assert!(told.contains("exists"), "{told}");
    let cluster = Cluster::start(2, 0);
    fill(&mut cluster.client());
    let meant = digest(&primaries(&cluster));
    let with_key = ["--key-file", path(&key)];
    let plain_set = plain.join(backup(&cluster, path(&plain), &[])["set"].as_str().unwrap());
    let sealed_set = sealed.join(
        backup(&cluster, path(&sealed), &with_key)["set"]
            .as_str()
            .unwrap(),
    );
    let verify =
        |at: &Path, more: &[&str]| larder(&[&["backup", "verify", path(at)], more].concat());
    done(&verify(&plain, &[]));
    done(&verify(&sealed, &with_key));
    for entry in fs::read_dir(&sealed_set).expect("a set") {
        let bytes = fs::read(entry.expect("a part").path()).expect("its bytes");
        let leaked = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        assert!(!leaked(b"some-text-some-text") && !leaked(b"user default"));
    }
    // Without the key, and with another.
    let told = refused(&verify(&sealed, &[]));
    assert!(
        told.contains("is encrypted with key") && told.contains("--key-file"),
        "{told}"
    );
    let told = refused(&verify(&sealed, &["--key-file", path(&other)]));
    assert!(told.contains("and --key-file holds key"), "{told}");
    let told = refused(&verify(
        &sealed,
        &["--key-file", path(&plain_set.join("manifest.json"))],
    ));
    assert!(told.contains("it is no key"), "{told}");
    // A byte of any part.
    for seed in seeds(1) {
        println!("seed {seed}");
        let mut chance = Chance::from_seed(seed);
        for (at, set, more) in [
            (&plain, &plain_set, &[][..]),
            (&sealed, &sealed_set, &with_key),
        ] {
            for entry in fs::read_dir(set).expect("a set") {
                let file = entry.expect("a part").path();
                let name = file.file_name().unwrap().to_str().unwrap().to_owned();
                let whole = fs::read(&file).expect("its bytes");
                let place = chance.below(whole.len());
                damage(&file, place);
                let told = refused(&verify(at, more));
                if !name.starts_with("manifest") {
                    assert!(
                        told.contains(&name) && told.contains("byte 0 and byte"),
                        "{told}"
                    );
                }
                fs::write(&file, &whole[..place]).expect("it is cut");
                refused(&verify(at, more));
                fs::remove_file(&file).expect("it is removed");
                refused(&verify(at, more));
                fs::write(&file, &whole).expect("it is back");
                done(&verify(at, more));
            }
        }
    }
    // A manifest that was changed with knowledge, but without the key.
    let manifest = sealed_set.join("manifest.json");
    let whole = fs::read_to_string(&manifest).expect("a manifest");
    fs::write(&manifest, whole.replacen("127.0.0.1", "127.0.0.2", 1)).expect("it is written");
    let told = refused(&verify(&sealed, &with_key));
    assert!(told.contains("its manifest was changed"), "{told}");
    fs::write(&manifest, whole).expect("it is back");
    let from = ["restore", "--flush", "--from", path(&sealed)];
    done(&cluster.larder(&[&from[..], &with_key].concat()));
    assert_eq!(digest(&primaries(&cluster)), meant);
}

#[test]
fn a_service_takes_one_backup_a_day_and_keeps_as_many_as_it_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("backups");
    let cluster = Cluster::start(1, 0);
    fill(&mut cluster.client());
    // Two of long ago.
    for year in [2020, 2021] {
        let name = backup(&cluster, path(&to), &[])["set"]
            .as_str()
            .unwrap()
            .to_owned();
        let old = format!("larder-{year}-01-01T00-00-00Z");
        fs::rename(to.join(name), to.join(old)).expect("it is renamed");
    }
    // A window that is open, and in whose first half all beginnings lie: the next is due at once.
    let now_minutes = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("a clock after 1970")
        .as_secs()
        / 60;
    let minute = |at: u64| format!("{:02}:{:02}", at / 60 % 24, at % 60);
    let window = format!("{}-{}", minute(now_minutes - 40), minute(now_minutes + 30));
    let http_addr = local(free_port());
    let topology = cluster.topology_addr().to_string();
    let args = [
        "backup",
        "--to",
        path(&to),
        "--window",
        &window,
        "--keep",
        "2",
        "--http",
        &http_addr.to_string(),
        "--topology",
        &topology,
        "--log",
        "info",
    ];
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let envs = [("LARDER_SECRET", SECRET)];
    let mut service =
        Process::start("backups", &larder_bin(), &args, &envs, folder.path()).expect("larder runs");
    service.wait_listening(http_addr);
    let give_up = Instant::now() + Duration::from_secs(SERVICE_S_MAX);
    let page = loop {
        assert!(Instant::now() < give_up, "{}", service.output());
        let page = http::get(http_addr, "/metrics").map_or(String::new(), |(_, page)| page);
        if page.contains("larder_backups_total{result=\"ok\"} 1") {
            break page;
        }
        thread::sleep(Duration::from_millis(50));
    };
    assert!(page.contains("larder_backup_sets 2"), "{page}");
    assert!(
        page.contains("larder_backups_total{result=\"failed\"} 0"),
        "{page}"
    );
    let left = sets(&to);
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.contains_key("larder-2021-01-01T00-00-00Z"), "{left:?}");
    assert!(
        service
            .output()
            .contains("the next backup begins at larder-")
    );
    service.signal("TERM");
    assert!(service.wait_end().success());
}

/// An S3-compatible store of its own, with a bucket.
struct Store {
    _process: Process,
    addr: std::net::SocketAddr,
    _folder: tempfile::TempDir,
}

impl Store {
    fn start() -> Store {
        let folder = tempfile::tempdir().expect("a folder");
        let addr = local(free_port());
        let clients = std::env::var_os("LARDER_CLIENTS").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients"),
            PathBuf::from,
        );
        let program = clients.join("python/bin/moto_server");
        let args = ["-H", "127.0.0.1", "-p", &addr.port().to_string()];
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut process = Process::start("moto", &program, &args, &[], folder.path())
            .unwrap_or_else(|error| {
                panic!("{}: {error} (tests/run installs it)", program.display())
            });
        process.wait_listening(addr);
        let store = Store {
            _process: process,
            addr,
            _folder: folder,
        };
        store.put_bucket();
        store
    }

    fn put_bucket(&self) {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.addr).expect("the store listens");
        let host = self.addr;
        write!(
            stream,
            "PUT /bucket HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .expect("a request");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("a reply");
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    }

    fn with_keys<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("AWS_ENDPOINT_URL", format!("http://{}", self.addr))
            .env("AWS_ACCESS_KEY_ID", "a-key")
            .env("AWS_SECRET_ACCESS_KEY", "its-secret")
            .env("AWS_REGION", "us-east-1")
    }
}

#[test]
fn backups_go_to_an_s3_compatible_store_in_several_pieces_and_come_back() {
    let store = Store::start();
    let source = Cluster::start(2, 0);
    fill(&mut source.client());
    // More than one piece of an upload, and more than one block.
    let large = "x1y2".repeat(6 << 20);
    for n in 0..2 {
        ok(&mut source.client(), &["SET", &format!("huge:{n}"), &large]);
    }
    for addr in primaries(&source) {
        ok(
            &mut Client::to(addr),
            &["CONFIG", "SET", "rdbcompression", "no"],
        );
    }
    let meant = digest(&primaries(&source));
    let url = "s3://bucket/deep/prefix";
    let run = |args: &[&str]| {
        let mut command = source.operator(args);
        store.with_keys(&mut command).output().expect("larder runs")
    };
    let first = done(&run(&["backup", "--to", url, "--verify"]));
    println!("{first}");
    done(&run(&["backup", "--to", url, "--json"]));
    let listed = |more: &[&str]| {
        let mut command = Command::new(larder_bin());
        let args = [&["backup", "list", url], more].concat();
        let output = store.with_keys(command.args(args)).output();
        done(&output.expect("larder runs"))
    };
    let sets: Value = serde_json::from_str(&listed(&["--json"])).expect("JSON");
    let sets = array(&sets, "sets").to_vec();
    assert_eq!(sets.len(), 2, "{}", listed(&[]));
    assert!(sets.iter().all(|set| set["whole"] == true), "{sets:?}");
    done(&run(&["restore", "--flush", "--from", url]));
    assert_eq!(digest(&primaries(&source)), meant);
}
