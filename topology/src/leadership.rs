//! Who leads: what one of several topologies asks etcd next, given what it heard last. Pure; time and answers
//! are parameters.
//!
//! ```text
//!            ┌── held ──────────────┐
//!            ▼                      │                    kept
//! Following: Look ──free──▶ Campaign ──won──▶ Leading: ┌─▶ Keep ─┐
//!            ▲                 │ lost, silent          └─────────┘
//!            └──── Withdraw ◀──┴──── gone, lapsed, deposed ─┘
//! ```
//!
//! 1. It leads only with an answer in hand, and never longer than the lease can have lived, counted from before the question was
//!    sent ([`LEASE_MARGIN_MS`] for clocks that do not run alike).
//! 2. A lease that is of no more use is given back: the next leader need not wait till it runs out.
//! 3. Whoever lost the lead lets others go first ([`DEPOSED_MS`]): what took it from this one may be of this machine.

use std::time::Duration;

/// How long a lease lives, in seconds: etcd grants none of less than 2 with its usual election timeout.
pub(crate) const LEASE_S_MIN: u64 = 2;
/// With a slow etcd leases live longer, up to this: a takeover takes so much longer, too.
pub(crate) const LEASE_S_MAX: u64 = 30;
/// A lease lives at least so many times as long as etcd takes to answer.
const LEASE_ANSWERS: u64 = 5;
/// How much earlier than etcd the leader takes its lease for over, in milliseconds.
pub(crate) const LEASE_MARGIN_MS: u64 = 200;
/// How often one that follows looks whether another leads, in milliseconds.
pub(crate) const LOOK_MS: u64 = 100;
/// First and longest pause while etcd does not answer, in milliseconds.
pub(crate) const SILENT_MS_MIN: u64 = 100;
pub(crate) const SILENT_MS_MAX: u64 = 1_000;
/// Pause of one that has lost the lead, before it looks again, in milliseconds.
pub(crate) const DEPOSED_MS: u64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Following,
    Leading,
}

/// The next question to etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Who leads?
    Look,
    /// Grant a lease, and let me lead if nobody does.
    Campaign,
    /// Let my lease live on.
    Keep,
    /// Take my lease back.
    Withdraw,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Look: nobody leads.
    Free,
    /// Look: another leads.
    Held,
    /// Campaign: the lead is this one's, and still will be when it acts.
    Won,
    /// Campaign: another was first, or the answer came after the lease.
    Lost,
    /// Keep: the lease lives on, and did all the time.
    Kept,
    /// Keep: the lease is gone; or its time was over by this one's clock, or the record was refused.
    Over,
    /// No answer. When this one leads, its lease still lives.
    Silent,
    /// Withdraw: done, or given up.
    Withdrawn,
}

/// How long to wait before a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    None,
    /// Till it is time to look, [`LOOK_MS`].
    Look,
    /// Till it is time to have the lease live on: a sixth of its life.
    Keep,
    /// Ever longer, [`SILENT_MS_MIN`] to [`SILENT_MS_MAX`].
    BackOff,
    /// [`DEPOSED_MS`].
    Deposed,
}

/// The next standing, question and pause, given what was asked and heard.
///
/// # Panics
/// On an answer to another question than was asked: a bug.
pub(crate) fn next(
    standing: Standing,
    asked: Question,
    heard: Heard,
) -> (Standing, Question, Pause) {
    use Heard::*;
    use Question::*;
    use Standing::*;
    match (standing, asked, heard) {
        (Following, Look, Held) => (Following, Look, Pause::Look),
        (Following, Look, Free) => (Following, Campaign, Pause::None),
        (Following, Look, Silent) => (Following, Look, Pause::BackOff),
        (Following, Campaign, Won) => (Leading, Keep, Pause::Keep),
        // Whether this one leads is not known: then it does not.
        (Following, Campaign, Lost | Silent) => (Following, Withdraw, Pause::None),
        (Following, Withdraw, Withdrawn) => (Following, Look, Pause::Look),
        (Following, Withdraw, Silent) => (Following, Look, Pause::BackOff),
        (Leading, Keep, Kept) => (Leading, Keep, Pause::Keep),
        (Leading, Keep, Silent) => (Leading, Keep, Pause::BackOff),
        // The lead ends here; the pause comes after the lease was given back.
        (Leading, Keep, Over) => (Leading, Withdraw, Pause::None),
        (Leading, Withdraw, Withdrawn | Silent) => (Following, Look, Pause::Deposed),
        (Following, Look, Won | Lost | Kept | Over | Withdrawn)
        | (Following, Campaign, Free | Held | Kept | Over | Withdrawn)
        | (Following, Withdraw, Free | Held | Won | Lost | Kept | Over)
        | (Following, Keep, _)
        | (Leading, Keep, Free | Held | Won | Lost | Withdrawn)
        | (Leading, Withdraw, Free | Held | Won | Lost | Kept | Over)
        | (Leading, Look | Campaign, _) => {
            panic!("{standing:?} asked {asked:?} and heard {heard:?}")
        }
    }
}

