//! The link to one node: a connection that is probed, carries maps, imports and aborts in order, and
//! is dialled again when it is lost.

use std::sync::Arc;
use std::time::Duration;

use larder_plan::{Event, PushResult};
use larder_runtime::backoff::Backoff;
use larder_runtime::control::Reply;
use larder_runtime::{ControlClient, ControlError, Secret, entropy};
use larder_wire::control::{Import, MapPush, NodeState, Peer};
use larder_wire::replication::{Fence, Yield};
use larder_wire::{Attempt, Epoch, NodeId};
use tokio::sync::{mpsc, watch};

use crate::authority::Authority;
use crate::{ANSWER_MS_MAX, DIAL_ANSWER_MS_MAX, DIAL_MS_MAX, DIAL_MS_MIN};

/// What a node is told.
#[derive(Debug)]
pub(crate) enum LinkOrder {
    Push(MapPush),
    Import(Import),
    Abort(Attempt),
    Fence(Fence),
    Unfence(u64),
    Yield(Yield),
}

impl LinkOrder {
    /// Reports that the order did not reach its node.
    pub(crate) fn fail(self, node: NodeId, why: &str, reports: &mpsc::UnboundedSender<Event>) {
        let event = match self {
            LinkOrder::Push(push) => Event::Pushed {
                node,
                run_id: node,
                epoch: push.map.epoch,
                result: PushResult::Failed(why.to_string()),
            },
            LinkOrder::Import(import) => Event::ImportAnswered {
                attempt: import.attempt,
                result: Err(why.to_string()),
            },
            LinkOrder::Yield(order) => Event::Yielded {
                node,
                run_id: node,
                number: order.number,
                result: Err(why.to_string()),
            },
            // Said again: when the node lists the attempt, and as long as the fence is to hold, or to be lifted.
            LinkOrder::Abort(_) | LinkOrder::Fence(_) | LinkOrder::Unfence(_) => return,
        };
        // The loop that reads reports ends with this thread.
        let _ = reports.send(event);
    }
}

/// Ends with its handle.
pub(crate) struct Link {
    pub(crate) addr: String,
    orders: mpsc::UnboundedSender<(NodeId, LinkOrder)>,
    every: watch::Sender<Duration>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    pub(crate) fn spawn(
        node: NodeId,
        addr: &str,
        secret: &Secret,
        authority: &Arc<Authority>,
        reports: &mpsc::UnboundedSender<Event>,
    ) -> Link {
        let (orders, inbox) = mpsc::unbounded_channel();
        let (every, probe_every) = watch::channel(Duration::from_millis(crate::PROBE_MS));
        let end = LinkEnd {
            node,
            addr: addr.to_string(),
            secret: secret.clone(),
            authority: authority.clone(),
            reports: reports.clone(),
            orders: inbox,
            every: probe_every,
        };
        Link {
            addr: addr.to_string(),
            orders,
            every,
            task: tokio::task::spawn_local(end.run()),
        }
    }

    /// For the life `run_id` of the node: another one is told nothing of it.
    pub(crate) fn order(&self, run_id: NodeId, order: LinkOrder) {
        // The task ends only with this handle.
        let _ = self.orders.send((run_id, order));
    }

    pub(crate) fn probe_every(&self, every: Duration) {
        self.every.send_if_modified(|present| {
            let changed = *present != every;
            *present = every;
            changed
        });
    }
}

/// Why a connection is of no more use.
struct Lost {
    reason: String,
    /// Nobody listens at the node's port.
    process_gone: bool,
}

impl From<ControlError> for Lost {
    fn from(error: ControlError) -> Lost {
        Lost {
            process_gone: matches!(error, ControlError::PortClosed { .. }),
            reason: error.to_string(),
        }
    }
}

impl From<String> for Lost {
    fn from(reason: String) -> Lost {
        Lost {
            reason,
            process_gone: false,
        }
    }
}

/// Which life of the node answered, and its map.
struct Probed {
    run_id: NodeId,
    epoch: Epoch,
}

