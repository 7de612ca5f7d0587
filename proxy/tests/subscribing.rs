//! Publish and subscribe through the proxy: compared with a real redis-server, then over several nodes, slots that move and nodes that die.

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use common::redis_cluster::RedisCluster;
use common::{Setup, error_text, wait};
use larder_tests::{Client, RedisServer, Reply};

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn read_all(client: &mut Client) -> Vec<Reply> {
    client
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let mut all = Vec::new();
    while let Ok(reply) = client.read() {
        all.push(reply);
    }
    all
}

/// What a client and a publisher see of a script, each line `who: command`.
fn told(addr: std::net::SocketAddr, hello: &str) -> Vec<String> {
    let (mut one, mut two) = (Client::to(addr), Client::to(addr));
    one.run(hello);
    let mut seen = Vec::new();
    for line in [
        "1 SUBSCRIBE a b a",
        "1 PSUBSCRIBE a* [x-z]",
        "1 SSUBSCRIBE a {a}2",
        "2 PUBLISH a hello",
        "2 PUBLISH abc hello",
        "2 PUBLISH y hello",
        "2 PUBLISH none hello",
        "2 SPUBLISH a shard",
        "2 SPUBLISH {a}2 shard",
        "1 PING",
        "1 PING hello",
        "1 GET k",
        "1 NOSUCH",
        "1 SUBSCRIBE",
        "1 UNSUBSCRIBE b none",
        "1 PUNSUBSCRIBE [x-z] a*",
        "1 PUNSUBSCRIBE",
        "1 SUNSUBSCRIBE a",
        "2 PUBLISH abc hello",
        "2 PUBLISH a hello",
        "2 SPUBLISH a shard",
        "2 PUBSUB CHANNELS",
        "2 PUBSUB CHANNELS none*",
        "2 PUBSUB NUMSUB a none",
        "2 PUBSUB NUMPAT",
        "2 PUBSUB SHARDCHANNELS",
        "2 PUBSUB SHARDNUMSUB {a}2 a",
        "1 UNSUBSCRIBE",
        "1 UNSUBSCRIBE",
        "1 SUNSUBSCRIBE",
        "1 GET k",
        "1 SUBSCRIBE a",
        "1 RESET",
        "1 GET k",
        "2 PUBLISH a hello",
        "2 SUBSCRIBE",
        "2 SSUBSCRIBE",
    ] {
        let (who, line) = line.split_once(' ').unwrap();
        let client = if who == "1" { &mut one } else { &mut two };
        client.send(&words(line)).unwrap();
        // The publisher is answered; whether anything comes to the other, only time tells.
        if who == "2" {
            client.set_read_timeout(None).unwrap();
            let answer = client.read().unwrap();
            seen.push(format!("{line}: {answer:?}"));
        }
        seen.push(format!("{line}: {:?}", read_all(&mut one)));
    }
    seen
}

#[test]
fn subscribers_are_told_what_a_redis_server_tells() {
    // One server: what PUBLISH counts, its listeners, are then the proxy's one connection.
    let setup = Setup::plain(1);
    let oracle = RedisServer::start();
    for hello in ["HELLO 2", "HELLO 3"] {
        let direct = told(oracle.addr(), hello);
        let through = told(setup.proxy.addr(), hello);
        for (direct, through) in direct.iter().zip(&through) {
            assert_eq!(through, direct, "after {hello}");
        }
    }
}

fn message(channel: &str, text: &str) -> Reply {
    let parts = ["message", channel, text].map(Reply::bulk);
    Reply::Array(parts.into())
}

/// What comes until nothing more does.
fn texts(client: &mut Client) -> Vec<String> {
    let messages = read_all(client).into_iter();
    messages
        .map(|message| message.items().last().unwrap().as_text().unwrap())
        .collect()
}

#[test]
fn a_message_comes_once_whichever_node_it_was_published_at() {
    let setup = Setup::plain(3);
    let mut listeners: Vec<Client> = (0..6).map(|_| setup.client()).collect();
    for (n, listener) in listeners.iter_mut().enumerate() {
        listener.run(["SUBSCRIBE news", "PSUBSCRIBE n?ws"][n % 2]);
    }
    let mut expected = Vec::new();
    for (n, server) in setup.servers.iter().enumerate() {
        server.client().run(&format!("PUBLISH news direct{n}"));
        setup.client().run(&format!("PUBLISH news proxy{n}"));
        expected.extend([format!("direct{n}"), format!("proxy{n}")]);
    }
    for listener in &mut listeners {
        let mut got = texts(listener);
        got.sort();
        expected.sort();
        assert_eq!(got, expected);
    }
}

#[test]
fn clients_share_one_subscription_a_thread_and_leave_none_behind() {
    let setup = Setup::plain(2);
    let mut listeners: Vec<Client> = (0..20).map(|_| setup.client()).collect();
    for listener in &mut listeners {
        listener.run("SUBSCRIBE news");
        listener.run("SSUBSCRIBE shard");
    }
    let list = setup.client().run("CLIENT LIST TYPE pubsub");
    assert_eq!(
        list.as_text()
            .unwrap()
            .matches("sub=1 psub=0 ssub=1")
            .count(),
        20
    );
    let mut direct: Vec<Client> = setup.servers.iter().map(RedisServer::client).collect();
    for server in &mut direct {
        let count = server.run("PUBSUB NUMSUB news").items()[1]
            .as_int()
            .unwrap();
        assert_eq!(count, 2, "one a thread of the proxy");
    }
    drop(listeners);
    wait("the subscriptions' end", || {
        direct.iter_mut().all(|server| {
            server.run("PUBSUB CHANNELS").items().is_empty()
                && server.run("PUBSUB SHARDCHANNELS").items().is_empty()
        })
    });
}

