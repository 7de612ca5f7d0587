//! `LARDER <VERB> …` of operators, nodes and proxies: read, taken to the plan, answered as JSON or as lines for
//! people.

use std::net::SocketAddr;
use std::rc::Rc;

use larder_plan::{Answer, Event, Order};
use larder_wire::control::{NodeJoin, ProxyJoin};
use larder_wire::forwarding::ForwardVerb;
use larder_wire::replication::WriteMode;
use larder_wire::resp::{Protocol, ReplyWriter, Request};
use larder_wire::{Refusal, ShardId, SlotSet};
use serde::Serialize;

use crate::core::Core;
use crate::session::is_word;
use crate::text;

/// Answers one request of a connection that has shown the secret.
pub(crate) async fn answer(
    core: &Rc<Core>,
    from: SocketAddr,
    request: &Request<'_>,
    reply: &mut ReplyWriter<'_>,
) {
    let verb = request.get(1).unwrap_or(b"").to_ascii_lowercase();
    match verb.as_slice() {
        b"join" => join(core, from, request, reply),
        b"status" => {
            let status = core.plan().status();
            match wants_json(request, 2) {
                Ok(true) => json(reply, &status),
                Ok(false) => lines(reply, &text::status_text(&status)),
                Err(refusal) => reply.error(&refusal),
            }
        }
        b"moves" => {
            let moves = core.plan().moves();
            match wants_json(request, 2) {
                Ok(true) => json(reply, &moves),
                Ok(false) => lines(reply, &text::moves_text(&moves)),
                Err(refusal) => reply.error(&refusal),
            }
        }
        b"reshard" | b"move" | b"rebalance" | b"replicas" | b"writes" | b"lost-shards" | b"failover" | b"forward" => match read_order(&verb, request) {
            Ok((order, as_json)) => match core.operator(order).await {
                Ok(answer) => write_answer(reply, &answer, as_json),
                Err(line) => reply.error(&Refusal::new(format!("ERR {line}"))),
            },
            Err(refusal) => reply.error(&refusal),
        },
        _ => reply.error(&Refusal::new(format!(
            "ERR unknown LARDER verb '{}' (the topology knows STATUS, RESHARD, MOVE, REBALANCE, MOVES, REPLICAS, WRITES, LOST-SHARDS, FAILOVER, FORWARD, JOIN, WATCH)",
            String::from_utf8_lossy(&verb[..verb.len().min(128)])
        ))),
    }
}

/// `JOIN <NodeJoin or ProxyJoin>`: what has a run id is a node.
fn join(core: &Rc<Core>, from: SocketAddr, request: &Request<'_>, reply: &mut ReplyWriter<'_>) {
    let Some(body) = request.get(2) else {
        return reply.error(&Refusal::wrong_arity("larder|join"));
    };
    let event = if let Ok(mut node) = serde_json::from_slice::<NodeJoin>(body) {
        node.addr = reachable(&node.addr, from);
        node.http = node.http.map(|http| reachable(&http, from));
        Event::NodeJoined(node)
    } else if let Ok(mut proxy) = serde_json::from_slice::<ProxyJoin>(body) {
        proxy.addr = reachable(&proxy.addr, from);
        proxy.http = proxy.http.map(|http| reachable(&http, from));
        Event::ProxyJoined(proxy)
    } else {
        return reply.error(&Refusal::fixed(
            "ERR LARDER JOIN takes the JSON of a NodeJoin or a ProxyJoin",
        ));
    };
    let node = match &event {
        Event::NodeJoined(join) => Some((join.id, join.run_id)),
        _ => None,
    };
    core.event(event);
    match node.is_none_or(|(node, run_id)| core.lease(node, run_id)) {
        true => reply.ok(),
        false => reply.error(&Refusal::fixed(
            "FENCED joined, but its shard is to have another primary",
        )),
    }
}

