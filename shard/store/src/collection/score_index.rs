//! The scores of a large sorted set's members by the hashes of their names, in hash order.
//!
//! Knows no names: several members may share a hash, so what stands here is a claim that the owner confirms where the names are
//! (`ranked.rs`). A place is true until the next change.

use super::mem;
use super::tree::{Leaf, Side, Tree};

/// Most members of a leaf.
const MEMBERS_MAX: usize = 256;

/// One member.
#[derive(Clone, Copy)]
struct Claim {
    hash: u32,
    /// Of the score: bytes, so that a claim takes twelve of them.
    score: [u8; 8],
}

const _: () = assert!(size_of::<Claim>() == 12);

/// Claims in hash order.
#[derive(Clone, Default)]
struct Claims(Vec<Claim>);

/// Scores by hash.
#[derive(Clone, Default)]
pub struct ScoreIndex {
    tree: Tree<Claims>,
}

impl ScoreIndex {
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    pub fn heap_bytes(&self) -> usize {
        self.tree.heap_bytes()
    }

    /// The members of this hash, each with its place and score.
    pub fn of_hash(&self, hash: u32) -> impl Iterator<Item = (usize, f64)> {
        self.iter_from_hash(hash)
            .take_while(move |(_, its_hash, _)| *its_hash == hash)
            .map(|(at, _, score)| (at, score))
    }

    /// Place, hash and score of the members from this hash on.
    pub fn iter_from_hash(&self, hash: u32) -> impl Iterator<Item = (usize, u32, f64)> {
        let (before, leaf) = self.tree.descend(|first| first.mark < hash);
        let mut claims = &leaf.0;
        let mut index = claims.partition_point(|claim| claim.hash < hash);
        let mut at = before + index;
        std::iter::from_fn(move || {
            if index == claims.len() {
                if at == self.tree.len() {
                    return None;
                }
                let (next, first) = self.tree.leaf_at(at);
                (claims, index) = (&next.0, first);
            }
            let claim = claims[index];
            let found = (at, claim.hash, f64::from_le_bytes(claim.score));
            (at, index) = (at + 1, index + 1);
            Some(found)
        })
    }

    pub fn insert(&mut self, hash: u32, score: f64) {
        let claim = Claim {
            hash,
            score: score.to_le_bytes(),
        };
        self.tree.edit_leaf_of(
            |first| first.mark < hash,
            |Claims(claims)| {
                let at = claims.partition_point(|other| other.hash < hash);
                mem::reserve(claims, 1);
                claims.insert(at, claim);
                ((), at)
            },
        );
    }

    /// Gives the member at place `at` another score.
    pub fn set(&mut self, at: usize, score: f64) {
        self.tree.edit(at, Side::At, |Claims(claims), index| {
            claims[index].score = score.to_le_bytes();
        });
    }

    pub fn remove(&mut self, at: usize) {
        self.tree.edit(at, Side::At, |Claims(claims), index| {
            claims.remove(index);
            mem::give_back(claims);
        });
    }

    /// Throws away about `limit` members; true once nothing is left.
    pub fn free_some(&mut self, limit: usize) -> bool {
        self.tree.free_some(limit)
    }
}

impl Leaf for Claims {
    type Mark = u32;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn heap_bytes(&self) -> usize {
        mem::vec(&self.0)
    }

    fn mark(&self) -> u32 {
        self.0[0].hash
    }

    fn is_overfull(&self) -> bool {
        self.0.len() > MEMBERS_MAX
    }

    fn split(&mut self, _edited: usize) -> Claims {
        let middle = self.0.len() / 2;
        let mut tail = Claims::default();
        tail.append_all(&self.0[middle..]);
        self.0.truncate(middle);
        mem::fit(&mut self.0);
        tail
    }

    fn joins(&self, next: &Claims) -> bool {
        let (one, other) = (self.0.len(), next.0.len());
        one.min(other) < MEMBERS_MAX / 4 && one + other <= MEMBERS_MAX * 3 / 4
    }

    fn append(&mut self, next: &Claims) {
        self.append_all(&next.0);
    }
}

impl Claims {
    fn append_all(&mut self, claims: &[Claim]) {
        mem::reserve(&mut self.0, claims.len());
        self.0.extend_from_slice(claims);
    }
}

#[cfg(test)]
impl ScoreIndex {
    pub(super) fn survey(&self) -> (usize, usize) {
        self.tree.survey()
    }
}
