//! Other servers come to stand behind the proxy: everything new waits, what is under way is answered, then the requests go on there.

use larder_wire::resp::{OwnedRequest, Request};
use larder_wire::{ClusterMap, Epoch, Refusal};

use super::link::Link;
use super::route::Flow;
use super::{Action, Backend, ClientKey, Switch};

impl Switch {
    /// From here on clients' requests wait with their clients.
    pub(crate) fn hold_all(&mut self) {
        self.holding = true;
        self.counts.holds.inc();
    }

    pub(crate) fn release_all(&mut self) {
        self.holding = false;
        self.to_wake.append(&mut self.stalled);
    }

    /// Nothing is under way to any server, and nothing waits for another try. Clients that wait in a command that blocks
    /// do so where others' writes would have to come from, which are held.
    pub(crate) fn is_quiet(&self) -> bool {
        self.held_bytes == 0
            && self.later.is_empty()
            && self
                .links
                .iter()
                .all(|link| link.is_idle() || link.is_parked())
    }

    /// The servers of `map` are those that requests go to. Whatever is still under way to others is waited for, slot by slot.
    pub(crate) fn turn_to(&mut self, backend: Backend, map: &ClusterMap) {
        self.lose_watches();
        self.leave_parked();
        self.backend = backend;
        self.turns += 1;
        self.epoch = Epoch(0);
        self.take_map(map);
        self.release_all();
    }

    /// Whether watched keys change cannot be told across servers: EXEC answers nil, as it does when they did.
    fn lose_watches(&mut self) {
        for key in self.clients.keys() {
            let watch = self
                .clients
                .get_mut(key)
                .and_then(|client| client.watch.as_mut());
            let Some(watch) = watch.filter(|watch| !watch.lost) else {
                continue;
            };
            let link = watch.link;
            if self.links.get(link).is_some_and(Link::is_idle) {
                watch.lost = true;
                self.close_link(link);
            }
        }
    }

    /// `LARDER FORWARD …` of an importer.
    pub(crate) fn forward_order(&mut self, key: ClientKey, request: &Request<'_>) -> Flow {
        let Some(client) = self.clients.get_mut(key) else {
            return Flow::Taken;
        };
        if !client.trust.has_control() {
            return self.refuse(key, &Refusal::CONTROL_REFUSED);
        }
        let seq = client.open_place();
        self.actions.push(Action::Forward {
            client: key,
            seq,
            request: OwnedRequest::from(*request),
        });
        Flow::Taken
    }
}
