//! The primary's side of a replica's connection: all data first or only what is missing, then the journal as it grows.
//!
//! Nothing waits for a replica and nothing is kept for one: a slow replica falls out of the journal's reach, loses its connection and
//! comes again.
//!
//! ```text
//! asked ──its place is within reach──────────────▶ Journal ──out of reach, lost──▶ (gone)
//!   └──else──▶ Data (a feed of everything) ──all sent──▶ ┘
//! ```

use std::task::Waker;

use larder_wire::replication::{LinkPhase, Place, RENEW_MS, ReplicateAsk};
use larder_wire::resp::Request;
use larder_wire::{Offset, Refusal, Role};

use super::frame::{LinkWord, Named};
use super::{LinkId, Replication};
use crate::clock::Clock;
use crate::feed::{Feed, Produced, Word};
use crate::journal::write_command;
use crate::node::Node;
use crate::turn::Outcome;

/// Bytes of the journal that may be on their way to a replica, acknowledged by none yet.
pub const LINK_WINDOW_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What is sent to one replica.
pub(crate) struct Outgoing {
    link: LinkId,
    /// Where its share of the journal begins.
    from: Offset,
    /// `None`: it gets a feed of all data.
    sent: Option<Offset>,
    /// What was sent ends where a unit does: words may follow.
    whole: bool,
    /// The first word, while it is to be sent.
    opening: Option<LinkWord>,
    pinged_ms: Option<u64>,
    bell: Option<Waker>,
    /// The connection is to end.
    over: bool,
}

impl Outgoing {
    fn ring(&mut self) {
        if let Some(bell) = self.bell.take() {
            bell.wake();
        }
    }

    fn end(&mut self) {
        self.over = true;
        self.ring();
    }

    fn ping_is_due(&self, clock: Clock) -> bool {
        self.pinged_ms
            .is_none_or(|at| clock.mono_ms >= at + RENEW_MS)
    }
}

impl Replication {
    fn outgoing(&mut self, link: LinkId) -> Option<&mut Outgoing> {
        self.outgoing.iter_mut().find(|it| it.link == link)
    }

    /// The node feeds nobody any more.
    pub(crate) fn end_outgoing(&mut self) {
        self.outgoing.iter_mut().for_each(Outgoing::end);
    }

    /// Wakes those who are to be pinged.
    pub(crate) fn ring_due(&mut self, clock: Clock) {
        for outgoing in &mut self.outgoing {
            if outgoing.ping_is_due(clock) {
                outgoing.ring();
            }
        }
    }
}

impl Node {
    /// `LARDER REPLICATE`: a replica asks for the stream.
    pub(crate) fn begin_replicate(
        &mut self,
        ask: &ReplicateAsk,
        clock: Clock,
    ) -> Result<Outcome, Refusal> {
        let own = self.ownership.epoch();
        if ask.epoch > own {
            let theirs = ask.epoch;
            return Err(Refusal::new(format!(
                "TRYAGAIN this node's slot map is of epoch {own}, the replica's of {theirs}"
            )));
        }
        let found = self.ownership.map().find_node(self.settings.id);
        let is_replica = found.is_some_and(|(shard, entry)| {
            entry.role == Role::Primary && shard.replicas().any(|node| node.id == ask.node)
        });
        if !is_replica {
            let node = ask.node;
            return Err(Refusal::new(format!(
                "ERR by the slot map of epoch {own} {node} is no replica of this node"
            )));
        }
        self.settle_journal();
        let end = self.named_end();
        let followers = &mut self.replication.followers;
        let former = followers.iter().find(|it| it.node == ask.node);
        if let Some(former) = former.map(|it| it.link) {
            self.end_link(former);
        }
        let followers = &mut self.replication.followers;
        let within_reach = ask.place.filter(|place| self.journal.continues(*place));
        let (link, opening) = match within_reach {
            Some(Place { offset, .. }) => {
                let link = followers.begin(ask.node, LinkPhase::Streaming, clock.mono_ms);
                followers.heard(link, offset, None, clock.mono_ms);
                let place = Place {
                    offset,
                    ..end.place
                };
                self.stats.partial_syncs.add(1);
                (link, LinkWord::Continue(Named { place, ..end }))
            }
            None => {
                let link = followers.begin(ask.node, LinkPhase::Full, clock.mono_ms);
                self.feeds.push(Feed::to_replica(link, &self.databases));
                self.stats.full_syncs.add(1);
                (link, LinkWord::Full(end))
            }
        };
        if ask.place.is_some() && within_reach.is_none() {
            self.stats.refused_partial_syncs.add(1);
        }
        self.replication.outgoing.push(Outgoing {
            link,
            from: within_reach.map_or(Offset(0), |place| place.offset),
            sent: within_reach.map(|place| place.offset),
            whole: true,
            opening: Some(opening),
            // The first ping leaves at once: the answer is a lease.
            pinged_ms: None,
            bell: None,
            over: false,
        });
        if within_reach.is_some() {
            self.acked_advanced(clock);
        }
        Ok(Outcome::Replicate(link))
    }

    /// The end of the journal, which is on.
    fn named_end(&self) -> Named {
        let Some(place) = self.journal.place() else {
            unreachable!("a primary with replicas keeps a journal")
        };
        Named {
            place,
            previous: self.journal.previous(),
        }
    }

