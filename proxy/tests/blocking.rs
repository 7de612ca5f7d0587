//! Commands that block, through the proxy: compared with a real redis-server, then with clients that go, slots that move and nodes that die.

mod common;

use std::time::{Duration, Instant};

use common::redis_cluster::RedisCluster;
use common::{Setup, error_text, wait};
use larder_tests::{Client, RedisServer, Reply};

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// A number of `INFO` of a server.
fn info(server: &RedisServer, name: &str) -> u64 {
    let text = server.client().run("INFO").as_text().unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.strip_prefix(':'))
        .unwrap()
        .parse()
        .unwrap()
}

fn blocked(servers: &[RedisServer]) -> u64 {
    servers.iter().map(|s| info(s, "blocked_clients")).sum()
}

fn wait_for_blocked(servers: &[RedisServer], count: u64) {
    wait("clients that block", || blocked(servers) == count);
}

/// What is there already, what times out, and what is wrong.
#[test]
fn what_blocks_answers_as_redis_does() {
    let setup = Setup::plain(3);
    let oracle = RedisServer::start();
    for hello in ["HELLO 2", "HELLO 3"] {
        let (mut client, mut direct) = (setup.client(), oracle.client());
        client.run(hello);
        direct.run(hello);
        for line in [
            "RPUSH l a b c d e f g h",
            "BLPOP l 1",
            "BRPOP none{l} l 1",
            "BLMOVE l {l}m LEFT RIGHT 1",
            "BRPOPLPUSH l {l}m 1",
            "BLMPOP 1 2 none{l} l LEFT COUNT 2",
            "LRANGE l 0 -1",
            "LRANGE {l}m 0 -1",
            "BLPOP none 0.01",
            "BRPOP none 0.01",
            "BLMOVE none {none}m LEFT RIGHT 0.01",
            "BRPOPLPUSH none {none}m 0.01",
            "BLMPOP 0.01 1 none LEFT",
            "ZADD z 1 a 2 b 3 c 4 d",
            "BZPOPMIN z 1",
            "BZPOPMAX none{z} z 1",
            "BZMPOP 1 1 z MIN COUNT 5",
            "BZPOPMIN z 0.01",
            "BZPOPMAX z 0.01",
            "BZMPOP 0.01 1 z MAX",
            "XADD s 1-1 f v",
            "XADD s 2-1 f v",
            "XREAD STREAMS s 0",
            "XREAD COUNT 1 BLOCK 10 STREAMS s 0",
            "XREAD BLOCK 10 STREAMS s $",
            "XGROUP CREATE s g 0",
            "XREADGROUP GROUP g c COUNT 1 STREAMS s >",
            "XREADGROUP GROUP g c BLOCK 10 STREAMS s >",
            "XREADGROUP GROUP g c BLOCK 10 STREAMS s >",
            "XREADGROUP GROUP nosuch c BLOCK 10 STREAMS s >",
            "XREAD BLOCK soon STREAMS s $",
            "XREAD BLOCK -1 STREAMS s $",
            "XREAD BLOCK",
            "XREAD BLOCK 10 STREAMS s",
            "BLPOP l -1",
            "BLPOP l soon",
            "BLPOP s 0",
            "BLPOP l",
            "BLPOP a b 0",
            "BLMPOP 0 0 l LEFT",
            "BZPOPMIN s 1",
            "MULTI",
            "BLPOP none 0",
            "XREAD BLOCK 0 STREAMS none $",
            "EXEC",
            "PING",
            "DEL l {l}m s z",
        ] {
            let answer = client.run(line);
            if line == "BLPOP a b 0" {
                assert!(error_text(&answer).starts_with("CROSSSLOT"), "{answer:?}");
                continue;
            }
            assert_eq!(answer, direct.run(line), "{line} after {hello}");
        }
    }
}

#[test]
fn a_client_that_waits_gets_what_comes_and_its_later_commands_wait_in_order() {
    let setup = Setup::plain(3);
    for hello in ["HELLO 2", "HELLO 3"] {
        let (mut waits, mut other) = (setup.client(), setup.client());
        waits.run(hello);
        let lines = ["SET k 1", "BLPOP q 0", "INCR k", "BRPOP q 0", "GET k"];
        for line in lines {
            waits.send(&words(line)).unwrap();
        }
        assert_eq!(waits.read().unwrap(), Reply::ok());
        wait_for_blocked(&setup.servers, 1);
        assert_eq!(other.run("GET k"), Reply::bulk("1"), "INCR waits");
        other.run("RPUSH q one");
        let pair = |value| Reply::Array(vec![Reply::bulk("q"), Reply::bulk(value)]);
        assert_eq!(waits.read().unwrap(), pair("one"));
        assert_eq!(waits.read().unwrap(), Reply::Int(2));
        wait_for_blocked(&setup.servers, 1);
        other.run("RPUSH q two");
        assert_eq!(waits.read().unwrap(), pair("two"));
        assert_eq!(waits.read().unwrap(), Reply::bulk("2"));
    }
}

