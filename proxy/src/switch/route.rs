//! Where one request goes: the table row says which way, the keys say which slot.

use larder_runtime::protect::{self, Admission};
use larder_wire::command::{self, CommandId, CommandSpec, Flags, Found, Merge, Route, keys};
use larder_wire::resp::{OwnedRequest, Request};
use larder_wire::{Refusal, Slot, slot_of};

use super::link::{Kind, Link};
use super::{Action, Backend, ClientKey, GATED, NOBODY, Switch, Topic, patience};
use crate::limits::{CLIENT_OUT_BYTES_PAUSE, HELD_BYTES_MAX};
use crate::local;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// It is on its way, or answered.
    Taken,
    /// It cannot be taken yet: to be offered again when the session is woken.
    Wait,
}

impl Switch {
    /// One request of a client, in the order in which they came.
    pub(crate) fn request(&mut self, key: ClientKey, request: &Request<'_>) -> Flow {
        let Some(client) = self.clients.get_mut(key) else {
            return Flow::Taken;
        };
        if self.holding && !client.trust.has_control() {
            return self.stall(key);
        }
        if client.is_full() || client.unread_bytes() > CLIENT_OUT_BYTES_PAUSE {
            client.waiting = true;
            return Flow::Wait;
        }
        let found = command::lookup(request.name(), request.get(1));
        if let Found::Command(id) = found {
            client.info.used(id, self.now_us / 1000);
        }
        if !client.is_plain() {
            if client.closing {
                return Flow::Taken;
            }
            if client.until_answered {
                if !client.is_idle() {
                    client.waiting = true;
                    return Flow::Wait;
                }
                client.until_answered = false;
            }
            if client.admission != Admission::Open && !is_open_to_strangers(found) {
                return self.refuse(key, &Refusal::fixed(protect::DENIED));
            }
            if let Some(flow) = self.request_of_subscriber(key, found, request) {
                return flow;
            }
            let in_multi = self.clients.get(key).is_some_and(|c| c.multi.is_some());
            if in_multi {
                return self.request_in_multi(key, found, request);
            }
        }
        match self.check(found, request) {
            Ok(id) => self.route(key, id, command::spec(id), request),
            Err(refusal) => self.refuse(key, &refusal),
        }
    }

    /// The command, if there is one of this name that takes so many arguments.
    #[inline]
    pub(super) fn check(&self, found: Found, request: &Request<'_>) -> Result<CommandId, Refusal> {
        let id = match found {
            Found::Command(id) => id,
            Found::UnknownSubcommand(container) => {
                return Err(unknown_subcommand(container, request));
            }
            Found::Unknown => return Err(unknown_command(request)),
        };
        let spec = command::spec(id);
        if !spec.takes(request.len()) {
            return Err(Refusal::wrong_arity(spec.name));
        }
        self.counts.request(id);
        Ok(id)
    }

    #[inline]
    fn route(
        &mut self,
        key: ClientKey,
        id: CommandId,
        spec: &'static CommandSpec,
        request: &Request<'_>,
    ) -> Flow {
        match spec.route {
            Route::Key => self.one_slot(key, id, spec, request),
            Route::Split(merge) => self.split(key, id, merge, request),
            Route::EveryNode(Merge::Least) => self.wait_for_copies(key, id, request),
            Route::EveryNode(_) if id == CommandId::Publish => self.publish(key, request),
            Route::EveryNode(merge) => self.every_node(key, id, Some(merge), request),
            Route::AnyNode => self.every_node(key, id, None, request),
            Route::Scan => self.scan(key, id, request),
            Route::Local => local::answer(self, key, id, request),
            Route::Topology => self.ask_topology(key, request),
            Route::Refused if spec.name.starts_with("larder|") => {
                self.refuse(key, &control_refusal(self.has_control(key)))
            }
            Route::Refused => self.refuse(key, &not_through_the_proxy(spec)),
        }
    }

    /// To the owner of the one slot of its keys.
    #[inline]
    fn one_slot(
        &mut self,
        key: ClientKey,
        id: CommandId,
        spec: &'static CommandSpec,
        request: &Request<'_>,
    ) -> Flow {
        // A command that can block would keep all clients of the shared connection waiting.
        // One that subscribes would put its messages between their replies.
        if spec.flags.has(Flags::BLOCKING) && patience::may_block(id, request) {
            return self.park(key, id, spec, request);
        }
        match id {
            CommandId::Ssubscribe => return self.subscribe(key, Topic::Shard, request),
            CommandId::Sunsubscribe => return self.unsubscribe(key, Topic::Shard, request),
            // Its channel is no key, but has a slot.
            CommandId::Spublish => {
                let slot = slot_of(request.arg(1));
                return self.send_to_slot(key, id, slot, Kind::Plain, request.bytes());
            }
            _ => {}
        }
        match self.slot_of_all(id, spec, request) {
            Ok(slot) => self.send_to_slot(
                key,
                id,
                slot.unwrap_or(Slot::FIRST),
                Kind::Plain,
                request.bytes(),
            ),
            Err(refusal) => self.refuse(key, &refusal),
        }
    }

    /// The one slot of all keys; `None` when there are no keys.
    #[inline]
    pub(super) fn slot_of_all(
        &self,
        id: CommandId,
        spec: &'static CommandSpec,
        request: &Request<'_>,
    ) -> Result<Option<Slot>, Refusal> {
        let plain = spec.plain_keys;
        if plain.first > 0
            && plain.last == plain.first as i16
            && !spec.flags.has(Flags::MOVABLEKEYS)
        {
            return Ok(request.get(plain.first as usize).map(slot_of));
        }
        let mut one = None;
        for at in keys::positions(id, request) {
            let slot = request.get(at.at).map(slot_of);
            if one.is_some() && slot != one {
                return Err(Refusal::CROSS_SLOT);
            }
            one = slot;
        }
        Ok(one)
    }

