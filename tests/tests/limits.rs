//! What a node does with clients that take too much: unread replies, unfinished requests, idleness.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use larder_tests::standalone::Standalone;
use larder_tests::{Client, Reply};

/// Longest wait for a client to be let go.
const WAIT: Duration = Duration::from_secs(20);

/// The fields of a client in `CLIENT LIST`; `None` when it is not there.
fn listed(asker: &mut Client, name: &str) -> Option<String> {
    let text = asker.run("CLIENT LIST").as_text().expect("a list");
    let line = text
        .lines()
        .find(|line| line.contains(&format!(" name={name} ")));
    line.map(str::to_owned)
}

fn field(line: &str, name: &str) -> u64 {
    let wanted = format!("{name}=");
    let found = line.split(' ').find_map(|pair| pair.strip_prefix(&*wanted));
    found.and_then(|text| text.parse().ok()).expect("a number")
}

fn wait_gone(asker: &mut Client, name: &str) {
    let deadline = Instant::now() + WAIT;
    while let Some(line) = listed(asker, name) {
        assert!(Instant::now() < deadline, "still there: {line}");
        std::thread::yield_now();
    }
}

fn named(node: &Standalone, name: &str) -> Client {
    let mut client = node.client();
    assert_eq!(client.run(&format!("CLIENT SETNAME {name}")), Reply::ok());
    client
}

/// The connection was closed by the other end.
fn assert_closed(client: &mut Client) {
    loop {
        match client.read() {
            Ok(_) => {}
            Err(error) => {
                let kinds = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
                return assert!(kinds.contains(&error.kind()), "{error}");
            }
        }
    }
}

#[test]
fn a_subscriber_that_does_not_read_is_let_go() {
    let node = Standalone::start();
    let mut asker = node.client();
    let limit = [
        "CONFIG",
        "SET",
        "client-output-buffer-limit",
        "pubsub 1000000 0 0",
    ];
    assert_eq!(asker.ask(&limit).unwrap(), Reply::ok());
    let mut deaf = named(&node, "deaf");
    deaf.run("SUBSCRIBE news");
    let message = "x".repeat(100_000);
    let deadline = Instant::now() + WAIT;
    let mut most = 0;
    while let Some(line) = listed(&mut asker, "deaf") {
        most = most.max(field(&line, "omem"));
        assert!(Instant::now() < deadline);
        asker.ask(&["PUBLISH", "news", &message]).unwrap();
    }
    assert!((800_000..1_200_000).contains(&most), "{most}");
    assert_closed(&mut deaf);
    assert_eq!(asker.run("PUBLISH news x"), Reply::Int(0));
}

#[test]
fn a_reply_past_the_hard_limit_is_not_sent_at_all() {
    let node = Standalone::start();
    let mut asker = node.client();
    let limit = [
        "CONFIG",
        "SET",
        "client-output-buffer-limit",
        "normal 100000 0 0",
    ];
    assert_eq!(asker.ask(&limit).unwrap(), Reply::ok());
    let mut greedy = named(&node, "greedy");
    let value = "x".repeat(60_000);
    assert_eq!(asker.ask(&["SET", "big", &value]).unwrap(), Reply::ok());
    assert!(matches!(greedy.run("GET big"), Reply::Bulk(_)));
    greedy.run("MULTI");
    for request in ["SET before 1", "MGET big big big", "SET after 1"] {
        greedy.run(request);
    }
    assert!(greedy.ask(&["EXEC"]).is_err());
    wait_gone(&mut asker, "greedy");
    // The transaction was carried out all the same.
    assert_eq!(asker.run("MGET before after").items().len(), 2);
    assert_eq!(asker.run("EXISTS before after"), Reply::Int(2));
}

#[test]
fn requests_past_the_query_buffer_limit_end_their_connection() {
    let node = Standalone::start();
    let mut asker = node.client();
    assert_eq!(
        asker.run("CONFIG SET client-query-buffer-limit 1mb"),
        Reply::ok()
    );
    let mut chatty = named(&node, "chatty");
    let fits = "x".repeat(500_000);
    assert_eq!(chatty.ask(&["SET", "a", &fits]).unwrap(), Reply::ok());
    // The other end may be gone before all is sent.
    let _ = chatty.send(&["SET", "a", &"x".repeat(3_000_000)]);
    assert_closed(&mut chatty);
    wait_gone(&mut asker, "chatty");
    assert_eq!(asker.run("STRLEN a"), Reply::Int(500_000));
}

