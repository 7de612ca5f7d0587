//! The protocol itself, byte for byte: odd but valid requests, and broken ones, on a real redis-server and on a node.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use larder_tests::RedisServer;
use larder_tests::client::REPLY_WAIT_S_MAX;
use larder_tests::standalone::Standalone;

/// All that a server answers to these bytes until it has no more to say.
fn answer(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).expect("a server");
    stream
        .set_read_timeout(Some(Duration::from_secs(REPLY_WAIT_S_MAX)))
        .expect("a time-out");
    // A server that hangs up early may cut the writing short.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut said = Vec::new();
    if let Err(error) = stream.read_to_end(&mut said) {
        assert!(
            matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ),
            "{}: {error}",
            bytes.escape_ascii()
        );
    }
    said.escape_ascii().to_string()
}

#[test]
fn a_node_understands_and_refuses_bytes_as_redis_does() {
    let cases: &[&[u8]] = &[
        b"PING\r\n",
        b"PING\n",
        b"  PING   hello  \r\n",
        b"\r\n\r\nPING\r\n",
        b"*0\r\nPING\r\n",
        b"*-1\r\nPING\r\n",
        b"ping \"a b\\x41\\n\"\r\n",
        b"ping 'it\\'s'\r\n",
        b"ping \"unbalanced\r\n",
        b"ping \"a\"b\r\n",
        b"ping ''\r\n",
        b"*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\nPING inline\r\n*1\r\n$4\r\nping\r\n",
        b"*x\r\n",
        b"*1x\r\n$4\r\nPING\r\n",
        b"*99999999999999999999\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\nPING\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$536870913\r\n",
        b"*1\r\n$99999999999999999999\r\n",
        b"*2\r\n$4\r\nECHO\r\n$3\r\nabc\r\nQUIT\r\n",
        b"QUIT\r\nPING\r\n",
        b"nosuch\r\n",
        b"config nosuch\r\n",
        b"get\r\n",
        b"HELLO 3\r\nget nothing\r\n",
        b"HELLO 4\r\n",
        b"HELLO x\r\n",
        b"MULTI\r\nSET a 1\r\nINCR a\r\nNOSUCH\r\nEXEC\r\n",
        b"MULTI\r\nSET a 1\r\nINCR a\r\nEXEC\r\n",
    ];
    let (redis, node) = (RedisServer::start(), Standalone::start());
    let mut wrong = Vec::new();
    for case in cases {
        let (expected, said) = (answer(redis.addr(), case), answer(node.addr(), case));
        // HELLO tells of the server.
        if case.starts_with(b"HELLO 3") {
            assert!(said.ends_with("_\\r\\n"), "{said}");
        } else if expected != said {
            wrong.push(format!(
                "{}\n  redis  {expected}\n  larder {said}",
                case.escape_ascii()
            ));
        }
    }
    let long_line = [b'x'; 70_000];
    let expected = answer(redis.addr(), &long_line);
    let said = answer(node.addr(), &long_line);
    if expected != said {
        wrong.push(format!(
            "a line without end\n  redis  {expected}\n  larder {said}"
        ));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
