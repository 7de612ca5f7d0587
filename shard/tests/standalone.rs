//! A standalone node over real sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use larder_runtime::Registry;
use larder_shard::{Handle, NodeEnd, ShardConfig, start};

struct Server {
    handle: Option<Handle>,
    registry: Registry,
}

impl Server {
    fn start() -> Server {
        let registry = Registry::new();
        let config = ShardConfig {
            listen: "127.0.0.1:0".to_string(),
            ..ShardConfig::default()
        };
        let handle = start(config, &registry).unwrap();
        Server {
            handle: Some(handle),
            registry,
        }
    }

    fn client(&self) -> Client {
        let addr = self.handle.as_ref().unwrap().nodes().next().unwrap().listen;
        let stream = TcpStream::connect(addr).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        Client(stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let handle = self.handle.take().unwrap();
        handle.stop();
        let ends = handle.join();
        if !std::thread::panicking() {
            assert_eq!(ends, [NodeEnd::Stopped]);
        }
    }
}

struct Client(TcpStream);

impl Client {
    /// Sends `text` and demands exactly `reply`.
    fn expect(&mut self, text: &str, reply: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
        self.read(reply, text);
    }

    fn read(&mut self, reply: &str, after: &str) {
        let mut got = vec![0; reply.len()];
        self.0.read_exact(&mut got).unwrap_or_else(|error| {
            panic!("after {after:?}: {error}; wanted {reply:?}");
        });
        assert_eq!(String::from_utf8_lossy(&got), reply, "after {after:?}");
    }

