//! Pages of `docs/` that follow from tables in the code. `LARDER_BLESS=1 cargo test -p larder-tests --test pages` writes them afresh.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use larder_runtime::metrics::Kind;
use larder_tests::prometheus::grafana;
use larder_tests::watched::{declared, family, metric_names, panel_queries, rules};
use larder_wire::command::spec::{Categories, CommandSpec, Home, Merge, Route};
use larder_wire::command::{self, CommandId};

fn assert_page(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name);
    if std::env::var_os("LARDER_BLESS").is_some() {
        fs::write(&path, text).expect("docs/ can be written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "docs/{name} is out of date (mend it with: LARDER_BLESS=1 cargo test -p larder-tests --test pages)"
    );
}

/// The heading that a command stands under.
fn heading(spec: &CommandSpec) -> &'static str {
    const FAMILIES: &[(Categories, &str)] = &[
        (Categories::STREAM, "Streams"),
        (Categories::GEO, "Geo"),
        (Categories::HYPERLOGLOG, "HyperLogLog"),
        (Categories::BITMAP, "Bitmaps"),
        (Categories::SORTEDSET, "Sorted sets"),
        (Categories::SET, "Sets"),
        (Categories::LIST, "Lists"),
        (Categories::HASH, "Hashes"),
        (Categories::STRING, "Strings"),
        (Categories::KEYSPACE, "Keys"),
        (Categories::PUBSUB, "Publish and subscribe"),
        (Categories::SCRIPTING, "Scripts and functions"),
        (Categories::TRANSACTION, "Transactions"),
        (Categories::CONNECTION, "Connections"),
    ];
    FAMILIES
        .iter()
        .find(|(category, _)| spec.categories.has(*category))
        .map_or("Server and cluster", |(_, name)| name)
}

fn route(route: Route) -> &'static str {
    match route {
        Route::Key => "to the node of its keys",
        Route::Split(Merge::Ordered) => "split by node, gathered in the order of the keys",
        Route::Split(Merge::Sum) => "split by node, summed",
        Route::Split(Merge::AllOk) => "split by node, `OK` when all said so",
        Route::Split(Merge::Concat) => "split by node, joined",
        Route::Split(Merge::Union) => "split by node, joined without repetition",
        Route::Split(Merge::Counts) => "split by node, summed by name",
        Route::Split(Merge::Least) => "split by node, the least",
        Route::EveryNode(Merge::Ordered) => "to every node, in order",
        Route::EveryNode(Merge::Sum) => "to every node, summed",
        Route::EveryNode(Merge::AllOk) => "to every node, `OK` when all said so",
        Route::EveryNode(Merge::Concat) => "to every node, joined",
        Route::EveryNode(Merge::Union) => "to every node, joined without repetition",
        Route::EveryNode(Merge::Counts) => "to every node, summed by name",
        Route::EveryNode(Merge::Least) => "to every node, the least",
        Route::Scan => "node after node, by cursor",
        Route::AnyNode => "to any node",
        Route::Local => "answered by the proxy itself",
        Route::Topology => "to the topology",
        Route::Refused => "refused",
    }
}

fn compatibility() -> String {
    let rows = CommandId::ALL
        .iter()
        .map(|id| command::spec(*id))
        .filter(|spec| spec.home != Home::Container);
    let rows: Vec<&CommandSpec> = rows.collect();
    let served = rows.iter().filter(|spec| spec.home != Home::Nobody).count();
    let mut page = format!(
        "# Compatibility\n\n\
         This page follows from the command table (`wire/src/command/table.rs`); a test keeps it up to date. `larder commands` shows the same for the binary at hand.\n\n\
         Names, arity, flags and key positions are those of Redis 7.2; behaviour is held against a real redis-server by a differential test. \
         Of {} commands and subcommands {served} are carried out; the others answer `ERR unknown command`, as Redis does for a command that it does not have.\n\n\
         Clients speak RESP2 or RESP3 (`HELLO 3`). A node has the databases 0 to 15, of which the proxy shows the first. Through the proxy a command on keys of several shards is split where that \
         gives the same answer; where it cannot be, the answer is `CROSSSLOT`, as in Redis Cluster: use a `{{tag}}` in such keys. A node that is addressed directly answers \
         as a node of a Redis Cluster does, `MOVED` included; `larder shard --standalone` answers as one Redis without cluster mode.\n\n\
         Commands that block hold a connection to their node from a pool, and channels are listened to by one connection a node: in Redis Cluster, which spreads messages itself, \
         at one node; before Larder's nodes at all, so that a message comes once wherever it was published. PUBLISH and PUBSUB NUMSUB count connections at the nodes, of which \
         all clients of a proxy's thread are one.\n",
        rows.len(),
    );
    let mut families: Vec<&str> = rows.iter().map(|spec| heading(spec)).collect();
    families.sort_unstable();
    families.dedup();
    for name in families {
        write!(
            page,
            "\n## {name}\n\n| command | | through the proxy |\n| --- | --- | --- |\n"
        )
        .expect("a string");
        for spec in rows.iter().filter(|spec| heading(spec) == name) {
            let here = if spec.home == Home::Nobody {
                "not yet"
            } else {
                "yes"
            };
            let shown = spec.name.replace('|', " ").to_uppercase();
            writeln!(page, "| `{shown}` | {here} | {} |", route(spec.route)).expect("a string");
        }
    }
    page
}

