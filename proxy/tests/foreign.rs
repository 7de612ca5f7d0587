//! The proxy before what people already run: a Redis Cluster that fails over, one Redis with a password, a Valkey 9 that moves slots.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::redis_cluster::RedisCluster;
use common::{error_text, wait};
use larder_proxy::MapSource;
use larder_runtime::foreign::Login;
use larder_tests::process::{free_port, local};
use larder_tests::{Client, RedisServer, Reply};
use larder_wire::slot_of;

const KEYS: usize = 200;

/// The seed that told the map is the one that dies; the other never lived.
#[test]
fn a_failover_of_a_redis_cluster_is_followed() {
    let dead = local(free_port());
    let mut cluster = RedisCluster::start_program(Path::new("redis-server"), 3, 1, &[dead]);
    let mut client = cluster.client();
    for key in 0..KEYS {
        assert_eq!(client.run(&format!("SET key:{key} {key}")), Reply::ok());
    }
    // What the replicas lack would be lost with their primary.
    wait("the replicas to have all", || {
        let sizes = cluster
            .servers
            .iter()
            .map(|server| server.client().run("DBSIZE").as_int());
        sizes.sum::<Option<i64>>() == Some(2 * KEYS as i64)
    });
    let owners: Vec<usize> = (0..KEYS)
        .map(|key| cluster.owner(&format!("key:{key}")))
        .collect();
    let (lost, kept) = (
        owners.iter().position(|owner| *owner == 0).unwrap(),
        owners.iter().position(|owner| *owner != 0).unwrap(),
    );
    cluster.servers[0].process().kill();
    let give_up = Instant::now() + Duration::from_secs(20);
    let mut away = 0;
    loop {
        assert_eq!(
            client.run(&format!("GET key:{kept}")),
            Reply::bulk(&kept.to_string())
        );
        match client.run(&format!("SET key:{lost} anew")) {
            Reply::Error(text) => {
                assert!(Instant::now() < give_up, "{text}");
                away += 1;
            }
            reply => {
                assert_eq!(reply, Reply::ok());
                break;
            }
        }
    }
    println!("{away} writes were refused while the cluster had no primary for them");
    for key in (0..KEYS).filter(|key| *key != lost) {
        assert_eq!(
            client.run(&format!("GET key:{key}")),
            Reply::bulk(&key.to_string()),
            "key:{key}"
        );
    }
}

#[test]
fn one_server_is_served_with_a_password_that_clients_do_not_see() {
    let server = RedisServer::start();
    let mut owner = server.client();
    for line in [
        "ACL SETUSER app on >s3cret ~* &* +@all",
        "ACL SETUSER default off",
    ] {
        assert_eq!(owner.run(line), Reply::ok());
    }
    let start = |login: Login| {
        common::start(
            |config| config.login = login,
            MapSource::Server(server.addr().to_string()),
        )
    };
    let proxy = start(Login::new(Some("app".into()), Some("s3cret".into())));
    let mut client = Client::to(proxy.addr());
    assert_eq!(client.run("SET a 1"), Reply::ok());
    assert_eq!(client.run("MSET b 2 c 3"), Reply::ok());
    let stranger = start(Login::new(Some("app".into()), Some("wrong".into())));
    let refused = error_text(&Client::to(stranger.addr()).run("GET a"));
    assert!(refused.contains("WRONGPASS"), "{refused}");
    assert!(!refused.contains("wrong"), "{refused}");
}

#[test]
fn a_valkey_cluster_is_served_while_its_slots_move_at_once() {
    let Some(program) = RedisServer::valkey_program() else {
        println!("left out: no valkey-server of version 9 (bench/peers/fetch brings one)");
        return;
    };
    let cluster = RedisCluster::start_program(&program, 3, 0, &[]);
    let moving = (0..500).map(|key| format!("count:0:{key}"));
    let mut moving = moving.filter(|key| slot_of(key.as_bytes()).number() < 1000);
    let moving = moving.next().expect("a key of the slots that move");
    let over = AtomicBool::new(false);
    let counted: u64 = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (mut client, over) = (cluster.client(), &over);
                scope.spawn(move || {
                    let mut count = 0;
                    while !over.load(Ordering::Relaxed) {
                        let key = format!("count:{writer}:{}", count % 500);
                        let reply = client.run(&format!("INCR {key}"));
                        assert_eq!(reply.as_int(), Some(count / 500 + 1), "{key}: {reply}");
                        count += 1;
                    }
                    count as u64
                })
            })
            .collect();
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            let line = format!(
                "CLUSTER MIGRATESLOTS SLOTSRANGE 0 999 NODE {}",
                cluster.id(to)
            );
            assert_eq!(cluster.servers[from].client().run(&line), Reply::ok());
            wait("the slots to have moved", || cluster.owner(&moving) == to);
        }
        over.store(true, Ordering::Relaxed);
        writers
            .into_iter()
            .map(|writer| writer.join().expect("no writer saw an error"))
            .sum()
    });
    let mut client = cluster.client();
    let mut found = 0;
    for writer in 0..4 {
        for key in 0..500 {
            let value = client.run(&format!("GET count:{writer}:{key}"));
            found += value.as_text().map_or(0, |text| text.parse().unwrap());
        }
    }
    assert_eq!(found, counted);
}