/// A process that listens everywhere is reached where its connection came from.
fn reachable(addr: &str, from: SocketAddr) -> String {
    match addr.parse::<SocketAddr>() {
        Ok(given) if given.ip().is_unspecified() => {
            SocketAddr::new(from.ip().to_canonical(), given.port()).to_string()
        }
        Ok(_) | Err(_) => addr.to_string(),
    }
}

fn wants_json(request: &Request<'_>, first: usize) -> Result<bool, Refusal> {
    match request.len() - first {
        0 => Ok(false),
        1 if is_word(request.get(first), "json") => Ok(true),
        _ => Err(Refusal::SYNTAX),
    }
}

/// `RESHARD SHARDS n`, `MOVE SLOTS a-b TO node`, `REBALANCE`, each with `[DRYRUN]`, `REPLICAS [SET n]` and
/// `WRITES [SET async|safe]`, `LOST-SHARDS [SET wait|empty|empty:seconds]`, `FAILOVER shard [TO node] [FORCE]`, all with `[JSON]`.
fn read_order(verb: &[u8], request: &Request<'_>) -> Result<(Order, bool), Refusal> {
    let word = |index: usize| {
        request
            .get(index)
            .map(|arg| String::from_utf8_lossy(arg).into_owned())
    };
    let first = match verb {
        b"reshard" => 4,
        b"move" => 6,
        b"failover" if is_word(request.get(3), "to") => 5,
        b"failover" => 3,
        b"replicas" | b"writes" | b"lost-shards" if is_word(request.get(2), "set") => 4,
        b"forward" => request.len(),
        _ => 2,
    };
    let (mut dry_run, mut as_json, mut force) = (false, false, false);
    for index in first..request.len() {
        let moves = matches!(verb, b"reshard" | b"move" | b"rebalance");
        if is_word(request.get(index), "dryrun") && moves {
            dry_run = true;
        } else if is_word(request.get(index), "force") && verb == b"failover" {
            force = true;
        } else if is_word(request.get(index), "json") {
            as_json = true;
        } else {
            return Err(usage(verb));
        }
    }
    let order = match (verb, word(3), word(5)) {
        (b"reshard", Some(shards), _) if is_word(request.get(2), "shards") => Order::Reshard {
            shards: shards.parse().map_err(|_| Refusal::NOT_AN_INTEGER)?,
            dry_run,
        },
        (b"move", Some(slots), Some(to))
            if is_word(request.get(2), "slots") && is_word(request.get(4), "to") =>
        {
            let slots: SlotSet = slots
                .parse()
                .map_err(|line| Refusal::new(format!("ERR {line}")))?;
            Order::Move { slots, to, dry_run }
        }
        (b"rebalance", _, _) => Order::Rebalance { dry_run },
        (b"replicas", count, _) if first == 4 => Order::Replicas {
            set: Some(
                count
                    .and_then(|count| count.parse().ok())
                    .ok_or(Refusal::NOT_AN_INTEGER)?,
            ),
        },
        (b"replicas", _, _) => Order::Replicas { set: None },
        (b"failover", _, _) => Order::Failover {
            shard: word(2)
                .and_then(|shard| shard.parse().ok())
                .map(ShardId)
                .ok_or_else(|| usage(verb))?,
            to: match first {
                5 => Some(word(4).ok_or_else(|| usage(verb))?),
                _ => None,
            },
            force,
        },
        (b"writes", mode, _) if first == 4 => {
            match mode.as_deref().and_then(WriteMode::from_word) {
                Some(mode) => Order::Writes { set: Some(mode) },
                None => return Err(usage(verb)),
            }
        }
        (b"writes", _, _) => Order::Writes { set: None },
        (b"lost-shards", what, _) if first == 4 => match what.map(|what| what.parse()) {
            Some(Ok(what)) => Order::LostShards { set: Some(what) },
            Some(Err(_)) | None => return Err(usage(verb)),
        },
        (b"lost-shards", _, _) => Order::LostShards { set: None },
        (b"forward", _, _) => Order::Forward(forward_verb(request).ok_or_else(|| usage(verb))?),
        (_, _, _) => return Err(usage(verb)),
    };
    Ok((order, as_json))
}

