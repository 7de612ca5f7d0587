//! Real clients: redis-cli, redis-py, ioredis, node-redis and the `redis` crate, against the proxy as one
//! Redis, and as cluster clients against the nodes and against the proxy.
//!
//! `tests/run` installs what is not a crate under `target/clients`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use larder_tests::Cluster;
use redis::Commands;

/// Where `tests/run` puts the clients.
fn clients_folder() -> PathBuf {
    std::env::var_os("LARDER_CLIENTS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients"),
        PathBuf::from,
    )
}

/// Runs a client's script with the proxy's and a node's port.
fn run_script(program: &Path, script: &str, cluster: &Cluster) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("clients")
        .join(script);
    let output = Command::new(program)
        .arg(&script)
        .arg(cluster.proxy_addr().port().to_string())
        .arg(cluster.node_addr(0).port().to_string())
        .env("LARDER_NODE_MODULES", clients_folder().join("node"))
        .output()
        .unwrap_or_else(|error| panic!("{}: {error} (tests/run installs it)", program.display()));
    assert!(
        output.status.success(),
        "{}\n{}{}",
        script.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn redis_py_is_served() {
    let cluster = Cluster::start(3, 0);
    run_script(
        &clients_folder().join("python/bin/python"),
        "redis_py.py",
        &cluster,
    );
}

#[test]
fn ioredis_is_served() {
    let cluster = Cluster::start(3, 0);
    run_script(Path::new("node"), "ioredis.mjs", &cluster);
}

#[test]
fn node_redis_is_served() {
    let cluster = Cluster::start(3, 0);
    run_script(Path::new("node"), "node_redis.mjs", &cluster);
}

/// redis-cli's output with these arguments and this input.
fn redis_cli(port: u16, args: &[&str], input: &str) -> String {
    let mut child = Command::new("redis-cli")
        .args(["-p", &port.to_string()])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("redis-cli is installed (tests/run does that)");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("redis-cli reads");
    drop(stdin);
    let output = child.wait_with_output().expect("redis-cli ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{args:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text.trim_end().to_owned()
}

#[test]
fn redis_cli_is_served() {
    let cluster = Cluster::start(3, 0);
    let proxy = cluster.proxy_addr().port();
    for protocol in ["-2", "-3"] {
        assert_eq!(redis_cli(proxy, &[protocol, "set", "a", "1"], ""), "OK");
        assert_eq!(redis_cli(proxy, &[protocol, "get", "a"], ""), "1");
        assert_eq!(redis_cli(proxy, &[protocol, "mget", "a", "b"], ""), "1");
        assert_eq!(redis_cli(proxy, &[protocol, "ping"], ""), "PONG");
    }
    let lines: String = (0..500).map(|n| format!("SET key:{n} {n}\n")).collect();
    let replies = redis_cli(proxy, &[], &lines);
    assert_eq!(replies.lines().filter(|line| *line == "OK").count(), 500);
    let scanned = redis_cli(proxy, &["--scan", "--pattern", "key:*"], "");
    assert_eq!(scanned.lines().count(), 500);

    let bulk: String = (0..500)
        .map(|n| format!("*3\r\n$3\r\nSET\r\n$8\r\npipe:{n:03}\r\n$1\r\nx\r\n"))
        .collect();
    assert!(redis_cli(proxy, &["--pipe"], &bulk).contains("errors: 0, replies: 500"));

    // As a cluster client, from whatever node it begins at.
    for at in [
        cluster.node_addr(0),
        cluster.node_addr(2),
        cluster.proxy_addr(),
    ] {
        for n in 0..10 {
            let key = format!("key:{n}");
            assert_eq!(
                redis_cli(at.port(), &["-c", "get", &key], ""),
                n.to_string()
            );
        }
    }
}

#[test]
fn the_redis_crate_is_served() {
    let cluster = Cluster::start(3, 0);
    let proxy = format!("redis://{}/", cluster.proxy_addr());
    for url in [proxy.clone(), format!("{proxy}?protocol=resp3")] {
        let client = redis::Client::open(url.as_str()).expect("a URL");
        let mut connection = client.get_connection().expect("a connection");
        let () = redis::cmd("FLUSHALL")
            .query(&mut connection)
            .expect("FLUSHALL");
        exercise(&mut connection, "crate");
        let both: (String, i64) = redis::pipe()
            .atomic()
            .set("{crate}n", 1)
            .incr("{crate}n", 1)
            .query(&mut connection)
            .expect("a transaction in one slot");
        assert_eq!(both, ("OK".to_owned(), 2));
        let many: Vec<Option<i64>> = connection
            .mget(&["crate:0", "crate:absent", "crate:99"])
            .expect("MGET across nodes");
        assert_eq!(many, [Some(0), None, Some(99)]);
    }
    for addr in [cluster.node_addr(1), cluster.proxy_addr()] {
        let client = redis::cluster::ClusterClient::new(vec![format!("redis://{addr}/")])
            .expect("a cluster client");
        let mut connection = client.get_connection().expect("a connection to each node");
        exercise(&mut connection, &format!("cluster-{}", addr.port()));
    }
}

fn exercise<C: redis::ConnectionLike>(connection: &mut C, name: &str) {
    for number in 0..100_i64 {
        let () = connection
            .set(format!("{name}:{number}"), number)
            .expect("SET");
    }
    for number in 0..100_i64 {
        let value: i64 = connection.get(format!("{name}:{number}")).expect("GET");
        assert_eq!(value, number);
    }
    let absent: Option<String> = connection.get(format!("{name}:absent")).expect("GET");
    assert_eq!(absent, None);
    let length: i64 = connection
        .rpush(format!("{name}:list"), &["a", "b"])
        .expect("RPUSH");
    assert_eq!(length, 2);
    let () = connection
        .hset_multiple(format!("{name}:hash"), &[("f", "1"), ("g", "2")])
        .expect("HSET");
    let hash: std::collections::BTreeMap<String, i64> =
        connection.hgetall(format!("{name}:hash")).expect("HGETALL");
    assert_eq!(hash.len(), 2);
    let wrong: redis::RedisResult<i64> = connection.incr(format!("{name}:hash"), 1);
    assert!(wrong.is_err(), "INCR of a hash");
}
