//! The target's side of a move: asks the source for a feed and takes it in.

use std::rc::Rc;

use larder_runtime::{ControlClient, Reply};
use larder_wire::control::{FeedAsk, Import, Peer};
use tracing::{info, warn};

use crate::shared::{EndOnPanic, Shared};
use crate::stream_in::{In, Stream};

/// Runs an import until it has failed, or its source closes.
pub(crate) async fn run(shared: Rc<Shared>, import: Import) {
    let _guard = EndOnPanic(Rc::clone(&shared));
    let attempt = import.attempt;
    info!(%attempt, slots = import.slots.len(), source = %import.source_addr, "import begins");
    let taken = take_in(&shared, &import).await;
    let mut node = shared.node.borrow_mut();
    let reason = match taken {
        // How every import ends: the source learns first that the slots are no longer its own. An end that
        // comes too early fails the attempt, which the topology reports.
        Ok(()) => "the source closed the feed".to_string(),
        Err(reason) => {
            if node.import_wants_more(attempt) {
                warn!(%attempt, "import: {reason}");
            }
            reason
        }
    };
    node.import_lost(attempt, &reason);
    shared.pass_releases_on(&node);
}

async fn take_in(shared: &Rc<Shared>, import: &Import) -> Result<(), String> {
    let secret = shared
        .config
        .secret
        .as_ref()
        .ok_or("the node has no secret")?;
    let mut client = ControlClient::connect(&import.source_addr, secret, Peer::Node)
        .await
        .map_err(|error| error.to_string())?;
    let ask = FeedAsk {
        attempt: import.attempt,
        slots: import.slots.clone(),
        target: shared.node.borrow().settings.id,
    };
    let ask = serde_json::to_string(&ask).map_err(|error| error.to_string())?;
    let reply = client
        .request(["LARDER", "FEED", ask.as_str()])
        .await
        .map_err(|error| format!("the source refuses: {error}"))?;
    if reply != Reply::Simple(b"OK".to_vec()) {
        return Err(format!("the source answered {reply:?}"));
    }
    let (mut stream, arrived) = client.into_stream();
    let mut incoming = Stream::new(In::Import(import.attempt), arrived);
    incoming.run(shared, &mut stream).await
}
