//! The append-only file: real Redis loads ours and we load Redis', a kill loses nothing that was acknowledged as kept, a full disk stops writes until there is
//! room again, and rewrites keep all that is written beside them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use larder_tests::kept::{digest, fill, info};
use larder_tests::redis_suite::Suite;
use larder_tests::small_disk::SmallDisk;
use larder_tests::standalone::Standalone;
use larder_tests::{Chance, Client, Cluster, RedisServer, Reply, chance};

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// A node that appends to files in `folder`, once it has loaded them.
fn node_in(folder: &Path, fsync: &str) -> Standalone {
    let flags = [
        "--data-dir",
        text(folder),
        "--appendonly",
        "yes",
        "--appendfsync",
        fsync,
    ];
    let mut node = Standalone::start_with(&flags);
    let mut client = node.client();
    node.process().wait_for("to load", |_| {
        info(&mut client, "loading") == "0" && info(&mut client, "aof_rewrite_in_progress") == "0"
    });
    node
}

fn redis_in(folder: &Path) -> RedisServer {
    RedisServer::start_with(&[
        "--enable-debug-command",
        "local",
        "--appendonly",
        "yes",
        "--dir",
        text(folder),
    ])
}

fn rewrite(node: &mut Standalone) {
    let mut client = node.client();
    let before: u64 = info(&mut client, "aof_rewrites").parse().expect("a count");
    let told = client.run("BGREWRITEAOF");
    let started = "Background append only file rewriting started".to_owned();
    assert_eq!(told, Reply::Simple(started));
    node.process().wait_for("to rewrite", |_| {
        info(&mut client, "aof_rewrite_in_progress") == "0"
    });
    let after: u64 = info(&mut client, "aof_rewrites").parse().expect("a count");
    assert!(after > before, "the rewrite failed");
}

/// The only file in the append-only folder whose name ends so.
fn file_ending(folder: &Path, end: &str) -> PathBuf {
    let entries = fs::read_dir(folder.join("appendonlydir")).expect("the folder");
    let mut found = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| text(path).ends_with(end));
    let file = found.next().unwrap_or_else(|| panic!("a file {end}"));
    assert_eq!(found.next(), None, "one file {end}");
    file
}

#[test]
fn redis_loads_what_a_node_appended_and_rewrote_while_it_was_written_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut node = node_in(folder.path(), "everysec");
    let mut client = node.client();
    fill(&mut client);
    rewrite(&mut node);
    client.run("SELECT 0");
    assert!(matches!(client.run("BGREWRITEAOF"), Reply::Simple(_)));
    for n in 0..3000 {
        client.run(&format!("SET key:{n} changed"));
        client.run(&format!("DEL key:{}", n + 1500));
        client.run(&format!("LPUSH pushed {n}"));
        if n == 1000 {
            client.run("SWAPDB 0 3");
        }
    }
    client.run("MULTI");
    client.run("SET together 1");
    client.run("INCR together");
    client.run("EXEC");
    client.run("SET timed:0 value PX 100000");
    let mut watcher = node.client();
    node.process().wait_for("to rewrite", |_| {
        info(&mut watcher, "aof_rewrite_in_progress") == "0"
    });
    assert_eq!(info(&mut watcher, "aof_last_bgrewrite_status"), "ok");
    let meant = digest(&mut client);
    node.process().signal("TERM");
    assert!(node.process().wait_end().success());
    let redis = redis_in(folder.path());
    assert_eq!(digest(&mut redis.client()), meant);
    drop(redis);
    // And what Redis has made of it, we load.
    let node = node_in(folder.path(), "everysec");
    assert_eq!(digest(&mut node.client()), meant);
}

#[test]
fn a_node_loads_what_redis_appended_in_each_of_its_forms() {
    for preamble in ["yes", "no"] {
        let redis = RedisServer::start_with(&[
            "--enable-debug-command",
            "local",
            "--appendonly",
            "yes",
            "--aof-use-rdb-preamble",
            preamble,
            "--aof-timestamp-enabled",
            "yes",
        ]);
        let mut client = redis.client();
        fill(&mut client);
        assert!(matches!(client.run("BGREWRITEAOF"), Reply::Simple(_)));
        let give_up = Instant::now() + Duration::from_secs(20);
        while info(&mut client, "aof_rewrite_in_progress") != "0" {
            assert!(Instant::now() < give_up, "redis-server does not rewrite");
        }
        client.run("SELECT 2");
        client.run("SET after rewrite");
        client.run("MULTI");
        client.run("SADD a b c");
        client.run("SPOP a");
        client.run("EXEC");
        let meant = digest(&mut client);
        let node = node_in(redis.folder(), "everysec");
        assert_eq!(digest(&mut node.client()), meant, "preamble {preamble}");
    }
}

