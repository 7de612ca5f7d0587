//! What happens around commands when somebody observes them: tracking clients and monitors.
//!
//! Without either a command costs the one branch that asks whether there is any.

use larder_wire::Refusal;
use larder_wire::command::{self, CommandId, Flags, keys};
use larder_wire::resp::Request;

use crate::clock::Clock;
use crate::config::Parameter;
use crate::journal::Unit;
use crate::monitor::is_hidden;
use crate::node::Node;
use crate::session::Session;
use crate::tracking::Mode;
use crate::turn::Outcome;

impl Node {
    #[inline]
    pub(crate) fn is_observed(&self) -> bool {
        self.tracking.hears() || !self.monitors.is_empty()
    }

    /// Before a request is looked at. What a full table of tracked keys forgets is told before the reply.
    #[cold]
    pub(crate) fn before_observed(&mut self, session: &Session, out: &mut Vec<u8>) {
        self.current = session.client.id;
        let keys_max = self.config.size(Parameter::TrackingTableMaxKeys) as usize;
        self.tracking
            .keep_within(&self.clients, keys_max, &mut self.random);
        session.client.take_post(out);
    }

    /// After a request, whatever came of it.
    #[cold]
    pub(crate) fn after_observed(&mut self, session: &Session) {
        self.current = 0;
        let client = &session.client;
        let mode = client.tracking.get();
        let about_clients = client
            .last_command
            .get()
            .is_some_and(|id| command::spec(id).name.starts_with("client|"));
        // CLIENT CACHING is about the next command, or the next transaction as a whole.
        if mode.caching && session.multi.is_none() && !about_clients {
            client.tracking.set(Mode {
                caching: false,
                ..mode
            });
        }
    }

    /// Before a script runs.
    #[cold]
    pub(crate) fn observe_script(
        &mut self,
        session: &Session,
        id: CommandId,
        request: &Request<'_>,
        clock: Clock,
    ) {
        if self.tracking.is_on() {
            let names = keys::positions(id, request).map(|key| request.arg(key.at));
            self.tracking.begin_script(names);
        }
        self.show_to_monitors(session, id, request, clock);
    }

    /// After a command ran, in a transaction too.
    #[cold]
    pub(crate) fn observe(
        &mut self,
        session: &Session,
        id: CommandId,
        request: &Request<'_>,
        clock: Clock,
        result: &Result<Outcome, Refusal>,
    ) {
        if matches!(result, Ok(Outcome::Held)) {
            return;
        }
        let runs_others = matches!(
            id,
            CommandId::EvalRo | CommandId::EvalshaRo | CommandId::FcallRo
        );
        if command::spec(id).flags.has(Flags::READONLY) && !runs_others && self.tracking.is_on() {
            if session.in_script {
                self.tracking.remember_script(&session.client);
            } else {
                let names = keys::positions(id, request).map(|key| request.arg(key.at));
                self.tracking.remember(&session.client, names);
            }
        }
        if !is_hidden(id) {
            self.show_to_monitors(session, id, request, clock);
        }
    }

    /// At the end of a batch of requests.
    #[inline]
    pub fn end_batch(&mut self, session: &Session) {
        self.tracking.broadcast(&self.clients);
        self.close_unit(Unit::Single);
        self.settle_memory(session);
    }
}
