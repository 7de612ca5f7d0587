//! From one server: every type, while it is written to, by a file and without one, with commands that join slots.

use larder_tests::chance::seeds;
use larder_tests::importer::state_file;
use larder_tests::{Importer, RedisServer};

use crate::source::{Writers, digests, fill, larder, nodes, redis, url, wait_same, write};

fn copied(source: &RedisServer, seed: u64) {
    fill(&mut source.client());
    let folder = tempfile::tempdir().unwrap();
    let up = larder(folder.path());
    let writers = Writers::start(seed, 3, || source.client(), |chance| write(chance, true));
    let from = url(source.addr());
    let mut import = Importer::start(
        &from,
        up.topology_addr(),
        folder.path(),
        &["--verify", "all"],
    );
    let status = import.wait_until("to compare all keys", |status| {
        status["verified"].is_object()
    });
    assert!(writers.stop() > 100, "next to nothing was written");
    assert_eq!(
        status["verified"]["different"], 0,
        "seed {seed}: {status:#}"
    );
    assert!(
        status["verified"]["checked"].as_u64() > Some(600),
        "{status:#}"
    );
    assert!(
        status["sources"][0]["refetched"].as_u64() > Some(0),
        "{status:#}"
    );
    wait_same(&[source.addr()], &nodes(&up), seed);
}

#[test]
fn a_redis_under_writes_is_copied_without_a_file() {
    for seed in seeds(1) {
        copied(&redis(&[]), seed);
    }
}

#[test]
fn a_redis_under_writes_is_copied_by_a_file() {
    for seed in seeds(1) {
        copied(&redis(&["--repl-diskless-sync", "no"]), seed);
    }
}

#[test]
fn a_valkey_under_writes_is_copied() {
    let Some(program) = RedisServer::valkey_program() else {
        eprintln!("no Valkey here (bench/peers/fetch brings one): nothing copied");
        return;
    };
    let more = [
        "--enable-debug-command",
        "yes",
        "--repl-diskless-sync-delay",
        "0",
    ];
    for seed in seeds(1) {
        let source = RedisServer::start_program(&program, &more);
        let mut client = source.client();
        client.run("HSET timed f1 v1 f2 v2");
        client.run("HEXPIRE timed 1000 FIELDS 1 f1");
        copied(&source, seed);
    }
}

#[test]
fn databases_functions_scripts_and_flushes_arrive() {
    let source = redis(&[]);
    let mut client = source.client();
    let library = "#!lua name=lib\nredis.register_function('answer', function() return 42 end)";
    client.ask(&["FUNCTION", "LOAD", library]).unwrap();
    client.run("SET before 1");
    client.run("SELECT 5");
    client.run("SET five 5");
    let folder = tempfile::tempdir().unwrap();
    let up = larder(folder.path());
    let mut import = Importer::start(
        &url(source.addr()),
        up.topology_addr(),
        folder.path(),
        &["--no-forward"],
    );
    import.wait_streaming();
    client.run("MOVE five 6");
    client.run("SET a 1");
    client.run("COPY a a DB 7");
    client.run("SELECT 7");
    client.run("MULTI");
    client.run("SET in-multi 1");
    client.run("INCR in-multi");
    client.run("EXEC");
    client
        .ask(&[
            "EVAL",
            "redis.call('SET', KEYS[1], redis.call('TIME')[2])",
            "1",
            "timed",
        ])
        .unwrap();
    wait_same(&[source.addr()], &nodes(&up), 0);
    client.run("FLUSHDB");
    client.run("SET after 1");
    wait_same(&[source.addr()], &nodes(&up), 0);
    assert_eq!(up.client().run("FCALL answer 0").as_int(), Some(42));
    client.run("FUNCTION DELETE lib");
    client.run("FLUSHALL");
    client.run("SET last 1");
    wait_same(&[source.addr()], &nodes(&up), 0);
    assert_eq!(digests(&nodes(&up)).len(), 1);
    assert!(up.client().run("FCALL answer 0").is_error());
}

