//! Commands through the proxy to real redis-servers.

mod common;

use std::collections::HashMap;

use common::Setup;
use larder_tests::{Chance, Client, RedisServer, Reply};

#[test]
fn a_key_written_through_the_proxy_is_read_back_and_lies_on_the_owner_of_its_slot() {
    let setup = Setup::plain(3);
    let mut client = setup.client();
    for n in 0..100 {
        assert_eq!(client.run(&format!("SET key:{n} {n}")), Reply::ok());
    }
    for n in 0..100 {
        assert_eq!(
            client.run(&format!("GET key:{n}")),
            Reply::bulk(&n.to_string())
        );
        let slot = larder_wire::slot_of(format!("key:{n}").as_bytes());
        let owner = slot.index() * 3 / 16384;
        let mut direct = setup.servers[owner].client();
        assert_eq!(
            direct.run(&format!("GET key:{n}")),
            Reply::bulk(&n.to_string())
        );
    }
    assert_eq!(client.run("GET none"), Reply::Null);
    assert_eq!(client.run("PING"), Reply::Simple("PONG".into()));
}

/// Each client works on keys of its own, in pipelines; replies must be its own, in its order.
#[test]
fn pipelines_of_many_clients_get_their_own_replies_in_their_order() {
    let setup = Setup::plain(3);
    let addr = setup.proxy.addr();
    let seed = larder_tests::chance::seeds(7)[0];
    let threads: Vec<_> = (0..8u64)
        .map(|who| {
            std::thread::spawn(move || {
                let mut chance = Chance::from_seed(seed ^ (who << 32));
                let mut client = Client::to(addr);
                let mut model: HashMap<String, String> = HashMap::new();
                for round in 0..60 {
                    let mut requests: Vec<Vec<String>> = Vec::new();
                    let mut expected = Vec::new();
                    for step in 0..1 + chance.below(50) {
                        let key = |chance: &mut Chance| format!("c{who}:{}", chance.below(40));
                        let words = |line: String| -> Vec<String> {
                            line.split(' ').map(str::to_owned).collect()
                        };
                        match chance.below(8) {
                            0 | 1 => {
                                let (key, value) =
                                    (key(&mut chance), format!("c{who}r{round}s{step}"));
                                requests.push(words(format!("SET {key} {value}")));
                                model.insert(key, value);
                                expected.push(Reply::ok());
                            }
                            2 | 3 => {
                                let key = key(&mut chance);
                                expected
                                    .push(model.get(&key).map_or(Reply::Null, |v| Reply::bulk(v)));
                                requests.push(words(format!("GET {key}")));
                            }
                            4 => {
                                let keys: Vec<String> = (0..5).map(|_| key(&mut chance)).collect();
                                let values = keys.iter().map(|key| {
                                    model.get(key).map_or(Reply::Null, |v| Reply::bulk(v))
                                });
                                expected.push(Reply::Array(values.collect()));
                                requests.push(words(format!("MGET {}", keys.join(" "))));
                            }
                            5 => {
                                let mut line = "MSET".to_string();
                                for part in 0..4 {
                                    let (key, value) =
                                        (key(&mut chance), format!("m{round}.{step}.{part}"));
                                    line += &format!(" {key} {value}");
                                    model.insert(key, value);
                                }
                                requests.push(words(line));
                                expected.push(Reply::ok());
                            }
                            6 => {
                                let keys: Vec<String> = (0..3).map(|_| key(&mut chance)).collect();
                                let removed =
                                    keys.iter().filter(|key| model.remove(*key).is_some());
                                expected.push(Reply::Int(removed.count() as i64));
                                requests.push(words(format!("DEL {}", keys.join(" "))));
                            }
                            _ => {
                                let text = format!("echo-{who}-{round}-{step}");
                                requests.push(words(format!("ECHO {text}")));
                                expected.push(Reply::bulk(&text));
                            }
                        }
                    }
                    let replies = client.pipeline(&requests).expect("the proxy answers");
                    for ((request, reply), expected) in requests.iter().zip(&replies).zip(&expected)
                    {
                        assert_eq!(reply, expected, "seed {seed}, client {who}, {request:?}");
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn commands_over_all_nodes_are_gathered() {
    let setup = Setup::plain(3);
    let mut client = setup.client();
    for n in 0..300 {
        client.run(&format!("SET k{n} {n}"));
    }
    assert_eq!(client.run("DBSIZE"), Reply::Int(300));
    let mut keys: Vec<String> = client
        .run("KEYS *")
        .items()
        .iter()
        .filter_map(Reply::as_text)
        .collect();
    keys.sort();
    let mut expected: Vec<String> = (0..300).map(|n| format!("k{n}")).collect();
    expected.sort();
    assert_eq!(keys, expected);
    assert_eq!(client.run("EXISTS k1 k2 k3 k1 none"), Reply::Int(4));
    assert_eq!(client.run("TOUCH k1 k2 none"), Reply::Int(2));
    assert_eq!(client.run("UNLINK k1 k2 none"), Reply::Int(2));
    // RANDOMKEY finds the one key that is left, whichever node has it.
    assert_eq!(client.run("FLUSHALL"), Reply::ok());
    assert_eq!(client.run("RANDOMKEY"), Reply::Null);
    client.run("SET only 1");
    for _ in 0..10 {
        assert_eq!(client.run("RANDOMKEY"), Reply::bulk("only"));
    }
    assert_eq!(client.run("DBSIZE"), Reply::Int(1));
}

#[test]
fn a_scan_visits_every_key_of_every_node() {
    let setup = Setup::plain(3);
    let mut client = setup.client();
    for n in 0..1000 {
        client.run(&format!("SET s{n} {n}"));
    }
    for extra in ["", " COUNT 100", " MATCH s* COUNT 7", " TYPE string"] {
        let mut seen = std::collections::BTreeSet::new();
        let mut cursor = "0".to_string();
        loop {
            let reply = client.run(&format!("SCAN {cursor}{extra}"));
            let parts = reply.items();
            for key in parts[1].items() {
                seen.insert(key.as_text().unwrap());
            }
            cursor = parts[0].as_text().unwrap();
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), 1000, "SCAN{extra}");
    }
    assert!(client.run("SCAN x").is_error());
}

/// What cannot be split is refused as Redis does it, and errors are those of a real server.
#[test]
fn errors_are_those_that_redis_gives() {
    let setup = Setup::plain(3);
    let server = RedisServer::start_with(&["--cluster-enabled", "yes"]);
    let mut direct = server.client();
    direct.run("CLUSTER ADDSLOTSRANGE 0 16383");
    let mut client = setup.client();
    // Redis looks for the down state before it looks at the slots.
    direct_is_up(&mut direct);
    for line in [
        "RENAME a b",
        "MSETNX a 1 b 2",
        "SUNIONSTORE d a b",
        "LMOVE a b LEFT LEFT",
        "EVAL return 2 a b",
        "GET",
        "GET a b",
        "NOSUCH a b c",
        "CONFIG NOSUCH",
        "MSET a",
        "MSET {a} 1 {a}b",
        "SELECT 1",
        "SELECT x",
        "ECHO",
        "PING a b",
        "AUTH x",
        "AUTH a b",
        "HELLO 9",
        "HELLO x",
        "HELLO 2 NOPE",
        "CLIENT SETNAME a\u{7}b",
        "CLIENT REPLY MAYBE",
        "CLIENT KILL 1.2.3.4:5",
        "SET a 1 NOPE",
        "INCRBY a x",
        "EXEC",
        "DISCARD",
        "CLUSTER KEYSLOT a",
        "CLUSTER KEYSLOT",
    ] {
        assert_eq!(client.run(line), direct.run(line), "{line}");
    }
    client.run("SET text x");
    direct.run("SET text x");
    for line in ["LPUSH text a", "INCR text", "HGET text a"] {
        assert_eq!(client.run(line), direct.run(line), "{line}");
    }
}

fn direct_is_up(direct: &mut Client) {
    common::wait("the cluster of one to be up", || {
        !direct.run("GET a").is_error()
    });
}

#[test]
fn a_protocol_error_is_answered_as_redis_does_and_the_connection_closed() {
    let setup = Setup::plain(1);
    let server = &setup.servers[0];
    for bytes in [
        &b"*1\r\n$-5\r\n"[..],
        b"*1\r\n:5\r\n",
        b"*x\r\n",
        b"GET 'a\r\n",
        b"*2\r\n$3\r\nGET\r\n$999999999999\r\n",
    ] {
        let ask = |mut client: Client| {
            client.send_raw(bytes).unwrap();
            (client.read().unwrap(), client.read().is_err())
        };
        assert_eq!(ask(setup.client()), ask(server.client()), "{bytes:?}");
    }
    // Inline requests, as telnet sends them.
    let mut client = setup.client();
    client
        .send_raw(b"SET inline 'a b'\r\nGET inline\r\n\r\nPING\r\n")
        .unwrap();
    assert_eq!(client.read().unwrap(), Reply::ok());
    assert_eq!(client.read().unwrap(), Reply::bulk("a b"));
    assert_eq!(client.read().unwrap(), Reply::Simple("PONG".into()));
}

#[test]
fn large_values_pass_both_ways_and_beside_small_ones() {
    let setup = Setup::plain(3);
    let mut client = setup.client();
    let large = "x".repeat(20 * 1024 * 1024);
    let requests = vec![
        vec!["SET".to_string(), "large".into(), large.clone()],
        vec!["SET".into(), "small".into(), "y".into()],
        vec!["GET".into(), "large".into()],
        vec!["GET".into(), "small".into()],
        vec!["MGET".into(), "small".into(), "large".into(), "none".into()],
    ];
    let replies = client.pipeline(&requests).unwrap();
    assert_eq!(replies[2], Reply::bulk(&large));
    assert_eq!(replies[3], Reply::bulk("y"));
    let all = Reply::Array(vec![Reply::bulk("y"), Reply::bulk(&large), Reply::Null]);
    assert_eq!(replies[4], all);
}

#[test]
fn a_unix_socket_serves_beside_tcp() {
    use std::io::{Read, Write};
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("larder.sock");
    let map = common::even_map(1, &[server.addr()]);
    let proxy = common::start(
        |config| config.unix = Some(path.clone()),
        larder_proxy::MapSource::Fixed(map),
    );
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.write_all(b"SET u 1\r\nGET u\r\n").unwrap();
    let mut got = [0; 12];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"+OK\r\n$1\r\n1\r\n");
    assert_eq!(Client::to(proxy.addr()).run("GET u"), Reply::bulk("1"));
    proxy.stop();
    assert!(!path.exists(), "the socket's file goes with the proxy");
}
