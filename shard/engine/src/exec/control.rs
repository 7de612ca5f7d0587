//! LARDER: the control protocol's verbs that a node answers. Trust was checked at the door.

use larder_wire::control::{FeedAsk, Import, MapPush, NodeState, Peer};
use larder_wire::replication::ReplicateAsk;
use larder_wire::trust::{self, Answerer};
use larder_wire::{Attempt, Refusal};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backup;
use crate::clock::Clock;
use crate::feed::{Feed, Incoming};
use crate::node::Node;
use crate::turn::{Outcome, Turn};

pub fn hello(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let answerer = Answerer {
        server: Peer::Node,
        release: env!("CARGO_PKG_VERSION"),
        secret: turn.node.settings.secret.as_ref(),
    };
    let (trust, welcome) = trust::answer_hello(&turn.request, answerer)?;
    turn.session.set_trust(trust, turn.node.acl.operator());
    json(turn, &welcome)
}

pub fn map(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let push: MapPush = body(turn)?;
    turn.node.take_map(push, turn.clock)?;
    turn.ok()
}

/// The node asks the source for the slots.
pub fn import(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let import: Import = body(turn)?;
    let outcome = turn.node.begin_import(import, turn.clock)?;
    turn.reply.ok();
    Ok(outcome)
}

/// Answered once the import is decided: until then the request waits, as held ones do.
pub fn await_(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let attempt = attempt(turn)?;
    match turn.node.import_settled(attempt) {
        Some(state) => json(turn, &state),
        None => Ok(Outcome::Held),
    }
}

pub fn abort(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let attempt = attempt(turn)?;
    turn.node.abort_attempt(attempt);
    turn.ok()
}

/// A target asks for slots of this node; the connection becomes the feed.
pub fn feed(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let ask: FeedAsk = body(turn)?;
    let outcome = turn.node.begin_feed(ask)?;
    turn.reply.ok();
    Ok(outcome)
}

/// A replica asks for the stream; the connection becomes it.
pub fn replicate(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let ask: ReplicateAsk = body(turn)?;
    let outcome = turn.node.begin_replicate(&ask, turn.clock)?;
    turn.reply.ok();
    Ok(outcome)
}

/// A backup makes writes wait.
pub fn hold(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    backup::hold(turn)
}

/// A backup asks for what this node has; the connection becomes its stream.
pub fn snapshot(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    backup::snapshot(turn)
}

fn attempt(turn: &Turn<'_>) -> Result<Attempt, Refusal> {
    turn.arg_int(2)
        .ok()
        .and_then(|number| u64::try_from(number).ok())
        .map(Attempt)
        .ok_or(Refusal::fixed("ERR an attempt is a number"))
}

pub fn state(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let state = turn.node.state(turn.clock);
    json(turn, &state)
}

/// The JSON of argument 2.
pub(crate) fn body<T: DeserializeOwned>(turn: &Turn<'_>) -> Result<T, Refusal> {
    serde_json::from_slice(turn.request.arg(2))
        .map_err(|error| Refusal::new(format!("ERR malformed control message: {error}")))
}

pub(crate) fn json(turn: &mut Turn<'_>, value: &impl Serialize) -> Result<Outcome, Refusal> {
    let text = serde_json::to_vec(value)
        .map_err(|error| Refusal::new(format!("ERR cannot write the answer: {error}")))?;
    turn.bulk(&text)
}

impl Node {
    /// What the node says of itself.
    pub fn state(&self, clock: Clock) -> NodeState {
        NodeState {
            id: self.settings.id,
            run_id: self.settings.run_id,
            epoch: self.ownership.epoch(),
            role: self.ownership.role(),
            slots: self.ownership.slots().clone(),
            keys: self.databases.visible_len() as u64,
            used_memory: self.databases.used_memory(),
            maxmemory: self.databases.config().maxmemory,
            commands: self.stats.commands_processed.get(),
            cpu_us: self.machine.cpu_user_us + self.machine.cpu_system_us,
            clients: self.clients.len() as u64,
            uptime_ms: clock.mono_ms,
            imports: self.imports().iter().map(Incoming::state).collect(),
            feeds: self
                .feeds()
                .iter()
                .filter(|feed| !feed.is_over())
                .filter_map(Feed::state)
                .chain(self.handed_over.iter().map(|it| it.state().clone()))
                .collect(),
            replication: self.replication_state(clock),
        }
    }
}
