//! MULTI, EXEC, WATCH and what belongs to a connection, compared with a real redis-server in cluster mode.

mod common;

use common::Setup;
use larder_tests::{Client, RedisServer, Reply};

fn queued() -> Reply {
    Reply::Simple("QUEUED".into())
}

#[test]
fn a_transaction_answers_as_redis_does() {
    let setup = Setup::plain(3);
    let oracle = RedisServer::start();
    let mut direct = oracle.client();
    let mut client = setup.client();
    for line in [
        "MULTI",
        "MULTI",
        "SET {t}a 1",
        "INCR {t}a",
        "GET {t}a",
        "PING",
        "EXEC",
        "GET {t}a",
        "MULTI",
        "EXEC",
        "MULTI",
        "SET {t}a 2",
        "NOSUCH",
        "GET {t}a",
        "EXEC",
        "GET {t}a",
        "MULTI",
        "SET {t}a",
        "DISCARD",
        "MULTI",
        "WATCH {t}a",
        "LPUSH {t}a 1",
        "INCR {t}a",
        "EXEC",
        "EXEC",
        "DISCARD",
        "MULTI",
        "SET {t}a 7",
        "RESET",
        "GET {t}a",
        "MGET {t}a {t}b",
        "MULTI",
        "MGET {t}a {t}b",
        "DEL {t}a {t}b",
        "EXEC",
        "UNWATCH",
    ] {
        assert_eq!(client.run(line), direct.run(line), "{line}");
    }
}

#[test]
fn a_transaction_over_slots_is_refused_and_does_nothing() {
    let setup = Setup::plain(3);
    let mut client = setup.client();
    assert_eq!(client.run("MULTI"), Reply::ok());
    assert_eq!(client.run("SET a 1"), queued());
    assert!(common::error_text(&client.run("SET b 1")).starts_with("CROSSSLOT"));
    assert!(common::error_text(&client.run("EXEC")).starts_with("EXECABORT"));
    assert_eq!(client.run("EXISTS a b"), Reply::Int(0));
    for line in [
        "KEYS *",
        "DBSIZE",
        "SELECT 1",
        "CLIENT REPLY OFF",
        "SUBSCRIBE x",
    ] {
        client.run("MULTI");
        assert!(client.run(line).is_error(), "{line} in MULTI");
        assert!(
            common::error_text(&client.run("EXEC")).starts_with("EXECABORT"),
            "{line}"
        );
    }
}

#[test]
fn a_watched_key_that_changes_makes_exec_nil_whoever_changed_it() {
    let setup = Setup::plain(3);
    let (mut client, mut other) = (setup.client(), setup.client());
    for (changes, expected) in [
        (true, Reply::Null),
        (false, Reply::Array(vec![Reply::ok()])),
    ] {
        assert_eq!(client.run("WATCH w"), Reply::ok());
        assert!(!client.run("GET w").is_error());
        if changes {
            other.run("SET w theirs");
        }
        assert_eq!(client.run("MULTI"), Reply::ok());
        assert_eq!(client.run("SET w mine"), queued());
        assert_eq!(client.run("EXEC"), expected);
    }
    // Its own write counts too; UNWATCH and DISCARD forget.
    client.run("WATCH w");
    client.run("SET w again");
    client.run("MULTI");
    client.run("GET w");
    assert_eq!(client.run("EXEC"), Reply::Null);
    for forget in ["UNWATCH", "DISCARD"] {
        client.run("WATCH w");
        if forget == "DISCARD" {
            client.run("MULTI");
        }
        assert_eq!(client.run(forget), Reply::ok());
        other.run("SET w theirs");
        client.run("MULTI");
        client.run("GET w");
        assert_eq!(
            client.run("EXEC"),
            Reply::Array(vec![Reply::bulk("theirs")])
        );
    }
    assert!(common::error_text(&client.run("WATCH a b")).starts_with("CROSSSLOT"));
}

