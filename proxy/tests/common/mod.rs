//! A proxy in front of real redis-servers or scripted nodes, in the test's own process.
#![allow(dead_code)] // each test file uses its part

pub(crate) mod redis_cluster;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use larder_proxy::{Handle, MapSource, ProxyConfig};
use larder_tests::{Client, RedisServer, Reply};
use larder_wire::{ClusterMap, Epoch, NodeEntry, NodeId, Role, ShardEntry, ShardId, Slot, SlotSet};

/// The slots divided evenly among these nodes, in order.
pub(crate) fn even_map(epoch: u64, addrs: &[SocketAddr]) -> ClusterMap {
    let owners: Vec<usize> = (0..16384).map(|slot| slot * addrs.len() / 16384).collect();
    map_of(epoch, addrs, |slot| owners[slot.index()])
}

/// Each slot to the node that `owner` names.
pub(crate) fn map_of(
    epoch: u64,
    addrs: &[SocketAddr],
    owner: impl Fn(Slot) -> usize,
) -> ClusterMap {
    let shards = addrs.iter().enumerate().map(|(index, addr)| ShardEntry {
        id: ShardId(index as u32),
        slots: Slot::all()
            .filter(|&slot| owner(slot) == index)
            .collect::<SlotSet>(),
        nodes: vec![NodeEntry {
            id: NodeId::from_bytes([index as u8; 20]),
            addr: addr.to_string(),
            role: Role::Primary,
            zone: None,
            in_step: false,
        }],
    });
    ClusterMap::new("test", Epoch(epoch), shards.collect()).expect("one owner a slot")
}

pub(crate) fn proxy_for(map: ClusterMap) -> Handle {
    start(|_| {}, MapSource::Fixed(map))
}

pub(crate) fn start(change: impl FnOnce(&mut ProxyConfig), source: MapSource) -> Handle {
    let mut config = ProxyConfig::new("127.0.0.1:0", source, None);
    config.threads = 2;
    change(&mut config);
    let proxy = larder_proxy::start(config).expect("the proxy starts");
    wait("the first map", || proxy.readiness().get().is_ok());
    proxy
}

pub(crate) struct Setup {
    // The proxy goes first.
    pub(crate) proxy: Handle,
    pub(crate) servers: Vec<RedisServer>,
}

impl Setup {
    /// A proxy before `count` redis-servers, none in cluster mode.
    pub(crate) fn plain(count: usize) -> Setup {
        let servers: Vec<RedisServer> = (0..count).map(|_| RedisServer::start()).collect();
        let addrs: Vec<SocketAddr> = servers.iter().map(RedisServer::addr).collect();
        Setup {
            proxy: proxy_for(even_map(1, &addrs)),
            servers,
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::to(self.proxy.addr())
    }
}

/// Waits for what a test needs, which comes soon or never.
pub(crate) fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "waited in vain for {what}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn error_text(reply: &Reply) -> String {
    match reply {
        Reply::Error(text) => text.clone(),
        other => panic!("{other:?} is no error"),
    }
}