#[test]
fn the_longest_argument_is_set_by_proto_max_bulk_len() {
    let node = Standalone::start();
    let mut asker = node.client();
    assert_eq!(asker.run("CONFIG SET proto-max-bulk-len 2mb"), Reply::ok());
    asker.run("SET a x");
    let long =
        Reply::Error("ERR string exceeds maximum allowed size (proto-max-bulk-len)".to_owned());
    assert_eq!(asker.run("SETRANGE a 2097152 x"), long);
    assert_eq!(asker.run("SETRANGE a 2097151 x"), Reply::Int(2_097_152));
    assert_eq!(asker.run("APPEND a x"), long);
    let beyond = "ERR bit offset is not an integer or out of range".to_owned();
    assert_eq!(asker.run("SETBIT b 16777216 1"), Reply::Error(beyond));
    asker
        .send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$2097153\r\n")
        .unwrap();
    let reply = asker.read().unwrap();
    let refused = "ERR Protocol error: invalid bulk length".to_owned();
    assert_eq!(reply, Reply::Error(refused));
}

#[test]
fn the_largest_clients_go_when_all_take_too_much() {
    let node = Standalone::start();
    let mut asker = node.client();
    asker.run("CLIENT NO-EVICT on");
    assert_eq!(asker.run("CONFIG SET maxmemory-clients 3mb"), Reply::ok());
    let unfinished = |bytes: usize| {
        let mut request = format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n${}\r\n", bytes + 1).into_bytes();
        request.extend(std::iter::repeat_n(b'x', bytes));
        request
    };
    let mut small = named(&node, "small");
    small.send_raw(&unfinished(1_000_000)).unwrap();
    let deadline = Instant::now() + WAIT;
    while listed(&mut asker, "small").is_none_or(|line| field(&line, "qbuf") < 1_000_000) {
        assert!(Instant::now() < deadline);
    }
    let mut spared = named(&node, "spared");
    assert_eq!(spared.run("CLIENT NO-EVICT on"), Reply::ok());
    let mut large = named(&node, "large");
    let _ = large.send_raw(&unfinished(2_500_000));
    assert_closed(&mut large);
    assert!(listed(&mut asker, "small").is_some());
    let _ = spared.send_raw(&unfinished(4_000_000));
    wait_gone(&mut asker, "small");
    assert!(listed(&mut asker, "spared").is_some());
    let stats = asker.run("INFO stats").as_text().expect("text");
    assert!(stats.contains("evicted_clients:2\r\n"), "{stats}");
    // By many small things: watched keys, queued commands, subscriptions, prefixes.
    assert_eq!(asker.run("CONFIG SET maxmemory-clients 200kb"), Reply::ok());
    drop(spared);
    for make in [
        "WATCH {}",
        "SUBSCRIBE {}",
        "CLIENT TRACKING on BCAST PREFIX {}",
    ] {
        let mut client = named(&node, "hoarder");
        client.run("HELLO 3");
        let numbered = (0..100_000).find(|number| {
            let request = make.replace("{}", &format!("{number:012}"));
            let words: Vec<&str> = request.split(' ').collect();
            client.ask(&words).is_err()
        });
        assert!(numbered.is_some_and(|number| number > 100), "{make}");
    }
}

#[test]
fn idle_clients_are_closed_but_not_those_that_wait_for_something() {
    let node = Standalone::start();
    let mut asker = node.client();
    let mut idle = named(&node, "idle");
    let mut subscriber = named(&node, "subscriber");
    subscriber.run("SUBSCRIBE news");
    let mut monitor = named(&node, "monitor");
    monitor.run("MONITOR");
    assert_eq!(asker.run("CONFIG SET timeout 1"), Reply::ok());
    wait_gone(&mut asker, "idle");
    assert_closed(&mut idle);
    assert!(listed(&mut asker, "subscriber").is_some());
    assert!(listed(&mut asker, "monitor").is_some());
}

#[test]
fn a_killed_client_that_does_not_read_is_gone_at_once() {
    let node = Standalone::start();
    let mut asker = node.client();
    let mut deaf = named(&node, "deaf");
    deaf.run("SUBSCRIBE news");
    let message = "x".repeat(1_000_000);
    while listed(&mut asker, "deaf").is_some_and(|line| field(&line, "omem") < 1_000_000) {
        asker.ask(&["PUBLISH", "news", &message]).unwrap();
    }
    assert_eq!(asker.run("CLIENT KILL TYPE pubsub"), Reply::Int(1));
    assert_eq!(listed(&mut asker, "deaf"), None);
    let deadline = Instant::now() + WAIT;
    while asker.run("PUBSUB NUMSUB news").items()[1] != Reply::Int(0) {
        assert!(Instant::now() < deadline);
    }
    assert_closed(&mut deaf);
}
