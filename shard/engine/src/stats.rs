//! What a node counts. One thread writes, any thread reads: an addition is a plain load and store.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use larder_wire::command::CommandId;
use larder_wire::{SLOT_COUNT, Slot};

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One command's counts (`INFO commandstats`).
#[derive(Debug, Default)]
pub struct CommandStats {
    pub calls: Counter,
    pub nanos: Counter,
    /// Refused before execution, and by the command itself.
    pub rejected: Counter,
    pub failed: Counter,
}

/// All counts of a node.
#[derive(Debug)]
pub struct Stats {
    pub commands: Box<[CommandStats]>,
    pub commands_processed: Counter,
    pub connections_received: Counter,
    pub connections_rejected: Counter,
    pub evicted_clients: Counter,
    pub net_input_bytes: Counter,
    pub net_output_bytes: Counter,
    pub reads: Counter,
    pub writes: Counter,
    pub errors: Counter,
    /// These four are counted by the store and copied here now and then.
    pub expired_keys: Counter,
    pub evicted_keys: Counter,
    pub keyspace_hits: Counter,
    pub keyspace_misses: Counter,
    /// Requests that waited for a handover.
    pub held_requests: Counter,
    /// Batches of replies that waited and were never sent: whether what they tell of lasts is unknown.
    pub answers_cut_off: Counter,
    pub leases_lost: Counter,
    /// Holds for planned changes of primary, and how long they lasted, in milliseconds.
    pub yields: Counter,
    pub yield_hold_ms: Counter,
    pub moves_out: Counter,
    pub moves_in: Counter,
    /// As a primary: replicas that got all data, only what they lacked, or all data though they had some.
    pub full_syncs: Counter,
    pub partial_syncs: Counter,
    pub refused_partial_syncs: Counter,
    /// As a replica: how often all data came.
    pub resyncs: Counter,
    /// Commands that this node had and its shard has not, and how often nobody knows how many.
    pub lost_writes: Counter,
    pub lost_unknown: Counter,
    /// Commands per slot since the node started.
    pub slot_commands: Box<[Counter]>,
}

impl Default for Stats {
    fn default() -> Stats {
        let many = |count: usize| 0..count;
        Stats {
            commands: many(CommandId::ALL.len())
                .map(|_| CommandStats::default())
                .collect(),
            slot_commands: many(SLOT_COUNT as usize)
                .map(|_| Counter::default())
                .collect(),
            commands_processed: Counter::default(),
            connections_received: Counter::default(),
            connections_rejected: Counter::default(),
            evicted_clients: Counter::default(),
            net_input_bytes: Counter::default(),
            net_output_bytes: Counter::default(),
            reads: Counter::default(),
            writes: Counter::default(),
            errors: Counter::default(),
            expired_keys: Counter::default(),
            evicted_keys: Counter::default(),
            keyspace_hits: Counter::default(),
            keyspace_misses: Counter::default(),
            held_requests: Counter::default(),
            answers_cut_off: Counter::default(),
            leases_lost: Counter::default(),
            yields: Counter::default(),
            yield_hold_ms: Counter::default(),
            moves_out: Counter::default(),
            moves_in: Counter::default(),
            full_syncs: Counter::default(),
            partial_syncs: Counter::default(),
            refused_partial_syncs: Counter::default(),
            resyncs: Counter::default(),
            lost_writes: Counter::default(),
            lost_unknown: Counter::default(),
        }
    }
}

impl Stats {
    #[inline]
    pub fn of(&self, id: CommandId) -> &CommandStats {
        &self.commands[id as usize]
    }

    #[inline]
    pub fn of_slot(&self, slot: Slot) -> &Counter {
        &self.slot_commands[slot.index()]
    }

    /// `CONFIG RESETSTAT`.
    pub fn reset(&self) {
        for command in &self.commands {
            for counter in [
                &command.calls,
                &command.nanos,
                &command.rejected,
                &command.failed,
            ] {
                counter.set(0);
            }
        }
        for counter in [
            &self.commands_processed,
            &self.connections_received,
            &self.connections_rejected,
            &self.evicted_clients,
            &self.net_input_bytes,
            &self.net_output_bytes,
            &self.reads,
            &self.writes,
            &self.errors,
            &self.expired_keys,
            &self.evicted_keys,
            &self.keyspace_hits,
            &self.keyspace_misses,
        ] {
            counter.set(0);
        }
    }
}
