//! The cutover: the moment from which Larder holds what counts.
//!
//! With proxies that forward (`larder_wire::forwarding`): all hold, the old server answers what it was sent, the stream is read to the
//! place where it then is, the topology records the decision, all turn. Whatever fails before the record leaves everything at the old server.

use std::time::Duration;

use larder_runtime::foreign::{Foreign, info_field};
use larder_runtime::{ControlClient, ControlError, entropy};
use larder_wire::control::Peer;
use larder_wire::forwarding::Forwarding;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use crate::content::text;
use crate::discover::told;
use crate::follow::{Mode, Order};
use crate::report::State;
use crate::run::Run;

/// Longest wait for all that the source has written to be taken in, where no client waits for it, in milliseconds.
const REACH_MS_MAX: u64 = 10_000;
/// Part of the hold that may be over when the decision is recorded, in percent: the rest is for telling it.
const DECIDE_PERCENT: u32 = 80;
/// How long the topology is asked what became of a decision, in milliseconds, and how often.
const DECISION_MS_MAX: u64 = 60_000;
const ASK_MS: u64 = 20;
/// Longest wait for a follower to change its mode, in milliseconds.
const MODE_MS_MAX: u64 = 1000;
/// How long after the cutover writes to the old server are looked for, in milliseconds.
const LATE_MS: u64 = 300;

impl Run {
    pub(crate) async fn cutover(&mut self) -> Result<String, String> {
        let state = self.state.borrow().clone();
        match state {
            State::Streaming => {}
            other => {
                return Err(format!(
                    "the import is not ready for a cutover: it is {}",
                    other.word()
                ));
            }
        }
        self.state.replace(State::CuttingOver);
        let mut servers = Vec::new();
        for side in &self.sides {
            // The side's own address may have changed with a failover of the old cluster.
            let addr = self.addr_of(side);
            servers.push(Foreign::connect(&addr, &side.login).await.map_err(told)?);
        }
        if !self.config.forward {
            let limit = Instant::now() + Duration::from_millis(REACH_MS_MAX);
            self.drain(&mut servers, limit).await?;
            return Ok("all that the source has is here".to_string());
        }
        let mut topology = self.topology().await?;
        let mut proxies = self.proxies(&mut topology).await?;
        // Not above what JSON's numbers hold exactly.
        let attempt = (entropy::seed().map_err(|error| error.to_string())? >> 12).to_string();
        forward(&mut topology, &["PREPARE", &attempt]).await?;
        let began = Instant::now();
        let decide_by = began + self.config.hold * DECIDE_PERCENT / 100;
        let ready = match hold(&mut proxies, &attempt, self.config.hold, decide_by).await {
            Ok(()) => self.drain(&mut servers, decide_by).await,
            Err(line) => Err(line),
        };
        // What the old server does from the decision on (keys expire there, too) must not reach Larder.
        let ready = match ready {
            Ok(()) => self.set_mode(Mode::Freeze).await,
            Err(line) => Err(line),
        };
        let turned = match ready {
            Ok(()) => self.decide(topology, &attempt).await?,
            Err(line) => {
                let void = forward(&mut topology, &["VOID", &attempt]).await;
                Err(void.err().unwrap_or(line))
            }
        };
        let mode = if turned.is_ok() {
            Mode::Watch
        } else {
            Mode::Apply
        };
        let followed = self.set_mode(mode).await;
        let verb = if turned.is_ok() { "TURN" } else { "RELEASE" };
        for proxy in &mut proxies {
            // One that is not reached asks the topology when its hold is over.
            if let Err(error) = proxy.send(["LARDER", "FORWARD", verb, &attempt]).await {
                tracing::warn!("proxy {}: {error}", proxy.addr());
            }
        }
        for proxy in &mut proxies {
            if let Err(error) = proxy.read_reply().await {
                tracing::warn!("proxy {}: {error}", proxy.addr());
            }
        }
        let held = began.elapsed().as_millis();
        turned.map_err(|line| format!("not done, clients stay with the old server: {line}"))?;
        if let Err(line) = followed {
            tracing::warn!("{line}");
        }
        let late = self.late_writes(&mut servers).await;
        Ok(format!(
            "{} turned to Larder, requests waited for {held} ms{late}",
            match proxies.len() {
                1 => "1 proxy".to_string(),
                count => format!("{count} proxies"),
            }
        ))
    }

    /// The proxies that have joined, each connected to.
    async fn proxies(&self, topology: &mut ControlClient) -> Result<Vec<ControlClient>, String> {
        let status: Value = topology
            .request_json(["LARDER", "STATUS", "JSON"])
            .await
            .map_err(|error| error.to_string())?;
        let addrs = status["proxies"].as_array().into_iter().flatten();
        let mut proxies = Vec::new();
        for addr in addrs.filter_map(|proxy| proxy["addr"].as_str()) {
            let proxy = ControlClient::connect(addr, &self.config.secret, Peer::Operator).await;
            proxies.push(proxy.map_err(|error| format!("proxy {addr}: {error}"))?);
        }
        match proxies.is_empty() {
            true => Err("no proxy has joined the topology, so nobody can be handed over (start the import with --no-forward if clients come without one)".to_string()),
            false => Ok(proxies),
        }
    }

