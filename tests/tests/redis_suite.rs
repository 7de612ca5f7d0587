//! Redis 7.0's own test suite against a node: with numbered databases, with one, as a cluster of one shard, and with nodes that the suite starts itself.
//!
//! Each file must pass at least as many tests as a real redis-server of that version (`tests/redis-suite/redis-passes`), but for those that `skip`
//! leaves out with a reason. `LARDER_SUITE_FILE=unit/expire` runs files whose names contain that, those of `not-yet` included.
//! `LARDER_SUITE_SERVER=redis` runs a real redis-server instead; with `LARDER_BLESS=1` its counts are written down.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::thread;

use larder_tests::redis_suite::{ALLOCATOR, ENCODING, Lists, Mode, Server, Suite};

/// Files that run at the same time.
const FILES_AT_ONCE: usize = 2;

#[test]
fn redis_own_suite_passes() {
    let suite = Suite::unpacked();
    let lists = Lists::read();
    let wanted = std::env::var("LARDER_SUITE_FILE").ok();
    let redis = std::env::var("LARDER_SUITE_SERVER").is_ok_and(|server| server == "redis");
    let mut queue = Vec::new();
    for ((file, mode), count) in &lists.redis_passes {
        if *count == 0 {
            continue;
        }
        match (&wanted, lists.missing(*mode, file)) {
            (Some(part), _) if !file.contains(part.as_str()) => {}
            (None, Some(why)) if !redis => println!("{} {file}: not yet: {why}", mode.name()),
            (Some(_) | None, _) => queue.push((file.clone(), *mode)),
        }
    }
    let queue = Mutex::new(queue);
    let results = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..FILES_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((file, mode)) = queue.lock().expect("no thread panicked").pop() else {
                        break;
                    };
                    let result = if redis {
                        one_of_redis(&suite, &file, mode)
                    } else {
                        one(&suite, &lists, &file, mode)
                    };
                    println!("{}", result.line(&file, mode));
                    results
                        .lock()
                        .expect("no thread panicked")
                        .insert((file, mode), result);
                }
            });
        }
    });
    let results = results.into_inner().expect("no thread panicked");
    for mode in Mode::ALL {
        let of_mode = || results.iter().filter(|((_, its), _)| *its == mode);
        let passed: usize = of_mode().map(|(_, result)| result.passed).sum();
        let skipped: usize = of_mode().map(|(_, result)| result.skipped).sum();
        println!("{}: {passed} passed, {skipped} left out", mode.name());
    }
    if redis && std::env::var_os("LARDER_BLESS").is_some() {
        write_counts(&results);
        return;
    }
    let faults: Vec<String> = results
        .iter()
        .flat_map(|((file, mode), result)| {
            let expected = lists.redis_passes[&(file.clone(), *mode)];
            result.faults(file, *mode, expected)
        })
        .collect();
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

/// What came of a file in a mode.
struct Outcome {
    passed: usize,
    skipped: usize,
    failed: Vec<(String, String)>,
    broken: Option<String>,
}

impl Outcome {
    fn line(&self, file: &str, mode: Mode) -> String {
        format!(
            "{} {file}: {} passed, {} left out, {} failed",
            mode.name(),
            self.passed,
            self.skipped,
            self.failed.len()
        )
    }

    fn faults(&self, file: &str, mode: Mode, expected: usize) -> Vec<String> {
        let place = format!("{} {file}", mode.name());
        let mut faults: Vec<String> = self
            .failed
            .iter()
            .map(|(name, detail)| format!("{place}: {name}\n{detail}"))
            .collect();
        if let Some(why) = &self.broken {
            faults.push(format!("{place}: {why}"));
        } else if faults.is_empty() && self.passed + self.skipped < expected {
            faults.push(format!(
                "{place}: {} passed and {} left out, redis-server passes {expected}",
                self.passed, self.skipped
            ));
        }
        faults
    }
}

/// Once without what the skip list names; then what it names for its encodings alone, without their names.
fn one(suite: &Suite, lists: &Lists, file: &str, mode: Mode) -> Outcome {
    let names: Vec<&str> = lists
        .skips
        .iter()
        .flat_map(|(name, _)| ["--skiptest", name.as_str()])
        .collect();
    let mut run = suite.run(file, mode, &mut Server::larder(mode), &names);
    let for_encodings = |test: &str| {
        lists
            .skips
            .iter()
            .any(|(name, why)| name == test && why.starts_with(ENCODING))
    };
    let again: Vec<&str> = run
        .skipped
        .iter()
        .map(String::as_str)
        .filter(|name| for_encodings(name))
        .collect();
    let mut skipped = run.skipped.len();
    if !again.is_empty() {
        let mut options = vec!["--ignore-encoding"];
        for name in again {
            options.extend(["--only", name]);
        }
        let more = suite.run(file, mode, &mut Server::larder(mode), &options);
        skipped -= more.passed.len();
        run.passed.extend(more.passed);
        run.failed.extend(more.failed);
        run.broken = run.broken.or(more.broken);
    }
    skipped += lists
        .skips
        .iter()
        .filter_map(|(_, why)| why.strip_prefix(ALLOCATOR)?.split_whitespace().next())
        .filter(|place| *place == file)
        .count();
    Outcome {
        passed: run.passed.len(),
        skipped,
        failed: run.failed,
        broken: run.broken,
    }
}

fn one_of_redis(suite: &Suite, file: &str, mode: Mode) -> Outcome {
    let run = suite.run(file, mode, &mut Server::redis(mode), &[]);
    Outcome {
        passed: run.passed.len(),
        skipped: run.skipped.len(),
        failed: run.failed,
        broken: run.broken,
    }
}

/// Keeps the lines of files that were not run.
fn write_counts(results: &BTreeMap<(String, Mode), Outcome>) {
    let path = Lists::folder().join("redis-passes");
    let mut counts = Lists::read().redis_passes;
    for (place, result) in results {
        counts.insert(place.clone(), result.passed);
    }
    let head: String = fs::read_to_string(&path)
        .expect("the list is there")
        .lines()
        .take_while(|line| line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut files: Vec<&String> = counts.keys().map(|(file, _)| file).collect();
    files.dedup();
    let body: String = files
        .into_iter()
        .map(|file| {
            let of = |mode| counts.get(&(file.clone(), mode)).copied().unwrap_or(0);
            let words = Mode::ALL.map(|mode| of(mode).to_string());
            format!("{file} {}\n", words.join(" "))
        })
        .collect();
    fs::write(&path, head + &body).expect("the list can be written");
}
