//! Takes connections in, on one thread, and deals them to the workers in turn.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use larder_runtime::listen;
use larder_runtime::protect::{self, Admission, Arrival};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::sleep;

use crate::session::Stream;
use crate::shared::Shared;
use crate::worker::Message;

/// Pause after the system refused to give a connection, in milliseconds.
const PAUSE_MS: u64 = 20;

pub(crate) struct Acceptor {
    pub(crate) shared: Arc<Shared>,
    pub(crate) workers: Vec<UnboundedSender<Message>>,
    /// `--protected-mode no`.
    pub(crate) unprotected: bool,
    pub(crate) next: std::cell::Cell<usize>,
}

impl Acceptor {
    pub(crate) async fn serve_tcp(&self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    // A client that is gone already is found out when it is read from.
                    let _ = listen::tune(&stream);
                    let laddr = stream
                        .local_addr()
                        .map_or(String::new(), |addr| addr.to_string());
                    match stream.into_std() {
                        Ok(stream) => self.deal(Stream::Tcp(stream), Some(peer), laddr),
                        Err(error) => tracing::debug!("client {peer} is lost: {error}"),
                    }
                }
                Err(error) => {
                    tracing::warn!("a connection cannot be taken: {error}");
                    sleep(Duration::from_millis(PAUSE_MS)).await;
                }
            }
        }
    }

    pub(crate) async fn serve_unix(&self, listener: UnixListener, path: String) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => match stream.into_std() {
                    Ok(stream) => self.deal(Stream::Unix(stream), None, format!("{path}:0")),
                    Err(error) => tracing::debug!("a client of {path} is lost: {error}"),
                },
                Err(error) => {
                    tracing::warn!("a connection cannot be taken at {path}: {error}");
                    sleep(Duration::from_millis(PAUSE_MS)).await;
                }
            }
        }
    }

    fn deal(&self, stream: Stream, peer: Option<SocketAddr>, laddr: String) {
        let shared = &self.shared;
        let admission = protect::admit(Arrival {
            peer: peer.map(|peer| peer.ip()),
            needs_auth: false,
            has_secret: shared.secret.is_some(),
            unprotected: self.unprotected,
        });
        if admission == Admission::Closed {
            return self.turn_away(stream, protect::DENIED);
        }
        if shared.clients.len() >= shared.clients_max {
            return self.turn_away(stream, "ERR max number of clients reached");
        }
        let unix = peer.is_none();
        let addr = peer.map_or_else(|| laddr.clone(), |peer| peer.to_string());
        let info = shared.clients.add(addr, laddr, unix);
        let turn = self.next.get();
        self.next.set(turn.wrapping_add(1));
        let id = info.id;
        let message = Message::Client {
            stream,
            info,
            admission,
        };
        if self.workers[turn % self.workers.len()]
            .send(message)
            .is_err()
        {
            // The thread has ended: the proxy is on its way down.
            shared.clients.remove(id);
        }
    }

    /// One error line, if the client takes it at once, and the end.
    fn turn_away(&self, stream: Stream, text: &str) {
        self.shared.rejected.inc();
        let line = format!("-{text}\r\n");
        let written = match stream {
            Stream::Tcp(mut stream) => stream.write(line.as_bytes()),
            Stream::Unix(mut stream) => stream.write(line.as_bytes()),
        };
        if let Err(error) = written {
            tracing::debug!("a client was not told why it is turned away: {error}");
        }
    }
}
