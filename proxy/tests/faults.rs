//! Nodes that refuse, redirect, dally, break and come back; clients that do not read.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Setup, even_map, map_of, proxy_for, wait};
use larder_tests::{Client, RedisServer, Reply};
use larder_wire::resp::{RequestScanner, Scanned};

/// A server that answers each request by a script.
struct FakeNode {
    addr: SocketAddr,
}

impl FakeNode {
    /// `answer` is given the request's words; `None` closes the connection.
    fn start(answer: impl Fn(&[String]) -> Option<String> + Send + Sync + 'static) -> FakeNode {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, stream) = (answer.clone(), stream.unwrap());
                std::thread::spawn(move || serve(stream, &*answer));
            }
        });
        FakeNode { addr }
    }
}

fn serve(mut stream: TcpStream, answer: &dyn Fn(&[String]) -> Option<String>) {
    let (mut input, mut chunk) = (Vec::new(), [0; 65536]);
    let mut scanner = RequestScanner::new();
    loop {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(n) => input.extend_from_slice(&chunk[..n]),
        }
        let mut at = 0;
        while let Ok(Scanned::Request { consumed }) = scanner.scan(&input[at..]) {
            let request = scanner.request(&input[at..]);
            let words = request
                .args_from(0)
                .map(|arg| String::from_utf8_lossy(arg).into_owned());
            let Some(reply) = answer(&words.collect::<Vec<_>>()) else {
                return;
            };
            at += consumed;
            if stream.write_all(reply.as_bytes()).is_err() {
                return;
            }
        }
        input.drain(..at);
    }
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

#[test]
fn a_refusal_that_passes_is_waited_out_and_the_client_sees_only_the_answer() {
    for refusal in [
        "-TRYAGAIN later\r\n",
        "-CLUSTERDOWN Hash slot not served\r\n",
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-READONLY You can't write against a read only replica.\r\n",
        "-MASTERDOWN Link with MASTER is down\r\n",
    ] {
        let refusals = AtomicUsize::new(3);
        let node = FakeNode::start(move |words| {
            let left =
                refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            Some(if left.is_ok() {
                refusal.to_string()
            } else {
                bulk(&words[1])
            })
        });
        let proxy = proxy_for(even_map(1, &[node.addr]));
        let mut client = Client::to(proxy.addr());
        let line = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<String>>();
        let replies = client
            .pipeline(&[line("GET a"), line("SET a 1"), line("GET b")])
            .unwrap();
        assert_eq!(
            replies,
            [Reply::bulk("a"), Reply::bulk("a"), Reply::bulk("b")],
            "{refusal}"
        );
    }
}

#[test]
fn a_moved_slot_is_followed_and_an_asked_one_is_asked_for_once() {
    let target = FakeNode::start(|words| {
        Some(match words[0].as_str() {
            "ASKING" => "+OK\r\n".to_string(),
            _ => bulk(&format!("target:{}", words.join(" "))),
        })
    });
    let there = target.addr;
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let source = FakeNode::start(move |words| {
        let slot = larder_wire::slot_of(words[1].as_bytes());
        counter.fetch_add(1, Ordering::SeqCst);
        Some(match words[1].as_str() {
            "moved" => format!("-MOVED {slot} {there}\r\n"),
            "ask" => format!("-ASK {slot} {there}\r\n"),
            _ => bulk(&format!("source:{}", words.join(" "))),
        })
    });
    let proxy = proxy_for(even_map(1, &[source.addr]));
    let mut client = Client::to(proxy.addr());
    for _ in 0..3 {
        assert_eq!(client.run("GET moved"), Reply::bulk("target:GET moved"));
    }
    assert_eq!(
        asked.load(Ordering::SeqCst),
        1,
        "a moved slot is remembered"
    );
    for _ in 0..3 {
        assert_eq!(client.run("GET ask"), Reply::bulk("target:GET ask"));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 4, "an asked one is not");
    assert_eq!(client.run("GET x"), Reply::bulk("source:GET x"));
}

#[test]
fn a_share_of_mget_that_moved_is_asked_for_where_it_is() {
    let target = FakeNode::start(|words| {
        let elements: String = words[1..]
            .iter()
            .map(|key| bulk(&format!("new:{key}")))
            .collect();
        Some(format!("*{}\r\n{elements}", words.len() - 1))
    });
    let there = target.addr;
    let source = FakeNode::start(move |words| {
        if let Some(key) = words[1..].iter().find(|key| key.starts_with("m")) {
            let slot = larder_wire::slot_of(key.as_bytes());
            return Some(format!("-MOVED {slot} {there}\r\n"));
        }
        let elements: String = words[1..]
            .iter()
            .map(|key| bulk(&format!("old:{key}")))
            .collect();
        Some(format!("*{}\r\n{elements}", words.len() - 1))
    });
    let proxy = proxy_for(even_map(1, &[source.addr]));
    let mut client = Client::to(proxy.addr());
    let expected = [
        "old:a", "new:m1", "old:b", "new:m2", "new:m3", "old:c", "new:m1",
    ];
    assert_eq!(
        client.run("MGET a m1 b m2 m3 c m1"),
        Reply::Array(expected.iter().map(|text| Reply::bulk(text)).collect())
    );
}