    /// Appends what goes to a replica next. After [`Produced::Over`] the connection ends.
    pub fn link_produce(
        &mut self,
        link: LinkId,
        limit: usize,
        clock: Clock,
        out: &mut Vec<u8>,
    ) -> Produced {
        let end = self.journal.end();
        let Some(outgoing) = self.replication.outgoing(link).filter(|it| !it.over) else {
            return Produced::Over;
        };
        if let Some(opening) = outgoing.opening.take() {
            opening.write(out);
        }
        if outgoing.whole && outgoing.ping_is_due(clock) {
            outgoing.pinged_ms = Some(clock.mono_ms);
            let sent_ms = clock.mono_ms;
            LinkWord::Ping { sent_ms, end }.write(out);
        }
        match outgoing.sent {
            None => self.produce_data(link, limit, clock, out),
            Some(sent) => self.produce_journal(link, sent, limit, out),
        }
    }

    fn produce_data(
        &mut self,
        link: LinkId,
        limit: usize,
        clock: Clock,
        out: &mut Vec<u8>,
    ) -> Produced {
        let index = self.feeds.iter().position(|it| it.link() == Some(link));
        let Some(index) = index else {
            return Produced::Over;
        };
        let feed = &mut self.feeds[index];
        let produced = feed.produce(limit, clock, &self.databases, out);
        // A unit that is not closed yet may have gone over the feed already.
        if !feed.is_complete() || self.journal.has_unit() {
            if produced == Produced::Over {
                self.feeds.swap_remove(index);
            }
            return produced;
        }
        self.feeds.swap_remove(index);
        write_command(out, ["FUNCTION", "FLUSH"]);
        for library in self.scripts.libraries.iter() {
            write_command(out, [&b"FUNCTION"[..], b"LOAD", library.source.as_slice()]);
        }
        self.journal.forget_db();
        let end = self.named_end();
        LinkWord::Joined(end).write(out);
        let followers = &mut self.replication.followers;
        followers.set_phase(link, LinkPhase::Streaming);
        if let Some(outgoing) = self.replication.outgoing(link) {
            outgoing.from = end.place.offset;
            outgoing.sent = Some(end.place.offset);
        }
        Produced::More
    }

    fn produce_journal(
        &mut self,
        link: LinkId,
        sent: Offset,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Produced {
        let start = out.len();
        let acked = self.replication.followers.get(link).map(|it| it.acked);
        let Some(outgoing) = self.replication.outgoing(link) else {
            return Produced::Over;
        };
        let arrived = acked.unwrap_or_default().max(outgoing.from);
        if sent.0.saturating_sub(arrived.0) >= LINK_WINDOW_BYTES_MAX {
            return Produced::Idle;
        }
        let read = self.journal.read_units(sent, limit, out);
        let Some(outgoing) = self.replication.outgoing(link) else {
            return Produced::Over;
        };
        match read {
            Ok((taken, whole)) => {
                outgoing.sent = Some(Offset(sent.0 + taken as u64));
                outgoing.whole = whole;
                match out.len() > start {
                    true => Produced::More,
                    false => Produced::Idle,
                }
            }
            Err(_) => {
                outgoing.over = true;
                if outgoing.whole {
                    Word::End("out of the journal's reach".to_string()).write(out);
                }
                Produced::Over
            }
        }
    }

    /// What a replica says; the error ends the connection.
    pub fn link_heard(
        &mut self,
        link: LinkId,
        frame: &Request<'_>,
        clock: Clock,
    ) -> Result<(), String> {
        if let Some(LinkWord::Have {
            offset,
            ping_sent_ms,
            synced,
        }) = LinkWord::read(frame)
        {
            self.follower_heard(link, offset, ping_sent_ms, clock);
            if let Some(synced) = synced {
                self.follower_synced(link, synced);
            }
            return Ok(());
        }
        match Word::read(frame) {
            Some(Ok(Word::Ack(offset))) => {
                let feed = self.feeds.iter_mut().find(|it| it.link() == Some(link));
                if let Some(feed) = feed {
                    feed.acknowledge(offset);
                }
                self.follower_heard(link, Offset(0), None, clock);
                Ok(())
            }
            Some(_) | None => Err(format!("the replica sent {frame:?}")),
        }
    }

    /// Who is woken when there is something to send.
    pub fn set_link_bell(&mut self, link: LinkId, bell: &Waker) {
        let Some(outgoing) = self.replication.outgoing(link) else {
            bell.wake_by_ref();
            return;
        };
        outgoing.bell = Some(bell.clone());
        if let Some(feed) = self.feeds.iter_mut().find(|it| it.link() == Some(link)) {
            feed.set_bell(bell);
        }
        self.journal.set_bell(bell);
    }

    /// The connection is gone.
    pub fn link_lost(&mut self, link: LinkId) {
        self.end_link(link);
        self.replication.outgoing.retain(|it| it.link != link);
    }

    fn end_link(&mut self, link: LinkId) {
        self.feeds.retain(|feed| feed.link() != Some(link));
        self.replication.followers.end(link);
        if let Some(outgoing) = self.replication.outgoing(link) {
            outgoing.end();
        }
    }

    /// Every replica's connection ends.
    pub(crate) fn end_links(&mut self) {
        let followers = self.replication.followers.iter();
        let links: Vec<LinkId> = followers.map(|it| it.link).collect();
        for link in links {
            self.end_link(link);
        }
        self.replication.end_outgoing();
    }
}