    /// Waits till all that the sources have written is here. What is written meanwhile by whoever does not go through a held proxy
    /// would be lost, so it is an error.
    async fn drain(&self, servers: &mut [Foreign], limit: Instant) -> Result<(), String> {
        let late = |addr: &str| format!("source {addr} has not been caught up with in time");
        for (server, side) in servers.iter_mut().zip(&self.sides) {
            let addr = server.addr().to_string();
            let offset = source_offset(server).await?;
            let (answer, answered) = oneshot::channel();
            let gone = || format!("source {addr} is no longer followed");
            side.orders
                .send(Order::Reach(offset, answer))
                .map_err(|_| gone())?;
            match timeout_at(limit, answered).await {
                Ok(Ok(last_write)) if last_write > offset => return Err(strangers(&addr)),
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Err(gone()),
                Err(_) => return Err(late(&addr)),
            }
        }
        match Instant::now() < limit {
            true => Ok(()),
            false => Err("the hold was nearly over".to_string()),
        }
    }

    /// Has the decision recorded. When the topology is lost over it, it is asked until it says what became of it. The outer error:
    /// nobody knows; proxies ask, too, and nobody may be told to go either way.
    async fn decide(
        &self,
        mut topology: ControlClient,
        attempt: &str,
    ) -> Result<Result<(), String>, String> {
        let words = ["LARDER", "FORWARD", "TURN", attempt];
        match topology.request_json::<Option<Forwarding>>(words).await {
            Ok(_) => return Ok(Ok(())),
            Err(ControlError::Refused { text, .. }) => return Ok(Err(text)),
            Err(error) => tracing::warn!("the topology was lost over the cutover: {error}"),
        }
        let limit = Instant::now() + Duration::from_millis(DECISION_MS_MAX);
        while Instant::now() < limit {
            if let Ok(mut topology) = self.topology().await
                && let Ok(record) = forward(&mut topology, &["VOID", attempt]).await
            {
                let void = "the topology was lost before it had recorded the cutover".to_string();
                return Ok(match record.is_some_and(|record| record.turned) {
                    true => Ok(()),
                    false => Err(void),
                });
            }
            sleep(Duration::from_millis(ASK_MS)).await;
        }
        Err(
            "the topology is away: whether the cutover has happened is known when it is back"
                .to_string(),
        )
    }

    async fn set_mode(&self, mode: Mode) -> Result<(), String> {
        for side in &self.sides {
            let (answer, answered) = oneshot::channel();
            let gone = || format!("source {} is no longer followed", side.addr);
            side.orders
                .send(Order::Mode(mode, answer))
                .map_err(|_| gone())?;
            let limit = Instant::now() + Duration::from_millis(MODE_MS_MAX);
            match timeout_at(limit, answered).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(gone()),
            }
        }
        Ok(())
    }

    /// What somebody has written to the old server after the cutover, as a line's end.
    async fn late_writes(&self, servers: &mut [Foreign]) -> String {
        let mut offsets = Vec::new();
        for server in servers.iter_mut() {
            offsets.push(source_offset(server).await.unwrap_or(u64::MAX));
        }
        sleep(Duration::from_millis(LATE_MS)).await;
        for ((server, side), before) in servers.iter_mut().zip(&self.sides).zip(offsets) {
            let Ok(offset) = source_offset(server).await else {
                continue;
            };
            let (answer, answered) = oneshot::channel();
            let asked = side.orders.send(Order::Reach(offset, answer)).is_ok();
            let limit = Instant::now() + Duration::from_millis(LATE_MS);
            if asked
                && let Ok(Ok(last_write)) = timeout_at(limit, answered).await
                && last_write > before
            {
                return format!(
                    "; BUT {}, and what they write is not in Larder",
                    strangers(server.addr())
                );
            }
        }
        String::new()
    }

    pub(crate) async fn topology(&self) -> Result<ControlClient, String> {
        let connected = self
            .config
            .topology
            .connect(&self.config.secret, Peer::Operator);
        connected.await.map_err(|error| error.to_string())
    }
}

/// `LARDER FORWARD …` to the topology.
pub(crate) async fn forward(
    topology: &mut ControlClient,
    words: &[&str],
) -> Result<Option<Forwarding>, String> {
    let words: Vec<&str> = ["LARDER", "FORWARD"]
        .into_iter()
        .chain(words.iter().copied())
        .collect();
    topology
        .request_json(words)
        .await
        .map_err(|error| error.to_string())
}

/// Has all proxies hold, at the same time, and waits till nothing is under way from any.
async fn hold(
    proxies: &mut [ControlClient],
    attempt: &str,
    hold: Duration,
    limit: Instant,
) -> Result<(), String> {
    let ms = hold.as_millis().to_string();
    for proxy in proxies.iter_mut() {
        let sent = proxy
            .send(["LARDER", "FORWARD", "HOLD", attempt, &ms])
            .await;
        sent.map_err(|error| format!("proxy {}: {error}", proxy.addr()))?;
    }
    let mut failed = Ok(());
    for proxy in proxies.iter_mut() {
        // Each is waited for, so that what it answers is never taken for the answer to what follows.
        let answered = timeout_at(limit + hold, proxy.read_reply()).await;
        let cause = match answered {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_string(),
        };
        failed = failed.and(Err(format!("proxy {}: {cause}", proxy.addr())));
    }
    failed
}

fn strangers(addr: &str) -> String {
    format!("clients write to {addr} that do not go through a proxy")
}

async fn source_offset(server: &mut Foreign) -> Result<u64, String> {
    let info = text(&server.ask(["INFO", "replication"]).await.map_err(told)?);
    let offset = info_field(&info, "master_repl_offset").and_then(|text| text.parse().ok());
    offset.ok_or_else(|| format!("{} does not tell its replication offset", server.addr()))
}
