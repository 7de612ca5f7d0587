//! When a backup is due, and which sets are surplus. Pure: the time and chance are parameters. All times are seconds of the Unix clock, days are UTC's.
//!
//! One backup a day is begun within the window. A failed one is tried again while the window lasts; a window that was missed is not made up for.

use std::str::FromStr;

use crate::manifest::SetName;

const DAY_S: i64 = 24 * 60 * 60;
/// How long a failure is waited for before the next attempt, in seconds.
pub const RETRY_S: i64 = 300;
/// Chance spreads beginnings over this part of the window; the rest is for further attempts.
const JITTER_SHARE: f64 = 0.5;

/// `03:00-04:00` of each day, in UTC. One that ends before it begins goes past midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Seconds since midnight.
    from: i64,
    seconds: i64,
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Window, String> {
        let wrong = || format!("'{text}' is no window (write for example 03:00-04:00, in UTC)");
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let from = time_of_day(from).ok_or_else(wrong)?;
        let to = time_of_day(to).ok_or_else(wrong)?;
        if from == to {
            return Err(format!("the window '{text}' is empty"));
        }
        Ok(Window {
            from,
            seconds: (to - from).rem_euclid(DAY_S),
        })
    }
}

fn time_of_day(text: &str) -> Option<i64> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let two_digits = |text: &str, below: i64| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number: i64 = text.parse().ok()?;
        (digits && number < below).then_some(number)
    };
    Some(two_digits(hours, 24)? * 3600 + two_digits(minutes, 60)? * 60)
}

impl Window {
    /// The beginning of the window that is open, or was last.
    fn last_start(self, now: i64) -> i64 {
        let today = now - now.rem_euclid(DAY_S) + self.from;
        if today <= now { today } else { today - DAY_S }
    }
}

/// What is known of the backups before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// When the last whole one was begun.
    pub whole: Option<i64>,
    /// When the last one failed.
    pub failed: Option<i64>,
}

/// When the next backup is to begin: `now`, or later. `chance` is in `0.0..1.0` and stays the same from call to call.
pub fn next_begin(window: Window, past: Past, now: i64, chance: f64) -> i64 {
    let start = window.last_start(now);
    let (end, jitter) = (
        start + window.seconds,
        (window.seconds as f64 * JITTER_SHARE * chance) as i64,
    );
    let tomorrow = start + DAY_S + jitter;
    if now >= end || past.whole.is_some_and(|at| at >= start) {
        return tomorrow;
    }
    let due = match past.failed.filter(|at| *at >= start) {
        Some(failed) => failed + RETRY_S,
        None => start + jitter,
    };
    let due = due.max(now);
    if due < end { due } else { tomorrow }
}

/// What of `whole` goes, so that the `keep` newest stay.
pub fn surplus(whole: &[SetName], keep: usize) -> Vec<SetName> {
    let mut sets = whole.to_vec();
    sets.sort_unstable();
    sets.truncate(sets.len().saturating_sub(keep.max(1)));
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDNIGHT: i64 = 20_000 * DAY_S;

    fn at(hours: i64, minutes: i64) -> i64 {
        MIDNIGHT + hours * 3600 + minutes * 60
    }

    fn window(text: &str) -> Window {
        text.parse().unwrap()
    }

    #[test]
    fn windows_are_read_and_what_is_none_is_told() {
        assert_eq!(window("03:00-04:30").seconds, 5400);
        assert_eq!(window("23:30-00:30").seconds, 3600);
        for wrong in [
            "",
            "3-4",
            "03:00",
            "03:00-24:00",
            "3:00-4:00",
            "03:60-04:00",
            "04:00-04:00",
        ] {
            assert!(
                wrong.parse::<Window>().unwrap_err().contains("window"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn one_a_day_is_begun_in_the_window_and_failures_are_tried_again_while_it_lasts() {
        let past = |whole, failed| Past { whole, failed };
        let none = past(None, None);
        let day = DAY_S;
        // (window, past, now, chance, when)
        let table = [
            ("03:00-04:00", none, at(1, 0), 0.0, at(3, 0)),
            ("03:00-04:00", none, at(1, 0), 0.5, at(3, 15)),
            ("03:00-04:00", none, at(3, 10), 0.0, at(3, 10)),
            ("03:00-04:00", none, at(3, 10), 0.9, at(3, 27)),
            ("03:00-04:00", none, at(3, 59), 0.9, at(3, 59)),
            ("03:00-04:00", none, at(4, 0), 0.0, at(3, 0) + day),
            (
                "03:00-04:00",
                past(Some(at(3, 0)), None),
                at(3, 20),
                0.0,
                at(3, 0) + day,
            ),
            (
                "03:00-04:00",
                past(Some(at(3, 0) - day), None),
                at(3, 20),
                0.0,
                at(3, 20),
            ),
            (
                "03:00-04:00",
                past(None, Some(at(3, 10))),
                at(3, 10),
                0.0,
                at(3, 15),
            ),
            (
                "03:00-04:00",
                past(None, Some(at(3, 10))),
                at(3, 30),
                0.0,
                at(3, 30),
            ),
            (
                "03:00-04:00",
                past(None, Some(at(3, 57))),
                at(3, 57),
                0.5,
                at(3, 15) + day,
            ),
            (
                "03:00-04:00",
                past(None, Some(at(3, 57) - day)),
                at(3, 0),
                0.0,
                at(3, 0),
            ),
            ("23:30-00:30", none, at(0, 10), 0.0, at(0, 10)),
            (
                "23:30-00:30",
                past(Some(at(23, 40) - day), None),
                at(0, 10),
                0.0,
                at(23, 30),
            ),
            ("23:30-00:30", none, at(0, 30), 0.0, at(23, 30)),
        ];
        for (text, past, now, chance, when) in table {
            let due = next_begin(window(text), past, now, chance);
            let shown = |at: i64| (at - MIDNIGHT) / 60;
            let told = format!("{text} {past:?} at minute {}", shown(now));
            assert_eq!(shown(due), shown(when), "{told}");
            assert!(due >= now, "{told}");
        }
    }

    #[test]
    fn the_oldest_beyond_those_kept_are_surplus_and_the_last_one_never_is() {
        let sets: Vec<SetName> = [5, 1, 4, 2, 3].map(SetName::at).to_vec();
        assert_eq!(surplus(&sets, 3), [1, 2].map(SetName::at));
        assert_eq!(surplus(&sets, 5), []);
        assert_eq!(surplus(&sets, 9), []);
        assert_eq!(surplus(&sets, 0), [1, 2, 3, 4].map(SetName::at));
        assert_eq!(surplus(&[], 0), []);
    }
}
