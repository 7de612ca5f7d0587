//! INFO: one function a section, under the names that Redis and its exporters use. What does not exist
//! here is told as what it is: none.

use std::fmt::Write;

use larder_wire::Refusal;
use larder_wire::command::{self, CommandId};

use super::connection::REDIS_VERSION;
use crate::clock::Clock;
use crate::config::Parameter;
use crate::node::Node;
use crate::turn::{Outcome, Turn};

type Write_ = fn(&Node, Clock, &mut String);

/// A section: its name, whether a plain INFO shows it, and who writes it.
const SECTIONS: &[(&str, bool, Write_)] = &[
    ("Server", true, server),
    ("Clients", true, clients),
    ("Memory", true, memory),
    ("Persistence", true, persistence),
    ("Stats", true, stats),
    ("Replication", true, super::replication::section),
    ("CPU", true, cpu),
    ("Modules", true, |_, _, _| {}),
    ("Commandstats", false, command_stats),
    ("Errorstats", true, error_stats),
    ("Latencystats", false, latency_stats),
    ("Cluster", true, cluster),
    ("Keyspace", true, keyspace),
];

pub fn info(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let request = turn.request;
    let asked = |word: &str| {
        request
            .args_from(1)
            .any(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    };
    let all = asked("all") || asked("everything");
    let default = request.len() == 1 || asked("default");
    let mut text = String::new();
    for (name, by_default, write) in SECTIONS {
        if all || (default && *by_default) || asked(name) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            text.push_str(&format!("# {name}\r\n"));
            write(turn.node, turn.clock, &mut text);
        }
    }
    turn.reply.verbatim("txt", text.as_bytes());
    Ok(Outcome::Done)
}

/// Lines of `name:value`. Writing to a String cannot fail.
macro_rules! lines {
    ($text:expr; $($name:literal: $value:expr,)*) => {
        $(let _ = write!($text, "{}:{}\r\n", $name, $value);)*
    };
}

fn server(node: &Node, clock: Clock, text: &mut String) {
    let own = &node.ownership;
    let uptime = clock.mono_ms / 1000;
    lines! { text;
        "redis_version": REDIS_VERSION,
        "larder_version": env!("CARGO_PKG_VERSION"),
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_mode": if own.is_standalone() { "standalone" } else { "cluster" },
        "os": std::env::consts::OS,
        "arch_bits": usize::BITS,
        "multiplexing_api": "epoll",
        "process_id": node.machine.pid,
        "run_id": node.settings.run_id,
        "process_supervised": "no",
        "tcp_port": node.settings.port,
        "server_time_usec": clock.unix_us,
        "uptime_in_seconds": uptime,
        "uptime_in_days": uptime / 86400,
        "hz": node.config.get(Parameter::Hz),
        "configured_hz": node.config.get(Parameter::Hz),
        "lru_clock": clock.unix_seconds() & 0xFF_FFFF,
        "config_file": "",
        "io_threads_active": 0,
    }
}

fn clients(node: &Node, _: Clock, text: &mut String) {
    let watching = node
        .clients
        .iter()
        .filter(|client| client.watched.get() > 0);
    lines! { text;
        "connected_clients": node.clients.len(),
        "cluster_connections": 0,
        "maxclients": node.config.get(Parameter::Maxclients),
        "client_recent_max_input_buffer": node.clients.iter().map(|c| c.query_bytes.get()).max().unwrap_or(0),
        "client_recent_max_output_buffer": node.clients.iter().map(|c| c.output_bytes.get()).max().unwrap_or(0),
        "blocked_clients": node.clients.iter().filter(|client| client.is_waiting()).count(),
        "tracking_clients": node.tracking.client_count(),
        "watching_clients": watching.count(),
        "total_watched_keys": node.watched.len(),
        "pubsub_clients": node.clients.iter().filter(|client| client.subscriber.get()).count(),
        "clients_in_timeout_table": node.waiting_with_deadline(),
        "total_blocking_keys": node.blocked.key_count(),
    }
}