#[test]
fn a_single_file_of_before_redis_7_is_taken_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = "*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n*1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\na\r\n*1\r\n$4\r\nEXEC\r\n*4\r\n$4\r\nEVAL\r\n$30\r\nreturn redis.call('INCR', 'a')\r\n$1\r\n0\r\n$1\r\na\r\n";
    fs::write(folder.path().join("appendonly.aof"), old).expect("an old file");
    for _ in 0..2 {
        let node = node_in(folder.path(), "everysec");
        let mut client = node.client();
        client.run("SELECT 1");
        assert_eq!(client.run("GET a"), Reply::Bulk(b"3".to_vec()));
    }
    assert!(!folder.path().join("appendonly.aof").exists());
    assert!(folder.path().join("appendonlydir/appendonly.aof").exists());
}

#[test]
fn a_single_file_with_a_snapshot_before_its_commands_is_taken_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = Suite::unpacked().asset("rdb-preamble.aof");
    fs::copy(old, folder.path().join("appendonly.aof")).expect("the suite's file");
    let node = node_in(folder.path(), "everysec");
    let ours = digest(&mut node.client());
    let keys = node.client().run("DBSIZE");
    assert_ne!(keys, Reply::Int(0));
    drop(node);
    assert_eq!(digest(&mut redis_in(folder.path()).client()), ours);
}

#[test]
fn a_torn_tail_is_cut_and_told_and_what_makes_no_sense_is_refused_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut node = node_in(folder.path(), "always");
    let mut client = node.client();
    for n in 0..100 {
        assert_eq!(client.run(&format!("SET key:{n} value")), Reply::ok());
    }
    node.process().kill();
    let path = file_ending(folder.path(), ".incr.aof");
    let bytes = fs::read(&path).expect("the file");
    fs::write(&path, &bytes[..bytes.len() - 7]).expect("all but its end");
    let mut node = node_in(folder.path(), "always");
    let mut client = node.client();
    assert_eq!(client.run("DBSIZE"), Reply::Int(99));
    assert!(node.process().output().contains("bytes from byte"));
    // It goes on behind what was cut.
    assert_eq!(client.run("SET more value"), Reply::ok());
    node.process().kill();
    let mut node = node_in(folder.path(), "always");
    assert_eq!(node.client().run("DBSIZE"), Reply::Int(100));
    node.process().kill();
    let mut bytes = fs::read(&path).expect("the file");
    let middle = bytes
        .windows(3)
        .position(|word| word == b"$6\r")
        .expect("a key");
    bytes[middle] = b'?';
    fs::write(&path, &bytes).expect("a wrong byte");
    let flags = ["--data-dir", text(folder.path()), "--appendonly", "yes"];
    let (ended, told) = Standalone::refused(&flags);
    assert!(!ended.success());
    assert!(
        told.contains("Bad file format reading the append only file"),
        "{told}"
    );
}

#[test]
fn bgrewriteaof_writes_the_files_where_nothing_is_appended_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let names = ["appendfilename=kept.aof", "appenddirname=kept"];
    let mut node = Standalone::start_with(&[
        "--data-dir",
        text(folder.path()),
        "--config",
        names[0],
        "--config",
        names[1],
    ]);
    let mut client = node.client();
    for round in 1..=2 {
        assert_eq!(client.run(&format!("SET key {round}")), Reply::ok());
        let begun = "Background append only file rewriting started";
        assert_eq!(client.run("BGREWRITEAOF"), Reply::Simple(begun.to_owned()));
        assert_eq!(
            client.run("BGREWRITEAOF"),
            Reply::Error(
                "ERR Background append only file rewriting already in progress".to_owned()
            )
        );
        node.process().wait_for("to rewrite", |_| {
            info(&mut client, "aof_rewrite_in_progress") == "0"
        });
        assert_eq!(info(&mut client, "aof_last_bgrewrite_status"), "ok");
        // Nothing of the round before is left.
        let files: Vec<String> = names_in(&folder.path().join("kept"));
        assert_eq!(
            files,
            [
                format!("kept.aof.{round}.base.rdb"),
                "kept.aof.manifest".to_owned()
            ]
        );
    }
    let redis = RedisServer::start_with(&[
        "--dir",
        text(folder.path()),
        "--appendonly",
        "yes",
        "--appendfilename",
        "kept.aof",
        "--appenddirname",
        "kept",
    ]);
    assert_eq!(redis.client().run("GET key"), Reply::bulk("2"));
}

