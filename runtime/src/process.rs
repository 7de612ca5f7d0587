//! Metrics of the process itself, under the names that every Prometheus client library uses.
//!
//! Read from `/proc` at the scrape; where there is none, those lines are left out.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use crate::clock::unix_millis;
use crate::metrics::{Page, Registry, Source};

crate::metrics! {
    /// What every larder process shows of itself.
    pub DECLARED;
    BUILD = gauge "larder_build_info" ["version", "part"] "Always 1; the release and what the process is.";
    CPU = counter "process_cpu_seconds_total" [] "CPU time of the process, in seconds.";
    RESIDENT = gauge "process_resident_memory_bytes" [] "Memory that the process has in RAM, in bytes.";
    VIRTUAL = gauge "process_virtual_memory_bytes" [] "Address space of the process, in bytes.";
    FDS = gauge "process_open_fds" [] "File descriptors that are open.";
    FDS_MAX = gauge "process_max_fds" [] "Most file descriptors that may be open.";
    THREADS = gauge "process_threads" [] "Threads of the process.";
    START = gauge "process_start_time_seconds" [] "When the process started, in seconds since 1970-01-01 UTC.";
    UPTIME = gauge "larder_uptime_seconds" [] "Seconds since the process started.";
}

/// `/proc` counts CPU time in ticks of USER_HZ, which is 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// The process as a source of metrics.
#[derive(Debug)]
pub struct Process {
    part: &'static str,
    release: &'static str,
    started: Instant,
    started_unix: f64,
}

/// Adds the process to `registry`; it is shown as long as the caller keeps what is returned. `part` is `up`,
/// `topology`, `shard` or `proxy`; `release` is `env!("CARGO_PKG_VERSION")`.
#[must_use = "the metrics go when this goes"]
pub fn register(registry: &Registry, part: &'static str, release: &'static str) -> Arc<Process> {
    let process = Arc::new(Process {
        part,
        release,
        started: Instant::now(),
        started_unix: unix_millis().0 as f64 / 1000.0,
    });
    registry.add(&process);
    process
}

impl Source for Process {
    fn collect(&self, page: &mut Page) {
        page.value(&BUILD, &[self.release, self.part], 1_u64);
        page.value(&START, &[], self.started_unix);
        page.value(&UPTIME, &[], self.started.elapsed().as_secs_f64());
        if let Some(stat) = fs::read_to_string("/proc/self/stat")
            .ok()
            .as_deref()
            .and_then(read_stat)
        {
            page.value(&CPU, &[], stat.cpu_ticks as f64 / TICKS_PER_SECOND);
            page.value(&THREADS, &[], stat.threads);
            page.value(&VIRTUAL, &[], stat.virtual_bytes);
        }
        if let Some(bytes) = fs::read_to_string("/proc/self/status")
            .ok()
            .as_deref()
            .and_then(resident_bytes)
        {
            page.value(&RESIDENT, &[], bytes);
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // The listing itself holds one open.
            page.value(&FDS, &[], entries.count().saturating_sub(1));
        }
        if let Some(most) = fs::read_to_string("/proc/self/limits")
            .ok()
            .as_deref()
            .and_then(most_fds)
        {
            page.value(&FDS_MAX, &[], most);
        }
    }
}

struct Stat {
    cpu_ticks: u64,
    threads: u64,
    virtual_bytes: u64,
}

/// proc(5): the second field is the name in parentheses, which may itself hold spaces and parentheses.
fn read_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        cpu_ticks: field(14)? + field(15)?,
        threads: field(20)?,
        virtual_bytes: field(23)?,
    })
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn most_fds(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 300 45 0 0 20 0 12 0 99 4096000 55 0";
        let stat = read_stat(text).unwrap();
        assert_eq!(
            (stat.cpu_ticks, stat.threads, stat.virtual_bytes),
            (345, 12, 4_096_000)
        );
        assert!(read_stat("7 (x) S 1").is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn on_linux_every_declared_metric_of_a_process_is_on_its_page() {
        let registry = Registry::new();
        let _process = register(&registry, "up", "0.1.0");
        let text = registry.text();
        for metric in DECLARED {
            assert!(
                text.contains(&format!("\n{}", metric.name)) || text.starts_with(metric.name),
                "no {}",
                metric.name
            );
        }
        let resident = text
            .lines()
            .find_map(|line| line.strip_prefix("process_resident_memory_bytes "))
            .unwrap();
        assert!(resident.parse::<f64>().unwrap() > 100_000.0);
    }
}
