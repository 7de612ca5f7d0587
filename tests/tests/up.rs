//! `larder up` as a person meets it: it says where things are, starts and ends cleanly, and every failure is one clear line.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use larder_tests::cluster::{SECRET, larder_bin};
use larder_tests::process::local;
use larder_tests::{Client, Reply, Up};
use larder_topology::store::{Embedded, Store};

/// A start that takes longer than this is no start "well under a second".
const READY_MS_MAX: u128 = 1000;

fn run(args: &[String]) -> Output {
    Command::new(larder_bin())
        .args(args)
        .env("LARDER_SECRET", SECRET)
        .stdin(Stdio::null())
        .output()
        .expect("larder is built (cargo build --profile quick)")
}

/// Exit code 1, nothing on standard output, and one line on standard error that holds `parts`.
fn assert_one_line_failure(ran: &Output, parts: &[&str]) {
    let (said, printed) = (
        String::from_utf8_lossy(&ran.stderr),
        String::from_utf8_lossy(&ran.stdout),
    );
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!printed.contains("ready"), "{printed}");
    for part in parts {
        assert!(said.contains(part), "no {part:?} in: {said}");
    }
}

fn node_ids(up: &Up) -> BTreeSet<String> {
    (0..3)
        .map(
            |index| match Client::to(up.node_addr(index)).run("CLUSTER MYID") {
                Reply::Bulk(id) => String::from_utf8_lossy(&id).into_owned(),
                other => panic!("CLUSTER MYID of node {index}: {other:?}"),
            },
        )
        .collect()
}

#[test]
fn it_is_ready_in_well_under_a_second_says_where_things_are_and_ends_cleanly_on_ctrl_c() {
    let folder = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let mut up = Up::start(folder.path(), &[]);
    let mut took = began.elapsed();
    let process = up.process.as_mut().unwrap();
    let said = process.output();
    for addr in [up.proxy_addr(), up.topology_addr(), up.http_addr()] {
        assert!(
            said.contains(&addr.port().to_string()),
            "no {addr} in:\n{said}"
        );
    }
    let up_process = up.process.as_mut().unwrap();
    up_process.signal("INT");
    assert_eq!(
        up_process.wait_end().code(),
        Some(0),
        "{}",
        up_process.output()
    );
    for addr in [
        up.proxy_addr(),
        up.topology_addr(),
        up.http_addr(),
        up.node_addr(0),
    ] {
        TcpListener::bind(addr).unwrap_or_else(|error| panic!("{addr} is not free again: {error}"));
    }
    // Other tests may have had the machine: the best of some starts counts.
    for _ in 0..4 {
        if took.as_millis() < READY_MS_MAX {
            return;
        }
        up.process.as_mut().unwrap().kill();
        let began = Instant::now();
        up.start_again();
        took = took.min(began.elapsed());
    }
    panic!("ready after {took:?}");
}

#[test]
fn started_again_the_nodes_are_the_same_and_serve_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[]);
    let before = node_ids(&up);
    assert_eq!(before.len(), 3);
    assert_eq!(
        up.client().run("SET greeting hello"),
        Reply::Simple("OK".into())
    );
    // Killed: nothing had a chance to be written on the way out.
    up.process.as_mut().unwrap().kill();
    up.start_again();
    assert_eq!(node_ids(&up), before);
    let mut client = up.client();
    for round in 0..300 {
        assert_eq!(
            client.run(&format!("SET key:{round} v")),
            Reply::Simple("OK".into())
        );
    }
}

#[test]
fn further_nodes_are_started_when_resharding_asks_for_them_and_come_back_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &["--shards", "1"]);
    let said = up.larder(&["reshard", "--shards", "4"]);
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    let process = up.process.as_mut().unwrap();
    process.signal("TERM");
    assert!(process.wait_end().success());
    up.start_again();
    let mut client = up.client();
    for round in 0..300 {
        assert_eq!(
            client.run(&format!("SET key:{round} v")),
            Reply::Simple("OK".into())
        );
    }
}

