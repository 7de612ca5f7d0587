//! HTTP: `/sd` for Prometheus, `/status.json`, and a page that shows it. `/metrics`, `/healthz` and `/readyz` are the
//! runtime's.
//!
//! A topology that stands by sends people to the leader's page, and tells Prometheus of itself alone: those who ask all
//! topologies find every process once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Json, Router};
use larder_plan::report::Status;
use larder_runtime::http::HttpPort;
use larder_runtime::process;
use larder_runtime::shutdown::Shutdown;
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::metrics::{Now, Shown};
use crate::service::Parts;
use crate::session::RELEASE;

#[derive(Clone)]
struct Web {
    shown: Arc<Shown>,
    cluster: String,
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
        cluster: parts.config.cluster.clone(),
        part: parts.config.part,
        http: parts.http_addr,
    };
    let pages = Router::new()
        .route("/", get(console))
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

async fn console(State(web): State<Web>) -> Response {
    match web.shown.now() {
        Now::Leads(_) => Html(include_str!("console.html")).into_response(),
        Now::StandsBy { leader_http } => elsewhere(leader_http.as_deref(), "/"),
    }
}

async fn status(State(web): State<Web>) -> Response {
    match web.shown.now() {
        Now::Leads(status) => Json((*status).clone()).into_response(),
        Now::StandsBy { leader_http } => elsewhere(leader_http.as_deref(), "/status.json"),
    }
}

/// The same page of the leader.
fn elsewhere(leader_http: Option<&str>, path: &str) -> Response {
    match leader_http {
        Some(http) => Redirect::temporary(&format!("http://{http}{path}")).into_response(),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "this topology stands by, and no leader with a console is known: try again shortly\n",
        )
            .into_response(),
    }
}

async fn discovery(State(web): State<Web>, headers: HeaderMap) -> Json<Vec<Group>> {
    let asked_at = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let own = own_address(web.http, asked_at);
    Json(match web.shown.now() {
        Now::Leads(status) => groups(Some(&status), &web.cluster, web.part, &own),
        Now::StandsBy { .. } => groups(None, &web.cluster, web.part, &own),
    })
}

/// A process that listens everywhere is scraped where it was asked.
fn own_address(http: Option<SocketAddr>, asked_at: Option<&str>) -> String {
    match (http, asked_at) {
        (Some(addr), Some(host)) if addr.ip().is_unspecified() => host.to_string(),
        (Some(addr), Some(_) | None) => addr.to_string(),
        (None, _) => String::new(),
    }
}

/// Every process that has an HTTP port, once, whatever it hosts; without a status this one alone.
fn groups(status: Option<&Status>, cluster: &str, part: &'static str, own: &str) -> Vec<Group> {
    let mut found: BTreeMap<&str, &'static str> = BTreeMap::new();
    if let Some(status) = status {
        let members = status.shards.iter().flat_map(|shard| {
            let replicas = shard.replicas.iter().map(|replica| &replica.node);
            std::iter::once(&shard.node).chain(replicas)
        });
        let nodes = members.chain(&status.spares);
        for http in nodes.filter_map(|node| node.http.as_deref()) {
            found.insert(http, "shard");
        }
        let proxies = status.proxies.iter();
        for http in proxies.filter_map(|proxy| proxy.http.as_deref()) {
            found.insert(http, "proxy");
        }
    }
    if !own.is_empty() {
        found.insert(own, part);
    }
    let groups = found.into_iter().map(|(http, part)| Group {
        targets: vec![http.to_string()],
        labels: BTreeMap::from([
            ("cluster", cluster.to_string()),
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
