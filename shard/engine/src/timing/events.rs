//! Latency events, as LATENCY shows them: what took longer than `latency-monitor-threshold`, with the latest samples of each kind.

use std::collections::VecDeque;

/// Samples kept of one kind, as Redis keeps them.
pub const SAMPLES_MAX: usize = 160;

/// A kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Command,
    FastCommand,
    ExpireCycle,
    EvictionCycle,
}

impl Event {
    pub const ALL: [Event; 4] = [
        Event::Command,
        Event::FastCommand,
        Event::ExpireCycle,
        Event::EvictionCycle,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Event::Command => "command",
            Event::FastCommand => "fast-command",
            Event::ExpireCycle => "expire-cycle",
            Event::EvictionCycle => "eviction-cycle",
        }
    }

    pub fn find(name: &[u8]) -> Option<Event> {
        Event::ALL
            .into_iter()
            .find(|event| name.eq_ignore_ascii_case(event.name().as_bytes()))
    }
}

/// The longest of one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Seconds since 1970.
    pub at: i64,
    pub took_ms: u64,
}

#[derive(Debug, Default)]
struct Series {
    /// Oldest first.
    samples: VecDeque<Sample>,
    longest_ms: u64,
}

#[derive(Debug, Default)]
pub struct Events {
    /// What takes at least so long is kept; 0 keeps nothing.
    pub threshold_ms: u64,
    series: [Series; Event::ALL.len()],
}

impl Events {
    pub(super) fn note(&mut self, event: Event, took_ms: u64, at: i64) {
        if self.threshold_ms == 0 || took_ms < self.threshold_ms {
            return;
        }
        let series = &mut self.series[event as usize];
        series.longest_ms = series.longest_ms.max(took_ms);
        match series.samples.back_mut() {
            Some(last) if last.at == at => last.took_ms = last.took_ms.max(took_ms),
            Some(_) | None => {
                if series.samples.len() == SAMPLES_MAX {
                    series.samples.pop_front();
                }
                series.samples.push_back(Sample { at, took_ms });
            }
        }
    }

    /// Kinds of which there are samples: the latest, and the longest ever.
    pub fn latest(&self) -> impl Iterator<Item = (Event, Sample, u64)> {
        Event::ALL.into_iter().filter_map(|event| {
            let series = &self.series[event as usize];
            Some((event, *series.samples.back()?, series.longest_ms))
        })
    }

    /// Oldest first.
    pub fn samples(&self, event: Event) -> impl ExactSizeIterator<Item = Sample> {
        self.series[event as usize].samples.iter().copied()
    }

    pub fn longest_ms(&self, event: Event) -> u64 {
        self.series[event as usize].longest_ms
    }

    /// False when there was nothing to forget.
    pub fn reset(&mut self, event: Event) -> bool {
        let series = std::mem::take(&mut self.series[event as usize]);
        !series.samples.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_keeps_its_longest_and_a_kind_its_latest_samples() {
        let mut events = Events {
            threshold_ms: 10,
            ..Events::default()
        };
        events.note(Event::Command, 9, 1);
        assert_eq!(events.latest().count(), 0);
        for (took_ms, at) in [(20, 1), (50, 1), (30, 1), (12, 2)] {
            events.note(Event::Command, took_ms, at);
        }
        let samples: Vec<_> = events.samples(Event::Command).collect();
        let sample = |at, took_ms| Sample { at, took_ms };
        assert_eq!(samples, [sample(1, 50), sample(2, 12)]);
        assert_eq!(
            events.latest().next(),
            Some((Event::Command, sample(2, 12), 50))
        );
        for at in 0..500 {
            events.note(Event::Command, 10, at);
        }
        assert_eq!(events.samples(Event::Command).len(), SAMPLES_MAX);
        assert!(events.reset(Event::Command));
        assert!(!events.reset(Event::Command));
    }
}