fn memory(node: &Node, _: Clock, text: &mut String) {
    let used = node.databases.used_memory();
    let peak = node.memory_peak.max(used);
    let rss = node.machine.rss_bytes;
    let max = node.databases.config().maxmemory;
    let scripts = node.scripts.figures();
    let vm_bytes = scripts.scripts_lua_bytes + scripts.functions_lua_bytes;
    lines! { text;
        "used_memory": used,
        "used_memory_human": human(used),
        "used_memory_rss": rss,
        "used_memory_rss_human": human(rss),
        "used_memory_peak": peak,
        "used_memory_peak_human": human(peak),
        "used_memory_peak_perc": format_args!("{:.2}%", used as f64 * 100.0 / peak.max(1) as f64),
        "used_memory_overhead": node.journal.kept_bytes(),
        "used_memory_startup": 0,
        "used_memory_dataset": used,
        "used_memory_dataset_perc": "100.00%",
        "allocator_allocated": used,
        "allocator_active": used,
        "allocator_resident": rss,
        "allocator_frag_ratio": "1.00",
        "allocator_frag_bytes": 0,
        "allocator_rss_ratio": format_args!("{:.2}", rss as f64 / used.max(1) as f64),
        "allocator_rss_bytes": rss as i64 - used as i64,
        "rss_overhead_ratio": "1.00",
        "rss_overhead_bytes": 0,
        "total_system_memory": node.machine.total_memory_bytes,
        "total_system_memory_human": human(node.machine.total_memory_bytes),
        "used_memory_lua": scripts.scripts_lua_bytes,
        "used_memory_vm_eval": scripts.scripts_lua_bytes,
        "used_memory_lua_human": human(scripts.scripts_lua_bytes as u64),
        "used_memory_scripts_eval": scripts.scripts_bytes,
        "number_of_cached_scripts": scripts.scripts,
        "number_of_functions": scripts.functions,
        "number_of_libraries": scripts.libraries,
        "used_memory_vm_functions": scripts.functions_lua_bytes,
        "used_memory_vm_total": vm_bytes,
        "used_memory_vm_total_human": human(vm_bytes as u64),
        "used_memory_functions": scripts.functions_bytes,
        "used_memory_scripts": scripts.scripts_bytes + scripts.functions_bytes,
        "used_memory_scripts_human": human((scripts.scripts_bytes + scripts.functions_bytes) as u64),
        "maxmemory": max,
        "maxmemory_human": human(max),
        "maxmemory_policy": node.config.get(Parameter::MaxmemoryPolicy),
        "mem_fragmentation_ratio": format_args!("{:.2}", rss as f64 / used.max(1) as f64),
        "mem_fragmentation_bytes": rss as i64 - used as i64,
        "mem_not_counted_for_evict": node.journal.kept_bytes(),
        "mem_replication_backlog": node.journal.kept_bytes(),
        "mem_total_replication_buffers": node.journal.kept_bytes(),
        "mem_cluster_links": 0,
        "mem_clients_slaves": 0,
        "mem_clients_normal": node.clients.iter().map(|c| c.memory()).sum::<usize>(),
        "mem_aof_buffer": 0,
        "mem_allocator": "mimalloc",
        "active_defrag_running": 0,
        "lazyfree_pending_objects": u8::from(node.databases.has_trash()),
        "lazyfreed_objects": node.databases.stats().lazily_freed,
    }
}