/// The textbook use of WATCH: nothing is counted twice or lost.
#[test]
fn counters_kept_with_watch_by_many_clients_come_out_right() {
    let setup = Setup::plain(3);
    let addr = setup.proxy.addr();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::to(addr);
                let mut done = 0;
                while done < 25 {
                    let requests: Vec<Vec<String>> = vec![
                        vec!["WATCH".into(), "n".into()],
                        vec!["GET".into(), "n".into()],
                    ];
                    let replies = client.pipeline(&requests).unwrap();
                    let n = replies[1]
                        .as_text()
                        .map_or(0, |text| text.parse::<i64>().unwrap());
                    let requests: Vec<Vec<String>> = vec![
                        vec!["MULTI".into()],
                        vec!["SET".into(), "n".into(), (n + 1).to_string()],
                        vec!["EXEC".into()],
                    ];
                    let replies = client.pipeline(&requests).unwrap();
                    assert!(!replies[2].is_error(), "{:?}", replies[2]);
                    done += usize::from(replies[2] != Reply::Null);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(setup.client().run("GET n"), Reply::bulk("100"));
}

#[test]
fn resp3_clients_get_resp3_replies_beside_resp2_clients() {
    let setup = Setup::plain(3);
    let (mut two, mut three) = (setup.client(), setup.client());
    let hello = three.run("HELLO 3 SETNAME three");
    assert_eq!(hello.field("proto"), Some(Reply::Int(3)));
    two.run("HSET h a 1");
    let pair = (Reply::bulk("a"), Reply::bulk("1"));
    assert_eq!(three.run("HGETALL h"), Reply::Map(vec![pair]));
    assert_eq!(
        two.run("HGETALL h"),
        Reply::Array(vec![Reply::bulk("a"), Reply::bulk("1")])
    );
    assert_eq!(three.run("GET none"), Reply::Null);
    assert_eq!(
        three.run("MGET h1 h2 h3 h4"),
        Reply::Array(vec![Reply::Null, Reply::Null, Reply::Null, Reply::Null])
    );
    assert_eq!(three.run("CLIENT GETNAME"), Reply::bulk("three"));
    // In one pipeline: each reply in the protocol of its moment.
    let line = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<String>>();
    let requests = vec![
        line("HGETALL h"),
        line("HELLO 3"),
        line("HGETALL h"),
        line("HELLO 2"),
        line("HGETALL h"),
    ];
    let replies = two.pipeline(&requests).unwrap();
    assert!(matches!(&replies[0], Reply::Array(_)));
    assert!(matches!(&replies[2], Reply::Map(_)));
    assert!(matches!(&replies[4], Reply::Array(_)));
}

#[test]
fn a_connection_has_its_name_its_reply_mode_and_its_end() {
    let setup = Setup::plain(2);
    let (mut client, mut other) = (setup.client(), setup.client());
    let id = client.run("CLIENT ID").as_int().unwrap();
    assert_eq!(client.run("CLIENT SETNAME me"), Reply::ok());
    let list = other.run("CLIENT LIST").as_text().unwrap();
    assert!(
        list.lines()
            .any(|line| line.contains(&format!("id={id} ")) && line.contains("name=me")),
        "{list}"
    );
    // SKIP silences one reply, OFF all until ON.
    client
        .send_raw(b"CLIENT REPLY SKIP\r\nSET a 1\r\nGET a\r\n")
        .unwrap();
    assert_eq!(client.read().unwrap(), Reply::bulk("1"));
    client
        .send_raw(
            b"CLIENT REPLY OFF\r\nSET a 2\r\nPING\r\nMGET a b c\r\nCLIENT REPLY ON\r\nGET a\r\n",
        )
        .unwrap();
    assert_eq!(client.read().unwrap(), Reply::ok());
    assert_eq!(client.read().unwrap(), Reply::bulk("2"));
    assert_eq!(other.run(&format!("CLIENT KILL ID {id}")), Reply::Int(1));
    assert!(client.read().is_err(), "it was killed");
    assert_eq!(other.run("QUIT"), Reply::ok());
    assert!(other.read().is_err());
}

#[test]
fn cluster_clients_are_told_of_one_node_that_owns_all() {
    let setup = Setup::plain(3);
    let mut client = setup.client();
    let slots = client.run("CLUSTER SLOTS").items();
    assert_eq!(slots.len(), 1);
    let range = slots[0].items();
    assert_eq!((&range[0], &range[1]), (&Reply::Int(0), &Reply::Int(16383)));
    let node = range[2].items();
    assert_eq!(node[0], Reply::bulk("127.0.0.1"));
    assert_eq!(node[1], Reply::Int(setup.proxy.addr().port().into()));
    assert_eq!(client.run("CLUSTER KEYSLOT foo"), Reply::Int(12182));
    assert!(
        client
            .run("CLUSTER INFO")
            .as_text()
            .unwrap()
            .starts_with("cluster_state:ok")
    );
    let nodes = client.run("CLUSTER NODES").as_text().unwrap();
    assert!(
        nodes.contains("myself,master") && nodes.contains("0-16383"),
        "{nodes}"
    );
    assert_eq!(client.run("READONLY"), Reply::ok());
    assert_eq!(
        client.run("CLUSTER COUNTKEYSINSLOT 1").as_int(),
        None,
        "these servers are in no cluster"
    );
}

#[test]
fn control_is_refused_without_the_secret() {
    let setup = Setup::plain(1);
    let mut client = setup.client();
    for line in [
        "LARDER STATUS",
        "LARDER RESHARD SHARDS 5",
        "LARDER MOVES",
        "LARDER STATE",
        "LARDER MAP x",
        "LARDER FEED x",
        "LARDER JOIN x",
        "LARDER WATCH",
        "LARDER IMPORT x",
        "LARDER AWAIT 1",
        "LARDER ABORT 1",
        "LARDER REBALANCE",
        "LARDER MOVE SLOTS 1-2 TO x",
        "LARDER HELLO 1 wrong operator",
        "AUTH larder wrong",
    ] {
        let text = common::error_text(&client.run(line));
        assert!(
            text.starts_with("NOAUTH") || text.starts_with("WRONGPASS"),
            "{line}: {text}"
        );
    }
}
