//! The large form of a sorted set: members in order of score and name, and beside them each member's score by the hash of its name.
//!
//! Names lie in the order alone, so a set holds each once. Who looks a member up goes from its hash to the scores that stand there, and from each of
//! these to where the member would be in the order: several members may share a hash, and the order tells whose score it is.
//!
//! ZSCAN goes by hash, so that it meets whatever stays while scores change, and needs names: it looks for those of the hash among the members of the score. That
//! is short work while few have that score. Members of a score that more than [`TIES_MAX`] have or had are therefore in a table of names, too
//! (`crowded`).

use super::score::Score;
use super::score_index::ScoreIndex;
use super::settings::Hasher;
use super::sorted::{Beside, Sorted};
use super::table::{HashPlace, Table};
use super::tree::Tree;

/// Most members of one score whose names are in the order alone.
const TIES_MAX: usize = 32;

#[derive(Clone)]
pub struct Ranked {
    order: Tree<Sorted<Score>>,
    scores: ScoreIndex,
    /// All members of a score that has more than [`TIES_MAX`], and some that were ones.
    crowded: Table,
}

impl Ranked {
    pub fn new(hasher: &Hasher) -> Ranked {
        Ranked {
            order: Tree::default(),
            scores: ScoreIndex::default(),
            crowded: Table::new(hasher),
        }
    }

    /// Members.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub fn heap_bytes(&self) -> usize {
        self.order.heap_bytes() + self.scores.heap_bytes() + self.crowded.heap_bytes()
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        Some(self.claim(self.hash(member), member)?.1)
    }

    /// Gives `member` this score: the one that it had. A score that is equal to the old one leaves that one with its sign.
    pub fn put(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let hash = self.hash(member);
        match self.claim(hash, member) {
            None => {
                self.scores.insert(hash, score);
                self.put_in_order(member, score);
                None
            }
            Some((_, old)) if old == score => Some(old),
            Some((at, old)) => {
                self.scores.set(at, score);
                self.take_out_of_order(member, old);
                self.put_in_order(member, score);
                Some(old)
            }
        }
    }

    /// The score that the member had.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let (at, score) = self.claim(self.hash(member), member)?;
        self.scores.remove(at);
        self.take_out_of_order(member, score);
        Some(score)
    }

    /// Takes out `count` members from rank `at` on.
    pub fn remove_ranks(&mut self, at: usize, count: usize) {
        for record in self.order.iter_from(at).take(count) {
            let hash = self.crowded.place(record.name).0;
            // Which of several with this hash and score does not matter: they are alike.
            let claim = self
                .scores
                .of_hash(hash)
                .find(|(_, it)| *it == record.key.0);
            let (place, _) = claim.expect("every member has a score");
            self.scores.remove(place);
            if !self.crowded.is_empty() {
                self.crowded.remove(record.name);
            }
        }
        self.order.remove(at, count);
    }

    /// How many members come before this one, and its score.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        let score = self.score(member)?;
        let place = self.order.find(Score(score), member);
        Some((place.expect("every scored member is in order"), score))
    }

    /// How many members come first with scores that `before` is true of.
    pub fn count_scores(&self, before: impl Fn(f64) -> bool) -> usize {
        self.order.count_keys(|score| before(score.0))
    }

    /// How many members come first that `before` is true of; for sets whose scores are all the same.
    pub fn count_members(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        self.order.count(|record| before(record.name))
    }

    /// The members from rank `from` on.
    pub fn iter_from(&self, from: usize) -> impl Iterator<Item = (&[u8], f64)> {
        let records = self.order.iter_from(from);
        records.map(|record| (record.name, record.key.0))
    }

    /// The members from rank `from` on, backwards.
    pub fn iter_back_from(&self, from: usize) -> impl Iterator<Item = (&[u8], f64)> {
        let records = self.order.iter_back_from(from);
        records.map(|record| (record.name, record.key.0))
    }

    /// Shows about `count` members from `cursor` on and returns the cursor that goes on; 0 begins and ends. Members of one
    /// hash are shown together, so that whatever stays is shown however the set grows.
    pub fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        mut show: impl FnMut(&'a [u8], f64),
    ) -> u64 {
        let Ok(from) = u32::try_from(cursor) else {
            return 0;
        };
        let mut claims = self.scores.iter_from_hash(from).peekable();
        let mut shown = 0;
        let mut scores = Vec::new();
        while let Some((_, hash, score)) = claims.next() {
            if shown >= count {
                return u64::from(hash);
            }
            scores.clear();
            scores.push(score);
            while let Some((_, _, score)) = claims.next_if(|(_, next, _)| *next == hash) {
                // All members of this hash and score are shown at once.
                if !scores.contains(&score) {
                    scores.push(score);
                }
                shown += 1;
            }
            shown += 1;
            for score in &scores {
                self.show_members(hash, *score, &mut show);
            }
        }
        0
    }

    fn show_members<'a>(&'a self, hash: u32, score: f64, show: &mut impl FnMut(&'a [u8], f64)) {
        let (from, ties) = self.ties(score);
        if ties > TIES_MAX {
            for name in self.crowded.names_at(HashPlace(hash)) {
                if let Some(record) = self.order.record(Score(score), name) {
                    show(record.name, record.key.0);
                }
            }
            return;
        }
        for record in self.order.iter_from(from).take(ties) {
            if self.hash(record.name) == hash {
                show(record.name, record.key.0);
            }
        }
    }

    /// Throws away about `limit` members; true once nothing is left. The set is thrown away and asked nothing in between.
    pub fn free_some(&mut self, limit: usize) -> bool {
        self.order.free_some(limit) && self.scores.free_some(limit) && self.crowded.free_some(limit)
    }

    fn hash(&self, member: &[u8]) -> u32 {
        self.crowded.place(member).0
    }

    /// Where the member's score stands, and the score as it is in the order.
    fn claim(&self, hash: u32, member: &[u8]) -> Option<(usize, f64)> {
        self.scores.of_hash(hash).find_map(|(at, score)| {
            let record = self.order.record(Score(score), member)?;
            Some((at, record.key.0))
        })
    }

    /// The rank of the first member of this score, and how many have it.
    fn ties(&self, score: f64) -> (usize, usize) {
        let from = self.count_scores(|other| other < score);
        (from, self.count_scores(|other| other <= score) - from)
    }

    fn put_in_order(&mut self, member: &[u8], score: f64) {
        match self.order.put_new(Score(score), member, &[]) {
            Beside::Others => return,
            Beside::LeafEnd if self.order.last_leaf().ends_with(member) => return,
            Beside::LeafEnd | Beside::Alike => {}
        }
        let (from, ties) = self.ties(score);
        if ties == TIES_MAX + 1 {
            for record in self.order.iter_from(from).take(ties) {
                self.crowded.set(record.name, &[]);
            }
        } else if ties > TIES_MAX {
            self.crowded.set(member, &[]);
        }
    }

    fn take_out_of_order(&mut self, member: &[u8], score: f64) {
        let found = self.order.take_out_known(Score(score), member);
        debug_assert!(found, "every scored member is in order");
        if !self.crowded.is_empty() {
            self.crowded.remove(member);
        }
    }
}

#[cfg(test)]
impl Ranked {
    /// Members whose names are held twice.
    pub(super) fn crowded_len(&self) -> usize {
        self.crowded.len()
    }

    /// Bytes counted node by node.
    pub(super) fn survey(&self) -> usize {
        self.order.survey().0 + self.scores.survey().0 + self.crowded.survey().0
    }
}
