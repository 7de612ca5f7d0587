//! What Larder takes in later than the source carried it out: keys that have expired here by then, and had not there.

use std::time::{Duration, Instant};

use larder_tests::{Client, Importer, RedisServer};

use crate::source::{digests, larder, nodes, redis, url, wait_same};

/// Life of a key that ends while the import stands still, in milliseconds.
const LIFE_MS: u64 = 400;

/// Carries out `early` and waits till it is here; then `late` while the import stands still, until what lives for [`LIFE_MS`] has
/// expired here. What is here in the end is what is there.
fn taken_in_late(source: &RedisServer, early: &[&str], late: &[&str]) {
    let say = |client: &mut Client, line: &str| {
        let reply = client.run(line);
        assert!(!reply.is_error(), "{line}: {reply}");
    };
    let mut client = source.client();
    let folder = tempfile::tempdir().unwrap();
    let up = larder(folder.path());
    let mut import = Importer::start(&url(source.addr()), up.topology_addr(), folder.path(), &[]);
    import.wait_streaming();
    for line in early {
        say(&mut client, line);
    }
    wait_same(&[source.addr()], &nodes(&up), 0);
    import.process.signal("STOP");
    let begun = Instant::now();
    for line in late {
        say(&mut client, &line.replace("LIFE", &LIFE_MS.to_string()));
    }
    assert!(
        begun.elapsed() < Duration::from_millis(LIFE_MS),
        "the source is so slow that nothing is shown"
    );
    let there = [source.addr()];
    let kept = digests(&there);
    std::thread::sleep(Duration::from_millis(LIFE_MS + 50));
    assert_eq!(digests(&there), kept, "it has expired at the source, too");
    import.process.signal("CONT");
    wait_same(&there, &nodes(&up), 0);
}

#[test]
fn what_was_made_of_a_key_that_had_expired_here_alone_is_right_in_the_end() {
    taken_in_late(
        &redis(&[]),
        &[
            "ZADD {a}z 1 m1 2 m2",
            "ZADD {a}zkept 5 m5",
            "SADD {a}t m1 m2",
            "RPUSH {a}l m1 m2",
            "RPUSH {a}lkept m5",
            "HSET {a}h f v",
            "SET {a}s value",
        ],
        &[
            "PEXPIRE {a}z LIFE",
            "PEXPIRE {a}t LIFE",
            "PEXPIRE {a}l LIFE",
            "PEXPIRE {a}h LIFE",
            "PEXPIRE {a}s LIFE",
            "ZADD {a}z 3 m3",
            "SADD {a}t m3",
            "RPUSH {a}l m3",
            "HSET {a}h g v",
            "APPEND {a}s more",
            "ZUNIONSTORE {a}z2 2 {a}z {a}zkept",
            "ZRANGESTORE {a}z3 {a}z2 0 -1",
            "SUNIONSTORE {a}t2 {a}t",
            "SORT {a}t ALPHA STORE {a}l2",
            "LMOVE {a}l {a}lkept LEFT RIGHT",
            "COPY {a}h {a}h2",
            "BITOP NOT {a}s2 {a}s",
            "RENAME {a}h {a}h3",
            "PERSIST {a}z",
            "PERSIST {a}t",
            "PERSIST {a}l",
            "PERSIST {a}h2",
            "PERSIST {a}h3",
            "PERSIST {a}s",
        ],
    );
}

#[test]
fn a_string_that_is_set_only_where_one_was_is_set() {
    taken_in_late(
        &redis(&[]),
        &["SET a 1", "SET b 1", "SET c 1"],
        &[
            "PEXPIRE a LIFE",
            "PEXPIRE b LIFE",
            "PEXPIRE c LIFE",
            "SET a 2 XX",
            "SET b 2 KEEPTTL",
            "PEXPIRE b 1000000 XX",
            "INCRBYFLOAT c 1.5",
            "PEXPIRE c 1000000 XX",
        ],
    );
}

/// Of a server whose hashes have fields that expire.
fn fields_taken_in_late(source: &RedisServer) {
    taken_in_late(
        source,
        &[
            "HSET counted f 5 kept 1",
            "HSET floated f 5 kept 1",
            "HSET extended f 5 kept 1",
            "HSET renamed f 5 kept 1",
            "HSET set f 5 kept 1",
        ],
        &[
            "HPEXPIRE counted LIFE FIELDS 1 f",
            "HPEXPIRE floated LIFE FIELDS 1 f",
            "HPEXPIRE extended LIFE FIELDS 1 f",
            "HPEXPIRE renamed LIFE FIELDS 1 f",
            "HPEXPIRE set LIFE FIELDS 1 f",
            "HINCRBY counted f 1",
            "HPERSIST counted FIELDS 1 f",
            "HINCRBYFLOAT floated f 1.5",
            "HPERSIST floated FIELDS 1 f",
            "HPEXPIRE extended 1000000 FIELDS 1 f",
            "HPERSIST extended FIELDS 1 f",
            "RENAME renamed {renamed}2",
            "HPERSIST {renamed}2 FIELDS 1 f",
            "HSETEX set KEEPTTL FIELDS 1 f 6",
            "HPERSIST set FIELDS 1 f",
        ],
    );
}

#[test]
fn a_field_that_had_expired_here_alone_is_there_in_the_end() {
    let programs = [
        RedisServer::valkey_program(),
        RedisServer::newer_redis_program(),
    ];
    for program in programs {
        let Some(program) = program else {
            eprintln!("no server whose fields expire here (bench/peers/fetch brings them)");
            continue;
        };
        let more = [
            "--enable-debug-command",
            "yes",
            "--repl-diskless-sync-delay",
            "0",
        ];
        fields_taken_in_late(&RedisServer::start_program(&program, &more));
    }
}
