//! The arrows between crates, and what hearts may not use: ARCHITECTURE.md's picture, held against Cargo.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// A crate, the crates of this workspace that it may import, and whether it is a heart: no sockets, no timers.
const ARROWS: &[(&str, &[&str], bool)] = &[
    ("larder-wire", &[], true),
    ("larder-runtime", &["larder-wire"], false),
    ("larder-store", &["larder-wire"], true),
    ("larder-engine", &["larder-store", "larder-wire"], true),
    (
        "larder-shard",
        &[
            "larder-engine",
            "larder-store",
            "larder-runtime",
            "larder-wire",
        ],
        false,
    ),
    ("larder-proxy", &["larder-runtime", "larder-wire"], false),
    ("larder-plan", &["larder-wire"], true),
    (
        "larder-topology",
        &["larder-plan", "larder-runtime", "larder-wire"],
        false,
    ),
    (
        "larder-import",
        &["larder-runtime", "larder-store", "larder-wire"],
        false,
    ),
    (
        "larder-backup",
        &[
            "larder-engine",
            "larder-store",
            "larder-runtime",
            "larder-wire",
        ],
        false,
    ),
    (
        "larder",
        &[
            "larder-import",
            "larder-backup",
            "larder-plan",
            "larder-proxy",
            "larder-runtime",
            "larder-shard",
            "larder-topology",
            "larder-wire",
        ],
        false,
    ),
    ("larder-bench", &["larder-runtime", "larder-wire"], false),
];

/// What no heart may import: they get time, chance and bytes as parameters.
const IO_CRATES: &[&str] = &[
    "tokio",
    "axum",
    "socket2",
    "redb",
    "ureq",
    "tracing",
    "prometheus",
    "rand",
    "getrandom",
];

/// Each crate's own dependencies, those of its tests left out.
fn imports() -> BTreeMap<String, Vec<String>> {
    let asked = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .output()
        .expect("cargo metadata");
    let metadata: Value = serde_json::from_slice(&asked.stdout).expect("JSON from cargo metadata");
    let packages = metadata["packages"].as_array().expect("packages");
    let name = |value: &Value| value["name"].as_str().expect("a name").to_string();
    packages
        .iter()
        .map(|package| {
            let all = package["dependencies"].as_array().expect("dependencies");
            (
                name(package),
                all.iter()
                    .filter(|it| it["kind"].is_null())
                    .map(name)
                    .collect(),
            )
        })
        .collect()
}

#[test]
fn a_crate_imports_only_what_its_arrows_allow() {
    let imports = imports();
    for (name, own) in &imports {
        if name == "larder-tests" {
            continue;
        }
        let (_, allowed, _) = ARROWS
            .iter()
            .find(|(known, ..)| known == name)
            .unwrap_or_else(|| panic!("{name} has no line in ARROWS"));
        for import in own.iter().filter(|import| import.starts_with("larder")) {
            assert!(
                allowed.contains(&import.as_str()),
                "{name} imports {import}: no such arrow"
            );
        }
    }
    assert_eq!(imports.len(), ARROWS.len() + 1, "a crate of ARROWS is gone");
}

#[test]
fn hearts_import_nothing_that_does_io() {
    let imports = imports();
    for (name, _, _) in ARROWS.iter().filter(|(.., heart)| *heart) {
        for import in &imports[*name] {
            assert!(
                !IO_CRATES.contains(&import.as_str()),
                "{name} is a heart and imports {import}"
            );
        }
    }
}
