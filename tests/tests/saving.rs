//! Snapshots on the disk: real Redis loads ours and we load Redis', a kill leaves the last whole file, and a disk that takes nothing stops writes
//! until it does.

use std::fs;
use std::path::Path;

use larder_tests::kept::{digest, fill, info};
use larder_tests::redis_suite::Suite;
use larder_tests::standalone::Standalone;
use larder_tests::{Client, Cluster, RedisServer, Reply};

/// A node that keeps its data in `folder`, once it has loaded them.
fn node_in(folder: &Path) -> Standalone {
    let mut node =
        Standalone::start_with(&["--data-dir", folder.to_str().expect("a path of text")]);
    let mut client = node.client();
    node.process()
        .wait_for("to load", |_| info(&mut client, "loading") == "0");
    node
}

/// Waits for the save under way to end.
fn wait_saved(node: &mut Standalone) {
    let mut client = node.client();
    node.process().wait_for("to save", |_| {
        info(&mut client, "rdb_bgsave_in_progress") == "0"
    });
}

#[test]
fn redis_loads_what_a_node_saves_while_it_is_written_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut node = node_in(folder.path());
    let mut client = node.client();
    fill(&mut client);
    let meant = digest(&mut client);
    assert_eq!(
        client.run("BGSAVE"),
        Reply::Simple("Background saving started".to_owned())
    );
    for n in 0..3000 {
        client.run(&format!("SET key:{n} changed"));
        client.run(&format!("DEL key:{}", n + 1500));
    }
    wait_saved(&mut node);
    assert_eq!(info(&mut client, "rdb_last_bgsave_status"), "ok");
    assert_ne!(digest(&mut client), meant);
    let redis = RedisServer::start_with(&[
        "--enable-debug-command",
        "local",
        "--dir",
        folder.path().to_str().expect("a path of text"),
    ]);
    assert_eq!(digest(&mut redis.client()), meant);
}

#[test]
fn a_node_loads_what_redis_saved_compressed_or_not() {
    for compression in ["yes", "no"] {
        let redis = RedisServer::start_with(&[
            "--enable-debug-command",
            "local",
            "--rdbcompression",
            compression,
        ]);
        let mut client = redis.client();
        fill(&mut client);
        assert_eq!(client.run("SAVE"), Reply::ok());
        let node = node_in(redis.folder());
        assert_eq!(digest(&mut node.client()), digest(&mut client));
        // And what it saves of that, it loads itself.
        assert_eq!(node.client().run("SAVE"), Reply::ok());
        let again = node_in(redis.folder());
        assert_eq!(digest(&mut again.client()), digest(&mut client));
    }
}

/// `tests/rdb-files/make` says how they were made.
#[test]
fn files_of_redis_3_to_6_are_loaded_as_redis_7_loads_them() {
    const FILES: usize = 4;
    const QUESTIONS: &[&str] = &[
        "XRANGE stream - +",
        "XINFO GROUPS stream",
        "XPENDING stream readers",
        "XLEN stream:gone",
        "PEXPIRETIME short",
        "PEXPIRETIME zset:600",
        "OBJECT ENCODING int:12",
        "LRANGE list:long-elements 0 -1",
        "ZRANGE zset:edges 0 -1 WITHSCORES",
        "GET binary",
    ];
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("rdb-files");
    let mut loaded = 0;
    for entry in fs::read_dir(kept).expect("the files").flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|ending| ending != "rdb") {
            continue;
        }
        let folder = tempfile::tempdir().expect("a folder");
        fs::copy(&path, folder.path().join("dump.rdb")).expect("a copy");
        let node = node_in(folder.path());
        let redis = RedisServer::start_with(&[
            "--enable-debug-command",
            "local",
            "--dir",
            folder.path().to_str().expect("a path of text"),
        ]);
        let (mut ours, mut theirs) = (node.client(), redis.client());
        assert_eq!(digest(&mut ours), digest(&mut theirs), "{path:?}");
        for question in QUESTIONS {
            let (our, their) = (ours.run(question), theirs.run(question));
            assert_eq!(our, their, "{path:?}: {question}");
        }
        loaded += 1;
    }
    assert_eq!(loaded, FILES);
}

#[test]
fn a_node_that_is_killed_while_it_saves_comes_back_with_the_save_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut node = node_in(folder.path());
    let mut client = node.client();
    fill(&mut client);
    let meant = digest(&mut client);
    assert_eq!(client.run("SAVE"), Reply::ok());
    client.run("SELECT 0");
    client.run("DEBUG POPULATE 200000 more 100");
    client.run("BGSAVE");
    node.process().kill();
    assert_eq!(digest(&mut node_in(folder.path()).client()), meant);
}

