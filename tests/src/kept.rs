//! Data of every kind, and how two servers' data are compared: for tests of what is kept on the disk.

use crate::client::Client;
use crate::reply::Reply;

/// Values of every type and form, small and large; with times that outlast the test.
pub fn fill(client: &mut Client) {
    client.run("DEBUG POPULATE 5000 key 100");
    let mut lines: Vec<String> = Vec::new();
    for n in 0..1200 {
        lines.push(format!("HSET hash:large field:{n} value:{n}"));
        lines.push(format!("ZADD zset:large {n}.25 member:{n}"));
        lines.push(format!("SADD set:large member:{n}"));
        lines.push(format!("RPUSH list:large element:{n} {n}"));
        lines.push(format!("XADD stream:large {}-1 field value:{n}", n + 1));
        if n < 20 {
            lines.push(format!("HSET hash:small field:{n} {n}"));
            lines.push(format!("ZADD zset:small {n} member:{n}"));
            lines.push(format!("SADD set:small member:{n}"));
            lines.push(format!("SADD set:ints {}", n * 70_000));
            lines.push(format!("RPUSH list:small element:{n}"));
            lines.push(format!("PFADD hll:{} visitor:{n}", n % 3));
            lines.push(format!("SET int:{n} {}", 1_i64 << (n * 3)));
            lines.push(format!("SET timed:{n} value EX {}", 10_000 + n));
        }
    }
    lines.push(format!("SET string:large {}", "some-text-".repeat(20_000)));
    lines.push("XGROUP CREATE stream:large readers 0".to_owned());
    lines.push("XREADGROUP GROUP readers me COUNT 300 STREAMS stream:large >".to_owned());
    lines.push("XDEL stream:large 7-1".to_owned());
    lines.push("SELECT 5".to_owned());
    lines.push("SET other database".to_owned());
    for line in lines {
        let reply = client.run(&line);
        assert!(!matches!(reply, Reply::Error(_)), "{line}: {reply:?}");
    }
}

/// As DEBUG DIGEST has it, over all databases.
pub fn digest(client: &mut Client) -> Reply {
    let digest = client.run("DEBUG DIGEST");
    assert!(
        matches!(&digest, Reply::Simple(hex) if hex.len() == 40),
        "{digest:?}"
    );
    digest
}

/// A field of INFO persistence.
pub fn info(client: &mut Client, field: &str) -> String {
    let Reply::Bulk(text) = client.run("INFO persistence") else {
        panic!("INFO is a bulk string")
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    let start = format!("{field}:");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("INFO persistence has {field}"))
        .to_owned()
}