#[test]
fn a_taken_port_is_named_with_its_flag_and_nothing_is_left_running() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[]);
    up.process.as_mut().unwrap().kill();
    let args = up.args();
    for (addr, flag) in [
        (up.proxy_addr(), "--port"),
        (up.topology_addr(), "--admin-port"),
        (up.http_addr(), "--http-port"),
        (up.node_addr(1), "--node-port"),
    ] {
        let taken = TcpListener::bind(addr).unwrap();
        let port = addr.port().to_string();
        assert_one_line_failure(&run(&args), &["larder: port", &port, "is taken", flag]);
        drop(taken);
    }
}

#[test]
fn a_data_directory_that_cannot_be_written_or_is_in_use_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &[]);
    let mut args = up.args();
    let data = args.iter().position(|arg| arg == "--data-dir").unwrap() + 1;
    // Another process has it: other ports, the same folder.
    let other = larder_tests::process::free_ports(11);
    let mut second = args.clone();
    for (flag, port) in [
        ("--port", other),
        ("--admin-port", other + 1),
        ("--http-port", other + 2),
        ("--node-port", other + 3),
    ] {
        let at = second.iter().position(|arg| arg == flag).unwrap() + 1;
        second[at] = port.to_string();
    }
    assert_one_line_failure(&run(&second), &["--data-dir"]);
    drop(up);
    // A file where the folder should be; root may write everywhere else.
    let file = folder.path().join("a-file");
    std::fs::write(&file, "precious").unwrap();
    args[data] = file.display().to_string();
    assert_one_line_failure(&run(&args), &["a-file", "--data-dir"]);
    let locked = folder.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o500)).unwrap();
    if std::fs::write(locked.join("probe"), "").is_err() {
        args[data] = locked.join("data").display().to_string();
        assert_one_line_failure(&run(&args), &["locked", "--data-dir"]);
    }
}

#[test]
fn a_data_directory_of_another_version_is_one_clear_line_and_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[]);
    let process = up.process.as_mut().unwrap();
    process.signal("INT");
    assert!(process.wait_end().success());
    let data = folder.path().join("data");
    let from_a_later_release = |store: &mut Embedded| {
        let state = store.load("larder").unwrap().expect("a record");
        let mut state: serde_json::Value = serde_json::from_slice(&state).unwrap();
        state["version"] = 99.into();
        store
            .save("larder", &serde_json::to_vec(&state).unwrap())
            .unwrap();
    };
    from_a_later_release(&mut Embedded::open(&data, "--data-dir").unwrap());
    assert_one_line_failure(&run(&up.args()), &["version 99"]);
    let kept = Embedded::open(&data, "--data-dir")
        .unwrap()
        .load("larder")
        .unwrap()
        .unwrap();
    assert!(String::from_utf8_lossy(&kept).contains("\"version\":99"));
}

#[test]
fn settings_that_mean_nothing_are_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[]);
    up.process.as_mut().unwrap().kill();
    for (flag, value) in [
        ("--bind", "nonsense"),
        ("--bind", "192.0.2.1"),
        ("--shards", "0"),
        ("--replicas", "1000"),
    ] {
        let mut args = up.args();
        args.extend([flag.to_owned(), value.to_owned()]);
        assert_one_line_failure(&run(&args), &[value]);
    }
}

#[test]
fn the_operators_commands_fail_with_one_line_where_no_topology_is() {
    let nobody = local(larder_tests::free_port()).to_string();
    for args in [
        vec!["status"],
        vec!["status", "--json"],
        vec!["reshard", "--shards", "4"],
        vec!["move", "--slots", "0-9", "--to", "x"],
        vec!["rebalance"],
    ] {
        let args: Vec<String> = args
            .into_iter()
            .chain(["--topology", &nobody])
            .map(str::to_owned)
            .collect();
        let began = Instant::now();
        assert_one_line_failure(&run(&args), &[&nobody, "--topology"]);
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