    fn expect_end(&mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}

#[test]
fn requests_are_answered_in_order_however_they_arrive() {
    let server = Server::start();
    let mut client = server.client();
    client.expect("PING\r\n", "+PONG\r\n");
    client.expect(
        "SET a 1\r\nGET a\r\nINCR a\r\nGET b\r\n",
        "+OK\r\n$1\r\n1\r\n:2\r\n$-1\r\n",
    );
    for byte in "*2\r\n$3\r\nGET\r\n$1\r\na\r\n".bytes() {
        client.0.write_all(&[byte]).unwrap();
        client.0.flush().unwrap();
    }
    client.read("$1\r\n2\r\n", "GET in single bytes");
}

#[test]
fn a_large_value_and_a_long_pipeline_come_back_whole() {
    let server = Server::start();
    let mut client = server.client();
    let value = "x".repeat(3_000_000);
    client.expect(
        &format!(
            "*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\n{value}\r\n",
            value.len()
        ),
        "+OK\r\n",
    );
    let mut writer = client.0.try_clone().unwrap();
    let asked = 20;
    let writing = std::thread::spawn(move || {
        for _ in 0..asked {
            writer.write_all(b"GET big\r\nPING\r\n").unwrap();
        }
    });
    let reply = format!("${}\r\n{value}\r\n+PONG\r\n", value.len());
    for _ in 0..asked {
        client.read(&reply, "GET big");
    }
    writing.join().unwrap();
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody_else() {
    let server = Server::start();
    let mut deaf = server.client();
    let value = "x".repeat(1_000_000);
    deaf.expect(&format!("SET big {}\r\n", &value[..60_000]), "+OK\r\n");
    for _ in 0..2000 {
        if deaf.0.write_all(b"GET big\r\n").is_err() {
            break;
        }
    }
    let mut other = server.client();
    other.expect("PING\r\n", "+PONG\r\n");
    let info = "CLIENT ID\r\n";
    other.expect(info, ":2\r\n");
}

/// Each leaves while its replies are made, with a reset: the write of them fails.
#[test]
fn replies_of_a_client_that_is_gone_reach_nobody_else() {
    let server = Server::start();
    let mut other = server.client();
    for _ in 0..20 {
        let mut gone = server.client();
        gone.0
            .write_all(b"DEBUG SLEEP 0.02\r\nECHO another's\r\n")
            .unwrap();
        // The node is asleep by then: it has read the request, and notices the reset at its write.
        std::thread::sleep(Duration::from_millis(5));
        let socket = socket2::SockRef::from(&gone.0);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
        drop(gone);
        other.expect("ECHO mine\r\n", "$4\r\nmine\r\n");
    }
    other.expect("PING\r\n", "+PONG\r\n");
}

#[test]
fn bytes_that_are_no_request_are_answered_and_the_connection_closed() {
    let server = Server::start();
    let mut client = server.client();
    client.expect(
        "PING\r\n*1\r\n!3\r\n",
        "+PONG\r\n-ERR Protocol error: expected '$', got '!'\r\n",
    );
    client.expect_end();
}

#[test]
fn quit_answers_before_it_closes() {
    let server = Server::start();
    let mut client = server.client();
    client.expect("PING\r\nQUIT\r\nPING\r\n", "+PONG\r\n+OK\r\n");
    client.expect_end();
}

#[test]
fn a_killed_client_is_closed_though_it_says_nothing() {
    let server = Server::start();
    let mut victim = server.client();
    victim.expect("CLIENT ID\r\n", ":1\r\n");
    let mut killer = server.client();
    killer.expect("CLIENT KILL ID 1\r\n", ":1\r\n");
    victim.expect_end();
}

#[test]
fn a_paused_client_waits_until_the_pause_is_lifted() {
    let server = Server::start();
    let mut pauser = server.client();
    let mut writer = server.client();
    pauser.expect("CLIENT PAUSE 60000 WRITE\r\n", "+OK\r\n");
    writer.expect("PING\r\n", "+PONG\r\n");
    writer
        .0
        .write_all(b"GET a\r\nSET a 1\r\nGET a\r\n")
        .unwrap();
    writer.read("$-1\r\n", "GET a");
    pauser.expect("GET a\r\n", "$-1\r\n");
    pauser.expect("CLIENT UNPAUSE\r\n", "+OK\r\n");
    writer.read("+OK\r\n$1\r\n1\r\n", "SET a");
}

#[test]
fn a_transaction_runs_whole_or_not_at_all() {
    let server = Server::start();
    let (mut one, mut two) = (server.client(), server.client());
    one.expect(
        "MULTI\r\nSET a 1\r\nINCR a\r\nEXEC\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:2\r\n",
    );
    one.expect("WATCH a\r\n", "+OK\r\n");
    two.expect("SET a 5\r\n", "+OK\r\n");
    one.expect(
        "MULTI\r\nSET a 9\r\nEXEC\r\nGET a\r\n",
        "+OK\r\n+QUEUED\r\n*-1\r\n$1\r\n5\r\n",
    );
    one.expect(
        "MULTI\r\nNONSENSE\r\nEXEC\r\n",
        "+OK\r\n-ERR unknown command 'NONSENSE', with args beginning with: \r\n-EXECABORT Transaction discarded because of previous errors.\r\n",
    );
}

#[test]
fn metrics_count_what_was_done() {
    let server = Server::start();
    let mut client = server.client();
    client.expect("SET a 1\r\nGET a\r\nGET b\r\n", "+OK\r\n$1\r\n1\r\n$-1\r\n");
    let text = server.registry.text();
    let addr = server
        .handle
        .as_ref()
        .unwrap()
        .nodes()
        .next()
        .unwrap()
        .addr
        .clone();
    let line = format!("redis_commands_total{{node=\"{addr}\",cmd=\"get\"}} 2");
    assert!(text.contains(&line), "{line} is not in\n{text}");
}

#[test]
fn a_taken_port_is_one_line_that_names_it_and_starts_nothing() {
    let server = Server::start();
    let addr = server
        .handle
        .as_ref()
        .unwrap()
        .nodes()
        .next()
        .unwrap()
        .listen;
    let config = ShardConfig {
        listen: addr.to_string(),
        ..ShardConfig::default()
    };
    let error = start(config, &Registry::new()).err().unwrap().to_string();
    assert_eq!(
        error,
        format!(
            "port {} is taken (choose another with --listen)",
            addr.port()
        )
    );
}

#[test]
fn a_stranger_takes_no_control() {
    let server = Server::start();
    let mut client = server.client();
    let refused = "-NOAUTH control commands need the cluster's secret (AUTH larder <secret>)\r\n";
    for verb in [
        "STATE",
        "MAP {}",
        "IMPORT {}",
        "FEED {}",
        "ABORT 1",
        "AWAIT 1",
        "NONSENSE",
    ] {
        client.expect(&format!("LARDER {verb}\r\n"), refused);
    }
    client.expect(
        "LARDER HELLO 1 guess proxy\r\n",
        "-WRONGPASS this is not the cluster's secret\r\n",
    );
}
