//! What `grafana/` asks for: every query of every panel, every expression of every rule, and the metrics that they name.

use std::collections::BTreeSet;
use std::fs;

use larder_runtime::metrics::Declared;
use serde_json::Value;

use crate::prometheus::grafana;

/// Every metric that the code declares, by the part that shows it.
pub fn declared() -> [(&'static str, &'static [Declared]); 6] {
    [
        ("Proxy", larder_proxy::METRICS),
        ("Node", larder_shard::metrics::DECLARED),
        ("Topology", larder_topology::METRICS),
        ("Scheduled backups", larder_backup::metrics::DECLARED),
        ("Import", larder_import::metrics::DECLARED),
        ("Every process", larder_runtime::process::DECLARED),
    ]
}

/// One query of one panel.
#[derive(Debug)]
pub struct PanelQuery {
    /// `overview.json: Clients`.
    pub place: String,
    pub expression: String,
}

/// Every query of every dashboard, annotations and variables included, as Grafana would send it with everything selected.
pub fn panel_queries() -> Vec<PanelQuery> {
    let mut queries = Vec::new();
    let folder = fs::read_dir(grafana().join("dashboards")).expect("grafana/dashboards");
    for entry in folder {
        let path = entry.expect("a file").path();
        let file = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let dashboard: Value =
            serde_json::from_str(&fs::read_to_string(&path).expect("a dashboard"))
                .unwrap_or_else(|e| panic!("{file}: {e}"));
        for panel in list(&dashboard["panels"]) {
            let title = panel["title"].as_str().expect("a panel has a title");
            for target in list(&panel["targets"]) {
                let expression = target["expr"].as_str().expect("a target has an expression");
                queries.push(PanelQuery {
                    place: format!("{file}: {title}"),
                    expression: fill_in(expression),
                });
            }
        }
        for variable in list(&dashboard["templating"]["list"]) {
            let query = variable["query"].as_str().unwrap_or_default();
            if let Some(inside) = query.strip_prefix("label_values(") {
                let metric = inside.split(',').next().unwrap_or_default();
                let name = variable["name"].as_str().unwrap_or_default();
                queries.push(PanelQuery {
                    place: format!("{file}: variable {name}"),
                    expression: metric.to_owned(),
                });
            }
        }
    }
    assert!(
        queries.len() > 40,
        "only {} queries were found in grafana/dashboards",
        queries.len()
    );
    queries
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Grafana's variables as they are with everything selected and a range of some seconds.
fn fill_in(expression: &str) -> String {
    let filled = expression
        .replace("$__rate_interval", "10s")
        .replace("$node", ".*")
        .replace("$instance", ".*");
    assert!(!filled.contains('$'), "a variable is left in: {filled}");
    filled
}

/// The metric names in an expression: identifiers that begin as a metric of a larder process or a recorded series does.
pub fn metric_names(expression: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    // Label values are no names.
    let outside = expression
        .split('"')
        .step_by(2)
        .collect::<Vec<_>>()
        .join("\"");
    let inside_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    for word in outside.split(|c: char| !inside_name(c)) {
        if ["larder_", "larder:", "redis_", "process_"]
            .iter()
            .any(|start| word.starts_with(start))
        {
            names.insert(word.to_owned());
        }
    }
    names
}

/// A sample's name without what a histogram adds to it.
pub fn family(name: &str) -> &str {
    ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|end| name.strip_suffix(end))
        .unwrap_or(name)
}

/// Names that `rules/recording.yml` records, and the expressions of all rules, read line by line: every `record:` and
/// `expr:` of those files stands on a line of its own.
pub fn rules() -> (BTreeSet<String>, Vec<String>) {
    let (mut records, mut expressions) = (BTreeSet::new(), Vec::new());
    for file in ["recording.yml", "alerts.yml"] {
        let text = fs::read_to_string(grafana().join("prometheus/rules").join(file)).expect(file);
        for line in text
            .lines()
            .map(|line| line.trim().trim_start_matches("- "))
        {
            if let Some(name) = line.strip_prefix("record: ") {
                records.insert(name.to_owned());
            }
            if let Some(expression) = line.strip_prefix("expr: ") {
                assert!(
                    expression != "|" && expression != ">",
                    "{file}: write the expression on the line of its expr:"
                );
                expressions.push(expression.trim_matches('\'').to_owned());
            }
        }
    }
    assert!(!records.is_empty() && expressions.len() > records.len());
    (records, expressions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_outside_label_values_only() {
        let names = metric_names(
            r#"sum by (node) (rate(redis_commands_total{cmd="larder_x"}[1m])) / larder:a:b > 1"#,
        );
        assert_eq!(
            names.into_iter().collect::<Vec<_>>(),
            ["larder:a:b", "redis_commands_total"]
        );
        assert_eq!(
            family("larder_proxy_request_seconds_bucket"),
            "larder_proxy_request_seconds"
        );
    }
}