#[test]
fn nothing_is_taken_for_a_client_that_has_gone() {
    let setup = Setup::plain(2);
    let mut other = setup.client();
    for behind in [None, Some("GET behind"), Some("BLPOP q 0")] {
        let mut waits = setup.client();
        waits.send(&words("BLPOP q 0")).unwrap();
        if let Some(line) = behind {
            waits.send(&words(line)).unwrap();
        }
        wait_for_blocked(&setup.servers, 1);
        drop(waits);
        wait_for_blocked(&setup.servers, 0);
        assert_eq!(other.run("RPUSH q one"), Reply::Int(1));
        assert_eq!(other.run("LPOP q"), Reply::bulk("one"));
    }
    // Killed by another client, on whichever thread.
    for _ in 0..4 {
        let mut waits = setup.client();
        let id = waits.run("CLIENT ID").as_int().unwrap();
        waits.send(&words("BLPOP q 0")).unwrap();
        wait_for_blocked(&setup.servers, 1);
        assert!(
            other
                .run("CLIENT LIST")
                .as_text()
                .unwrap()
                .contains("flags=b")
        );
        assert!(
            other
                .run("INFO clients")
                .as_text()
                .unwrap()
                .contains("blocked_clients:1\r")
        );
        assert_eq!(other.run(&format!("CLIENT KILL ID {id}")), Reply::Int(1));
        wait_for_blocked(&setup.servers, 0);
    }
    assert!(
        other
            .run("INFO clients")
            .as_text()
            .unwrap()
            .contains("blocked_clients:0\r")
    );
}

#[test]
fn connections_that_were_waited_on_are_used_again() {
    let setup = Setup::plain(1);
    let server = &setup.servers[0];
    let mut clients: Vec<Client> = (0..4).map(|_| setup.client()).collect();
    for client in &mut clients {
        assert_eq!(client.run("BLPOP none 0.001"), Reply::Null);
        assert_eq!(client.run("WATCH k"), Reply::ok());
        assert_eq!(client.run("UNWATCH"), Reply::ok());
    }
    let mut direct = server.client();
    let mut connections = || {
        let text = direct.run("INFO stats").as_text().unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("total_connections_received:"));
        line.unwrap().parse::<u64>().unwrap()
    };
    let before = connections();
    for round in 0..50 {
        for client in &mut clients {
            assert_eq!(client.run("BLPOP none 0.001"), Reply::Null);
            client.run("WATCH k");
            client.run("SET k 1");
            client.run("MULTI");
            client.run("GET k");
            assert_eq!(client.run("EXEC"), Reply::Null, "round {round}");
        }
    }
    // An UNWATCH may still be on its way when the next client needs a connection.
    assert!(connections() <= before + 8, "a connection of its own each");
}

#[test]
fn client_unblock_ends_a_wait_as_if_its_time_were_up_or_with_an_error() {
    let setup = Setup::plain(2);
    let mut other = setup.client();
    for line in [
        "BLPOP q 0",
        "BLMOVE q {q}r LEFT LEFT 0",
        "XREAD BLOCK 0 STREAMS q $",
    ] {
        for (how, error) in [("", false), (" TIMEOUT", false), (" ERROR", true)] {
            let mut waits = setup.client();
            let id = waits.run("CLIENT ID").as_int().unwrap();
            assert_eq!(other.run(&format!("CLIENT UNBLOCK {id}")), Reply::Int(0));
            waits.send(&words(line)).unwrap();
            wait_for_blocked(&setup.servers, 1);
            let answer = other.run(&format!("CLIENT UNBLOCK {id}{how}"));
            assert_eq!(answer, Reply::Int(1), "{line}");
            let answer = waits.read().unwrap();
            if error {
                assert!(error_text(&answer).starts_with("UNBLOCKED"), "{answer:?}");
            } else {
                assert_eq!(answer, Reply::Null, "{line}");
            }
            assert_eq!(waits.run("PING"), Reply::Simple("PONG".into()));
        }
    }
    assert!(other.run("CLIENT UNBLOCK 1 SOON").is_error());
    assert_eq!(other.run("CLIENT UNBLOCK 1000000"), Reply::Int(0));
}

