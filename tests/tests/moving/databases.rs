//! Keys of every database move with their slots: nothing is lost, mixed up or left behind, whatever is written meanwhile.

use std::net::SocketAddr;

use larder_tests::{Client, Cluster, Reply};

use crate::while_resharding;

const KEYS: usize = 1_500;
const NODES: usize = 5;
/// Longest chase after a slot's owner.
const TRIES_MAX: usize = 1_000;

/// A client of one database that goes where a key is.
struct Direct {
    nodes: Vec<(SocketAddr, Client)>,
}

impl Direct {
    fn new(cluster: &Cluster, db: u8) -> Direct {
        let node = |index| {
            let addr = cluster.node_addr(index);
            let mut client = Client::to(addr);
            assert_eq!(client.run(&format!("SELECT {db}")), Reply::ok());
            (addr, client)
        };
        Direct {
            nodes: (0..NODES).map(node).collect(),
        }
    }

    fn run(&mut self, line: &str) -> Reply {
        let mut at = 0;
        for _ in 0..TRIES_MAX {
            let reply = self.nodes[at].1.run(line);
            let Reply::Error(text) = &reply else {
                return reply;
            };
            let Some(owner) = text.strip_prefix("MOVED ") else {
                return reply;
            };
            let owner = owner.split(' ').nth(1).expect("an address");
            let owner = self
                .nodes
                .iter()
                .position(|(addr, _)| addr.to_string() == owner);
            at = owner.expect("a node of the cluster");
        }
        panic!("{line}: the slot's owner is not to be found");
    }
}

#[test]
fn keys_of_all_databases_move_with_their_slots_while_they_are_written() {
    let cluster = Cluster::start(3, NODES - 3);
    let mut zero = Direct::new(&cluster, 0);
    let mut third = Direct::new(&cluster, 3);
    for number in 0..KEYS {
        assert_eq!(zero.run(&format!("SET k:{number} zero")), Reply::ok());
        let third = &mut third;
        assert_eq!(
            third.run(&format!("RPUSH k:{number} three {number}")),
            Reply::Int(2)
        );
        assert_eq!(
            third.run(&format!("PEXPIREAT k:{number} 4102444800000")),
            Reply::Int(1)
        );
    }
    // A collection that travels in pieces.
    for chunk in 0..20 {
        let members: Vec<String> = (0..500).map(|n| format!("m{chunk}:{n}")).collect();
        let line = format!("SADD large {}", members.join(" "));
        assert_eq!(third.run(&line), Reply::Int(500));
    }
    let ways = [(0, 5), (3, 15)];
    while_resharding(
        &cluster,
        &["5", "2", "5", "3"],
        &ways,
        |&(db, other), round| {
            let (mut here, mut there) = (Direct::new(&cluster, db), Direct::new(&cluster, other));
            for number in 0..100 {
                let key = format!("w:{db}:{number}");
                assert_eq!(here.run(&format!("SET {key} {round}")), Reply::ok());
                assert_eq!(
                    here.run(&format!("MOVE {key} {other}")),
                    Reply::Int(1),
                    "{key}"
                );
                assert_eq!(here.run(&format!("EXISTS {key}")), Reply::Int(0), "{key}");
                assert_eq!(
                    there.run(&format!("GETDEL {key}")),
                    Reply::Bulk(round.to_string().into_bytes()),
                    "{key}"
                );
                let copied = here.run(&format!("COPY k:{number} k:{number} DB {other} REPLACE"));
                assert_eq!(copied, Reply::Int(1), "{key}");
            }
        },
    );
    let list = |number: usize| {
        let text = |text: String| Reply::Bulk(text.into_bytes());
        Reply::Array(vec![text("three".to_owned()), text(number.to_string())])
    };
    let (mut fifth, mut last) = (Direct::new(&cluster, 5), Direct::new(&cluster, 15));
    for number in 0..KEYS {
        let get = format!("GET k:{number}");
        let range = format!("LRANGE k:{number} 0 -1");
        let expiry = format!("PEXPIRETIME k:{number}");
        assert_eq!(zero.run(&get), Reply::Bulk(b"zero".to_vec()), "k:{number}");
        assert_eq!(zero.run(&expiry), Reply::Int(-1), "k:{number}");
        assert_eq!(third.run(&range), list(number), "k:{number}");
        assert_eq!(
            third.run(&expiry),
            Reply::Int(4_102_444_800_000),
            "k:{number}"
        );
        if number < 100 {
            assert_eq!(fifth.run(&get), Reply::Bulk(b"zero".to_vec()), "k:{number}");
            assert_eq!(last.run(&range), list(number), "k:{number}");
        }
    }
    assert_eq!(third.run("SCARD large"), Reply::Int(10_000));
    for (db, keys) in [(0, KEYS), (3, KEYS + 1), (5, 100), (15, 100), (1, 0)] {
        let mut nodes = Direct::new(&cluster, db).nodes;
        let counts = nodes
            .iter_mut()
            .map(|(_, client)| client.run("DBSIZE").as_int());
        let sum: i64 = counts.map(|count| count.expect("a number")).sum();
        assert_eq!(sum, keys as i64, "keys in database {db}");
    }
}