/// Sorted.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn the_seconds_of_writes_are_in_the_file_for_those_who_cut_it_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut node = node_in(folder.path(), "always");
    let mut client = node.client();
    assert_eq!(
        client.run("CONFIG SET aof-timestamp-enabled yes"),
        Reply::ok()
    );
    let second = |client: &mut Client| {
        let seconds = client.run("TIME").items()[0].as_text().expect("a text");
        seconds.parse::<i64>().expect("seconds")
    };
    assert_eq!(client.run("SET key early"), Reply::ok());
    let early = second(&mut client);
    node.process()
        .wait_for("another second", |_| second(&mut client) > early + 1);
    assert_eq!(client.run("SET key late"), Reply::ok());
    node.process().kill();
    let manifest = folder.path().join("appendonlydir/appendonly.aof.manifest");
    let cut = Command::new("redis-check-aof")
        .args(["--truncate-to-timestamp", &early.to_string()])
        .arg(&manifest)
        .output()
        .expect("redis-check-aof is installed (tests/run does that)");
    assert!(cut.status.success(), "{cut:?}");
    let node = node_in(folder.path(), "always");
    assert_eq!(node.client().run("GET key"), Reply::bulk("early"));
}

/// Writes numbered keys until the server is gone; the last that was acknowledged, and when.
fn write_until_the_end(addr: std::net::SocketAddr, writer: usize) -> Vec<(u64, Instant)> {
    const PIPELINE: u64 = 20;
    let mut client = Client::to(addr);
    let mut acknowledged = Vec::new();
    for batch in 0.. {
        let numbers = batch * PIPELINE..(batch + 1) * PIPELINE;
        let requests: Vec<Vec<String>> = numbers
            .clone()
            .map(|n| vec!["SET".to_owned(), format!("{writer}:{n}"), n.to_string()])
            .collect();
        let mut bytes = Vec::new();
        for request in &requests {
            bytes.extend(larder_wire::resp::OwnedRequest::from_args(request).into_bytes());
        }
        if client.send_raw(&bytes).is_err() {
            return acknowledged;
        }
        for n in numbers {
            match client.read() {
                Ok(Reply::Simple(_)) => acknowledged.push((n, Instant::now())),
                Ok(other) => panic!("{other:?}"),
                Err(_) => return acknowledged,
            }
        }
    }
    acknowledged
}

#[test]
fn a_kill_loses_nothing_acknowledged_by_always_and_two_seconds_by_everysec() {
    const WRITERS: usize = 4;
    for seed in chance::seeds(4) {
        let mut chance = Chance::from_seed(seed);
        let fsync = if seed % 2 == 1 { "always" } else { "everysec" };
        let folder = tempfile::tempdir().expect("a folder");
        let mut node = node_in(folder.path(), fsync);
        let addr = node.addr();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| thread::spawn(move || write_until_the_end(addr, writer)))
            .collect();
        let mut watcher = node.client();
        let enough = 2000 + chance.below(20_000) as i64;
        node.process().wait_for(
            "to be written to",
            |_| matches!(watcher.run("DBSIZE"), Reply::Int(keys) if keys > enough),
        );
        if chance.one_in(2) {
            watcher.run("BGREWRITEAOF");
        }
        node.process().kill();
        let killed = Instant::now();
        let acknowledged: Vec<_> = writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer"))
            .collect();
        let node = node_in(folder.path(), fsync);
        let mut client = node.client();
        for (writer, acknowledged) in acknowledged.into_iter().enumerate() {
            for (n, at) in acknowledged {
                let may_be_lost = fsync == "everysec"
                    && killed.saturating_duration_since(at) < Duration::from_secs(2);
                let reply = client.run(&format!("GET {writer}:{n}"));
                if !may_be_lost {
                    let value = Reply::Bulk(n.to_string().into_bytes());
                    assert_eq!(reply, value, "seed {seed}, {fsync}: key {writer}:{n}");
                }
            }
        }
    }
}