/// The task's side.
struct LinkEnd {
    node: NodeId,
    addr: String,
    secret: Secret,
    /// Asked right before an order leaves: one that was decided in a term that is over must not.
    authority: Arc<Authority>,
    reports: mpsc::UnboundedSender<Event>,
    orders: mpsc::UnboundedReceiver<(NodeId, LinkOrder)>,
    every: watch::Receiver<Duration>,
}

impl LinkEnd {
    async fn run(mut self) {
        let mut backoff = Backoff::new(
            Duration::from_millis(DIAL_MS_MIN),
            Duration::from_millis(DIAL_MS_MAX),
        );
        loop {
            let dialled = ControlClient::connect(&self.addr, &self.secret, Peer::Topology);
            let limit = Duration::from_millis(DIAL_ANSWER_MS_MAX);
            let dialled = tokio::time::timeout(limit, dialled).await;
            let lost = match dialled.unwrap_or_else(|_| Err(self.no_answer())) {
                Ok(client) => self.serve(client, &mut backoff).await.into(),
                Err(error) => Lost::from(error),
            };
            while let Ok((_, order)) = self.orders.try_recv() {
                order.fail(self.node, &lost.reason, &self.reports);
            }
            self.report(Event::NodeUnreachable {
                node: self.node,
                reason: lost.reason,
                process_gone: lost.process_gone,
            });
            self.rest(backoff.next(entropy::jitter())).await;
        }
    }

    fn no_answer(&self) -> ControlError {
        ControlError::Unreachable {
            addr: self.addr.clone(),
            cause: format!("no answer within {DIAL_ANSWER_MS_MAX} ms"),
        }
    }

