//! Registers as runs of equal ones:
//!
//! ```text
//! 00nnnnnn            n + 1 registers are zero
//! 01nnnnnn nnnnnnnn   n + 1 registers are zero
//! 1vvvvvnn            n + 1 registers are v + 1
//! ```
//!
//! Which of the possible runs are written follows Redis step by step, so that the same elements give the same bytes.

use std::ops::Range;

use super::{Fault, HEADER_BYTES, REGISTERS, Vote};

const SHORT_ZEROS_MAX: usize = 64;
const VALUE_MAX: u8 = 32;
const VALUE_RUN_MAX: usize = 4;
/// Runs looked at for a merge after a change.
const MERGE_RUNS: usize = 5;

/// What came of a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Raised {
    Unchanged,
    Changed,
    /// The sparse form cannot hold it.
    NoRoom,
}

/// One run: the value of its registers, how many they are, and its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    value: u8,
    len: usize,
    bytes: usize,
}

impl Run {
    /// The run whose first byte is at `at`; a long one's missing second byte counts as zero.
    fn at(bytes: &[u8], at: usize) -> Run {
        let first = bytes[at];
        match first >> 6 {
            0 => Run {
                value: 0,
                len: usize::from(first & 0x3f) + 1,
                bytes: 1,
            },
            1 => {
                let second = bytes.get(at + 1).copied().unwrap_or(0);
                Run {
                    value: 0,
                    len: (usize::from(first & 0x3f) << 8 | usize::from(second)) + 1,
                    bytes: 2,
                }
            }
            2.. => Run {
                value: (first >> 2 & 0x1f) + 1,
                len: usize::from(first & 3) + 1,
                bytes: 1,
            },
        }
    }
}

pub(super) fn push_zeros(bytes: &mut Vec<u8>, len: usize) {
    let coded = len - 1;
    if len <= SHORT_ZEROS_MAX {
        bytes.push(coded as u8);
    } else {
        bytes.extend([0x40 | (coded >> 8) as u8, coded as u8]);
    }
}

fn push_value(bytes: &mut Vec<u8>, value: u8, len: usize) {
    bytes.push(value_run(value, len));
}

fn value_run(value: u8, len: usize) -> u8 {
    0x80 | (value - 1) << 2 | (len - 1) as u8
}

fn push_run(bytes: &mut Vec<u8>, value: u8, len: usize) {
    match (value, len) {
        (_, 0) => {}
        (0, _) => push_zeros(bytes, len),
        (1.., _) => push_value(bytes, value, len),
    }
}

/// Hands each run's value and registers to `take`. Corrupted when they are not as many as there have to be.
pub(super) fn runs(bytes: &[u8], mut take: impl FnMut(u8, Range<usize>)) -> Result<(), Fault> {
    let (mut at, mut register) = (0, 0);
    while at < bytes.len() {
        let run = Run::at(bytes, at);
        let end = register + run.len;
        if end > REGISTERS {
            return Err(Fault::Corrupted);
        }
        take(run.value, register..end);
        register = end;
        at += run.bytes;
    }
    if register == REGISTERS {
        Ok(())
    } else {
        Err(Fault::Corrupted)
    }
}

/// Raises one register of the sparse form in `bytes`, its header included; there is room up to `bytes_max`.
pub(super) fn raise(bytes: &mut Vec<u8>, vote: Vote, bytes_max: usize) -> Result<Raised, Fault> {
    if vote.value > VALUE_MAX {
        return Ok(Raised::NoRoom);
    }
    let (before, at, first) = find(bytes, vote.register)?;
    let run = Run::at(bytes, at);
    if run.value >= vote.value {
        return Ok(Raised::Unchanged);
    }
    if run.len == 1 && run.bytes == 1 {
        bytes[at] = value_run(vote.value, 1);
    } else {
        let mut split = Vec::with_capacity(5);
        push_run(&mut split, run.value, vote.register - first);
        push_value(&mut split, vote.value, 1);
        push_run(&mut split, run.value, first + run.len - 1 - vote.register);
        let end = (at + run.bytes).min(bytes.len());
        let grown = split.len() > run.bytes;
        if grown && bytes.len() + split.len() - run.bytes > bytes_max {
            return Ok(Raised::NoRoom);
        }
        bytes.splice(at..end, split);
    }
    merge(bytes, before);
    Ok(Raised::Changed)
}

/// Where the run before the register's run starts (or the first run), where its own does, and that one's first register.
fn find(bytes: &[u8], register: usize) -> Result<(usize, usize, usize), Fault> {
    let (mut before, mut at, mut first) = (HEADER_BYTES, HEADER_BYTES, 0);
    while at < bytes.len() {
        let run = Run::at(bytes, at);
        if register < first + run.len {
            return Ok((before, at, first));
        }
        before = at;
        at += run.bytes;
        first += run.len;
    }
    Err(Fault::Corrupted)
}

/// Joins neighbouring runs of one value, among those from `at` on.
fn merge(bytes: &mut Vec<u8>, mut at: usize) {
    let mut looks = MERGE_RUNS;
    while at < bytes.len() && looks > 0 {
        looks -= 1;
        let run = Run::at(bytes, at);
        if run.value > 0 && at + 1 < bytes.len() {
            let next = Run::at(bytes, at + 1);
            if next.value == run.value && run.len + next.len <= VALUE_RUN_MAX {
                bytes[at + 1] = value_run(run.value, run.len + next.len);
                bytes.remove(at);
                continue;
            }
        }
        at += run.bytes;
    }
}
