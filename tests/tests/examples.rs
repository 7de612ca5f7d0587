//! The examples do what they say, against a cluster.

use std::path::{Path, PathBuf};
use std::process::Command;

use larder_tests::Cluster;
use larder_tests::cluster::{SECRET, larder_bin};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(name)
}

fn python() -> PathBuf {
    std::env::var_os("LARDER_CLIENTS")
        .map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients"),
            PathBuf::from,
        )
        .join("python/bin/python")
}

#[track_caller]
fn succeeds(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error} (tests/run installs what it needs)"));
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_rate_limiter_and_a_page_cache_in_python_work() {
    let cluster = Cluster::start(3, 0);
    for name in ["rate_limiter.py", "cache_aside.py"] {
        succeeds(
            Command::new(python())
                .arg(example(name))
                .arg(cluster.proxy_addr().port().to_string()),
        );
    }
}

#[test]
fn a_counter_counts_while_the_cluster_grows_and_shrinks() {
    let cluster = Cluster::start(3, 2);
    succeeds(
        Command::new(example("grow_under_load.sh"))
            .arg(cluster.proxy_addr().port().to_string())
            .arg(cluster.topology_addr().port().to_string())
            .env("LARDER", larder_bin())
            .env("LARDER_SECRET", SECRET),
    );
}
