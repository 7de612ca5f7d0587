//! Judges histories of one key: could the calls have taken effect one after the other, each at some moment between its start and its end?
//!
//! A key is a register (SET, GET) or a counter (INCR, GET). A call whose outcome nobody knows may take effect at any moment after its start, or never; one
//! that was refused never does. The search is Wing and Gong's with Lowe's memory of states that led nowhere: it takes the next call among those that had begun
//! when the first of the rest ended, and turns back where an answer does not fit. Knows no clients, servers or clocks: times are numbers.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use crate::chance::Chance;

/// States that the search of one key looks at before it gives up.
pub const STATES_MAX: usize = 5_000_000;
/// Calls that a finding shows around the one that fits nowhere.
const SHOWN_AROUND: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Set(i64),
    Get,
    Incr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What GET found, what INCR made; nothing for SET.
    Answered(Option<i64>),
    /// It took no effect and never will.
    Refused,
    /// It may have taken effect, or may yet.
    Unknown,
}

/// One call of one client on the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    pub client: usize,
    pub call: Call,
    pub outcome: Outcome,
    /// Microseconds since a moment that all operations share. The end of an unknown call does not matter.
    pub start_us: u64,
    pub end_us: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// No order fits. The furthest that the search came, and the calls around the place.
    Broken(String),
    /// The search would take too long.
    Undecided,
}

/// Judges every key by itself: a history is linearizable when that of each key is.
pub fn judge_all(histories: &BTreeMap<String, Vec<Operation>>) -> Vec<(String, Verdict)> {
    histories
        .iter()
        .map(|(key, history)| (key.clone(), judge(history)))
        .filter(|(_, verdict)| *verdict != Verdict::Linearizable)
        .collect()
}

/// Judges the history of one key that held nothing before.
pub fn judge(history: &[Operation]) -> Verdict {
    let mut search = Search::new(relevant(history));
    search.run()
}

/// The calls that can make a difference, by their start.
///
/// A read that nobody heard changes nothing. Nor does a SET of unknown outcome whose value nobody read: it may as well never have taken
/// effect. On a key that is counted, too, that is not so, and it stays.
fn relevant(history: &[Operation]) -> Vec<Operation> {
    let counted = history.iter().any(|op| op.call == Call::Incr);
    let read: BTreeSet<i64> = history
        .iter()
        .filter_map(|op| match (op.call, op.outcome) {
            (Call::Get, Outcome::Answered(found)) => found,
            (Call::Get | Call::Set(_) | Call::Incr, _) => None,
        })
        .collect();
    let matters = |op: &&Operation| match (op.call, op.outcome) {
        (_, Outcome::Refused) | (Call::Get, Outcome::Unknown) => false,
        (Call::Set(value), Outcome::Unknown) => counted || read.contains(&value),
        (Call::Incr, Outcome::Unknown) | (_, Outcome::Answered(_)) => true,
    };
    let mut kept: Vec<Operation> = history.iter().filter(matters).copied().collect();
    kept.sort_by_key(|op| op.start_us);
    kept
}

/// The state after the call, if its answer fits.
fn apply(value: Option<i64>, op: &Operation) -> Option<Option<i64>> {
    let (next, answer) = match op.call {
        Call::Set(new) => (Some(new), None),
        Call::Get => (value, value),
        Call::Incr => {
            let new = Some(value.unwrap_or(0) + 1);
            (new, new)
        }
    };
    match op.outcome {
        Outcome::Answered(heard) => (heard == answer).then_some(next),
        Outcome::Unknown => Some(next),
        Outcome::Refused => None,
    }
}

/// An event: the start of a call, or its end.
#[derive(Clone, Copy, Debug)]
struct Event {
    op: usize,
    is_end: bool,
}