    /// Waits, and turns down what is ordered meanwhile.
    async fn rest(&mut self, wait: Duration) {
        let over = tokio::time::sleep(wait);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                order = self.orders.recv() => match order {
                    Some((_, order)) => order.fail(self.node, "the connection is lost", &self.reports),
                    None => return,
                },
            }
        }
    }

    /// One connection's life; returns why it ended. The first probe says which life of the node is at the other end.
    async fn serve(&mut self, mut client: ControlClient, backoff: &mut Backoff) -> String {
        let run_id = match self.probe(&mut client).await {
            Ok(probed) => probed.run_id,
            Err(lost) => return lost,
        };
        backoff.reset();
        let mut every = self.every.clone();
        let mut next_probe = tokio::time::Instant::now() + *every.borrow_and_update();
        loop {
            let went_well = tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(_) | None if !self.authority.holds() => return "this topology leads no more".into(),
                    Some((meant, order)) if meant != run_id => {
                        order.fail(self.node, "it has restarted", &self.reports);
                        Ok(())
                    }
                    Some((_, order)) => self.carry_out(&mut client, run_id, order).await,
                    None => return "the topology is ending".into(),
                },
                () = tokio::time::sleep_until(next_probe) => {
                    next_probe = tokio::time::Instant::now() + *every.borrow_and_update();
                    self.probe(&mut client).await.map(drop)
                }
                changed = every.changed() => {
                    let period = *every.borrow_and_update();
                    next_probe = next_probe.min(tokio::time::Instant::now() + period);
                    changed.map_err(|_| "the topology is ending".to_string())
                }
            };
            if let Err(lost) = went_well {
                return lost;
            }
        }
    }

    async fn probe(&self, client: &mut ControlClient) -> Result<Probed, String> {
        let limit = Duration::from_millis(ANSWER_MS_MAX);
        let reply = client.request_within(limit, ["LARDER", "STATE"]).await;
        let state: NodeState = reply
            .and_then(|reply| client.parse_json(&reply))
            .map_err(|error| error.to_string())?;
        if state.id != self.node {
            return Err(format!("another node ({}) answers there", state.id));
        }
        let probed = Probed {
            run_id: state.run_id,
            epoch: state.epoch,
        };
        self.report(Event::NodeAnswered(Box::new(state)));
        Ok(probed)
    }

    /// `Err` when the connection is of no more use.
    async fn carry_out(
        &self,
        client: &mut ControlClient,
        run_id: NodeId,
        order: LinkOrder,
    ) -> Result<(), String> {
        let (verb, body) = match &order {
            LinkOrder::Push(push) => ("MAP", json(push)),
            LinkOrder::Import(import) => ("IMPORT", json(import)),
            LinkOrder::Abort(attempt) => ("ABORT", attempt.to_string()),
            LinkOrder::Fence(fence) => ("FENCE", json(fence)),
            LinkOrder::Unfence(number) => ("UNFENCE", number.to_string()),
            LinkOrder::Yield(order) => ("YIELD", json(order)),
        };
        let limit = Duration::from_millis(ANSWER_MS_MAX);
        let answer = client
            .request_within(limit, ["LARDER", verb, body.as_str()])
            .await;
        let answer = match answer {
            Ok(reply) => Ok(reply),
            Err(ControlError::Refused { code, text }) => Err((code, text)),
            Err(error) => {
                let lost = error.to_string();
                order.fail(self.node, &lost, &self.reports);
                return Err(lost);
            }
        };
        if let (LinkOrder::Abort(attempt), Ok(_)) = (&order, &answer) {
            return self.report_abort(client, run_id, *attempt).await;
        }
        self.report_answer(client, order, run_id, answer);
        Ok(())
    }

    /// What the node has now that the attempt is void there.
    async fn report_abort(
        &self,
        client: &mut ControlClient,
        run_id: NodeId,
        attempt: Attempt,
    ) -> Result<(), String> {
        let epoch = self.probe(client).await?.epoch;
        self.report(Event::Aborted {
            node: self.node,
            run_id,
            attempt,
            epoch,
        });
        Ok(())
    }

    fn report_answer(
        &self,
        client: &ControlClient,
        order: LinkOrder,
        run_id: NodeId,
        answer: Result<Reply, (String, String)>,
    ) {
        let said = |(code, text): (String, String)| format!("{code} {text}");
        match order {
            LinkOrder::Push(push) => self.report(Event::Pushed {
                node: self.node,
                run_id,
                epoch: push.map.epoch,
                result: match answer {
                    Ok(_) => PushResult::Accepted,
                    Err((code, text)) => push_refusal(&code, &text),
                },
            }),
            LinkOrder::Import(import) => self.report(Event::ImportAnswered {
                attempt: import.attempt,
                result: answer.map(drop).map_err(said),
            }),
            LinkOrder::Fence(fence) => self.report(Event::Fenced {
                node: self.node,
                number: fence.number,
                result: parsed(client, answer.map_err(said)),
            }),
            LinkOrder::Yield(order) => self.report(Event::Yielded {
                node: self.node,
                run_id,
                number: order.number,
                result: parsed(client, answer.map_err(said)),
            }),
            LinkOrder::Abort(_) | LinkOrder::Unfence(_) => {}
        }
    }

    fn report(&self, event: Event) {
        // The loop that reads reports ends with this thread.
        let _ = self.reports.send(event);
    }
}

fn parsed<T: serde::de::DeserializeOwned>(
    client: &ControlClient,
    answer: Result<Reply, String>,
) -> Result<T, String> {
    let reply = answer?;
    client.parse_json(&reply).map_err(|error| error.to_string())
}

/// `-STALE <epoch>`, `-LETGO <attempt>`, or something that a node does not say.
fn push_refusal(code: &str, text: &str) -> PushResult {
    let number = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    match (code, number) {
        ("STALE", Some(epoch)) => PushResult::Stale(Epoch(epoch)),
        ("LETGO", Some(attempt)) => PushResult::LetGo(Attempt(attempt)),
        (_, _) => PushResult::Failed(format!("{code} {text}")),
    }
}

fn json(body: &impl serde::Serialize) -> String {
    serde_json::to_string(body).expect("control messages have nothing that JSON cannot hold")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_to_a_map_is_understood() {
        for (code, text, meant) in [
            ("STALE", "7", PushResult::Stale(Epoch(7))),
            ("LETGO", "12", PushResult::LetGo(Attempt(12))),
            ("STALE", "", PushResult::Failed("STALE ".into())),
            ("ERR", "no", PushResult::Failed("ERR no".into())),
        ] {
            assert_eq!(push_refusal(code, text), meant);
        }
    }
}
