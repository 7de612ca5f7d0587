//! The replica's side of replication: connects to the primary that the map names, takes in its stream, and comes again when that ends.

use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use larder_engine::replication::{Lost, WantedLink};
use larder_runtime::{Backoff, ControlClient, Reply, entropy};
use larder_wire::control::Peer;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::shared::{EndOnPanic, Shared};
use crate::stream_in::{In, Stream};

const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A primary that does not answer within this is tried again.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Follows whomever the node is to follow, for as long as it lives.
pub(crate) async fn run(shared: Rc<Shared>) {
    let _guard = EndOnPanic(Rc::clone(&shared));
    let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_MAX);
    let mut last = None;
    loop {
        let wanted = wanted(&shared, None).await;
        if last.replace(wanted.node) != Some(wanted.node) {
            backoff.reset();
        }
        let ended = follow(&shared, &wanted, &mut backoff).await;
        let still_wanted = {
            let mut node = shared.node.borrow_mut();
            let still_wanted = node.upstream_is(wanted.number);
            node.upstream_lost(wanted.number);
            for lost in node.take_lost() {
                report(&lost);
            }
            shared.pass_releases_on(&node);
            still_wanted
        };
        if !still_wanted {
            continue;
        }
        match ended {
            Ok(()) => warn!(primary = %wanted.addr, "the primary closed the connection"),
            Err(reason) => warn!(primary = %wanted.addr, "lost the primary: {reason}"),
        }
        // Another primary is not waited for.
        let number = shared.node.borrow().wanted_link().map(|it| it.number);
        tokio::select! {
            () = sleep(backoff.next(entropy::jitter())) => {}
            _ = self::wanted(&shared, number) => {}
        }
    }
}

/// Whom to follow, once there is somebody, and it is another connection than that of number `not`.
async fn wanted(shared: &Shared, not: Option<u64>) -> WantedLink {
    std::future::poll_fn(|cx| {
        let mut node = shared.node.borrow_mut();
        match node.wanted_link() {
            Some(wanted) if Some(wanted.number) != not => Poll::Ready(wanted),
            Some(_) | None => {
                node.set_upstream_bell(cx.waker());
                Poll::Pending
            }
        }
    })
    .await
}

async fn follow(
    shared: &Rc<Shared>,
    wanted: &WantedLink,
    backoff: &mut Backoff,
) -> Result<(), String> {
    let asked = timeout(ASK_TIMEOUT, ask(shared, wanted)).await;
    let client = asked.map_err(|_| "it does not answer".to_string())??;
    info!(primary = %wanted.addr, "following the primary");
    backoff.reset();
    let (mut stream, arrived) = client.into_stream();
    Stream::new(In::Link(wanted.number), arrived)
        .run(shared, &mut stream)
        .await
}

async fn ask(shared: &Shared, wanted: &WantedLink) -> Result<ControlClient, String> {
    let secret = &shared.config.secret;
    let secret = secret.as_ref().ok_or("the node has no secret")?;
    let mut client = ControlClient::connect(&wanted.addr, secret, Peer::Node)
        .await
        .map_err(|error| error.to_string())?;
    let clock = shared.clocks.clock();
    let ask = shared
        .node
        .borrow_mut()
        .begin_upstream(wanted.number, clock)
        .ok_or("the node follows another primary")?;
    let ask = serde_json::to_string(&ask).map_err(|error| error.to_string())?;
    let reply = client
        .request(["LARDER", "REPLICATE", ask.as_str()])
        .await
        .map_err(|error| format!("it refuses: {error}"))?;
    if reply != Reply::Simple(b"OK".to_vec()) {
        return Err(format!("it answered {reply:?}"));
    }
    Ok(client)
}

fn report(lost: &Lost) {
    let commands = lost
        .commands
        .map_or("nobody knows how many".to_string(), |it| it.to_string());
    match &lost.kept {
        Ok(path) => warn!(
            "this node was a primary and had writes that its shard does not have ({commands}); they are kept in {path}"
        ),
        Err(why) => warn!(
            "this node was a primary and had writes that its shard does not have ({commands}), and they are not kept: {why}"
        ),
    }
}