struct Search {
    ops: Vec<Operation>,
    events: Vec<Event>,
    /// The events that are left, as a list: of each event (and of the head, which stands behind the last) the next and the one before.
    next: Vec<usize>,
    prev: Vec<usize>,
    /// Of each call, its two events.
    places: Vec<(usize, usize)>,
    /// Of each call, its part in the fingerprint of a set of calls.
    marks: Vec<u128>,
    taken: Vec<bool>,
    /// For each INCR of unknown outcome the one before it: they are alike, so they are taken in the order of their starts.
    twin_before: Vec<Option<usize>>,
    /// The key is a counter.
    counted: bool,
    /// Answered calls that are left.
    left: usize,
}

impl Search {
    fn new(ops: Vec<Operation>) -> Search {
        let mut times: Vec<(u64, bool, usize)> = Vec::with_capacity(ops.len() * 2);
        for (op, operation) in ops.iter().enumerate() {
            let end = match operation.outcome {
                Outcome::Answered(_) => operation.end_us,
                Outcome::Unknown | Outcome::Refused => u64::MAX,
            };
            times.push((operation.start_us, false, op));
            times.push((end, true, op));
        }
        // At the same microsecond starts come first: what may have overlapped is taken to.
        times.sort_unstable();
        let mut places = vec![(0, 0); ops.len()];
        for (event, &(_, is_end, op)) in times.iter().enumerate() {
            match is_end {
                false => places[op].0 = event,
                true => places[op].1 = event,
            }
        }
        let head = times.len();
        let mut chance = Chance::from_seed(0x11EA);
        let mut marks = || u128::from(chance.next_u64()) << 64 | u128::from(chance.next_u64());
        let mut last = None;
        let twin_before = ops
            .iter()
            .enumerate()
            .map(|(index, op)| {
                let is_twin = op.call == Call::Incr && op.outcome == Outcome::Unknown;
                is_twin.then(|| last.replace(index)).flatten()
            })
            .collect();
        Search {
            events: times
                .iter()
                .map(|&(_, is_end, op)| Event { op, is_end })
                .collect(),
            next: (0..=head).map(|at| (at + 1) % (head + 1)).collect(),
            prev: (0..=head).map(|at| (at + head) % (head + 1)).collect(),
            marks: ops.iter().map(|_| marks()).collect(),
            taken: vec![false; ops.len()],
            left: ops
                .iter()
                .filter(|op| op.outcome != Outcome::Unknown)
                .count(),
            counted: ops.iter().any(|op| op.call == Call::Incr),
            places,
            twin_before,
            ops,
        }
    }

    fn run(&mut self) -> Verdict {
        let head = self.events.len();
        let mut seen: HashSet<(u128, Option<i64>)> = HashSet::new();
        let mut path: Vec<(usize, Option<i64>)> = Vec::new();
        let (mut value, mut print) = (None, 0u128);
        let (mut furthest, mut stuck_at) = (0, 0);
        let mut at = self.next[head];
        while self.left > 0 {
            let event = (at != head).then(|| self.events[at]);
            let Some(event) = event.filter(|event| !event.is_end) else {
                // The first of the rest ends here and nothing that had begun fits: turn back.
                if path.len() >= furthest {
                    (furthest, stuck_at) = (path.len(), event.map_or(0, |event| event.op));
                }
                let Some((op, before)) = path.pop() else {
                    return Verdict::Broken(self.finding(furthest, stuck_at));
                };
                self.put_back(op);
                value = before;
                print ^= self.marks[op];
                at = self.next[self.places[op].0];
                continue;
            };
            let op = event.op;
            let after = apply(value, &self.ops[op]).filter(|_| self.is_worth_a_try(op));
            match after {
                Some(after) if seen.insert((print ^ self.marks[op], after)) => {
                    path.push((op, value));
                    self.take(op);
                    value = after;
                    print ^= self.marks[op];
                    at = self.next[head];
                }
                Some(_) | None => at = self.next[at],
            }
            if seen.len() > STATES_MAX {
                return Verdict::Undecided;
            }
        }
        Verdict::Linearizable
    }

