//! What a simulated world owes its seed: chance, and a diary of what came of it.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::event::Event;

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// The last lines, and a fingerprint of all.
#[derive(Default)]
pub(crate) struct Diary {
    fingerprint: DefaultHasher,
    tail: VecDeque<String>,
}

impl Diary {
    const LINES: usize = 400;
    const LINE_BYTES: usize = 600;

    pub(crate) fn note(&mut self, now: u64, mut text: String) {
        text.hash(&mut self.fingerprint);
        text.truncate(Diary::LINE_BYTES);
        self.tail.push_back(format!("{now:>6} {text}"));
        if self.tail.len() > Diary::LINES {
            self.tail.pop_front();
        }
    }

    /// Those that say little are left out.
    pub(crate) fn note_event(&mut self, now: u64, event: &Event) {
        if !matches!(
            event,
            Event::Tick | Event::NodeAnswered(_) | Event::NodeJoined(_)
        ) {
            self.note(now, format!("plan <- {event:?}"));
        }
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint.finish()
    }

    pub(crate) fn tail(&self) -> String {
        let lines: Vec<&str> = self.tail.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}