fn persistence(node: &Node, clock: Clock, text: &mut String) {
    let saving = &node.saving;
    let progress = saving.progress(clock);
    let loaded = node.loaded();
    let starts = node.wants_append() && !node.append.is_whole();
    let (append, rewrite) = (&node.append, saving.rewrite_progress(clock));
    lines! { text;
        "loading": u8::from(node.loading().is_some()),
        "async_loading": 0,
        "current_save_keys_processed": progress.map_or(0, |(_, keys)| keys),
        "current_save_keys_total": progress.map_or(0, |_| node.databases.len() as u64),
        "rdb_changes_since_last_save": saving.changes(),
        "rdb_bgsave_in_progress": u8::from(progress.is_some()),
        "rdb_last_save_time": node.last_save(clock),
        "rdb_last_bgsave_status": if saving.last_failed() { "err" } else { "ok" },
        "rdb_last_bgsave_time_sec": saving.last_took_ms().map_or(-1, |ms| (ms / 1000) as i64),
        "rdb_current_bgsave_time_sec": progress.map_or(-1, |(ms, _)| (ms / 1000) as i64),
        "rdb_saves": saving.saves(),
        "rdb_last_cow_size": 0,
        "rdb_last_load_keys_expired": loaded.expired,
        "rdb_last_load_keys_loaded": loaded.keys,
        "current_cow_peak": 0,
        "current_cow_size": 0,
        "current_cow_size_age": 0,
        "current_fork_perc": "0.00",
        "aof_enabled": u8::from(node.wants_append()),
        "aof_rewrite_in_progress": u8::from(rewrite.is_some() || (progress.is_none() && (append.is_scheduled() || starts))),
        "aof_rewrite_scheduled": u8::from(progress.is_some() && (append.is_scheduled() || starts)),
        "aof_last_rewrite_time_sec": append.last_took_ms().map_or(-1, |ms| (ms / 1000) as i64),
        "aof_current_rewrite_time_sec": rewrite.map_or(-1, |(ms, _)| (ms / 1000) as i64),
        "aof_last_bgrewrite_status": if append.failures() > 0 { "err" } else { "ok" },
        "aof_last_write_status": if append.fault().is_some() { "err" } else { "ok" },
        "aof_last_cow_size": 0,
        "aof_rewrites": append.rewrites(),
        "aof_rewrites_consecutive_failures": append.failures(),
        "module_fork_in_progress": 0,
        "module_fork_last_cow_size": 0,
    }
    if append.is_on() {
        let at = append.written();
        lines! { text;
            "aof_current_size": at.file_bytes,
            "aof_base_size": append.base_bytes(),
            "aof_pending_rewrite": u8::from(append.is_scheduled()),
            "aof_buffer_length": node.journal.end().0 - at.written.0.min(node.journal.end().0),
            "aof_pending_bio_fsync": u8::from(at.synced < at.written),
            "aof_delayed_fsync": u8::from(append.is_behind()),
        }
    }
    let Some(loading) = node.loading() else {
        return;
    };
    let (total, done) = (loading.total_bytes, loading.loaded_bytes);
    let seconds = clock.mono_ms.saturating_sub(loading.began_ms) / 1000;
    let left = (total.saturating_sub(done) * seconds).checked_div(done);
    lines! { text;
        "loading_start_time": loading.began,
        "loading_total_bytes": total,
        "loading_loaded_bytes": done,
        "loading_loaded_perc": format_args!("{:.2}", done as f64 * 100.0 / total.max(1) as f64),
        "loading_eta_seconds": left.unwrap_or(1),
    }
}

fn stats(node: &Node, _: Clock, text: &mut String) {
    let stats = &node.stats;
    let machine = &node.machine;
    let store = node.databases.stats();
    lines! { text;
        "total_connections_received": stats.connections_received.get(),
        "total_commands_processed": stats.commands_processed.get(),
        "instantaneous_ops_per_sec": machine.ops_per_second,
        "total_net_input_bytes": stats.net_input_bytes.get(),
        "total_net_output_bytes": stats.net_output_bytes.get(),
        "total_net_repl_input_bytes": 0,
        "total_net_repl_output_bytes": 0,
        "instantaneous_input_kbps": format_args!("{:.2}", machine.input_bytes_per_second as f64 / 1024.0),
        "instantaneous_output_kbps": format_args!("{:.2}", machine.output_bytes_per_second as f64 / 1024.0),
        "instantaneous_input_repl_kbps": "0.00",
        "instantaneous_output_repl_kbps": "0.00",
        "rejected_connections": stats.connections_rejected.get(),
        "sync_full": stats.full_syncs.get(),
        "sync_partial_ok": stats.partial_syncs.get(),
        "sync_partial_err": stats.refused_partial_syncs.get(),
        "expired_keys": store.expired,
        "expired_fields": store.expired_fields,
        "expired_subkeys": store.expired_fields,
        "expired_stale_perc": "0.00",
        "expired_time_cap_reached_count": 0,
        "evicted_keys": store.evicted,
        "evicted_clients": stats.evicted_clients.get(),
        "total_eviction_exceeded_time": 0,
        "current_eviction_exceeded_time": 0,
        "keyspace_hits": store.hits,
        "keyspace_misses": store.misses,
        "pubsub_channels": node.pubsub.channel_count(),
        "pubsub_patterns": node.pubsub.pattern_count(),
        "pubsubshard_channels": node.pubsub.shard_channel_count(),
        "latest_fork_usec": 0,
        "total_forks": 0,
        "migrate_cached_sockets": 0,
        "slave_expires_tracked_keys": 0,
        "total_active_defrag_time": 0,
        "current_active_defrag_time": 0,
        "active_defrag_hits": 0,
        "active_defrag_misses": 0,
        "active_defrag_key_hits": 0,
        "active_defrag_key_misses": 0,
        "tracking_total_keys": node.tracking.key_count(),
        "tracking_total_items": node.tracking.item_count(),
        "tracking_total_prefixes": node.tracking.prefix_count(),
        "unexpected_error_replies": 0,
        "total_error_replies": stats.errors.get(),
        "dump_payload_sanitizations": 0,
        "total_reads_processed": stats.reads.get(),
        "total_writes_processed": stats.writes.get(),
        "larder_held_requests": stats.held_requests.get(),
    }
}