#[test]
fn a_write_on_a_lost_connection_gets_an_error_and_a_read_is_repeated() {
    let lose = Arc::new(AtomicUsize::new(0));
    let loses = lose.clone();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let node = FakeNode::start(move |words| {
        log.lock().unwrap().push(words.join(" "));
        let left = loses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        left.is_err().then(|| bulk(&words[1]))
    });
    let proxy = proxy_for(even_map(1, &[node.addr]));
    let mut client = Client::to(proxy.addr());
    lose.store(1, Ordering::SeqCst);
    let text = common::error_text(&client.run("SET a 1"));
    assert!(text.contains("may or may not have been applied"), "{text}");
    lose.store(1, Ordering::SeqCst);
    assert_eq!(client.run("GET a"), Reply::bulk("a"));
    let writes = seen
        .lock()
        .unwrap()
        .iter()
        .filter(|line| line.starts_with("SET"))
        .count();
    assert_eq!(writes, 1, "a write is never repeated");
}

#[test]
fn a_node_that_sends_garbage_is_dropped_and_its_clients_are_told() {
    let node = FakeNode::start(|words| {
        Some(match words[0].as_str() {
            "SET" => "hello, world\r\n".to_string(),
            _ => bulk("ok"),
        })
    });
    let proxy = proxy_for(even_map(1, &[node.addr]));
    let mut client = Client::to(proxy.addr());
    assert_eq!(client.run("GET a"), Reply::bulk("ok"));
    let text = common::error_text(&client.run("SET a 1"));
    assert!(text.contains("garbage"), "{text}");
    assert_eq!(client.run("GET a"), Reply::bulk("ok"));
}

#[test]
fn a_node_that_dies_and_comes_back_costs_time_not_reads() {
    let mut setup = Setup::plain(2);
    let addr = setup.proxy.addr();
    let mut client = setup.client();
    let on_first = |n: usize| larder_wire::slot_of(format!("k{n}").as_bytes()).index() < 8192;
    let key = (0..).find(|&n| on_first(n)).unwrap();
    let other = (0..).find(|&n| !on_first(n)).unwrap();
    client.run(&format!("SET k{other} there"));
    let port = setup.servers[0].addr().port().to_string();
    drop(setup.servers.remove(0));
    let waiting = std::thread::spawn(move || {
        let start = Instant::now();
        let reply = Client::to(addr).run(&format!("SET k{key} 1"));
        (reply, start.elapsed())
    });
    // The other node's keys are served all the while.
    for _ in 0..100 {
        assert_eq!(client.run(&format!("GET k{other}")), Reply::bulk("there"));
    }
    std::thread::sleep(Duration::from_millis(300));
    let server = std::process::Command::new("redis-server")
        .args(["--port", &port, "--save", "", "--appendonly", "no"])
        .stdout(std::process::Stdio::null())
        .spawn();
    let mut server = server.expect("redis-server is installed");
    let (reply, took) = waiting.join().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(reply, Reply::ok(), "it was held until the node was back");
    assert!(took >= Duration::from_millis(200), "{took:?}");
}

