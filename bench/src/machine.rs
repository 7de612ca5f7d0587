//! Where and what a figure was measured with: machine, kernel, commit, date.

use std::process::Command;

/// One line for a report's head.
pub(crate) fn description() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown CPU", |(_, model)| model.trim());
    // Not those that this process may run on: it pins itself.
    let cores = cpu.matches("processor\t").count();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

/// Processes that wanted to run in the last minute; with more than the benchmark's own, figures
/// of latency and throughput mean little (CPU time a request still does).
pub(crate) fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}

pub(crate) fn commit() -> String {
    output("git", &["describe", "--always", "--dirty", "--abbrev=9"])
}

/// UTC.
pub(crate) fn date() -> String {
    output("date", &["-u", "+%Y-%m-%d"])
}

fn output(program: &str, args: &[&str]) -> String {
    let done = Command::new(program).args(args).output();
    match done {
        Ok(done) if done.status.success() => {
            String::from_utf8_lossy(&done.stdout).trim().to_owned()
        }
        Ok(_) | Err(_) => "unknown".to_owned(),
    }
}
