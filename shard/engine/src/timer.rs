//! What happens without a command: expiry, freeing, eviction, the end of pauses and of idle clients.
//!
//! Every step is bounded by a count; the shell calls again as long as there is more and it has time.

use larder_store::Room;

use crate::clock::Clock;
use crate::config::Parameter;
use crate::journal::Unit;
use crate::node::Node;
use crate::timing::Event;

/// Expiring keys looked at in one step, and fields of hashes that are due taken out.
const EXPIRY_KEYS_PER_STEP: usize = 200;
/// Entries and elements freed in one step.
const FREED_PER_STEP: usize = 1000;
/// Buckets of growing tables moved in one step.
const BUCKETS_PER_STEP: usize = 256;
/// Bytes of entries in sparse places moved in one step.
const MOVED_BYTES_PER_STEP: usize = 64 << 10;
/// Keys evicted in one step.
const EVICTIONS_PER_STEP: usize = 64;

impl Node {
    /// One bounded step of background work; true when another one at once is worth it.
    pub fn background_step(&mut self, clock: Clock) -> bool {
        let mut more = false;
        if self.scripts.is_busy() {
            // Nothing comes between the commands of a script.
            return false;
        }
        if self.config.flag(Parameter::ActiveExpire)
            && !self.debug.cron_paused
            && !self.is_replica()
            && self.pause.is_none()
            && self.loading.is_none()
        {
            more |= self.timed_step(Event::ExpireCycle, clock, |node| node.expire_step(clock));
        }
        more |= self.databases.free_some(FREED_PER_STEP);
        more |= self.databases.tidy(BUCKETS_PER_STEP);
        more |= self.databases.defragment(MOVED_BYTES_PER_STEP);
        if self.databases.is_over_limit() && !self.is_replica() && self.loading.is_none() {
            more |= self.timed_step(Event::EvictionCycle, clock, |node| {
                node.databases.make_room(clock.now(), EVICTIONS_PER_STEP) == Room::More
            });
        }
        self.settle_gone(clock);
        if self.blocked.has_ready() {
            self.serve_blocked(clock);
        }
        self.tracking.broadcast(&self.clients);
        self.close_unit(Unit::Single);
        more
    }

    fn expire_step(&mut self, clock: Clock) -> bool {
        let keys = self.databases.expire_due(clock.now(), EXPIRY_KEYS_PER_STEP);
        let fields = self
            .databases
            .expire_fields(clock.now(), EXPIRY_KEYS_PER_STEP);
        (keys.examined > 0 && keys.is_rich()) || fields.is_rich()
    }

    /// What is due by the clock. To be called a few times a second, and every few milliseconds while requests are held.
    pub fn tick(&mut self, clock: Clock) {
        if self
            .pause
            .is_some_and(|pause| pause.until_ms <= clock.mono_ms)
        {
            self.pause = None;
            self.settle_passive();
            self.release();
        }
        self.let_go_of_feeds(clock);
        self.replication.ring_due(clock);
        if self.is_replica() {
            self.cut_silent_upstream(clock);
            self.databases.set_access_time(clock.now());
        }
        self.let_go_of_backups(clock);
        self.tick_guard(clock);
        self.save_when_due(clock);
        self.rewrite_when_due(clock);
        self.limit_clients(clock);
        let keys_max = self.config.size(Parameter::TrackingTableMaxKeys) as usize;
        self.tracking
            .keep_within(&self.clients, keys_max, &mut self.random);
        if self.ownership.any_waits() {
            // The waits for a map are bounded: whoever waits too long is told so when called again.
            self.release();
        }
        self.memory_peak = self.memory_peak.max(self.databases.used_memory());
        self.databases.give_back_empty();
        let store = self.databases.stats();
        self.stats.keyspace_hits.set(store.hits);
        self.stats.keyspace_misses.set(store.misses);
        self.stats.expired_keys.set(store.expired);
        self.stats.evicted_keys.set(store.evicted);
    }

    /// Closes clients that have been idle for longer than `timeout` seconds.
    pub fn close_idle_clients(&mut self, clock: Clock) {
        let seconds = self.config.int(Parameter::Timeout) as u64;
        if seconds == 0 || self.debug.cron_paused {
            return;
        }
        for client in self.clients.iter() {
            let idle_ms = clock.mono_ms.saturating_sub(client.active_ms.get());
            let exempt = client.trust.get().has_control()
                || client.feeding.get()
                || client.monitor.get()
                || client.subscriber.get()
                || client.is_blocked();
            if idle_ms > seconds * 1000 && !exempt {
                client.kill();
            }
        }
    }
}