fn metrics() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Every process serves these at `/metrics`, each where its part runs. This page follows from the declarations in the code; a test keeps it up to date. \
         Names beginning with `redis_` are those of redis_exporter, so that dashboards for it find them; `node` is the node's address.\n",
    );
    for (part, list) in declared() {
        write!(
            page,
            "\n## {part}\n\n| metric | kind | labels | |\n| --- | --- | --- | --- |\n"
        )
        .expect("a string");
        for metric in list {
            let labels = metric
                .labels
                .iter()
                .map(|label| format!("`{label}`"))
                .collect::<Vec<_>>()
                .join(" ");
            writeln!(
                page,
                "| `{}` | {} | {labels} | {} |",
                metric.name,
                metric.kind.word(),
                metric.help
            )
            .expect("a string");
        }
    }
    page
}

#[test]
fn dashboards_and_rules_name_only_metrics_that_are_declared_and_every_counter_has_its_ending() {
    let declared: BTreeMap<&str, Kind> = declared()
        .iter()
        .flat_map(|(_, list)| list.iter().map(|metric| (metric.name, metric.kind)))
        .collect();
    for (name, kind) in &declared {
        assert_eq!(
            *kind == Kind::Counter,
            name.ends_with("_total"),
            "{name} is a {}",
            kind.word()
        );
    }
    let (records, rules) = rules();
    let panels = panel_queries()
        .into_iter()
        .map(|query| (query.place, query.expression));
    for (place, expression) in
        panels.chain(rules.into_iter().map(|rule| ("a rule".to_owned(), rule)))
    {
        for name in metric_names(&expression) {
            let known = match declared.get(family(&name)) {
                Some(Kind::Histogram) => name != family(&name),
                Some(Kind::Counter | Kind::Gauge) => true,
                None => records.contains(&name),
            };
            assert!(
                known,
                "{place} asks for {name}, which nothing declares: {expression}"
            );
        }
    }
}

#[test]
fn the_dashboards_are_those_that_build_py_writes() {
    let ran = Command::new("python3")
        .arg(grafana().join("build.py"))
        .arg("--check")
        .output()
        .expect("python3");
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

#[test]
fn the_page_of_commands_is_that_of_the_table() {
    assert_page("compatibility.md", &compatibility());
}

#[test]
fn the_page_of_metrics_is_that_of_the_declarations() {
    assert_page("metrics.md", &metrics());
}

/// What a page points to: the targets of its links, and files of the repository that it names.
fn pointed_to(text: &str) -> Vec<String> {
    let links = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let links = links
        .filter(|link| !link.starts_with("http"))
        .map(|link| link.split('#').next().unwrap_or_default());
    let named = text.split('`').skip(1).step_by(2).filter(|name| {
        let known = [".rs", ".md", ".yml", ".toml", ".py"]
            .iter()
            .any(|ending| name.ends_with(ending));
        known && name.contains('/') && !name.contains(['*', '{', '$', ' '])
    });
    links
        .chain(named)
        .filter(|target| !target.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_page_points_to_what_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages = vec![
        root.join("README.md"),
        root.join("ARCHITECTURE.md"),
        root.join("CHANGELOG.md"),
        grafana().join("README.md"),
    ];
    for folder in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root.join(folder))
            .expect(folder)
            .map(|entry| entry.expect("an entry").path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    assert!(pages.len() > 10);
    for page in pages {
        let text =
            fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        for target in pointed_to(&text) {
            let beside = page.parent().expect("a folder").join(&target);
            // Files are named from the root, links go from where the page is.
            let exists = beside.exists() || root.join(&target).exists();
            assert!(
                exists,
                "{} points to {target}, which is not there",
                page.display()
            );
        }
    }
}