/// For how long a lease is asked, in seconds, of an etcd that takes `answer` to answer.
pub(crate) fn lease_seconds(answer: Duration) -> u64 {
    let wanted = (answer.as_millis() as u64 * LEASE_ANSWERS).div_ceil(1000);
    wanted.clamp(LEASE_S_MIN, LEASE_S_MAX)
}

/// How long one may lead with a lease, from before it was asked for.
pub(crate) fn lead_time(lease: Duration) -> Duration {
    lease.saturating_sub(Duration::from_millis(LEASE_MARGIN_MS))
}

/// How often a lease is made to live on: one answer that gets lost does not end it.
pub(crate) fn keep_every(lease: Duration) -> Duration {
    lease / 6
}

/// How long one answer to [`Question::Keep`] is waited for: two can fail before the lead is over.
pub(crate) fn keep_limit(lease: Duration) -> Duration {
    (lead_time(lease) - keep_every(lease)) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANDINGS: [Standing; 2] = [Standing::Following, Standing::Leading];
    const QUESTIONS: [Question; 4] = [
        Question::Look,
        Question::Campaign,
        Question::Keep,
        Question::Withdraw,
    ];
    const ANSWERS: [Heard; 8] = [
        Heard::Free,
        Heard::Held,
        Heard::Won,
        Heard::Lost,
        Heard::Kept,
        Heard::Over,
        Heard::Silent,
        Heard::Withdrawn,
    ];

    #[test]
    fn every_answer_in_every_standing_has_one_consequence_or_is_a_bug() {
        let mut table = String::new();
        for standing in STANDINGS {
            for asked in QUESTIONS {
                for heard in ANSWERS {
                    let Ok((then, question, pause)) =
                        std::panic::catch_unwind(|| next(standing, asked, heard))
                    else {
                        continue;
                    };
                    table += &format!(
                        "{standing:?} {asked:?} {heard:?}: {then:?} {question:?} {pause:?}\n"
                    );
                }
            }
        }
        assert_eq!(
            table,
            "Following Look Free: Following Campaign None\n\
             Following Look Held: Following Look Look\n\
             Following Look Silent: Following Look BackOff\n\
             Following Campaign Won: Leading Keep Keep\n\
             Following Campaign Lost: Following Withdraw None\n\
             Following Campaign Silent: Following Withdraw None\n\
             Following Withdraw Silent: Following Look BackOff\n\
             Following Withdraw Withdrawn: Following Look Look\n\
             Leading Keep Kept: Leading Keep Keep\n\
             Leading Keep Over: Leading Withdraw None\n\
             Leading Keep Silent: Leading Keep BackOff\n\
             Leading Withdraw Silent: Following Look Deposed\n\
             Leading Withdraw Withdrawn: Following Look Deposed\n"
        );
    }

    #[test]
    fn nothing_is_asked_in_a_circle_without_a_pause() {
        for standing in STANDINGS {
            for asked in QUESTIONS {
                for heard in ANSWERS {
                    let step = std::panic::catch_unwind(|| next(standing, asked, heard));
                    let Ok((then, question, Pause::None)) = step else {
                        continue;
                    };
                    // What follows without a pause is followed by one, or by a question that is.
                    let rests = |question: Question| {
                        ANSWERS.iter().all(|heard| {
                            let step = std::panic::catch_unwind(|| next(then, question, *heard));
                            step.map_or(true, |(_, after, pause)| {
                                pause != Pause::None || after == Question::Withdraw
                            })
                        })
                    };
                    assert!(rests(question), "{standing:?} {asked:?} {heard:?}");
                }
            }
        }
    }

    #[test]
    fn a_lease_bears_answers_that_get_lost_and_lives_as_long_as_a_slow_etcd_needs() {
        for (answer_ms, seconds) in [
            (0, 2),
            (5, 2),
            (400, 2),
            (401, 3),
            (2_000, 10),
            (60_000, 30),
        ] {
            assert_eq!(
                lease_seconds(Duration::from_millis(answer_ms)),
                seconds,
                "{answer_ms} ms"
            );
        }
        for seconds in LEASE_S_MIN..=LEASE_S_MAX {
            let lease = Duration::from_secs(seconds);
            let two_fail = keep_every(lease) + 2 * keep_limit(lease);
            assert!(two_fail <= lead_time(lease), "{seconds} s");
            assert!(lead_time(lease) < lease);
        }
    }
}
