//! The source's side of a move: the connection of a target becomes a feed.

use std::rc::Rc;

use larder_wire::control::FeedAsk;
use tokio::net::TcpStream;
use tracing::{info, warn};

use crate::shared::Shared;
use crate::stream_out::{self, Out};

/// Serves the feed to its end. `owed` is what the client is still to be sent, `input` what it has sent already.
pub(crate) async fn serve(
    shared: &Rc<Shared>,
    stream: &mut TcpStream,
    owed: Vec<u8>,
    input: Vec<u8>,
    ask: FeedAsk,
) {
    let attempt = ask.attempt;
    info!(%attempt, slots = ask.slots.len(), target = %ask.target, "feed begins");
    match stream_out::serve(shared, stream, owed, input, Out::Feed(attempt)).await {
        Ok(()) => info!(%attempt, "feed is over"),
        Err(error) => warn!(%attempt, "feed was lost: {error}"),
    }
}