#[test]
fn a_count_that_the_source_keeps_within_the_value_is_kept_here_too() {
    let source = redis(&[]);
    let folder = tempfile::tempdir().unwrap();
    let up = larder(folder.path());
    let from = url(source.addr());
    let mut import = Importer::start(&from, up.topology_addr(), folder.path(), &[]);
    import.wait_streaming();
    let mut client = source.client();
    client.run("PFADD counted a b c");
    wait_same(&[source.addr()], &nodes(&up), 0);
    assert_eq!(client.run("PFCOUNT counted").as_int(), Some(3));
    wait_same(&[source.addr()], &nodes(&up), 0);
}

#[test]
fn an_import_that_is_stopped_goes_on_where_it_was() {
    let source = redis(&[]);
    fill(&mut source.client());
    let folder = tempfile::tempdir().unwrap();
    let up = larder(folder.path());
    let from = url(source.addr());
    let mut import = Importer::start(&from, up.topology_addr(), folder.path(), &[]);
    import.wait_streaming();
    import.process.signal("INT");
    assert_eq!(
        import.process.wait_end().code(),
        Some(130),
        "{}",
        import.process.output()
    );
    assert!(state_file(folder.path()).exists());
    let mut client = source.client();
    client.run("INCR while-away");
    client.run("SET number1 changed");
    let mut import = Importer::start(&from, up.topology_addr(), folder.path(), &[]);
    let status = import.wait_streaming();
    assert_eq!(
        status["sources"][0]["keys_copied"], 0,
        "copied anew: {status:#}"
    );
    wait_same(&[source.addr()], &nodes(&up), 0);
}

#[test]
fn an_import_ends_where_it_was_begun_or_leaves_nothing_behind() {
    let source = redis(&[]);
    source.client().run("SET a 1");
    let folder = tempfile::tempdir().unwrap();
    let up = larder(folder.path());
    let from = url(source.addr());
    let mut import = Importer::start(&from, up.topology_addr(), folder.path(), &[]);
    import.wait_streaming();
    assert!(import.ask(&["abort", "--clear"]).status.success());
    assert!(
        import.process.wait_end().success(),
        "{}",
        import.process.output()
    );
    assert!(digests(&nodes(&up)).is_empty());
    assert_eq!(source.client().run("GET a").as_text().as_deref(), Some("1"));
}

#[test]
fn a_consumer_of_which_the_source_tells_no_replica_is_no_difference() {
    let source = redis(&[]);
    let mut client = source.client();
    client.run("XADD x 1-1 f 1");
    client.run("XGROUP CREATE x g 0");
    let folder = tempfile::tempdir().unwrap();
    let up = larder(folder.path());
    let from = url(source.addr());
    let mut import = Importer::start(&from, up.topology_addr(), folder.path(), &[]);
    import.wait_streaming();
    import.process.signal("INT");
    import.process.wait_end();
    let port = source.addr().port().to_string();
    let replica = redis(&["--replicaof", "127.0.0.1", &port]);
    let mut copy = replica.client();
    let consumers = |client: &mut larder_tests::Client| {
        let told = client.run("XINFO CONSUMERS x g");
        told.items().len()
    };
    let mut wait = |key: &str| {
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while copy.run(&format!("GET {key}")).as_text().is_none() {
            assert!(std::time::Instant::now() < give_up, "the replica follows");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    client.run("SET before 1");
    wait("before");
    // A read of what the reader holds, which is nothing.
    client.run("XREADGROUP GROUP g reader STREAMS x 0");
    client.run("SET after 1");
    wait("after");
    assert_eq!(
        (consumers(&mut client), consumers(&mut copy)),
        (1, 0),
        "this server tells its replicas of such a consumer"
    );
    let mut import = Importer::start(
        &from,
        up.topology_addr(),
        folder.path(),
        &["--verify", "all"],
    );
    let status = import.wait_until("to compare all keys", |status| {
        status["verified"].is_object()
    });
    assert_eq!(status["verified"]["different"], 0, "{status:#}");
    assert_eq!(status["verified"]["checked"], 3, "{status:#}");
}
