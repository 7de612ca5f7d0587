//! A real Prometheus watches a real cluster under load, and everything in `grafana/` has something to show.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use larder_tests::prometheus::grafana;
use larder_tests::watched::{metric_names, panel_queries, rules};
use larder_tests::{Client, Prometheus, Up, http};

/// Longest wait for every query to have data, in seconds.
const DATA_WAIT_S_MAX: u64 = 60;

/// Some of everything that is counted: hits, misses, keys that expire, commands over several nodes, errors, new connections.
fn load(up: &Up, stop: &AtomicBool) {
    let mut client = up.client();
    for round in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let key = format!("key:{}", round % 5000);
        let value = "x".repeat(100);
        client.run(&format!("SET {key} {value}"));
        client.run(&format!("GET {key}"));
        client.run(&format!("GET missing:{round}"));
        client.run(&format!("HSET hash:{} field value", round % 100));
        client.run(&format!("RPUSH list:{} a b c", round % 100));
        client.run(&format!("MGET {key} key:1 key:2 key:3"));
        client.run(&format!("SET brief:{round} v PX 50"));
        // An error, on purpose.
        client.run("INCR hash:1");
        if round % 100 == 0 {
            client = up.client();
            Client::to(up.node_addr(0)).run("PING");
        }
    }
}

fn promtool(args: &[&str], input: Option<&Path>) {
    let stdin = input.map_or_else(Stdio::null, |path| {
        std::fs::File::open(path).expect("input").into()
    });
    let ran = Command::new("promtool")
        .args(args)
        .stdin(stdin)
        .output()
        .expect("promtool (apt install prometheus)");
    let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "promtool {args:?}:\n{said}");
}

#[test]
fn the_shipped_configuration_and_rules_are_right_and_every_alert_fires_on_its_series() {
    let folder = grafana().join("prometheus");
    let path = |name: &str| folder.join(name).display().to_string();
    promtool(&["check", "config", &path("prometheus.yml")], None);
    promtool(
        &[
            "check",
            "rules",
            &path("rules/recording.yml"),
            &path("rules/alerts.yml"),
        ],
        None,
    );
    promtool(&["test", "rules", &path("tests/alerts.yml")], None);
    let alerts = std::fs::read_to_string(path("rules/alerts.yml")).unwrap();
    let tests = std::fs::read_to_string(path("tests/alerts.yml")).unwrap();
    for alert in alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
    {
        assert!(
            tests.contains(&format!("alertname: {alert}\n")),
            "no series in tests/alerts.yml on which {alert} fires"
        );
    }
}

#[test]
fn every_query_of_every_panel_and_rule_has_data_for_a_cluster_under_load_that_reshards() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &["--maxmemory", "256mb"]);
    let prometheus = Prometheus::start(folder.path(), up.http_addr());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // Also when an assertion fails: the scope waits for its threads.
        let _stopper = Stopper(&stop);
        scope.spawn(|| load(&up, &stop));
        scope.spawn(|| load(&up, &stop));
        // Both ways, over and over: what only a move shows is shown at some moment.
        scope.spawn(|| {
            for shards in ["5", "3"].iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let said = up.larder(&["reshard", "--shards", shards]);
                assert!(
                    said.status.success(),
                    "{}",
                    String::from_utf8_lossy(&said.stderr)
                );
            }
        });
        assert_data(&prometheus);
        check_pages(&prometheus, folder.path());
    });
}

struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn assert_data(prometheus: &Prometheus) {
    let mut wanted: BTreeMap<String, String> = panel_queries()
        .into_iter()
        .map(|query| (query.expression, query.place))
        .collect();
    let (records, expressions) = rules();
    wanted.extend(
        records
            .into_iter()
            .map(|record| (record, "recording.yml".to_owned())),
    );
    // An alert is silent while all is well; the series that it looks at are there all the same.
    for name in expressions
        .iter()
        .flat_map(|expression| metric_names(expression))
        // `larder up` takes no backups: their service shows these, and its own test sees them.
        .filter(|name| !name.starts_with("larder_backup"))
    {
        wanted.entry(name).or_insert_with(|| "a rule".to_owned());
    }
    let give_up = Instant::now() + Duration::from_secs(DATA_WAIT_S_MAX);
    while !wanted.is_empty() {
        wanted.retain(|expression, _| {
            !prometheus
                .query(expression)
                .iter()
                .any(|value| value.is_finite())
        });
        assert!(
            Instant::now() < give_up,
            "no data in {DATA_WAIT_S_MAX} s for:\n{wanted:#?}"
        );
        thread::sleep(Duration::from_millis(200));
    }
    let groups = prometheus.api("rules");
    for group in groups["groups"].as_array().expect("groups") {
        for rule in group["rules"].as_array().expect("rules") {
            assert_eq!(rule["health"], "ok", "{rule}");
        }
    }
}

/// `promtool check metrics` on every process that the discovery names.
fn check_pages(prometheus: &Prometheus, folder: &Path) {
    let targets = prometheus.api("targets?state=active");
    let targets = targets["activeTargets"].as_array().expect("targets");
    assert!(!targets.is_empty());
    for target in targets {
        assert_eq!(target["health"], "up", "{target}");
        let addr = target["labels"]["instance"].as_str().expect("an instance");
        let (status, page) =
            http::get(addr.parse().expect("an address"), "/metrics").expect("a page");
        assert_eq!(status, 200);
        let path = folder.join("page");
        std::fs::write(&path, page).unwrap();
        promtool(&["check", "metrics"], Some(&path));
    }
}
