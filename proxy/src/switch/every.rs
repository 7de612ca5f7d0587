//! Commands for every node (DBSIZE, FLUSHALL, KEYS, …) and for some node (RANDOMKEY, …).
//!
//! Their client's commands before them are answered first and those after them wait, since they touch
//! every slot. When a node refuses or is lost, all of it is asked anew by the table of that moment.
//!
//! Larder's nodes are told with FLUSHALL the epoch of the map by which they are asked, and refuse by another: else a slot that
//! moves from a node that has not emptied it yet to one that has emptied all of its own would be missed.

use larder_wire::Refusal;
use larder_wire::command::{CommandId, Merge};
use larder_wire::resp::reply;
use larder_wire::resp::{OwnedRequest, Protocol, Request, RequestScanner, Scanned};

use super::forward::error_line;
use super::link::{Kind, NO_SLOT};
use super::route::Flow;
use super::{Action, Backend, ClientKey, GatherKey, Retry, Switch};
use crate::limits::HOLD_MS_MAX;

/// What is needed to ask anew.
pub(crate) struct Every {
    request: Vec<u8>,
    /// `None`: every node; else the nodes that are yet to be asked, one at a time.
    any: Option<Vec<u16>>,
    since_ms: u64,
    tries: u8,
    /// A node did not carry its share out, with this error: all have to be asked anew.
    again: Option<Vec<u8>>,
}

impl Switch {
    /// `merge` is `None` for a command that some one node answers.
    pub(super) fn every_node(
        &mut self,
        key: ClientKey,
        id: CommandId,
        merge: Option<Merge>,
        request: &Request<'_>,
    ) -> Flow {
        if let Flow::Wait = self.alone(key) {
            return Flow::Wait;
        }
        let now_ms = self.now_ms();
        let Some(client) = self.clients.get_mut(key) else {
            return Flow::Taken;
        };
        let seq = client.open_place();
        let protocol = client.protocol;
        let tag = self.tag(key, seq, None, id, protocol, Kind::Plain);
        let mut gather = self.make_gather(&tag, merge.unwrap_or(Merge::AllOk));
        gather.every = Some(Every {
            request: request.bytes().to_vec(),
            any: merge.is_none().then(Vec::new),
            since_ms: now_ms,
            tries: 0,
            again: None,
        });
        let gather = self.gathers.insert(gather);
        self.start_every(gather);
        Flow::Taken
    }

    /// Asks every node, or some node, from the start.
    pub(super) fn start_every(&mut self, key: GatherKey) {
        let mut nodes = self.primaries.clone();
        let turn = self.below(nodes.len());
        let Some(gather) = self.gathers.get_mut(key) else {
            return;
        };
        gather.reset();
        let Some(every) = &mut gather.every else {
            return;
        };
        every.again = None;
        if nodes.is_empty() {
            every.again = Some(error_line(&Refusal::CLUSTER_DOWN));
            return self.every_answered(key);
        }
        if let Some(any) = &mut every.any {
            nodes.rotate_left(turn);
            let rest = nodes.split_off(1);
            any.clear();
            any.extend(rest.into_iter().rev());
        }
        self.ask_nodes(key, &nodes);
    }

    fn ask_nodes(&mut self, key: GatherKey, nodes: &[u16]) {
        let Some(gather) = self.gathers.get_mut(key) else {
            return;
        };
        let shares: Vec<u32> = nodes.iter().map(|_| gather.add_share()).collect();
        let bytes = gather
            .every
            .as_ref()
            .map_or_else(Vec::new, |every| every.request.clone());
        let (client, seq) = (gather.client, gather.seq);
        let (command, protocol): (CommandId, Protocol) = (gather.command, gather.protocol);
        let bytes = self.with_epoch(command, bytes);
        for (&node, share) in nodes.iter().zip(shares) {
            let kind = Kind::Share { gather: key, share };
            let tag = self.tag(client, seq, None, command, protocol, kind);
            debug_assert_eq!(tag.slot, NO_SLOT);
            self.send_to(node, tag, &bytes, false);
        }
    }

    fn with_epoch(&self, id: CommandId, bytes: Vec<u8>) -> Vec<u8> {
        let flushes = matches!(id, CommandId::Flushall | CommandId::Flushdb);
        let mut scanner = RequestScanner::new();
        if !flushes
            || self.backend != Backend::Larder
            || !matches!(scanner.scan(&bytes), Ok(Scanned::Request { .. }))
        {
            return bytes;
        }
        let epoch = self.epoch.to_string();
        let request = scanner.request(&bytes);
        let mut args: Vec<&[u8]> = request.args_from(0).collect();
        args.extend([&b"EPOCH"[..], epoch.as_bytes()]);
        OwnedRequest::from_args(args).into_bytes()
    }

    /// A node has not carried its share out.
    pub(super) fn every_came_back(&mut self, key: GatherKey, error: Vec<u8>) {
        let Some(gather) = self.gathers.get_mut(key) else {
            return;
        };
        if let Some(every) = &mut gather.every {
            every.again = Some(error);
        }
        gather.left -= 1;
        if gather.left == 0 {
            self.every_answered(key);
        }
    }

    /// All that were asked have answered.
    pub(super) fn every_answered(&mut self, key: GatherKey) {
        let now_ms = self.now_ms();
        let Some(gather) = self.gathers.get_mut(key) else {
            return;
        };
        let found_nothing = gather.is_nothing();
        let Some(every) = &mut gather.every else {
            return;
        };
        if gather.error.is_none()
            && let Some(error) = every.again.take()
        {
            if now_ms - every.since_ms < HOLD_MS_MAX {
                every.tries = every.tries.saturating_add(1);
                let tries = every.tries;
                let due = now_ms + self.pause(tries);
                self.actions.push(Action::Refresh);
                self.later.push((due, Retry::Every(key)));
                return;
            }
            gather.error = Some(error);
        } else if gather.error.is_none()
            && found_nothing
            && let Some(next) = every.any.as_mut().and_then(Vec::pop)
        {
            return self.ask_nodes(key, &[next]);
        }
        self.finish(key);
    }
}

impl super::Gather {
    /// The one node that was asked has nothing.
    fn is_nothing(&self) -> bool {
        matches!(self.last_reply(), b"$-1\r\n" | b"_\r\n" | b"*-1\r\n")
            || reply::array_header(self.last_reply()).is_some_and(|(count, _)| count == 0)
    }
}