    /// Of unknown calls only some orders are looked at; where another fits, one of these does, too.
    fn is_worth_a_try(&self, op: usize) -> bool {
        match (self.ops[op].call, self.ops[op].outcome) {
            // What is not read before the next write may as well never have been written.
            (Call::Set(value), Outcome::Unknown) if !self.counted => self.can_be_read_next(value),
            (Call::Incr, Outcome::Unknown) => {
                self.twin_before[op].is_none_or(|twin| self.taken[twin])
            }
            (Call::Set(_) | Call::Get | Call::Incr, _) => true,
        }
    }

    fn can_be_read_next(&self, value: i64) -> bool {
        let head = self.events.len();
        let mut at = self.next[head];
        while at != head && !self.events[at].is_end {
            let op = &self.ops[self.events[at].op];
            if op.call == Call::Get && op.outcome == Outcome::Answered(Some(value)) {
                return true;
            }
            at = self.next[at];
        }
        false
    }

    fn take(&mut self, op: usize) {
        let (start, end) = self.places[op];
        for event in [start, end] {
            let (prev, next) = (self.prev[event], self.next[event]);
            self.next[prev] = next;
            self.prev[next] = prev;
        }
        self.taken[op] = true;
        self.left -= usize::from(self.ops[op].outcome != Outcome::Unknown);
    }

    fn put_back(&mut self, op: usize) {
        let (start, end) = self.places[op];
        for event in [end, start] {
            let (prev, next) = (self.prev[event], self.next[event]);
            self.next[prev] = event;
            self.prev[next] = event;
        }
        self.taken[op] = false;
        self.left += usize::from(self.ops[op].outcome != Outcome::Unknown);
    }

