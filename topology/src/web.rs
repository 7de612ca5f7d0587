//! HTTP: `/sd` for Prometheus, `/status.json`, and a page that shows it. `/metrics`, `/healthz` and `/readyz` are the
//! runtime's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Html;
use axum::routing::get;
use axum::{Json, Router};
use larder_plan::report::Status;
use larder_runtime::http::HttpPort;
use larder_runtime::process;
use larder_runtime::shutdown::Shutdown;
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::core::Parts;
use crate::metrics::Shown;
use crate::session::RELEASE;

#[derive(Clone)]
struct Web {
    shown: Arc<Shown>,
    part: &'static str,
    /// Where this process itself is scraped.
    http: Option<SocketAddr>,
}

/// One group of Prometheus' HTTP service discovery.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Group {
    targets: Vec<String>,
    labels: BTreeMap<&'static str, String>,
}

pub(crate) fn spawn(
    port: Option<HttpPort>,
    parts: &Parts,
    shutdown: &Shutdown,
) -> Option<JoinHandle<()>> {
    let port = port?;
    let web = Web {
        shown: parts.shown.clone(),
        part: parts.config.part,
        http: parts.http_addr,
    };
    let pages = Router::new()
        .route(
            "/",
            get(|| std::future::ready(Html(include_str!("console.html")))),
        )
        .route("/status.json", get(status))
        .route("/sd", get(discovery))
        .with_state(web);
    let (registry, ready) = (parts.config.registry.clone(), parts.readiness.clone());
    let part = parts.config.part;
    let shutdown = shutdown.clone();
    Some(tokio::spawn(async move {
        let _process = (part == "topology").then(|| process::register(&registry, part, RELEASE));
        let served = port.serve(registry.clone(), ready, pages, shutdown);
        if let Err(error) = served.await {
            tracing::error!("the HTTP port has failed: {error}");
        }
    }))
}

async fn status(State(web): State<Web>) -> Json<Status> {
    Json((*web.shown.status()).clone())
}

async fn discovery(State(web): State<Web>, headers: HeaderMap) -> Json<Vec<Group>> {
    let asked_at = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let own = own_address(web.http, asked_at);
    Json(groups(&web.shown.status(), web.part, &own))
}

/// A process that listens everywhere is scraped where it was asked.
fn own_address(http: Option<SocketAddr>, asked_at: Option<&str>) -> String {
    match (http, asked_at) {
        (Some(addr), Some(host)) if addr.ip().is_unspecified() => host.to_string(),
        (Some(addr), Some(_) | None) => addr.to_string(),
        (None, _) => String::new(),
    }
}

/// Every process that has an HTTP port, once, whatever it hosts.
fn groups(status: &Status, part: &'static str, own: &str) -> Vec<Group> {
    let mut found: BTreeMap<&str, &'static str> = BTreeMap::new();
    let nodes = status
        .shards
        .iter()
        .flat_map(|shard| {
            let replicas = shard.replicas.iter().map(|replica| &replica.node);
            std::iter::once(&shard.node).chain(replicas)
        })
        .chain(&status.spares);
    for http in nodes.filter_map(|node| node.http.as_deref()) {
        found.insert(http, "shard");
    }
    for http in status
        .proxies
        .iter()
        .filter_map(|proxy| proxy.http.as_deref())
    {
        found.insert(http, "proxy");
    }
    if !own.is_empty() {
        found.insert(own, part);
    }
    let groups = found.into_iter().map(|(http, part)| Group {
        targets: vec![http.to_string()],
        labels: BTreeMap::from([
            ("cluster", status.cluster.clone()),
            ("process", part.to_string()),
        ]),
    });
    groups.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_listens_everywhere_is_scraped_where_it_was_asked() {
        let at = |addr: &str, host| own_address(Some(addr.parse().unwrap()), host);
        assert_eq!(at("0.0.0.0:7080", Some("cache-1:7080")), "cache-1:7080");
        assert_eq!(at("[::]:7080", Some("10.0.0.1:7080")), "10.0.0.1:7080");
        assert_eq!(at("10.0.0.1:7080", Some("cache-1:7080")), "10.0.0.1:7080");
        assert_eq!(own_address(None, Some("cache-1:7080")), "");
    }
}
