//! The HTTP server of a process: `/metrics`, `/healthz`, `/readyz`, and what else its owner adds.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::listen::{self, ListenError};
use crate::metrics::Registry;
use crate::shutdown::Shutdown;

/// Whether the process serves, and if not, what it waits for.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<Result<(), String>>>);

impl Readiness {
    pub fn waiting_for(what: &str) -> Readiness {
        Readiness(Arc::new(watch::Sender::new(Err(what.to_string()))))
    }

    pub fn set_ready(&self) {
        let _ = self.0.send_replace(Ok(()));
    }

    pub fn set_waiting(&self, what: &str) {
        let _ = self.0.send_replace(Err(what.to_string()));
    }

    /// `Err` holds what is waited for.
    pub fn get(&self) -> Result<(), String> {
        self.0.borrow().clone()
    }

    /// Returns once it serves.
    pub async fn wait_ready(&self) {
        // It cannot fail: the sender is held here.
        let _ = self.0.subscribe().wait_for(Result::is_ok).await;
    }
}

/// A bound port that does not answer yet.
#[derive(Debug)]
pub struct HttpPort {
    listener: std::net::TcpListener,
    addr: SocketAddr,
}

impl HttpPort {
    /// Binds `text` (`host:port`); `flag` is what the operator would change, for errors.
    pub fn bind(text: &str, flag: &str) -> Result<HttpPort, ListenError> {
        let listener = listen::tcp(text, flag)?;
        let addr = listener.local_addr().map_err(|error| ListenError::Other {
            place: text.to_string(),
            error,
            flag: flag.to_string(),
        })?;
        Ok(HttpPort { listener, addr })
    }

    /// Where it really is, when port 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers until `shutdown`; requests under way are finished. `more` holds routes of the owner's own.
    pub async fn serve(
        self,
        registry: Registry,
        ready: Readiness,
        more: Router,
        shutdown: Shutdown,
    ) -> std::io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let app = routes(registry, ready).merge(more);
        axum::serve(listener, app)
            .with_graceful_shutdown(async move { shutdown.wait().await })
            .await
    }
}

fn routes(registry: Registry, ready: Readiness) -> Router {
    Router::new()
        .route(
            "/metrics",
            get(move || std::future::ready(metrics_page(&registry))),
        )
        .route("/healthz", get(|| std::future::ready("ok\n")))
        .route(
            "/readyz",
            get(move || std::future::ready(ready_page(&ready))),
        )
}

fn metrics_page(registry: &Registry) -> Response {
    (
        [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)],
        registry.text(),
    )
        .into_response()
}

fn ready_page(ready: &Readiness) -> Response {
    match ready.get() {
        Ok(()) => "ready\n".into_response(),
        Err(what) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for {what}\n"),
        )
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{process, shutdown};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn fetch(addr: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_process_shows_its_metrics_its_health_and_whether_it_serves() {
        let registry = Registry::new();
        let _process = process::register(&registry, "up", "0.1.0");
        let port = HttpPort::bind("127.0.0.1:0", "--http").unwrap();
        let (addr, ready) = (port.addr(), Readiness::waiting_for("the first map"));
        let (trigger, waiter) = shutdown::channel();
        let more = Router::new().route("/sd", get(|| async { "[]" }));
        let served = tokio::spawn(port.serve(registry, ready.clone(), more, waiter));

        let metrics = fetch(addr, "/metrics").await;
        assert!(
            metrics.contains("text/plain; version=0.0.4") && metrics.contains("larder_build_info")
        );
        assert!(fetch(addr, "/healthz").await.starts_with("HTTP/1.1 200"));
        let waiting = fetch(addr, "/readyz").await;
        assert!(
            waiting.starts_with("HTTP/1.1 503") && waiting.contains("the first map"),
            "{waiting}"
        );
        let woken = tokio::spawn({
            let ready = ready.clone();
            async move { ready.wait_ready().await }
        });
        ready.set_ready();
        woken.await.unwrap();
        assert!(fetch(addr, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(fetch(addr, "/sd").await.ends_with("[]"));

        trigger.pull();
        served.await.unwrap().unwrap();
    }
}
