//! The importer's own port, for `larder import status | cutover | abort`: `LARDER HELLO` with the cluster's secret, then one verb a
//! request. What a verb does is decided in `run.rs`.

use std::rc::Rc;

use larder_runtime::Secret;
use larder_wire::Refusal;
use larder_wire::control::Peer;
use larder_wire::resp::{OwnedRequest, Protocol, ReplyWriter, RequestScanner, Scanned};
use larder_wire::trust::{Answerer, Trust, answer_hello};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

/// Longest request, in bytes, and most connections at once.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
const SESSIONS_MAX: usize = 64;

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Status,
    Cutover,
    /// `clear`: what was copied is removed. `serve`: proxies no longer forward.
    Abort {
        clear: bool,
        serve: bool,
    },
}

/// Answered with a line, or JSON for a status.
pub(crate) type Ask = (Verb, oneshot::Sender<Result<String, String>>);

pub(crate) async fn serve(listener: TcpListener, secret: Secret, asks: mpsc::UnboundedSender<Ask>) {
    let sessions = Rc::new(());
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        if Rc::strong_count(&sessions) > SESSIONS_MAX {
            tracing::warn!("{SESSIONS_MAX} connections are open: {from} is turned away");
            continue;
        }
        let (secret, asks, alive) = (secret.clone(), asks.clone(), sessions.clone());
        tokio::task::spawn_local(async move {
            if let Err(error) = session(stream, &secret, &asks).await {
                tracing::debug!("operator {from} is lost: {error}");
            }
            drop(alive);
        });
    }
}

async fn session(
    mut stream: TcpStream,
    secret: &Secret,
    asks: &mpsc::UnboundedSender<Ask>,
) -> std::io::Result<()> {
    let mut scanner = RequestScanner::new();
    scanner.set_bulk_bytes_max(REQUEST_BYTES_MAX);
    let (mut input, mut trust) = (Vec::new(), Trust::default());
    loop {
        let mut out = Vec::new();
        match scanner.scan(&input) {
            Ok(Scanned::Request { consumed }) => {
                let request = OwnedRequest::from(scanner.request(&input));
                input.drain(..consumed);
                answer(&request, secret, &mut trust, asks, &mut out).await;
            }
            Ok(Scanned::Incomplete { .. }) => {
                if input.len() > REQUEST_BYTES_MAX || stream.read_buf(&mut input).await? == 0 {
                    return Ok(());
                }
            }
            Err(_) => return Ok(()),
        }
        stream.write_all(&out).await?;
    }
}

async fn answer(
    request: &OwnedRequest,
    secret: &Secret,
    trust: &mut Trust,
    asks: &mpsc::UnboundedSender<Ask>,
    out: &mut Vec<u8>,
) {
    let request = request.view();
    let mut reply = ReplyWriter::new(out, Protocol::Resp2);
    let is = |at: usize, word: &str| {
        request
            .get(at)
            .is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    };
    if !is(0, "larder") {
        return reply.error(&Refusal::fixed(
            "ERR this is larder's importer, which keeps no keys (ask it with: larder import status)",
        ));
    }
    if is(1, "hello") {
        let answerer = Answerer {
            server: Peer::Operator,
            release: env!("CARGO_PKG_VERSION"),
            secret: Some(secret),
        };
        match answer_hello(&request, answerer) {
            Ok((shown, welcome)) => {
                *trust = shown;
                let json = serde_json::to_vec(&welcome).unwrap_or_default();
                reply.bulk(&json);
            }
            Err(refusal) => reply.error(&refusal),
        }
        return;
    }
    if !trust.has_control() {
        return reply.error(&Refusal::CONTROL_REFUSED);
    }
    let verb = if is(1, "status") {
        Verb::Status
    } else if is(1, "cutover") {
        Verb::Cutover
    } else if is(1, "abort") {
        Verb::Abort {
            clear: is(2, "clear") || is(3, "clear"),
            serve: is(2, "serve") || is(3, "serve"),
        }
    } else {
        return reply.error(&Refusal::fixed(
            "ERR the importer knows LARDER STATUS, CUTOVER and ABORT [CLEAR] [SERVE]",
        ));
    };
    let (answer, answered) = oneshot::channel();
    let told = match asks.send((verb, answer)) {
        Ok(()) => answered.await.ok(),
        Err(_) => None,
    };
    match told {
        Some(Ok(text)) => reply.bulk(text.as_bytes()),
        Some(Err(text)) => reply.error(&Refusal::new(format!("ERR {text}"))),
        None => reply.error(&Refusal::fixed("ERR the import is ending")),
    }
}
