//! Waiting for the end of an import, on a connection of its own: Ready is known the moment that the target
//! says it, since a source holds writes meanwhile.

use std::rc::Rc;
use std::time::Duration;

use larder_plan::Event;
use larder_runtime::{ControlClient, ControlError};
use larder_wire::control::{ImportState, Peer};
use larder_wire::{Attempt, NodeId};

use crate::AWAIT_MS_MAX;
use crate::core::Core;

pub(crate) fn spawn(core: &Rc<Core>, node: NodeId, addr: String, attempt: Attempt) {
    let (reports, secret) = (core.reports.clone(), core.secret.clone());
    tokio::task::spawn_local(async move {
        let asked = async {
            let mut client = ControlClient::connect(&addr, &secret, Peer::Topology).await?;
            ask(&mut client, attempt).await
        };
        let event = match asked.await {
            Ok(state) => Event::Import {
                attempt,
                phase: state.phase,
                keys: state.keys,
                bytes: state.bytes,
            },
            Err(error) => {
                tracing::debug!("awaiting attempt {attempt} at node {node}: {error}");
                // Not at once again, where the node refuses connections.
                tokio::time::sleep(Duration::from_millis(crate::DIAL_MS_MIN)).await;
                Event::AwaitBroken { attempt }
            }
        };
        // The loop that reads reports ends with this thread.
        let _ = reports.send(event);
    });
}

async fn ask(client: &mut ControlClient, attempt: Attempt) -> Result<ImportState, ControlError> {
    let limit = Duration::from_millis(AWAIT_MS_MAX);
    let number = attempt.to_string();
    let reply = client
        .request_within(limit, ["LARDER", "AWAIT", number.as_str()])
        .await?;
    client.parse_json(&reply)
}