#[test]
fn a_damaged_file_is_told_and_the_one_before_it_is_loaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = node_in(folder.path());
    let mut client = node.client();
    fill(&mut client);
    let meant = digest(&mut client);
    assert_eq!(client.run("SAVE"), Reply::ok());
    client.run("SET later change");
    assert_eq!(client.run("SAVE"), Reply::ok());
    drop(node);
    let path = folder.path().join("dump.rdb");
    let bytes = fs::read(&path).expect("the save");
    fs::write(&path, &bytes[..bytes.len() / 2]).expect("half of it");
    let mut node = node_in(folder.path());
    assert_eq!(digest(&mut node.client()), meant);
    let told = node.process().output();
    let cut = format!(
        "is damaged at byte {}: the file ends in the middle",
        bytes.len() / 2
    );
    assert!(told.contains(&cut), "{told}");
    assert!(folder.path().join("dump.rdb.damaged").exists());
    drop(node);
    // With nothing else to load, a node does not start as if there had been no data.
    fs::remove_file(folder.path().join("dump.rdb.previous")).expect("the one before");
    fs::rename(folder.path().join("dump.rdb.damaged"), &path).expect("back in its place");
    let (ended, told) = Standalone::refused(&[
        "--data-dir",
        folder.path().to_str().expect("a path of text"),
    ]);
    assert!(!ended.success());
    assert!(
        told.contains("move the file away to start with no data"),
        "{told}"
    );
}

#[test]
fn save_points_save_by_themselves_and_at_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut node = node_in(folder.path());
    let mut client = node.client();
    assert_eq!(
        client
            .ask(&["CONFIG", "SET", "save", "1 3"])
            .expect("a reply"),
        Reply::ok()
    );
    for n in 0..3 {
        client.run(&format!("SET saved:{n} value"));
    }
    node.process().wait_for("to save by itself", |_| {
        info(&mut client, "rdb_saves") == "1"
    });
    client.run("SET last value");
    node.process().signal("TERM");
    assert!(node.process().wait_end().success());
    let node = node_in(folder.path());
    assert_eq!(node.client().run("DBSIZE"), Reply::Int(4));
}

#[test]
fn a_disk_that_takes_nothing_stops_writes_until_it_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("a folder in it");
    let mut node = node_in(&data);
    let mut client = node.client();
    client
        .ask(&["CONFIG", "SET", "save", "3600 1"])
        .expect("a reply");
    client.run("SET before value");
    fs::remove_dir_all(&data).expect("the folder goes");
    client.run("BGSAVE");
    wait_saved(&mut node);
    assert_eq!(info(&mut client, "rdb_last_bgsave_status"), "err");
    for refused in ["SET after value", "PING"] {
        match client.run(refused) {
            Reply::Error(text) => assert!(text.starts_with("MISCONF "), "{text}"),
            other => panic!("{refused}: {other:?}"),
        }
    }
    assert_eq!(client.run("GET before"), Reply::Bulk(b"value".to_vec()));
    fs::create_dir(&data).expect("the folder comes back");
    client.run("BGSAVE");
    wait_saved(&mut node);
    assert_eq!(client.run("SET after value"), Reply::ok());
}

#[test]
fn a_node_of_a_cluster_comes_back_with_what_it_saved_of_its_slots() {
    let mut cluster = Cluster::start_keeping(2, 0, &[]);
    let mut client = cluster.client();
    for n in 0..500 {
        assert_eq!(client.run(&format!("SET key:{n} value:{n}")), Reply::ok());
    }
    for index in 0..2 {
        let mut node = Client::to(cluster.node_addr(index));
        assert_eq!(node.run("SAVE"), Reply::ok());
    }
    client.run("SET later change");
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
    let mut client = cluster.client();
    for n in 0..500 {
        let value = format!("value:{n}").into_bytes();
        assert_eq!(client.run(&format!("GET key:{n}")), Reply::Bulk(value));
    }
    assert_eq!(client.run("GET later"), Reply::Null);
    assert_eq!(client.run("DBSIZE"), Reply::Int(500));
}

#[test]
fn files_of_older_servers_are_loaded_as_redis_loads_them() {
    let suite = Suite::unpacked();
    // Ziplists, zipmaps, intsets, lists of ziplists, plain and compressed, of Redis 2.4 to 5.
    let files = [
        "encodings.rdb",
        "hash-ziplist.rdb",
        "hash-zipmap.rdb",
        "list-quicklist.rdb",
        "zset-ziplist.rdb",
    ];
    for file in files {
        let folder = tempfile::tempdir().expect("a folder");
        fs::copy(suite.asset(file), folder.path().join("dump.rdb")).expect("the suite's file");
        let redis = RedisServer::start_with(&[
            "--enable-debug-command",
            "local",
            "--dir",
            folder.path().to_str().expect("a path of text"),
        ]);
        let node = node_in(folder.path());
        assert_ne!(redis.client().run("DBSIZE"), Reply::Int(0), "{file}");
        assert_eq!(
            digest(&mut node.client()),
            digest(&mut redis.client()),
            "{file}"
        );
    }
}