    /// Sends a request of one slot on its way, when there is room.
    #[inline]
    pub(crate) fn send_to_slot(
        &mut self,
        key: ClientKey,
        id: CommandId,
        slot: Slot,
        kind: Kind,
        bytes: &[u8],
    ) -> Flow {
        let Some(client) = self.clients.get_mut(key) else {
            return Flow::Taken;
        };
        if client.spread.may_touch(slot) {
            client.waiting = true;
            return Flow::Wait;
        }
        let protocol = client.protocol;
        let cell = self.table[slot.index()];
        if cell & GATED == 0 && cell != NOBODY {
            if let Some(link) = self.nodes[cell as usize].shared[protocol as usize] {
                if !self.links.get(link).is_some_and(Link::has_room) {
                    return self.stall(key);
                }
                let Some(client) = self.clients.get_mut(key) else {
                    return Flow::Taken;
                };
                let seq = client.open_place();
                let tag = self.tag(key, seq, Some(slot), id, protocol, kind);
                self.append(link, tag, bytes, 0, false);
                return Flow::Taken;
            }
        } else if self.held_bytes > HELD_BYTES_MAX {
            return self.stall(key);
        }
        let seq = client.open_place();
        let tag = self.tag(key, seq, Some(slot), id, protocol, kind);
        self.dispatch(tag, bytes);
        Flow::Taken
    }

    /// The client goes on when there is room.
    pub(super) fn stall(&mut self, key: ClientKey) -> Flow {
        if let Some(client) = self.clients.get_mut(key) {
            client.waiting = true;
            self.stalled.push(key);
            self.counts.stalls.inc();
        }
        Flow::Wait
    }

    /// The request is taken only when all before it have been answered, and before any after it.
    pub(crate) fn alone(&mut self, key: ClientKey) -> Flow {
        match self.clients.get_mut(key) {
            Some(client) if !client.is_idle() => {
                client.waiting = true;
                Flow::Wait
            }
            Some(client) => {
                client.until_answered = true;
                Flow::Taken
            }
            None => Flow::Taken,
        }
    }

    /// Answers with an error, in turn.
    pub(crate) fn refuse(&mut self, key: ClientKey, refusal: &Refusal) -> Flow {
        self.counts.error(refusal.code().as_bytes());
        if let Some(client) = self.clients.get_mut(key) {
            client.reply(|reply| reply.error(refusal));
        }
        Flow::Taken
    }

    fn has_control(&self, key: ClientKey) -> bool {
        self.clients
            .get(key)
            .is_some_and(|client| client.trust.has_control())
    }

    fn ask_topology(&mut self, key: ClientKey, request: &Request<'_>) -> Flow {
        if !self.has_control(key) {
            return self.refuse(key, &Refusal::CONTROL_REFUSED);
        }
        if self.backend != Backend::Larder {
            let refusal = Refusal::fixed("ERR this proxy stands before servers without a topology");
            return self.refuse(key, &refusal);
        }
        if let Flow::Wait = self.alone(key) {
            return Flow::Wait;
        }
        if let Some(client) = self.clients.get_mut(key) {
            let seq = client.open_place();
            self.actions.push(Action::AskTopology {
                client: key,
                seq,
                request: OwnedRequest::from(*request),
            });
        }
        Flow::Taken
    }
}

/// What a connection may send before it has shown the secret on a port in protected mode.
fn is_open_to_strangers(found: Found) -> bool {
    matches!(
        found,
        Found::Command(
            CommandId::Auth
                | CommandId::Hello
                | CommandId::LarderHello
                | CommandId::Reset
                | CommandId::Quit
        )
    )
}

fn control_refusal(has_control: bool) -> Refusal {
    if has_control {
        Refusal::fixed(
            "ERR a proxy passes on STATUS, RESHARD, MOVE, REBALANCE and MOVES; send other LARDER commands to the topology or to a node",
        )
    } else {
        Refusal::CONTROL_REFUSED
    }
}

pub(super) fn not_through_the_proxy(spec: &CommandSpec) -> Refusal {
    let name = spec.name.replace('|', " ").to_uppercase();
    Refusal::new(format!(
        "ERR {name} is not to be had through the proxy (ask a node or the topology itself)"
    ))
}

/// As Redis words it: the name and the first arguments, shortened.
pub(crate) fn unknown_command(request: &Request<'_>) -> Refusal {
    const SHOWN_BYTES_MAX: usize = 128;
    let shown = |bytes: &[u8], max: usize| {
        String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).into_owned()
    };
    let mut args = String::new();
    for arg in request.args_from(1) {
        if args.len() >= SHOWN_BYTES_MAX {
            break;
        }
        let room = SHOWN_BYTES_MAX - args.len();
        args.push_str(&format!("'{}' ", shown(arg, room)));
    }
    Refusal::new(format!(
        "ERR unknown command '{}', with args beginning with: {args}",
        shown(request.name(), SHOWN_BYTES_MAX),
    ))
}

fn unknown_subcommand(container: CommandId, request: &Request<'_>) -> Refusal {
    const SHOWN_BYTES_MAX: usize = 128;
    let sub = request.get(1).unwrap_or(b"");
    let sub = String::from_utf8_lossy(&sub[..sub.len().min(SHOWN_BYTES_MAX)]).into_owned();
    let name = command::spec(container).name.to_uppercase();
    Refusal::new(format!("ERR unknown subcommand '{sub}'. Try {name} HELP."))
}
