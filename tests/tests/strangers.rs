//! Control is taken only from those who know the cluster's secret: every control command, sent to a node, a
//! proxy and the topology by a client that has shown none or a wrong one, is refused.

use std::net::SocketAddr;

use larder_tests::cluster::SECRET;
use larder_tests::{Client, Cluster, Reply};
use larder_wire::command::{CommandId, spec, subcommands};

/// `LARDER <VERB>` with arguments that the verb would take from a friend.
fn control_commands() -> Vec<Vec<String>> {
    let id = "00000000000000000000000000000000000000aa";
    let map = format!(r#"{{"epoch":999999,"shards":[],"id":"{id}"}}"#);
    subcommands(CommandId::Larder)
        .filter(|verb| *verb != CommandId::LarderHello)
        .map(|verb| {
            let more: &[&str] = match verb {
                CommandId::LarderReshard => &["SHARDS", "1"],
                CommandId::LarderFailover => &["1"],
                CommandId::LarderPublish => &["channel", "message"],
                CommandId::LarderReplicas => &["SET", "1"],
                CommandId::LarderWrites => &["safe"],
                CommandId::LarderForward => &["GET"],
                CommandId::LarderMove => &["SLOTS", "0-10", "TO", id],
                CommandId::LarderImport
                | CommandId::LarderFeed
                | CommandId::LarderReplicate
                | CommandId::LarderFence
                | CommandId::LarderYield
                | CommandId::LarderHold
                | CommandId::LarderSnapshot
                | CommandId::LarderMap
                | CommandId::LarderJoin => &[&map],
                CommandId::LarderAwait | CommandId::LarderAbort | CommandId::LarderUnfence => {
                    &["1"]
                }
                _ => &[],
            };
            let name = spec(verb).name.replace('|', " ").to_ascii_uppercase();
            name.split(' ')
                .chain(more.iter().copied())
                .map(str::to_owned)
                .collect()
        })
        .collect()
}

fn is_refusal(reply: &Reply) -> bool {
    match reply {
        Reply::Error(text) => text.starts_with("NOAUTH") || text.starts_with("WRONGPASS"),
        _ => false,
    }
}

/// What a stranger may try before the control command.
const OPENINGS: &[&[&str]] = &[
    &[],
    &["AUTH", "larder", "wrong"],
    &["AUTH", "larder", ""],
    &["AUTH", "wrong"],
    &["LARDER", "HELLO", "1", "wrong", "topology"],
    &["LARDER", "HELLO", "1", "", "node"],
    &["LARDER", "HELLO", "1", "wrong", "operator"],
    &["HELLO", "3", "AUTH", "larder", "wrong"],
];

#[test]
fn a_stranger_s_control_commands_are_refused_everywhere() {
    let cluster = Cluster::start(2, 1);
    let before = cluster.status().expect("the topology answers its operator");
    let doors = [
        ("proxy", cluster.proxy_addr()),
        ("topology", cluster.topology_addr()),
        ("node with slots", cluster.node_addr(0)),
        ("spare node", cluster.node_addr(2)),
    ];
    let mut let_in = Vec::new();
    for (name, addr) in doors {
        for opening in OPENINGS {
            for command in control_commands() {
                if let Some(reply) = try_as_stranger(addr, opening, &command) {
                    let_in.push(format!("{name}: {opening:?}, {command:?}: {reply}"));
                }
            }
        }
    }
    assert!(let_in.is_empty(), "{}", let_in.join("\n"));
    let after = cluster.status().expect("the topology still answers");
    assert_eq!(before["epoch"], after["epoch"], "nothing was changed");
}

/// What was answered, when that is not a refusal.
fn try_as_stranger(addr: SocketAddr, opening: &[&str], command: &[String]) -> Option<Reply> {
    let mut client = Client::to(addr);
    if !opening.is_empty() {
        match client.ask(opening) {
            Ok(reply) if !reply.is_error() => return Some(reply),
            // A server may also hang up on one who shows a wrong secret.
            Ok(_) | Err(_) => {}
        }
    }
    match client.ask(command) {
        Ok(reply) if is_refusal(&reply) => None,
        Ok(reply) => Some(reply),
        Err(_) if !opening.is_empty() => None,
        Err(error) => Some(Reply::Error(format!("(broken: {error})"))),
    }
}

#[test]
fn the_secret_opens_the_door() {
    let cluster = Cluster::start(1, 0);
    for addr in [cluster.topology_addr(), cluster.proxy_addr()] {
        let mut client = Client::to(addr);
        assert_eq!(
            client.ask(&["AUTH", "larder", SECRET]).expect("a reply"),
            Reply::ok()
        );
        let status = client.ask(&["LARDER", "STATUS", "JSON"]).expect("a reply");
        assert!(!status.is_error(), "{addr}: {status}");
    }
    let mut client = Client::to(cluster.node_addr(0));
    let welcome = client
        .ask(&["LARDER", "HELLO", "1", SECRET, "topology"])
        .expect("a reply");
    assert!(!welcome.is_error(), "{welcome}");
    let state = client.ask(&["LARDER", "STATE"]).expect("a reply");
    assert!(!state.is_error(), "{state}");
}