    fn finding(&self, furthest: usize, stuck_at: usize) -> String {
        let from = stuck_at.saturating_sub(SHOWN_AROUND);
        let until = (stuck_at + SHOWN_AROUND).min(self.ops.len());
        let mut text = format!(
            "no order fits: {furthest} of {} calls can be put in one, then this one (>) cannot:\n",
            self.ops.len()
        );
        for (index, op) in self.ops.iter().enumerate().take(until).skip(from) {
            let mark = if index == stuck_at { '>' } else { ' ' };
            text += &format!("  {mark} {op}\n");
        }
        text
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match self.outcome {
            Outcome::Unknown => "…".to_owned(),
            Outcome::Answered(_) | Outcome::Refused => self.end_us.to_string(),
        };
        write!(
            f,
            "client {} {}–{end} µs {:?} → {:?}",
            self.client, self.start_us, self.call, self.outcome
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::seeds;

    fn op(client: usize, start_us: u64, end_us: u64, call: Call, outcome: Outcome) -> Operation {
        Operation {
            client,
            call,
            outcome,
            start_us,
            end_us,
        }
    }

    fn set(start: u64, end: u64, value: i64) -> Operation {
        op(0, start, end, Call::Set(value), Outcome::Answered(None))
    }

    fn set_unknown(start: u64, value: i64) -> Operation {
        op(0, start, start, Call::Set(value), Outcome::Unknown)
    }

    fn get(start: u64, end: u64, found: i64) -> Operation {
        let found = (found != 0).then_some(found);
        op(1, start, end, Call::Get, Outcome::Answered(found))
    }

    fn incr(start: u64, end: u64, made: i64) -> Operation {
        op(2, start, end, Call::Incr, Outcome::Answered(Some(made)))
    }

    fn incr_unknown(start: u64) -> Operation {
        op(2, start, start, Call::Incr, Outcome::Unknown)
    }

    #[track_caller]
    fn fits(history: &[Operation]) {
        assert_eq!(judge(history), Verdict::Linearizable);
    }

    #[track_caller]
    fn fits_not(history: &[Operation]) {
        let verdict = judge(history);
        assert!(matches!(verdict, Verdict::Broken(_)), "{verdict:?}");
    }

    #[test]
    fn a_read_sees_the_last_write_that_had_ended_or_one_that_was_under_way() {
        fits(&[set(0, 1, 7), get(2, 3, 7)]);
        fits(&[set(0, 1, 7), set(2, 9, 8), get(3, 4, 7), get(5, 6, 8)]);
        fits(&[get(0, 1, 0), set(0, 9, 7), get(2, 3, 7)]);
        fits_not(&[set(0, 1, 7), get(2, 3, 0)]);
        fits_not(&[set(0, 1, 7), set(2, 3, 8), get(4, 5, 7)]);
    }

    #[test]
    fn nobody_reads_an_older_value_than_somebody_before() {
        fits_not(&[
            set(0, 1, 7),
            set(2, 9, 8),
            get(3, 4, 8),
            get(5, 6, 7), // back again
        ]);
        fits_not(&[set(0, 9, 7), get(1, 2, 7), get(3, 4, 0)]);
    }

    #[test]
    fn an_unknown_write_takes_effect_at_any_later_moment_or_never() {
        fits(&[set(0, 1, 7), set_unknown(2, 8), get(5, 6, 7)]);
        fits(&[set(0, 1, 7), set_unknown(2, 8), get(5, 6, 7), get(7, 8, 8)]);
        fits_not(&[set(0, 1, 7), set_unknown(7, 8), get(5, 6, 8)]);
        // It takes effect once.
        fits_not(&[
            set(0, 1, 7),
            set_unknown(2, 8),
            get(3, 4, 8),
            set(5, 6, 9),
            get(7, 8, 8),
        ]);
    }

    #[test]
    fn a_refused_write_is_never_seen() {
        let refused = op(0, 0, 1, Call::Set(7), Outcome::Refused);
        fits(&[refused, get(2, 3, 0)]);
        fits_not(&[refused, get(2, 3, 7)]);
    }

    #[test]
    fn a_counter_counts_each_call_once() {
        fits(&[incr(0, 5, 2), incr(0, 5, 1), get(6, 7, 2)]);
        fits_not(&[incr(0, 1, 1), incr(2, 3, 1)]);
        fits_not(&[incr(0, 1, 1), incr(2, 3, 3)]);
        fits(&[incr(0, 1, 1), incr_unknown(1), incr(2, 3, 3)]);
        fits(&[incr(0, 1, 1), incr_unknown(1), incr(2, 3, 2)]);
        fits_not(&[incr(0, 1, 1), incr_unknown(4), incr(2, 3, 3)]);
        fits_not(&[incr(0, 1, 1), incr_unknown(1), incr(2, 3, 4)]);
    }

    #[test]
    fn many_unknown_calls_do_not_make_the_search_endless() {
        let mut history: Vec<Operation> = (0..200).map(incr_unknown).collect();
        history.extend((0..100).map(|n| incr(1000 + 2 * n, 1001 + 2 * n, 150 + n as i64)));
        fits(&history);
        history.push(incr(2000, 2001, 1));
        fits_not(&history);
        let mut history: Vec<Operation> = (1..200).map(|n| set_unknown(n, n as i64)).collect();
        history.push(set(300, 301, 1000));
        history.extend((1..200).map(|n| get(300 + 2 * n, 301 + 2 * n, 200 - n as i64)));
        fits(&history);
        history.push(get(900, 901, 1000));
        fits_not(&history);
    }

    /// A history as a server that is linearizable makes it: every call takes effect at one moment between its start and its end.
    fn valid(chance: &mut Chance, calls: usize) -> Vec<Operation> {
        let counter = chance.one_in(2);
        let clients = 1 + chance.below(6);
        let mut free_at = vec![0u64; clients];
        let mut moments = Vec::new();
        for n in 0..calls {
            let client = chance.below(clients);
            let start = free_at[client] + chance.below(20) as u64;
            let moment = start + chance.below(30) as u64;
            let end = moment + chance.below(30) as u64;
            free_at[client] = end + 1;
            let write = chance.one_in(2);
            let call = match (write, counter) {
                (true, true) => Call::Incr,
                (true, false) => Call::Set(n as i64 + 1),
                (false, _) => Call::Get,
            };
            // Unknown: it took effect as the others did, or much later, or never. So it is with refusals, which never do.
            let fate = chance.below(20);
            let moment = match fate {
                0 => moment + chance.below(500) as u64,
                _ => moment,
            };
            moments.push((moment, n, client, call, start, end, fate));
        }
        moments.sort_unstable_by_key(|&(moment, n, ..)| (moment, n));
        let mut value = None;
        let mut history = Vec::new();
        for (_, _, client, call, start_us, end_us, fate) in moments {
            let mut answer = None;
            if fate != 1 && fate != 2 {
                match call {
                    Call::Set(new) => value = Some(new),
                    Call::Incr => {
                        value = Some(value.unwrap_or(0) + 1);
                        answer = value;
                    }
                    Call::Get => answer = value,
                }
            }
            let outcome = match fate {
                0 | 1 => Outcome::Unknown,
                2 => Outcome::Refused,
                _ => Outcome::Answered(answer),
            };
            history.push(op(client, start_us, end_us, call, outcome));
        }
        history
    }

    #[test]
    fn histories_of_a_server_that_is_linearizable_are_accepted() {
        for seed in seeds(300) {
            let history = valid(&mut Chance::from_seed(seed), 200);
            let verdict = judge(&history);
            assert_eq!(verdict, Verdict::Linearizable, "LARDER_SEED={seed}");
        }
    }

    /// Whether any order at all fits, by trying them all.
    fn by_all_orders(left: &[Operation], value: Option<i64>) -> bool {
        let answered = |op: &&Operation| matches!(op.outcome, Outcome::Answered(_));
        let Some(first_end) = left.iter().filter(answered).map(|op| op.end_us).min() else {
            return true;
        };
        (0..left.len()).any(|index| {
            let mut rest = left.to_vec();
            let op = rest.remove(index);
            let begun = op.start_us <= first_end;
            begun && apply(value, &op).is_some_and(|after| by_all_orders(&rest, after))
        })
    }

    #[test]
    fn small_histories_with_one_answer_changed_are_judged_as_by_trying_all_orders() {
        let (mut broken, mut sound) = (0, 0);
        for seed in seeds(2000) {
            let mut chance = Chance::from_seed(seed);
            let mut history = valid(&mut chance, 7);
            let index = chance.below(history.len());
            let changed = &mut history[index];
            match changed.outcome {
                Outcome::Answered(Some(found)) => {
                    let other = Some(found + chance.between(-2, 2)).filter(|&n| n > 0);
                    changed.outcome = Outcome::Answered(other);
                }
                Outcome::Answered(None) if changed.call == Call::Get => {
                    changed.outcome = Outcome::Answered(Some(chance.between(1, 7)));
                }
                Outcome::Answered(None) | Outcome::Unknown => changed.outcome = Outcome::Refused,
                Outcome::Refused => {}
            }
            let expected = by_all_orders(&history, None);
            let verdict = judge(&history);
            assert_eq!(
                verdict == Verdict::Linearizable,
                expected,
                "LARDER_SEED={seed}: {verdict:?}"
            );
            match expected {
                true => sound += 1,
                false => broken += 1,
            }
        }
        println!("{sound} histories were sound, {broken} broken");
    }

    #[test]
    fn long_histories_in_which_a_read_went_back_are_rejected() {
        for seed in seeds(100) {
            let mut chance = Chance::from_seed(seed);
            let mut history = valid(&mut chance, 200);
            let end = history.iter().map(|op| op.end_us).max().unwrap_or(0);
            let later = [
                set(end + 600, end + 601, 500),
                set(end + 602, end + 603, 501),
                get(end + 604, end + 605, 500),
            ];
            history.extend(later);
            let verdict = judge(&history);
            assert!(
                matches!(verdict, Verdict::Broken(_)),
                "LARDER_SEED={seed}: {verdict:?}"
            );
        }
    }
}