fn cpu(node: &Node, _: Clock, text: &mut String) {
    let seconds = |us: u64| us as f64 / 1e6;
    let machine = &node.machine;
    lines! { text;
        "used_cpu_sys": format_args!("{:.6}", seconds(machine.cpu_system_us)),
        "used_cpu_user": format_args!("{:.6}", seconds(machine.cpu_user_us)),
        "used_cpu_sys_children": "0.000000",
        "used_cpu_user_children": "0.000000",
        "used_cpu_sys_main_thread": format_args!("{:.6}", seconds(machine.cpu_system_us)),
        "used_cpu_user_main_thread": format_args!("{:.6}", seconds(machine.cpu_user_us)),
    }
}

fn command_stats(node: &Node, _: Clock, text: &mut String) {
    for &id in CommandId::ALL {
        let counts = node.stats.of(id);
        let (calls, usec) = (counts.calls.get(), counts.nanos.get() / 1000);
        if calls + counts.rejected.get() == 0 {
            continue;
        }
        let _ = write!(
            text,
            "cmdstat_{}:calls={calls},usec={usec},usec_per_call={:.2},rejected_calls={},failed_calls={}\r\n",
            command::spec(id).name,
            usec as f64 / calls.max(1) as f64,
            counts.rejected.get(),
            counts.failed.get(),
        );
    }
}

fn latency_stats(node: &Node, _: Clock, text: &mut String) {
    let percents = node.config.get(Parameter::LatencyPercentiles);
    for &id in CommandId::ALL {
        let Some(histogram) = node.timing.histograms.get(id) else {
            continue;
        };
        let shown: Vec<String> = percents
            .split_whitespace()
            .filter_map(|word| {
                let nanos = histogram.percentile(word.parse().ok()?);
                Some(format!("p{word}={:.3}", nanos as f64 / 1000.0))
            })
            .collect();
        let name = command::spec(id).name;
        let _ = write!(
            text,
            "latency_percentiles_usec_{name}:{}\r\n",
            shown.join(",")
        );
    }
}

fn error_stats(node: &Node, _: Clock, text: &mut String) {
    for (code, count) in &node.errors {
        let _ = write!(text, "errorstat_{code}:count={count}\r\n");
    }
}

fn cluster(node: &Node, _: Clock, text: &mut String) {
    let enabled = u8::from(!node.ownership.is_standalone());
    lines! { text; "cluster_enabled": enabled, }
}

fn keyspace(node: &Node, _: Clock, text: &mut String) {
    for (db, space) in node.databases.iter() {
        let keys = space.visible_len();
        if keys > 0 {
            let (expires, mean) = (space.expiring_len(), space.mean_ttl_ms());
            let _ = write!(
                text,
                "db{db}:keys={keys},expires={expires},avg_ttl={mean}\r\n"
            );
        }
    }
}

/// Bytes as people read them, as Redis writes them.
fn human(bytes: u64) -> String {
    let units = ["B", "K", "M", "G", "T", "P"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes}B")
    } else {
        format!("{value:.2}{}", units[unit])
    }
}
