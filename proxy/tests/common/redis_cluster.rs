//! A Redis Cluster of real servers, whose slots a test moves by hand.

use std::net::SocketAddr;
use std::path::Path;

use larder_proxy::{Handle, MapSource};
use larder_tests::{Client, RedisServer, Reply};
use larder_wire::slot_of;

use super::wait;

pub(crate) struct RedisCluster {
    // The proxy goes first.
    pub(crate) proxy: Handle,
    pub(crate) servers: Vec<RedisServer>,
    ids: Vec<String>,
}

impl RedisCluster {
    /// `count` primaries and a proxy before them.
    pub(crate) fn start(count: usize) -> RedisCluster {
        RedisCluster::start_program(Path::new("redis-server"), count, 0, &[])
    }

    /// Of another program, with `replicas` of each primary; the proxy is told of `seeds` before the first server.
    pub(crate) fn start_program(
        program: &Path,
        primaries: usize,
        replicas: usize,
        seeds: &[SocketAddr],
    ) -> RedisCluster {
        let count = primaries * (1 + replicas);
        let flags = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "2000",
            "--cluster-require-full-coverage",
            "no",
        ];
        let servers: Vec<RedisServer> = (0..count)
            .map(|_| RedisServer::start_program(program, &flags))
            .collect();
        let addrs: Vec<String> = servers.iter().map(|s| s.addr().to_string()).collect();
        let replicas = replicas.to_string();
        let mut args = vec!["--cluster", "create"];
        args.extend(addrs.iter().map(String::as_str));
        args.extend(["--cluster-replicas", &replicas, "--cluster-yes"]);
        let created = std::process::Command::new("redis-cli").args(&args).output();
        let created = created.expect("redis-cli is installed");
        let told = String::from_utf8_lossy(&created.stdout);
        assert!(created.status.success(), "{told}");
        let known = format!("cluster_known_nodes:{count}");
        wait("the cluster to agree", || {
            servers.iter().all(|server| {
                let info = server.client().run("CLUSTER INFO").as_text().unwrap();
                info.contains("cluster_state:ok") && info.contains(&known)
            })
        });
        let id = |server: &RedisServer| server.client().run("CLUSTER MYID").as_text().unwrap();
        let ids = servers.iter().map(id).collect();
        let seeds = seeds.iter().map(SocketAddr::to_string);
        let seeds = seeds.chain([addrs[0].clone()]).collect();
        let proxy = super::start(|_| {}, MapSource::Cluster(seeds));
        RedisCluster {
            proxy,
            servers,
            ids,
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::to(self.proxy.addr())
    }

    /// Which server has the key's slot.
    pub(crate) fn owner(&self, key: &str) -> usize {
        let slot = i64::from(slot_of(key.as_bytes()).number());
        let ranges = self.servers[0].client().run("CLUSTER SLOTS").items();
        let range = ranges.iter().find(|range| {
            let range = range.items();
            (range[0].as_int().unwrap()..=range[1].as_int().unwrap()).contains(&slot)
        });
        let port = range.expect("every slot is served").items()[2].items()[1]
            .as_int()
            .unwrap();
        let is_it = |server: &RedisServer| i64::from(server.addr().port()) == port;
        self.servers.iter().position(is_it).unwrap()
    }

    /// Gives the key's slot, which is empty, to another server; the old owner learns it first.
    pub(crate) fn move_slot(&self, key: &str, to: usize) {
        let slot = slot_of(key.as_bytes()).number();
        let line = format!("CLUSTER SETSLOT {slot} NODE {}", self.ids[to]);
        let from = self.owner(key);
        for server in [to, from].into_iter().chain(0..self.servers.len()) {
            assert_eq!(self.servers[server].client().run(&line), Reply::ok());
        }
    }

    /// The id by which the cluster knows a server.
    pub(crate) fn id(&self, server: usize) -> &str {
        &self.ids[server]
    }

    pub(crate) fn addr(&self, server: usize) -> SocketAddr {
        self.servers[server].addr()
    }
}