#[test]
fn a_wait_goes_on_at_the_slots_new_owner_with_the_time_that_is_left() {
    let cluster = RedisCluster::start(3);
    let mut other = cluster.client();
    for line in [
        "BLPOP q 3",
        "BLMPOP 3 1 q LEFT",
        "BLMOVE q {q}r LEFT LEFT 3",
        "BRPOP q 0",
    ] {
        let mut waits = cluster.client();
        waits.send(&words(line)).unwrap();
        for _ in 0..2 {
            wait_for_blocked(&cluster.servers, 1);
            let from = cluster.owner("q");
            cluster.move_slot("q", (from + 1) % 3);
            wait("the wait to leave its node", || {
                info(&cluster.servers[from], "blocked_clients") == 0
            });
        }
        wait_for_blocked(&cluster.servers, 1);
        other.run("RPUSH q here");
        let answer = format!("{:?}", waits.read().unwrap());
        let here = format!("{:?}", Reply::bulk("here"));
        assert!(answer.contains(&here), "{line}: {answer}");
        other.run("DEL q {q}r");
    }
    let mut waits = cluster.client();
    let start = Instant::now();
    waits.send(&words("BLPOP q 2")).unwrap();
    wait_for_blocked(&cluster.servers, 1);
    while start.elapsed() < Duration::from_millis(1200) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let from = cluster.owner("q");
    cluster.move_slot("q", (from + 1) % 3);
    assert_eq!(waits.read().unwrap(), Reply::Null);
    let took = start.elapsed();
    let limits = Duration::from_millis(1990)..Duration::from_millis(3000);
    assert!(limits.contains(&took), "{took:?}");
}

#[test]
fn a_slot_that_is_half_moved_is_asked_for_at_its_new_node() {
    let cluster = RedisCluster::start(3);
    let from = cluster.owner("q");
    let to = (from + 1) % 3;
    let slot = larder_wire::slot_of(b"q").number();
    let id = |server: usize| {
        let mut client = cluster.servers[server].client();
        client.run("CLUSTER MYID").as_text().unwrap()
    };
    let importing = format!("CLUSTER SETSLOT {slot} IMPORTING {}", id(from));
    assert_eq!(cluster.servers[to].client().run(&importing), Reply::ok());
    let migrating = format!("CLUSTER SETSLOT {slot} MIGRATING {}", id(to));
    assert_eq!(cluster.servers[from].client().run(&migrating), Reply::ok());
    let mut waits = cluster.client();
    waits.send(&words("BLPOP q 0")).unwrap();
    wait("the wait to begin at the new node", || {
        info(&cluster.servers[to], "blocked_clients") == 1
    });
    assert_eq!(cluster.client().run("RPUSH q here"), Reply::Int(1));
    assert_eq!(
        waits.read().unwrap(),
        Reply::Array(vec![Reply::bulk("q"), Reply::bulk("here")])
    );
}

#[test]
fn a_wait_whose_node_dies_is_told_so_and_never_begun_again_when_it_may_have_taken_something() {
    let mut setup = Setup::plain(1);
    let mut waits = setup.client();
    let mut reads = setup.client();
    waits.send(&words("BLPOP q 0")).unwrap();
    reads.send(&words("XREAD BLOCK 500 STREAMS s 0")).unwrap();
    wait_for_blocked(&setup.servers, 2);
    setup.servers[0].process().kill();
    let text = error_text(&waits.read().unwrap());
    assert!(text.contains("may or may not have been applied"), "{text}");
    let text = error_text(&reads.read().unwrap());
    assert!(text.contains("cannot be reached"), "{text}");
}

#[test]
fn wait_counts_the_replicas_of_the_shard_that_has_fewest() {
    let setup = Setup::plain(2);
    let mut replicas: Vec<RedisServer> = setup
        .servers
        .iter()
        .map(|server| {
            let port = server.addr().port().to_string();
            RedisServer::start_with(&["--replicaof", "127.0.0.1", &port])
        })
        .collect();
    let follows = |server: &RedisServer| info(server, "connected_slaves") == 1;
    wait("replicas", || setup.servers.iter().all(follows));
    let mut client = setup.client();
    wait("replicas in step", || {
        client.run("MSET a 1 b 1 c 1 d 1");
        client.run("WAIT 1 1000") == Reply::Int(1)
    });
    assert_eq!(client.run("WAIT 0 0"), Reply::Int(1));
    assert_eq!(client.run("WAIT 2 30"), Reply::Int(1), "there is one");
    replicas[1].process().signal("STOP");
    client.run("MSET a 2 b 2 c 2 d 2");
    let answers: Vec<Reply> = ["WAIT 1 50", "PING"].map(|line| client.run(line)).into();
    assert_eq!(answers, [Reply::Int(0), Reply::Simple("PONG".into())]);
    client.send(&words("WAIT 1 0")).unwrap();
    wait("the wait", || blocked(&setup.servers) > 0);
    replicas[1].process().signal("CONT");
    assert_eq!(client.read().unwrap(), Reply::Int(1));
    assert!(client.run("WAIT x 1").is_error());
    assert!(
        client.run("WAITAOF 1 0 10").is_error(),
        "redis 7.0 has none"
    );
}
