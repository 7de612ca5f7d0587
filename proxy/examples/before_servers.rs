//! A proxy before servers that need no topology, for measuring and for trying out:
//! `cargo run --release -p larder-proxy --example before_servers -- LISTEN THREADS SERVER…` divides the slots
//! evenly among the servers; with `cluster` as the first server, the others are seeds of a Redis Cluster.

use larder_proxy::{MapSource, ProxyConfig};
use larder_wire::{ClusterMap, Epoch, NodeEntry, NodeId, Role, ShardEntry, ShardId, Slot};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [listen, threads, servers @ ..] = args.as_slice() else {
        eprintln!("usage: before_servers LISTEN THREADS [cluster] SERVER...");
        std::process::exit(2);
    };
    let source = match servers.split_first() {
        Some((first, seeds)) if first == "cluster" => MapSource::Cluster(seeds.to_vec()),
        Some(_) | None => MapSource::Fixed(even_map(servers)),
    };
    let mut config = ProxyConfig::new(listen, source, None);
    config.threads = threads.parse().expect("THREADS is a number");
    match larder_proxy::start(config) {
        Ok(proxy) => {
            println!("ready {}", proxy.addr());
            while !proxy.is_finished() {
                std::thread::park();
            }
        }
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
}

fn even_map(addrs: &[String]) -> ClusterMap {
    let shards = addrs.iter().enumerate().map(|(index, addr)| ShardEntry {
        id: ShardId(index as u32),
        slots: Slot::all()
            .filter(|slot| slot.index() * addrs.len() / 16384 == index)
            .collect(),
        nodes: vec![NodeEntry {
            id: NodeId::from_bytes([index as u8; 20]),
            addr: addr.clone(),
            role: Role::Primary,
            zone: None,
            in_step: false,
        }],
    });
    ClusterMap::new("fixed", Epoch(1), shards.collect()).expect("one owner a slot")
}