#[test]
fn who_subscribes_hears_what_is_published_after_it_was_told_so() {
    let setup = Setup::plain(3);
    let mut publisher = setup.client();
    for round in 0..200 {
        let mut listener = setup.client();
        let channel = format!("c{}", round % 7);
        listener.run(&format!("SUBSCRIBE {channel}"));
        publisher.run(&format!("PUBLISH {channel} {round}"));
        assert_eq!(
            listener.read().unwrap(),
            message(&channel, &round.to_string())
        );
        if round % 3 == 0 {
            listener.run(&format!("UNSUBSCRIBE {channel}"));
            publisher.run(&format!("PUBLISH {channel} unheard"));
            assert_eq!(listener.run("PING"), Reply::Simple("PONG".into()));
        }
    }
}

#[test]
fn a_redis_cluster_is_listened_to_at_one_node_and_at_another_when_that_dies() {
    let mut cluster = RedisCluster::start(3);
    let mut listeners: Vec<Client> = (0..4).map(|_| cluster.client()).collect();
    for listener in &mut listeners {
        listener.run("SUBSCRIBE news");
    }
    for n in 0..3 {
        let publisher = &mut cluster.servers[n].client();
        publisher.run(&format!("PUBLISH news direct{n}"));
        cluster.client().run(&format!("PUBLISH news proxy{n}"));
    }
    let mut expected: Vec<String> = (0..3)
        .flat_map(|n| [format!("direct{n}"), format!("proxy{n}")])
        .collect();
    expected.sort();
    for listener in &mut listeners {
        let mut got = texts(listener);
        got.sort();
        assert_eq!(got, expected);
    }
    let home = |server: &RedisServer| {
        let channels = server.client().run("PUBSUB CHANNELS");
        !channels.items().is_empty()
    };
    let at = cluster.servers.iter().position(home).unwrap();
    cluster.servers[at].process().kill();
    let left: Vec<usize> = (0..3).filter(|&n| n != at).collect();
    // Each thread has a home of its own.
    let subscriptions = |server: &RedisServer| {
        server.client().run("PUBSUB NUMSUB news").items()[1]
            .as_int()
            .unwrap()
    };
    wait("both threads at other nodes", || {
        left.iter()
            .map(|&n| subscriptions(&cluster.servers[n]))
            .sum::<i64>()
            == 2
    });
    for listener in &mut listeners {
        texts(listener);
    }
    cluster.servers[left[0]].client().run("PUBLISH news after");
    for listener in &mut listeners {
        assert_eq!(texts(listener), ["after"]);
    }
}

#[test]
fn channels_of_a_slot_follow_it_to_its_new_owner() {
    let cluster = RedisCluster::start(3);
    let mut listeners: Vec<Client> = (0..4).map(|_| cluster.client()).collect();
    for (n, listener) in listeners.iter_mut().enumerate() {
        listener.run(["HELLO 2", "HELLO 3"][n % 2]);
        listener.send(&words("SSUBSCRIBE {s}1 {s}2")).unwrap();
        read_all(listener);
    }
    let text = error_text(&cluster.client().run("SSUBSCRIBE a b"));
    assert!(text.starts_with("CROSSSLOT"), "{text}");
    for round in 0..3 {
        let from = cluster.owner("s");
        let to = (from + 1) % 3;
        cluster.move_slot("s", to);
        wait("the subscriptions at the new owner", || {
            let mut client = cluster.servers[to].client();
            let counts = client.run("PUBSUB SHARDNUMSUB {s}1 {s}2").items();
            (counts[1].as_int(), counts[3].as_int()) == (Some(2), Some(2))
        });
        cluster.client().run(&format!("SPUBLISH {{s}}1 one{round}"));
        cluster.client().run(&format!("SPUBLISH {{s}}2 two{round}"));
        for listener in &mut listeners {
            let expected = [format!("one{round}"), format!("two{round}")];
            assert_eq!(texts(listener), expected);
        }
    }
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_off_and_others_hear_everything() {
    let setup = Setup::plain(1);
    let mut slow = TcpStream::connect(setup.proxy.addr()).unwrap();
    slow.write_all(b"SUBSCRIBE news\r\n").unwrap();
    let mut quick = setup.client();
    quick.run("SUBSCRIBE news");
    let mut publisher = setup.client();
    wait("the slow one", || {
        let list = publisher.run("CLIENT LIST TYPE pubsub").as_text().unwrap();
        list.lines().count() == 2
    });
    let big = "x".repeat(1 << 20);
    for _ in 0..64 {
        publisher.run(&format!("PUBLISH news {big}"));
        assert_eq!(quick.read().unwrap(), message("news", &big));
    }
    wait("its end", || {
        let list = publisher.run("CLIENT LIST TYPE pubsub").as_text().unwrap();
        list.lines().count() == 1
    });
}