#[test]
fn the_files_are_switched_on_and_off_and_made_anew_when_they_have_grown() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut node = Standalone::start_with(&["--data-dir", text(folder.path())]);
    let mut client = node.client();
    let set = |client: &mut Client, name: &str, value: &str| {
        let set = client
            .ask(&["CONFIG", "SET", name, value])
            .expect("a reply");
        assert_eq!(set, Reply::ok(), "{name} {value}");
    };
    fill(&mut client);
    client.run("SELECT 0");
    set(&mut client, "appendonly", "yes");
    client.run("SET while starting");
    let mut watcher = node.client();
    let on = |_: &mut larder_tests::Process| {
        info(&mut watcher, "aof_enabled") == "1"
            && info(&mut watcher, "aof_rewrite_in_progress") == "0"
    };
    node.process().wait_for("to begin the files", on);
    client.run("SET then more");
    assert_eq!(
        client.run("WAITAOF 1 0 5000"),
        Reply::Array(vec![Reply::Int(1), Reply::Int(0)])
    );
    set(&mut client, "auto-aof-rewrite-min-size", "100kb");
    set(&mut client, "auto-aof-rewrite-percentage", "10");
    let mut watcher = node.client();
    let rewrites: u64 = info(&mut watcher, "aof_rewrites").parse().expect("a count");
    for n in 0..20_000 {
        client.run(&format!("SET key:{} {n}", n % 10));
    }
    node.process().wait_for("to rewrite by itself", |_| {
        info(&mut watcher, "aof_rewrites")
            .parse::<u64>()
            .expect("a count")
            > rewrites
    });
    set(&mut client, "auto-aof-rewrite-percentage", "0");
    let meant = digest(&mut client);
    set(&mut client, "appendonly", "no");
    let mut watcher = node.client();
    node.process().wait_for("to end the files", |_| {
        info(&mut watcher, "aof_enabled") == "0"
    });
    node.process().signal("TERM");
    assert!(node.process().wait_end().success());
    let redis = redis_in(folder.path());
    assert_eq!(digest(&mut redis.client()), meant);
}

#[test]
fn a_full_disk_stops_writes_until_there_is_room_again() {
    for fsync in ["everysec", "always"] {
        let place = tempfile::tempdir().expect("a folder");
        let Some(disk) = SmallDisk::mount(place.path(), 4 << 20) else {
            eprintln!("skipped: nothing can be mounted here");
            return;
        };
        let folder = disk.folder();
        let ballast = folder.join("ballast");
        fs::write(&ballast, vec![0; 2 << 20]).expect("half of the disk");
        let mut node = node_in(folder, fsync);
        let mut client = node.client();
        assert_eq!(client.run("SET before value"), Reply::ok());
        let value = "v".repeat(100_000);
        let mut filler = node.client();
        let filling = thread::spawn(move || {
            // More than there is room for beside the ballast, and less than without it. By `always` the last is answered when there is room again.
            for n in 0..30 {
                match filler.ask(&["SET", &format!("key:{n}"), &value]) {
                    Ok(Reply::Error(text)) => return text,
                    Ok(_) => {}
                    Err(error) => return error.to_string(),
                }
            }
            String::new()
        });
        node.process().wait_for("to refuse writes", |_| {
            matches!(client.run("PING"), Reply::Error(text) if text.starts_with("MISCONF Errors writing to the AOF file: No space left"))
        });
        assert_eq!(info(&mut client, "aof_last_write_status"), "err");
        assert_eq!(client.run("GET before"), Reply::Bulk(b"value".to_vec()));
        fs::remove_file(&ballast).expect("room again");
        node.process().wait_for("to take writes again", |_| {
            client.run("SET after value") == Reply::ok()
        });
        filling.join().expect("the filler");
        let meant = digest(&mut client);
        node.process().signal("TERM");
        assert!(node.process().wait_end().success());
        let node = node_in(folder, fsync);
        assert_eq!(digest(&mut node.client()), meant, "{fsync}");
        drop(node);
    }
}

#[test]
fn nodes_of_a_cluster_come_back_with_all_that_they_acknowledged() {
    let flags = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut cluster = Cluster::start_keeping(2, 0, &flags);
    let mut client = cluster.client();
    for round in 0..2 {
        for n in 0..300 {
            let key = format!("key:{round}:{n}");
            assert_eq!(client.run(&format!("SET {key} value:{n}")), Reply::ok());
        }
        for index in 0..2 {
            cluster.nodes[index].take().expect("it runs").kill();
            cluster.start_node(index);
        }
        cluster.wait_until("both nodes are back", |status| {
            let shards = larder_tests::cluster::array(status, "shards");
            shards.iter().all(|shard| {
                shard["node"]["reachable"] == true && shard["node"]["epoch"] == status["epoch"]
            })
        });
        client = cluster.client();
        for before in 0..=round {
            for n in 0..300 {
                let value = Reply::Bulk(format!("value:{n}").into_bytes());
                assert_eq!(client.run(&format!("GET key:{before}:{n}")), value);
            }
        }
    }
}