/// `GET`, `BEGIN id url`, `PREPARE attempt`, `VOID attempt`, `TURN attempt`, `END`.
fn forward_verb(request: &Request<'_>) -> Option<ForwardVerb> {
    let text = |at: usize| {
        request
            .get(at)
            .and_then(|arg| std::str::from_utf8(arg).ok())
    };
    let number = |at: usize| text(at)?.parse::<u64>().ok();
    let word = request.get(2)?.to_ascii_lowercase();
    match (word.as_slice(), request.len()) {
        (b"get", 3) => Some(ForwardVerb::Get),
        (b"begin", 5) => Some(ForwardVerb::Begin {
            id: number(3)?,
            from: text(4)?.to_string(),
        }),
        (b"prepare", 4) => number(3).map(ForwardVerb::Prepare),
        (b"void", 4) => number(3).map(ForwardVerb::Void),
        (b"turn", 4) => number(3).map(ForwardVerb::Turn),
        (b"end", 3) => Some(ForwardVerb::End),
        (_, _) => None,
    }
}

fn usage(verb: &[u8]) -> Refusal {
    Refusal::fixed(match verb {
        b"reshard" => "ERR write LARDER RESHARD SHARDS <count> [DRYRUN] [JSON]",
        b"move" => "ERR write LARDER MOVE SLOTS <a-b,c> TO <node> [DRYRUN] [JSON]",
        b"replicas" => "ERR write LARDER REPLICAS [SET <count>] [JSON]",
        b"failover" => "ERR write LARDER FAILOVER <shard> [TO <node>] [FORCE] [JSON]",
        b"forward" => {
            "ERR write LARDER FORWARD GET | BEGIN <id> <url> | PREPARE <attempt> | VOID <attempt> | TURN <attempt> | END"
        }
        b"writes" => "ERR write LARDER WRITES [SET async|safe] [JSON]",
        b"lost-shards" => "ERR write LARDER LOST-SHARDS [SET wait|empty|empty:<seconds>] [JSON]",
        _ => "ERR write LARDER REBALANCE [DRYRUN] [JSON]",
    })
}

fn write_answer(reply: &mut ReplyWriter<'_>, answer: &Answer, as_json: bool) {
    match (answer, as_json) {
        (Answer::Slots(report), true) => json(reply, report),
        (Answer::Slots(report), false) => lines(reply, &text::order_text(report)),
        (Answer::Replicas(report), true) => json(reply, report),
        (Answer::Replicas(report), false) => lines(reply, &text::replicas_text(report)),
        (Answer::Failover(report), true) => json(reply, report),
        (Answer::Failover(report), false) => lines(reply, &text::failover_text(report)),
        (Answer::Forward(record), true | false) => json(reply, record),
        (Answer::Writes(report), true) => json(reply, report),
        (Answer::Writes(report), false) => lines(reply, &text::writes_text(report)),
        (Answer::LostShards(report), true) => json(reply, report),
        (Answer::LostShards(report), false) => lines(reply, &text::lost_shards_text(report)),
    }
}

fn json(reply: &mut ReplyWriter<'_>, value: &impl Serialize) {
    let json = serde_json::to_vec(value).expect("reports have nothing that JSON cannot hold");
    reply.bulk(&json);
}

