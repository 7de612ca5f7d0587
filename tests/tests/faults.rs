//! Real processes in a network of their own are broken in every way that `scenarios.rs` lists, while clients write down what they see; the table in
//! `docs/faults.md` is what this prints.
//!
//! `LARDER_FAULT=crash` runs only the scenarios whose names contain that, `LARDER_WRITES=safe` only one mode; `LARDER_BLESS=1` puts the table on the page
//! and allows no fault more time than `scenarios.rs` does (for a machine that does nothing else; otherwise what a busy one adds is granted).

use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use larder_tests::chance::seeds;
use larder_tests::faults::broken::Hosts;
use larder_tests::faults::row::{BUSY_MS, Row, rows_of, run, table, wanted_rows};
use larder_tests::faults::scenarios::{REPLICAS, SCENARIOS, SHARDS, Scenario};
use larder_wire::replication::WriteMode;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/faults.md");
/// What stands around the table on the page.
const BEGIN: &str = "<!-- faults: begin -->\n";
const END: &str = "<!-- faults: end -->";

#[test]
fn what_breaks_costs_no_more_than_it_may() {
    if let Err(reason) = Hosts::new(0) {
        println!("SKIPPED, no network of our own can be made: {reason}");
        return;
    }
    let chosen = chosen();
    let seed = seeds(1)[0];
    println!("LARDER_SEED={seed}");
    let start = Instant::now();
    let blesses = std::env::var_os("LARDER_BLESS").is_some();
    let slack_ms = if blesses { 0 } else { BUSY_MS };
    let rows = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for writes in modes() {
            let (rows, chosen) = (&rows, &chosen);
            scope.spawn(move || {
                let hosts = Hosts::new(SHARDS * (1 + REPLICAS)).expect("a network, as before");
                for (index, scenario) in chosen {
                    let row = run(scenario, &hosts, writes, seed, slack_ms);
                    rows.lock().unwrap().push((*index, row));
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap();
    rows.sort_by_key(|(index, row)| (*index, row.writes.word()));
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    let text = table(&rows);
    println!("{text}in {:?}", start.elapsed());
    if blesses && rows.len() == wanted_rows().len() {
        bless(&text);
    }
    let complaints: Vec<String> = rows
        .iter()
        .flat_map(|row| {
            let name = format!("{}, {}", row.fault, row.writes.word());
            let told = row.complaints.iter();
            told.map(move |what| format!("{name}: {what}"))
        })
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_page_has_a_row_for_every_fault_and_mode() {
    let page = std::fs::read_to_string(PAGE).expect("the page is there");
    assert_eq!(
        rows_of(&page),
        wanted_rows(),
        "write the table anew: LARDER_BLESS=1 cargo test --profile quick -p larder-tests --test faults"
    );
}

fn chosen() -> Vec<(usize, &'static Scenario)> {
    let wanted = std::env::var("LARDER_FAULT").unwrap_or_default();
    let all = SCENARIOS.iter().enumerate();
    let chosen: Vec<(usize, &Scenario)> = all
        .filter(|(_, scenario)| scenario.fault.contains(&wanted))
        .collect();
    assert!(!chosen.is_empty(), "no fault is called {wanted:?}");
    chosen
}

fn modes() -> Vec<WriteMode> {
    let wanted = std::env::var("LARDER_WRITES").unwrap_or_default();
    let all = [WriteMode::Async, WriteMode::Safe].into_iter();
    all.filter(|mode| mode.word().contains(&wanted)).collect()
}

fn bless(text: &str) {
    let path = Path::new(PAGE);
    let page = std::fs::read_to_string(path).expect("the page is there");
    let (before, rest) = page.split_once(BEGIN).expect("the page has the mark");
    let (_, after) = rest.split_once(END).expect("the page has the end mark");
    std::fs::write(path, format!("{before}{BEGIN}{text}{END}{after}")).expect("it can be written");
}
