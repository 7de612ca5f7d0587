//! Joins the topology, the one that leads where there are several: says who and where this node is, a few times a second, for
//! as long as it lives. Each answer is a lease (`larder_wire::replication`), unless it says that the node is fenced.

use std::rc::Rc;
use std::time::Duration;

use larder_runtime::{Backoff, ControlClient, ControlError, Topologies, entropy};
use larder_wire::control::{NodeJoin, Peer};
use larder_wire::replication::RENEW_MS;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use crate::shared::{EndOnPanic, Shared};
use crate::thread::NodeEnd;

/// How often the node registers: the sign that it lives.
const JOIN_EVERY: Duration = Duration::from_millis(RENEW_MS);
/// The answer that is no lease, and no fault of the connection.
const FENCED: &str = "FENCED";
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// Longest wait for an answer: a topology that hangs may have lost the lead.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Ends the node when the topology refuses it for good.
pub(crate) async fn run(shared: Rc<Shared>, topologies: Topologies, join: NodeJoin) {
    let _guard = EndOnPanic(Rc::clone(&shared));
    let Some(secret) = shared.config.secret.clone() else {
        shared.end_with(NodeEnd::Refused("the node has no secret".to_string()));
        return;
    };
    let Ok(body) = serde_json::to_string(&join) else {
        unreachable!("a join message is plain strings and numbers")
    };
    let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_MAX);
    let mut reachable = true;
    loop {
        let error = match topologies.connect(&secret, Peer::Node).await {
            Ok(mut client) => {
                if !reachable {
                    info!(node = %join.addr, "the topology at {} is back", client.addr());
                }
                reachable = true;
                backoff.reset();
                keep_joining(&shared, &mut client, &body).await
            }
            Err(error) => error,
        };
        if let Some(reason) = permanent(&error, &topologies) {
            shared.end_with(NodeEnd::Refused(reason));
            return;
        }
        if reachable {
            warn!(node = %join.addr, "lost the topology, trying again: {error}");
        }
        reachable = false;
        sleep(backoff.next(entropy::jitter())).await;
    }
}

/// Returns with what went wrong.
async fn keep_joining(shared: &Shared, client: &mut ControlClient, body: &str) -> ControlError {
    let mut every = interval(JOIN_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let sent_ms = shared.clocks.clock().mono_ms;
        match client
            .request_within(ANSWER_MAX, ["LARDER", "JOIN", body])
            .await
        {
            Ok(_) => {
                let mut node = shared.node.borrow_mut();
                node.joined(sent_ms, shared.clocks.clock());
            }
            Err(ControlError::Refused { code, .. }) if code == FENCED => {}
            Err(error) => return error,
        }
    }
}

/// What no further try will mend.
fn permanent(error: &ControlError, topologies: &Topologies) -> Option<String> {
    match error {
        ControlError::Version(text) => Some(text.clone()),
        ControlError::Refused { code, text } if code == "WRONGPASS" || code == "NOAUTH" => {
            Some(format!(
                "the topology at {topologies} does not accept this node's secret: {text} (give both the same --secret-file or LARDER_SECRET)"
            ))
        }
        ControlError::Refused { code, text } if code == "REFUSED" => Some(text.clone()),
        ControlError::Refused { .. }
        | ControlError::Unreachable { .. }
        | ControlError::PortClosed { .. }
        | ControlError::Garbled { .. } => None,
    }
}