/// Text for people: to a RESP2 client, redis-cli above all, one simple string a line, which it prints as they are.
fn lines(reply: &mut ReplyWriter<'_>, text: &str) {
    match reply.protocol() {
        Protocol::Resp3 => reply.verbatim("txt", text.as_bytes()),
        Protocol::Resp2 => {
            let lines: Vec<&str> = text.lines().collect();
            reply.array(lines.len());
            for line in lines {
                reply.simple(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use larder_wire::resp::OwnedRequest;

    use super::*;

    fn read(line: &str) -> Result<(Order, bool), String> {
        let words: Vec<&str> = line.split(' ').collect();
        let request = OwnedRequest::from_args(words.clone());
        let verb = words[1].to_ascii_lowercase();
        read_order(verb.as_bytes(), &request.view()).map_err(|refusal| refusal.text().to_string())
    }

    #[test]
    fn orders_are_read_in_any_case_and_what_is_none_is_told_how_to_write_it() {
        let reshard = |shards, dry_run| Order::Reshard { shards, dry_run };
        assert_eq!(
            read("larder reshard shards 5"),
            Ok((reshard(5, false), false))
        );
        assert_eq!(
            read("LARDER RESHARD SHARDS 5 DRYRUN JSON"),
            Ok((reshard(5, true), true))
        );
        assert_eq!(
            read("LARDER MOVE SLOTS 1-3 TO abc JSON"),
            Ok((
                Order::Move {
                    slots: "1-3".parse().unwrap(),
                    to: "abc".into(),
                    dry_run: false
                },
                true
            ))
        );
        let rebalance = Order::Rebalance { dry_run: true };
        assert_eq!(read("LARDER REBALANCE dryrun"), Ok((rebalance, false)));
        let replicas = |set| Ok((Order::Replicas { set }, false));
        assert_eq!(read("LARDER REPLICAS"), replicas(None));
        assert_eq!(read("LARDER REPLICAS SET 2"), replicas(Some(2)));
        let safe = Order::Writes {
            set: Some(WriteMode::Safe),
        };
        assert_eq!(read("LARDER WRITES set SAFE json"), Ok((safe, true)));
        let lost_shards = |set| Ok((Order::LostShards { set }, false));
        assert_eq!(read("LARDER LOST-SHARDS"), lost_shards(None));
        assert_eq!(
            read("larder lost-shards set empty:5"),
            lost_shards(Some(larder_plan::LostShards::Empty { after_ms: 5000 }))
        );
        let failover = |to: Option<&str>, force| Order::Failover {
            shard: ShardId(3),
            to: to.map(String::from),
            force,
        };
        assert_eq!(
            read("LARDER FAILOVER 3"),
            Ok((failover(None, false), false))
        );
        assert_eq!(
            read("larder failover 3 to ab force json"),
            Ok((failover(Some("ab"), true), true))
        );
        for wrong in [
            "LARDER FAILOVER",
            "LARDER FAILOVER x",
            "LARDER FAILOVER 3 TO",
            "LARDER FAILOVER 3 DRYRUN",
            "LARDER REPLICAS SET",
            "LARDER REPLICAS SET x",
            "LARDER REPLICAS 2",
            "LARDER WRITES SET sometimes",
            "LARDER WRITES DRYRUN",
            "LARDER LOST-SHARDS SET",
            "LARDER LOST-SHARDS SET full",
            "LARDER LOST-SHARDS empty",
            "LARDER RESHARD",
            "LARDER RESHARD SHARDS",
            "LARDER RESHARD 5",
            "LARDER RESHARD SHARDS x",
            "LARDER RESHARD SHARDS -1",
            "LARDER RESHARD SHARDS 5 NOW",
            "LARDER MOVE SLOTS 1-3",
            "LARDER MOVE SLOTS 3-1 TO x",
            "LARDER REBALANCE 7",
        ] {
            assert!(read(wrong).unwrap_err().starts_with("ERR "), "{wrong}");
        }
    }

    #[test]
    fn a_process_that_listens_everywhere_is_reached_where_it_came_from() {
        let from = "10.1.2.3:555".parse().unwrap();
        assert_eq!(reachable("0.0.0.0:7001", from), "10.1.2.3:7001");
        assert_eq!(reachable("[::]:7001", from), "10.1.2.3:7001");
        assert_eq!(reachable("192.168.0.9:7001", from), "192.168.0.9:7001");
        assert_eq!(reachable("node.example:7001", from), "node.example:7001");
    }
}