#[test]
fn a_node_that_stays_away_is_named_in_the_error_after_the_hold() {
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let proxy = proxy_for(even_map(1, &[gone]));
    let mut client = Client::to(proxy.addr());
    let start = Instant::now();
    let text = common::error_text(&client.run("GET a"));
    assert!(
        text.starts_with("CLUSTERDOWN") && text.contains(&gone.to_string()),
        "{text}"
    );
    assert!(
        start.elapsed() > Duration::from_secs(9),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(client.run("PING"), Reply::Simple("PONG".into()));
}

/// A client asks for far more than it reads: it is cut off, and others are served meanwhile.
#[test]
fn a_client_that_does_not_read_is_held_back_and_others_are_served() {
    let setup = Setup::plain(2);
    let mut client = setup.client();
    let large = "x".repeat(1 << 20);
    client.ask(&["SET", "large", &large]).unwrap();
    let mut slow = TcpStream::connect(setup.proxy.addr()).unwrap();
    slow.set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let request = b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".repeat(2000);
    // What it cannot send is held back by the proxy.
    let sent = slow.write(&request).unwrap_or(0);
    assert!(sent > 0);
    for _ in 0..200 {
        assert_eq!(client.run("PING"), Reply::Simple("PONG".into()));
        client.run("SET small 1");
    }
    let info = client.run("INFO memory").as_text().unwrap();
    let rss: u64 = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory_rss:"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(rss < 1 << 30, "2 GB of replies are not kept: {rss}");
    // It reads at last, and gets everything that it asked for.
    let mut got = vec![0; 1 << 20];
    let expected = sent / (request.len() / 2000) * ((1 << 20) + 12);
    let mut total = 0;
    slow.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    while total < expected {
        match slow.read(&mut got) {
            Ok(0) => break,
            Ok(n) => total += n,
            Err(error) => panic!("after {total} of {expected}: {error}"),
        }
    }
    assert_eq!(total, expected);
}

/// Each slot's commands stay in order while its slots go back and forth between two real servers, told by MOVED
/// from a third party alone.
#[test]
fn a_redis_cluster_is_served_through_a_live_reshard() {
    let servers: Vec<RedisServer> = (0..3)
        .map(|_| {
            RedisServer::start_with(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"])
        })
        .collect();
    let addrs: Vec<String> = servers
        .iter()
        .map(|server| server.addr().to_string())
        .collect();
    let mut args = vec!["--cluster", "create"];
    args.extend(addrs.iter().map(String::as_str));
    args.extend(["--cluster-replicas", "0", "--cluster-yes"]);
    let created = std::process::Command::new("redis-cli")
        .args(&args)
        .output()
        .unwrap();
    assert!(
        created.status.success(),
        "{}",
        String::from_utf8_lossy(&created.stdout)
    );
    wait("the cluster to agree", || {
        servers.iter().all(|server| {
            let info = server.client().run("CLUSTER INFO").as_text().unwrap();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
    });
    let proxy = common::start(
        |_| {},
        larder_proxy::MapSource::Cluster(vec![addrs[0].clone()]),
    );
    let addr = proxy.addr();
    let stop = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..4)
        .map(|who| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut client = Client::to(addr);
                let mut rounds = 0_i64;
                while stop.load(Ordering::SeqCst) == 0 || rounds < 20 {
                    let mut requests: Vec<Vec<String>> = Vec::new();
                    for n in 0..20 {
                        requests.push(vec!["INCR".into(), format!("c{who}:{n}")]);
                        requests.push(vec![
                            "RPUSH".into(),
                            format!("l{who}:{n}"),
                            rounds.to_string(),
                        ]);
                    }
                    let keys = (0..20).map(|n| format!("c{who}:{n}"));
                    requests.push(std::iter::once("MGET".to_string()).chain(keys).collect());
                    let replies = client.pipeline(&requests).unwrap();
                    rounds += 1;
                    for (request, reply) in requests.iter().zip(&replies).take(40) {
                        assert_eq!(reply, &Reply::Int(rounds), "{request:?}");
                    }
                    let all = vec![Reply::bulk(&rounds.to_string()); 20];
                    assert_eq!(replies[40], Reply::Array(all));
                }
                (client, rounds)
            })
        })
        .collect();
    let id = servers[0].client().run("CLUSTER MYID").as_text().unwrap();
    let from = servers[1].client().run("CLUSTER MYID").as_text().unwrap();
    let moved = std::process::Command::new("redis-cli")
        .args([
            "--cluster",
            "reshard",
            &addrs[0],
            "--cluster-from",
            &from,
            "--cluster-to",
            &id,
        ])
        .args(["--cluster-slots", "300", "--cluster-yes"])
        .output()
        .unwrap();
    assert!(
        moved.status.success(),
        "{}",
        String::from_utf8_lossy(&moved.stdout)
    );
    stop.store(1, Ordering::SeqCst);
    for (who, writer) in writers.into_iter().enumerate() {
        let (mut client, rounds) = writer.join().unwrap();
        for n in 0..20 {
            let list = client.run(&format!("LRANGE l{who}:{n} 0 -1")).items();
            let expected: Vec<Reply> = (0..rounds).map(|n| Reply::bulk(&n.to_string())).collect();
            assert_eq!(list, expected, "l{who}:{n}");
        }
    }
}

#[test]
fn commands_pipelined_to_a_node_that_bounces_some_keep_their_order() {
    // The first node refuses a slot's commands from a moment on; the second takes them, late at first.
    let log = Arc::new(Mutex::new(Vec::new()));
    let (to_log, taken) = (log.clone(), AtomicUsize::new(0));
    let late = AtomicUsize::new(3);
    let target = FakeNode::start(move |words| {
        if late
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .is_ok()
        {
            return Some("-TRYAGAIN not yet\r\n".to_string());
        }
        to_log.lock().unwrap().push(words[2].clone());
        Some("+OK\r\n".to_string())
    });
    let there = target.addr;
    let to_log = log.clone();
    let source = FakeNode::start(move |words| {
        if taken.fetch_add(1, Ordering::SeqCst) < 10 {
            to_log.lock().unwrap().push(words[2].clone());
            return Some("+OK\r\n".to_string());
        }
        let slot = larder_wire::slot_of(words[1].as_bytes());
        Some(format!("-MOVED {slot} {there}\r\n"))
    });
    let nodes = [source.addr, target.addr];
    let proxy = proxy_for(map_of(1, &nodes, |_| 0));
    let mut client = Client::to(proxy.addr());
    let requests: Vec<Vec<String>> = (0..200)
        .map(|n| vec!["SET".to_string(), "k".into(), n.to_string()])
        .collect();
    let replies = client.pipeline(&requests).unwrap();
    assert!(replies.iter().all(|reply| *reply == Reply::ok()));
    let expected: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    assert_eq!(*log.lock().unwrap(), expected);
}
