//! Where the slot map comes from, and the task that follows it. While the source is away, the last map stays
//! in force.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use larder_runtime::control::{ControlError, Reply};
use larder_runtime::foreign::Login;
use larder_runtime::{Backoff, ControlClient, Secret, Topologies, entropy};
use larder_wire::ClusterMap;
use larder_wire::control::{Peer, ProxyJoin};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{interval, sleep};

use crate::foreign_map;
use crate::shared::Shared;
use crate::turning::Told;

/// Who tells which node owns which slots.
#[derive(Clone, Debug)]
pub enum MapSource {
    /// Larder's topologies; the one that leads pushes every change.
    Topology(Topologies),
    /// Nodes of a Redis or Valkey cluster, `host:port` each: any of them that answers tells of all others.
    Cluster(Vec<String>),
    /// One Redis or Valkey that is no cluster, `host:port`.
    Server(String),
    /// This map, for good; its nodes are servers that each own whatever they are sent.
    Fixed(ClusterMap),
}

/// A sign of life to the topology, in milliseconds.
const JOIN_MS: u64 = 1000;
/// Longest wait for the answer to it, in milliseconds: a topology that hangs may have lost the lead.
const JOIN_MS_MAX: u64 = 1000;
/// Pause before the source is dialled again, first and longest, in milliseconds.
const DIAL_MS_MIN: u64 = 20;
const DIAL_MS_MAX: u64 = 1000;

/// Follows servers that are not Larder's for as long as the proxy runs; `spread` gives every thread a map.
pub(crate) async fn follow(
    source: MapSource,
    login: Login,
    shared: Arc<Shared>,
    spread: impl Fn(Arc<ClusterMap>),
) {
    let fixed = |map| {
        shared.source_up.store(true, Relaxed);
        spread(Arc::new(map));
    };
    match source {
        MapSource::Fixed(map) => fixed(map),
        MapSource::Server(addr) => fixed(foreign_map::one_server(addr)),
        MapSource::Cluster(seeds) => foreign_map::follow(&seeds, &login, &shared, spread).await,
        MapSource::Topology(topologies) => {
            tracing::error!("no secret to show the topology at {topologies}");
        }
    }
}

/// Follows the topology for as long as the proxy runs: its maps, and whether it has clients forwarded to an old server.
pub(crate) async fn follow_topology(
    topologies: Topologies,
    secret: Secret,
    join: ProxyJoin,
    shared: Arc<Shared>,
    tell: UnboundedSender<Told>,
) {
    let mut backoff = Backoff::new(
        Duration::from_millis(DIAL_MS_MIN),
        Duration::from_millis(DIAL_MS_MAX),
    );
    loop {
        let error = watch(&topologies, &secret, &join, &shared, &tell, &mut backoff).await;
        if shared.source_up.swap(false, Relaxed) {
            tracing::warn!("the topology is away, the last slot map stays in force: {error}");
        }
        sleep(backoff.next(entropy::jitter())).await;
    }
}

/// Joins and watches until the connection is lost.
async fn watch(
    topologies: &Topologies,
    secret: &Secret,
    join: &ProxyJoin,
    shared: &Arc<Shared>,
    tell: &UnboundedSender<Told>,
    backoff: &mut Backoff,
) -> ControlError {
    let Ok(body) = serde_json::to_string(join) else {
        unreachable!("a join message is plain strings and numbers")
    };
    let (mut life, mut maps) = match connect(topologies, secret).await {
        Ok(both) => both,
        Err(error) => return error,
    };
    if let Err(error) = join_in(&mut life, &body, tell).await {
        return error;
    }
    if let Err(error) = maps.send(["LARDER", "WATCH"]).await {
        return error;
    }
    backoff.reset();
    shared.source_up.store(true, Relaxed);
    let mut beat = interval(Duration::from_millis(JOIN_MS));
    loop {
        tokio::select! {
            read = maps.read_reply() => {
                let map = match read.and_then(|reply: Reply| maps.parse_json::<ClusterMap>(&reply)) {
                    Ok(map) => map,
                    Err(error) => return error,
                };
                tracing::debug!("slot map of epoch {}", map.epoch);
                // The receiver ends with the proxy.
                let _ = tell.send(Told::Larder(Arc::new(map)));
            }
            _ = beat.tick() => {
                if let Err(error) = join_in(&mut life, &body, tell).await {
                    return error;
                }
            }
        }
    }
}

/// A sign of life, and the question where clients belong. A topology of an older release never forwards.
async fn join_in(
    life: &mut ControlClient,
    body: &str,
    tell: &UnboundedSender<Told>,
) -> Result<(), ControlError> {
    let limit = Duration::from_millis(JOIN_MS_MAX);
    life.request_within(limit, ["LARDER", "JOIN", body]).await?;
    let words = ["LARDER", "FORWARD", "GET"];
    let record = match life.request_within(limit, words).await {
        Ok(reply) => life.parse_json(&reply)?,
        Err(ControlError::Refused { text, .. }) if text.starts_with("unknown LARDER verb") => None,
        Err(error) => return Err(error),
    };
    let _ = tell.send(Told::Recorded(record));
    Ok(())
}

/// Two connections to the one that leads. Should it stop leading in between, its first answer says so.
async fn connect(
    topologies: &Topologies,
    secret: &Secret,
) -> Result<(ControlClient, ControlClient), ControlError> {
    let life = topologies.connect(secret, Peer::Proxy).await?;
    let maps = ControlClient::connect(life.addr(), secret, Peer::Proxy).await?;
    Ok((life, maps))
}
