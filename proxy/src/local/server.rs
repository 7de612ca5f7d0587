//! INFO, CONFIG GET, TIME, ROLE, LOLWUT of the proxy itself.

use std::fmt::Write;

use larder_runtime::clock::unix_millis;
use larder_wire::Refusal;
use larder_wire::resp::ReplyWriter;

use super::Local;
use super::connection::REDIS_VERSION;
use crate::limits::{CLIENT_OUT_BYTES_MAX, SLOW_READER_MS_MAX};
use crate::switch::Client;

type Done = Result<(), Refusal>;

pub(super) fn time(_: &Local<'_>, _: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    reply.array(2);
    reply.bulk(since.as_secs().to_string().as_bytes());
    reply.bulk(since.subsec_micros().to_string().as_bytes());
    Ok(())
}

pub(super) fn role(_: &Local<'_>, _: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    reply.array(3);
    reply.bulk(b"master");
    reply.int(0);
    reply.array(0);
    Ok(())
}

pub(super) fn lolwut(_: &Local<'_>, _: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    let text = format!("Larder proxy {}\n", env!("CARGO_PKG_VERSION"));
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

type Section = fn(&Local<'_>, &mut String);

/// A section of INFO: its name, and who writes its lines.
const SECTIONS: &[(&str, Section)] = &[
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Stats", stats),
    ("Replication", replication),
    ("Cluster", cluster),
    ("Proxy", proxy),
];

pub(super) fn info(local: &Local<'_>, _: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    let asked = |word: &str| {
        let mut args = local.request.args_from(1);
        args.any(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    };
    let all = local.request.len() == 1 || asked("all") || asked("everything") || asked("default");
    let mut text = String::new();
    for (name, write) in SECTIONS {
        if all || asked(name) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            text.push_str(&format!("# {name}\r\n"));
            write(local, &mut text);
        }
    }
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// Lines of `name:value`. Writing to a String cannot fail.
macro_rules! lines {
    ($text:expr; $($name:literal: $value:expr,)*) => {
        $(let _ = write!($text, "{}:{}\r\n", $name, $value);)*
    };
}

fn server(local: &Local<'_>, text: &mut String) {
    let uptime = local.shared.started.elapsed().as_secs();
    lines!(text;
        "redis_version": REDIS_VERSION,
        "redis_mode": "cluster",
        "larder_version": env!("CARGO_PKG_VERSION"),
        "larder_part": "proxy",
        "os": std::env::consts::OS,
        "arch_bits": usize::BITS,
        "process_id": std::process::id(),
        "run_id": local.shared.id,
        "tcp_port": local.shared.port,
        "server_time_usec": unix_millis().0 * 1000,
        "uptime_in_seconds": uptime,
        "uptime_in_days": uptime / 86_400,
        "io_threads_active": local.shared.threads().len(),
    );
}

fn clients(local: &Local<'_>, text: &mut String) {
    lines!(text;
        "connected_clients": local.shared.clients.len(),
        "cluster_connections": 0,
        "maxclients": local.shared.clients_max,
        "blocked_clients": local.shared.clients.all().iter().filter(|client| client.is_blocked()).count(),
    );
}

/// The memory of the process, as the system tells it.
fn memory(_: &Local<'_>, text: &mut String) {
    const PAGE_BYTES: u64 = 4096;
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.as_deref().and_then(|line| line.split(' ').nth(1));
    let rss = pages
        .and_then(|pages| pages.parse::<u64>().ok())
        .unwrap_or(0)
        * PAGE_BYTES;
    lines!(text;
        "used_memory": rss,
        "used_memory_rss": rss,
        "maxmemory": 0,
        "maxmemory_policy": "noeviction",
    );
}

fn stats(local: &Local<'_>, text: &mut String) {
    let threads = local.shared.threads();
    lines!(text;
        "total_connections_received": threads.iter().map(|t| t.connections.get()).sum::<u64>(),
        "total_commands_processed": threads.iter().map(|t| t.requests_total()).sum::<u64>(),
        "total_net_input_bytes": threads.iter().map(|t| t.from_clients.get()).sum::<u64>(),
        "total_net_output_bytes": threads.iter().map(|t| t.to_clients.get()).sum::<u64>(),
        "rejected_connections": local.shared.rejected.get(),
        "client_output_buffer_limit_disconnections": threads.iter().map(|t| t.slow_readers.get()).sum::<u64>(),
    );
}

fn replication(_: &Local<'_>, text: &mut String) {
    lines!(text; "role": "master", "connected_slaves": 0,);
}

fn cluster(_: &Local<'_>, text: &mut String) {
    lines!(text; "cluster_enabled": 1,);
}

fn proxy(local: &Local<'_>, text: &mut String) {
    let map = local.shared.map();
    let threads = local.shared.threads();
    lines!(text;
        "proxy_threads": threads.len(),
        "proxy_map_epoch": local.epoch,
        "proxy_map_source": if local.shared.source_is_up() { "up" } else { "down" },
        "proxy_shards": map.shards().len(),
        "proxy_redirects": threads.iter().map(|t| t.moved.get() + t.asked.get() + t.later.get()).sum::<u64>(),
        "proxy_holds": threads.iter().map(|t| t.holds.get()).sum::<u64>(),
    );
}

/// Parameters that clients and tools ask for, as the proxy has them.
pub(super) fn config_get(local: &Local<'_>, _: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    let known = [
        ("appendonly", "no".to_string()),
        (
            "client-output-buffer-limit",
            format!(
                "normal {CLIENT_OUT_BYTES_MAX} 0 {}",
                SLOW_READER_MS_MAX / 1000
            ),
        ),
        ("cluster-enabled", "yes".to_string()),
        ("databases", "1".to_string()),
        ("io-threads", local.shared.threads().len().to_string()),
        ("maxclients", local.shared.clients_max.to_string()),
        ("maxmemory", "0".to_string()),
        ("maxmemory-policy", "noeviction".to_string()),
        ("port", local.shared.port.to_string()),
        (
            "proto-max-bulk-len",
            larder_wire::resp::limits::BULK_BYTES_MAX.to_string(),
        ),
        ("save", String::new()),
        ("timeout", "0".to_string()),
    ];
    let asked = |name: &str| {
        let mut patterns = local.request.args_from(2);
        patterns.any(|pattern| matches(&pattern.to_ascii_lowercase(), name.as_bytes()))
    };
    let found: Vec<_> = known.iter().filter(|(name, _)| asked(name)).collect();
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    Ok(())
}

/// A pattern of plain characters, `*` and `?`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=text.len()).any(|skipped| matches(rest, &text[skipped..])),
        (Some((p, pattern)), Some((t, text))) => (*p == b'?' || p == t) && matches(pattern, text),
        (Some(_), None) | (None, Some(_)) => false,
    }
}
