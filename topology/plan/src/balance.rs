//! Which slots go where so that shards are even: the fewest slots move, and no two shards that stay
//! differ by more than one slot. Pure arithmetic on slot sets.

use std::collections::BTreeMap;

use larder_wire::{SLOT_COUNT, ShardId, SlotSet};

/// Slots that go from one shard to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    pub from: ShardId,
    pub to: ShardId,
    pub slots: SlotSet,
}

/// How many slots each shard is to own: `leaving` ones none, all others the same within one. The odd slots
/// go to those that own the most, since slots that stay cost nothing.
pub fn quotas(owned: &BTreeMap<ShardId, SlotSet>, leaving: &[ShardId]) -> BTreeMap<ShardId, usize> {
    let mut staying: Vec<ShardId> = owned
        .keys()
        .copied()
        .filter(|id| !leaving.contains(id))
        .collect();
    assert!(!staying.is_empty(), "somebody must own the slots");
    staying.sort_by_key(|id| (std::cmp::Reverse(owned[id].len()), *id));
    let (each, odd) = (
        SLOT_COUNT as usize / staying.len(),
        SLOT_COUNT as usize % staying.len(),
    );
    let mut quotas: BTreeMap<ShardId, usize> = leaving.iter().map(|&id| (id, 0)).collect();
    for (rank, id) in staying.into_iter().enumerate() {
        quotas.insert(id, each + usize::from(rank < odd));
    }
    quotas
}

/// The fewest transfers of the fewest slots that bring `owned` to its quotas. A shard gives its highest
/// slots first, so that what stays is one range as long as it was one.
pub fn transfers(owned: &BTreeMap<ShardId, SlotSet>, leaving: &[ShardId]) -> Vec<Transfer> {
    let quotas = quotas(owned, leaving);
    let mut wanting: Vec<(ShardId, usize)> = owned
        .iter()
        .filter_map(|(&id, slots)| {
            let missing = quotas[&id].saturating_sub(slots.len());
            (missing > 0).then_some((id, missing))
        })
        .collect();
    let mut out = Vec::new();
    for (&from, slots) in owned {
        let mut surplus = surplus_of(slots, quotas[&from]);
        while !surplus.is_empty() {
            let (to, missing) = wanting
                .first_mut()
                .expect("surpluses and wants have the same sum");
            let given: SlotSet = surplus.iter().take(*missing).collect();
            surplus = surplus.difference(&given);
            *missing -= given.len();
            out.push(Transfer {
                from,
                to: *to,
                slots: given,
            });
            if wanting[0].1 == 0 {
                wanting.remove(0);
            }
        }
    }
    out
}

fn surplus_of(slots: &SlotSet, quota: usize) -> SlotSet {
    slots.iter().skip(quota).collect()
}

/// All slots dealt to `shards` shards as ranges, the first ones a slot larger where it does not come out even.
pub fn even_ranges(shards: u32) -> Vec<SlotSet> {
    let shards = shards as usize;
    let (each, odd) = (SLOT_COUNT as usize / shards, SLOT_COUNT as usize % shards);
    let mut rest = larder_wire::Slot::all();
    (0..shards)
        .map(|index| {
            rest.by_ref()
                .take(each + usize::from(index < odd))
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cluster(shards: u32) -> BTreeMap<ShardId, SlotSet> {
        (1..).map(ShardId).zip(even_ranges(shards)).collect()
    }

    fn apply(owned: &mut BTreeMap<ShardId, SlotSet>, transfers: &[Transfer]) {
        for part in transfers {
            assert!(
                part.slots.is_subset(&owned[&part.from]),
                "gives what it owns"
            );
            assert!(!part.slots.is_empty(), "an empty transfer is none");
            let left = owned[&part.from].difference(&part.slots);
            let more = owned[&part.to].union(&part.slots);
            owned.insert(part.from, left);
            owned.insert(part.to, more);
        }
    }

    #[test]
    fn an_even_cluster_needs_no_transfer() {
        for shards in 1..40 {
            assert_eq!(transfers(&cluster(shards), &[]), []);
        }
    }

    #[test]
    fn growing_from_three_to_four_moves_a_quarter_and_only_to_the_newcomer() {
        let mut owned = cluster(3);
        owned.insert(ShardId(4), SlotSet::new());
        let parts = transfers(&owned, &[]);
        assert_eq!(parts.iter().map(|p| p.slots.len()).sum::<usize>(), 4096);
        assert!(parts.iter().all(|part| part.to == ShardId(4)));
    }

    proptest! {
        #[test]
        fn any_cluster_ends_even_within_one_slot_and_no_slot_moves_in_vain(
            seeds in prop::collection::vec(0u32..12, 64),
            shards in 1u32..12,
            leave in 0u32..11,
        ) {
            let mut owned: BTreeMap<ShardId, SlotSet> = (1..=shards).map(|id| (ShardId(id), SlotSet::new())).collect();
            for slot in larder_wire::Slot::all() {
                let id = seeds[slot.index() * 64 / SLOT_COUNT as usize] % shards + 1;
                owned.get_mut(&ShardId(id)).unwrap().insert(slot);
            }
            let leave = leave.min(shards - 1);
            let leaving: Vec<ShardId> = (shards - leave + 1..=shards).map(ShardId).collect();
            let before = owned.clone();
            let parts = transfers(&owned, &leaving);
            apply(&mut owned, &parts);
            let stay: Vec<usize> = owned.iter().filter(|(id, _)| !leaving.contains(id)).map(|(_, s)| s.len()).collect();
            prop_assert!(leaving.iter().all(|id| owned[id].is_empty()));
            prop_assert_eq!(stay.iter().sum::<usize>(), SLOT_COUNT as usize);
            prop_assert!(stay.iter().max().unwrap() - stay.iter().min().unwrap() <= 1);
            // No shard both gives and takes, and a transfer between a pair is one transfer.
            for part in &parts {
                prop_assert!(parts.iter().all(|other| other.to != part.from));
                let pairs = parts.iter().filter(|other| (other.from, other.to) == (part.from, part.to));
                prop_assert_eq!(pairs.count(), 1);
            }
            // The fewest: what moves is what the shards above the even share have too much, at least.
            let each = SLOT_COUNT as usize / stay.len();
            let odd = SLOT_COUNT as usize % stay.len();
            let mut sizes: Vec<usize> = before.iter().filter(|(id, _)| !leaving.contains(id)).map(|(_, s)| s.len()).collect();
            sizes.sort_unstable_by_key(|&size| std::cmp::Reverse(size));
            let least: usize = sizes.iter().enumerate().map(|(rank, &size)| size.saturating_sub(each + usize::from(rank < odd))).sum::<usize>()
                + leaving.iter().map(|id| before[id].len()).sum::<usize>();
            prop_assert_eq!(parts.iter().map(|p| p.slots.len()).sum::<usize>(), least);
        }
    }
}
