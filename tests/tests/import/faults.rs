//! What goes wrong on the way: lost connections on either side, a source that dies, nodes that change, wrong input.

use larder_tests::chance::seeds;
use larder_tests::{Importer, RedisServer};

use crate::source::{Writers, fill, larder, nodes, redis, url, wait_same, write};

#[test]
fn a_connection_that_is_cut_again_and_again_goes_on_where_it_was() {
    for seed in seeds(1) {
        let source = redis(&["--repl-backlog-size", "64mb"]);
        fill(&mut source.client());
        let folder = tempfile::tempdir().unwrap();
        let up = larder(folder.path());
        let mut import =
            Importer::start(&url(source.addr()), up.topology_addr(), folder.path(), &[]);
        import.wait_streaming();
        let writers = Writers::start(seed, 3, || source.client(), |chance| write(chance, true));
        let mut client = source.client();
        for _ in 0..5 {
            let before = import
                .status()
                .map(|status| status["sources"][0]["commands"].as_u64());
            client.run("CLIENT KILL TYPE replica");
            client.run("CLIENT KILL TYPE normal SKIPME yes ADDR 127.0.0.1:1");
            import.wait_until("to follow on", |status| {
                Some(status["sources"][0]["commands"].as_u64()) > before
            });
        }
        writers.stop();
        wait_same(&[source.addr()], &nodes(&up), seed);
        let full = client.run("INFO stats").as_text().unwrap();
        assert!(full.contains("sync_full:1\r\n"), "{full}");
        assert!(!full.contains("sync_partial_ok:0\r\n"), "{full}");
    }
}

#[test]
fn slots_that_move_while_keys_come_in_miss_nothing() {
    for seed in seeds(1) {
        let source = redis(&[]);
        fill(&mut source.client());
        source.client().run("DEBUG POPULATE 20000");
        let folder = tempfile::tempdir().unwrap();
        let up = larder(folder.path());
        let writers = Writers::start(seed, 3, || source.client(), |chance| write(chance, true));
        let mut import =
            Importer::start(&url(source.addr()), up.topology_addr(), folder.path(), &[]);
        import.wait_until("to begin", |status| status["state"] != "connecting");
        for shards in ["3", "1", "2"] {
            let moved = up.larder(&["reshard", "--shards", shards]);
            assert!(
                moved.status.success(),
                "{}",
                String::from_utf8_lossy(&moved.stderr)
            );
        }
        import.wait_streaming();
        writers.stop();
        let status = up.larder(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        let shards = status["shards"].as_array().unwrap();
        let nodes: Vec<_> = shards
            .iter()
            .map(|shard| shard["node"]["addr"].as_str().unwrap().parse().unwrap())
            .collect();
        wait_same(&[source.addr()], &nodes, seed);
    }
}

#[test]
fn a_source_that_dies_ends_the_import_with_its_name() {
    let mut source = redis(&[]);
    source.client().run("SET a 1");
    let folder = tempfile::tempdir().unwrap();
    let up = larder(folder.path());
    let from = url(source.addr());
    let mut import = Importer::start(
        &from,
        up.topology_addr(),
        folder.path(),
        &["--patience", "1"],
    );
    import.wait_streaming();
    source.process().kill();
    assert_eq!(import.process.wait_end().code(), Some(1));
    let output = import.process.output();
    assert!(
        output.contains("the source has been away for 1 s"),
        "{output}"
    );
    assert!(output.contains(&source.addr().to_string()), "{output}");
}

fn refused(source: &RedisServer, from: &str, more: &[&str], filled: bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    let up = larder(folder.path());
    if filled {
        up.client().run("SET mine 1");
    }
    let mut import = Importer::start(from, up.topology_addr(), folder.path(), more);
    assert_eq!(
        import.process.wait_end().code(),
        Some(1),
        "{}",
        source.addr()
    );
    assert_eq!(up.client().run("GET mine").as_text().is_some(), filled);
    import.process.output()
}

#[test]
fn what_cannot_be_begun_is_one_clear_line() {
    let source = redis(&[]);
    source.client().run("CONFIG SET requirepass right");
    let addr = source.addr();
    let output = refused(&source, &format!("redis://:wrong@{addr}"), &[], false);
    assert!(
        output.contains("another password") && !output.contains(":wrong@"),
        "{output}"
    );
    let output = refused(&source, &url(addr), &[], false);
    assert!(output.contains("another password"), "{output}");
    let output = refused(&source, &format!("redis://:right@{addr}"), &[], true);
    assert!(output.contains("--clear"), "{output}");
    let replica = redis(&[
        "--masterauth",
        "right",
        "--replicaof",
        "127.0.0.1",
        &addr.port().to_string(),
    ]);
    let output = refused(&replica, &url(replica.addr()), &[], false);
    assert!(
        output.contains(&format!("--from redis://127.0.0.1:{}", addr.port())),
        "{output}"
    );
}

#[test]
fn a_restart_of_the_source_is_not_taken_for_a_pause() {
    let source = redis(&[]);
    fill(&mut source.client());
    let folder = tempfile::tempdir().unwrap();
    let up = larder(folder.path());
    let mut import = Importer::start(&url(source.addr()), up.topology_addr(), folder.path(), &[]);
    import.wait_streaming();
    // Another history of writes, as after a start anew.
    source.client().run("DEBUG CHANGE-REPL-ID");
    source.client().run("CLIENT KILL TYPE replica");
    assert_eq!(import.process.wait_end().code(), Some(1));
    let output = import.process.output();
    assert!(
        output.contains("begin anew") && output.contains("--clear"),
        "{output}"
    );
}
