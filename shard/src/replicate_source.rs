//! The primary's side of replication: the connection of a replica becomes its stream.

use std::rc::Rc;

use larder_engine::replication::LinkId;
use larder_wire::replication::LinkPhase;
use tokio::net::TcpStream;
use tracing::{info, warn};

use crate::shared::Shared;
use crate::stream_out::{self, Out};

/// Serves the replica to its end. `owed` is what it is still to be sent, `input` what it has sent already.
pub(crate) async fn serve(
    shared: &Rc<Shared>,
    stream: &mut TcpStream,
    owed: Vec<u8>,
    input: Vec<u8>,
    link: LinkId,
) {
    let follower = shared
        .node
        .borrow()
        .replication
        .followers
        .get(link)
        .cloned();
    let Some(follower) = follower else {
        return;
    };
    let replica = follower.node;
    match follower.phase {
        LinkPhase::Full => info!(%replica, "replica gets all data"),
        LinkPhase::Streaming | LinkPhase::Down => {
            info!(%replica, "replica goes on from {}", follower.acked);
        }
    }
    match stream_out::serve(shared, stream, owed, input, Out::Link(link)).await {
        Ok(()) => info!(%replica, "replica is let go"),
        Err(error) => warn!(%replica, "replica was lost: {error}"),
    }
}
