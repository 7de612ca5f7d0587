//! A real Prometheus with the configuration of `grafana/prometheus/`, asked over its HTTP interface.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::http;
use crate::process::{Process, free_port, local};

pub struct Prometheus {
    _process: Process,
    addr: SocketAddr,
}

/// `grafana/` of this repository.
pub fn grafana() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../grafana")
}

impl Prometheus {
    /// Starts one in `folder` that finds its targets at `discovery`. As shipped, but for that address and for its pace:
    /// a test cannot wait for the shipped intervals.
    ///
    /// # Panics
    /// When there is no Prometheus on this machine (`tests/run` installs it).
    pub fn start(folder: &Path, discovery: SocketAddr) -> Prometheus {
        let shipped = grafana().join("prometheus");
        let config = fs::read_to_string(shipped.join("prometheus.yml")).expect("prometheus.yml");
        let changed = config
            .replace("127.0.0.1:7080", &discovery.to_string())
            .replace(": 5s", ": 1s")
            .replace("- rules/", &format!("- {}/rules/", shipped.display()));
        assert!(
            changed.contains(&discovery.to_string()) && changed.contains("scrape_interval: 1s"),
            "{changed}"
        );
        let path = folder.join("prometheus.yml");
        fs::write(&path, changed).expect("a configuration");
        let addr = local(free_port());
        let args = [
            format!("--config.file={}", path.display()),
            format!(
                "--storage.tsdb.path={}",
                folder.join("prometheus").display()
            ),
            format!("--web.listen-address={addr}"),
        ];
        let mut process = Process::start("prometheus", Path::new("prometheus"), &args, &[], folder)
            .expect("a Prometheus (apt install prometheus)");
        process.wait_for("to be ready", |_| {
            http::get(addr, "/-/ready").is_some_and(|(status, _)| status == 200)
        });
        Prometheus {
            _process: process,
            addr,
        }
    }

    /// The answer of `/api/v1/<path>`.
    ///
    /// # Panics
    /// When it is an error: a query that does not parse, for example.
    pub fn api(&self, path: &str) -> Value {
        let (_, body) =
            http::get(self.addr, &format!("/api/v1/{path}")).expect("Prometheus answers");
        let answer: Value =
            serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// The values that a query has at this moment.
    pub fn query(&self, expression: &str) -> Vec<f64> {
        let data = self.api(&format!("query?query={}", http::escape(expression)));
        let result = data["result"].as_array().cloned().unwrap_or_default();
        let value = |sample: &Value| {
            sample["value"][1]
                .as_str()
                .and_then(|text| text.parse().ok())
        };
        result
            .iter()
            .map(|sample| value(sample).unwrap_or_else(|| panic!("{expression}: {sample}")))
            .collect()
    }
}
