//! From a cluster of redis-servers: each primary's stream, and what happens when the old cluster changes.

use std::net::SocketAddr;

use larder_tests::chance::seeds;
use larder_tests::{Client, Importer, RedisServer, free_port};

use crate::source::{Writers, larder, nodes, redis, url, wait_same, write};

/// Three primaries with a third of the slots each.
pub(crate) fn old_cluster() -> Vec<RedisServer> {
    // The bus has a port of its own that is known to be free: 10000 more than the other may not be.
    let buses: [String; 3] = std::array::from_fn(|_| free_port().to_string());
    let servers: Vec<RedisServer> = buses
        .iter()
        .map(|bus| {
            let mut args = vec!["--cluster-enabled", "yes", "--cluster-port", bus];
            args.extend(["--cluster-node-timeout", "2000"]);
            redis(&args)
        })
        .collect();
    let thirds = [(0, 5460), (5461, 10922), (10923, 16383)];
    for (server, (first, last)) in servers.iter().zip(thirds) {
        let added = server
            .client()
            .run(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
        assert!(!added.is_error(), "{added}");
    }
    for (other, bus) in servers.iter().zip(&buses).skip(1) {
        let addr = other.addr();
        servers[0]
            .client()
            .run(&format!("CLUSTER MEET {} {} {bus}", addr.ip(), addr.port()));
    }
    for mut server in servers.iter().map(RedisServer::client) {
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let info = server.run("CLUSTER INFO").as_text().unwrap_or_default();
            let slots = server.run("CLUSTER SLOTS").items().len();
            if info.contains("cluster_state:ok") && slots == 3 {
                break;
            }
            assert!(
                std::time::Instant::now() < give_up,
                "the old cluster does not come up: {info}"
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    servers
}

pub(crate) fn addrs(servers: &[RedisServer]) -> Vec<SocketAddr> {
    servers.iter().map(RedisServer::addr).collect()
}

#[test]
fn a_cluster_under_writes_is_copied() {
    for seed in seeds(1) {
        let old = old_cluster();
        for server in &old {
            // A third of them is this server's, the rest is refused.
            let keys: Vec<Vec<String>> = (0..9000)
                .map(|number| vec!["SET".to_owned(), format!("key{number}"), "value".to_owned()])
                .collect();
            server.client().pipeline(&keys).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let up = larder(folder.path());
        // Each writes to one server; what is of another's slots is refused there.
        let writers: Vec<Writers> = old
            .iter()
            .map(|server| {
                let connect = || server.client();
                Writers::start(seed, 2, connect, |chance| write(chance, false))
            })
            .collect();
        let from = url(old[1].addr());
        let mut import = Importer::start(
            &from,
            up.topology_addr(),
            folder.path(),
            &["--verify", "200"],
        );
        let status = import.wait_until("to compare some keys", |status| {
            status["verified"].is_object()
        });
        assert_eq!(status["sources"].as_array().map(Vec::len), Some(3));
        assert_eq!(
            status["verified"]["different"], 0,
            "seed {seed}: {status:#}"
        );
        for writers in writers {
            assert!(writers.stop() > 100, "next to nothing was written");
        }
        // One primary's FLUSHALL is of its slots alone.
        old[0].client().run("FLUSHALL");
        old[0].client().run("SET key:{06S}again 1");
        wait_same(&addrs(&old), &nodes(&up), seed);
    }
}

#[test]
fn a_resharding_of_the_old_cluster_ends_the_import_by_name() {
    let old = old_cluster();
    let folder = tempfile::tempdir().unwrap();
    let up = larder(folder.path());
    let from = url(old[0].addr());
    let mut import = Importer::start(&from, up.topology_addr(), folder.path(), &[]);
    import.wait_streaming();
    let id = |server: &RedisServer| server.client().run("CLUSTER MYID").as_text().unwrap();
    let (source, target) = (id(&old[0]), id(&old[1]));
    let say = |client: &mut Client, line: &str| {
        let reply = client.run(line);
        assert!(!reply.is_error(), "{line}: {reply}");
    };
    say(
        &mut old[1].client(),
        &format!("CLUSTER SETSLOT 0 IMPORTING {source}"),
    );
    say(
        &mut old[0].client(),
        &format!("CLUSTER SETSLOT 0 MIGRATING {target}"),
    );
    say(
        &mut old[1].client(),
        &format!("CLUSTER SETSLOT 0 NODE {target}"),
    );
    say(
        &mut old[0].client(),
        &format!("CLUSTER SETSLOT 0 NODE {target}"),
    );
    assert_eq!(import.process.wait_end().code(), Some(1));
    let output = import.process.output();
    assert!(output.contains("being resharded"), "{output}");
}
