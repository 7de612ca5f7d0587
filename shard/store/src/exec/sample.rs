//! Picking elements at random: HRANDFIELD, SRANDMEMBER, SPOP, ZRANDMEMBER.

use std::collections::HashSet;

use larder_wire::Refusal;

use super::number_args::int;
use crate::random::Random;

/// Most elements that a pick with repetitions gives: one reply must not fill the node's memory.
const PICKS_MAX: u64 = 1 << 24;

/// How many elements to pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Picks {
    /// So many different ones, or all there are.
    Distinct(usize),
    /// Exactly so many, the same ones again and again if need be.
    Repeated(usize),
}

/// A count of picks: negative for repetitions.
pub(super) fn picks(arg: &[u8]) -> Result<Picks, Refusal> {
    let count = int(arg)?;
    if count == i64::MIN {
        return Err(Refusal::fixed(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    if count >= 0 {
        return Ok(Picks::Distinct(count as usize));
    }
    if count.unsigned_abs() > PICKS_MAX {
        return Err(Refusal::fixed("ERR value is out of range"));
    }
    Ok(Picks::Repeated(count.unsigned_abs() as usize))
}

/// [`picks`] of pairs, each of which counts as two.
pub(super) fn pair_picks(arg: &[u8]) -> Result<Picks, Refusal> {
    match int(arg)? {
        count if count != i64::MIN && count.unsigned_abs() > i64::MAX.unsigned_abs() / 2 => {
            Err(Refusal::fixed("ERR value is out of range"))
        }
        _ => picks(arg),
    }
}

/// Places to pick among `len` elements, none when there are none.
pub(super) fn places(picks: Picks, len: usize, random: &mut Random) -> Vec<usize> {
    match picks {
        _ if len == 0 => Vec::new(),
        Picks::Repeated(count) => (0..count).map(|_| random.below(len)).collect(),
        Picks::Distinct(count) if count >= len => (0..len).collect(),
        Picks::Distinct(count) => distinct(count, len, random),
    }
}

/// `count` different places among `len`, every choice equally likely (Floyd's sampling).
fn distinct(count: usize, len: usize, random: &mut Random) -> Vec<usize> {
    let mut chosen = HashSet::with_capacity(count);
    let mut places = Vec::with_capacity(count);
    for last in len - count..len {
        let mut place = random.below(last + 1);
        if !chosen.insert(place) {
            place = last;
            chosen.insert(place);
        }
        places.push(place);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_picks_are_different_and_reach_every_element() {
        let mut random = Random::new(5);
        let mut seen = [0; 10];
        for _ in 0..2000 {
            let places = places(Picks::Distinct(3), 10, &mut random);
            let different: HashSet<_> = places.iter().collect();
            assert_eq!((places.len(), different.len()), (3, 3));
            places.iter().for_each(|place| seen[*place] += 1);
        }
        assert!(
            seen.iter().all(|count| (450..750).contains(count)),
            "{seen:?}"
        );
    }
}
