//! Streams against maps.

use std::collections::BTreeMap;

use larder_wire::UnixMillis;

use super::{any_text, for_seeds};
use crate::collection::stream::{
    Group, NODE_ENTRIES, NodeMax, Pending, StreamId, Trim, WholeNodes,
};
use crate::collection::{Budget, Stream};
use crate::random::Random;

type Model = BTreeMap<StreamId, Vec<Vec<u8>>>;

fn assert_same(stream: &Stream, model: &Model) {
    assert_eq!(stream.len(), model.len());
    let entry = |(id, items): (StreamId, Vec<Vec<u8>>)| (id, items);
    let found: Vec<_> = stream
        .iter_from(0)
        .map(|e| entry((e.id, e.items().1.map(<[u8]>::to_vec).collect())))
        .collect();
    let expected: Vec<_> = model.iter().map(|(id, i)| (*id, i.clone())).collect();
    assert_eq!(found, expected);
    if let Some(last) = stream.len().checked_sub(1) {
        let back: Vec<_> = stream.iter_back_from(last).map(|e| e.id).collect();
        assert!(back.iter().eq(model.keys().rev()));
    }
}

fn any_id(random: &mut Random, last: StreamId) -> StreamId {
    StreamId {
        ms: random.below(last.ms as usize + 2) as u64,
        seq: random.below(4) as u64,
    }
}

#[test]
fn a_stream_is_a_map_from_ids_to_entries_and_a_capture_keeps_what_it_was() {
    for_seeds(40, |random| {
        let (mut stream, mut model) = (Stream::default(), Model::new());
        let (mut added, mut deleted) = (0, StreamId::MIN);
        let mut captures: Vec<(Stream, Model)> = Vec::new();
        for _ in 0..random.below(1500) {
            let last = stream.last_id();
            match random.below(12) {
                0..8 => {
                    let id = StreamId {
                        ms: last.ms + random.below(2) as u64,
                        seq: last.seq + 1 + random.below(2) as u64,
                    };
                    let pairs = 1 + random.below(3);
                    let items: Vec<_> = (0..pairs * 2).map(|_| any_text(random)).collect();
                    stream.append(id, items.iter().map(Vec::as_slice));
                    model.insert(id, items);
                    added += 1;
                }
                8 | 9 => {
                    let id = any_id(random, last);
                    let was_there = model.remove(&id).is_some();
                    assert_eq!(stream.delete(id), was_there);
                    if was_there {
                        deleted = deleted.max(id);
                    }
                }
                10 => {
                    let (start, end) = (any_id(random, last), any_id(random, last));
                    let (first, len) = stream.span(start, end);
                    assert_eq!(first, model.keys().filter(|id| **id < start).count());
                    let within = |id: &&StreamId| (start..=end).contains(*id);
                    assert_eq!(len, model.keys().filter(within).count());
                }
                _ if random.below(8) == 0 => trim(random, &mut stream, &mut model),
                _ if random.below(40) == 0 => captures.push((stream.clone(), model.clone())),
                _ => assert_eq!(stream.first().map(|e| e.id), model.keys().next().copied()),
            }
        }
        assert_same(&stream, &model);
        assert_eq!(
            (stream.entries_added(), stream.max_deleted_id()),
            (added, deleted)
        );
        let (parts, entries) = stream.survey();
        assert_eq!(stream.heap_bytes(), parts + entries);
        for (capture, model) in &captures {
            assert_same(capture, model);
        }
        while !stream.free_some(7) {}
    });
}

fn trim(random: &mut Random, stream: &mut Stream, model: &mut Model) {
    let before = model.len();
    let asked = if random.below(2) == 0 {
        let keep = random.below(before + 2);
        let went = stream.trim(Trim::MaxLen(keep as u64), None);
        assert_eq!(went, before.saturating_sub(keep));
        went
    } else {
        let id = any_id(random, stream.last_id());
        let below = model.keys().filter(|other| **other < id).count();
        let limit = random.below(3 * NODE_ENTRIES) as u64;
        let nodes = WholeNodes {
            node_max: NodeMax {
                entries: NODE_ENTRIES,
                bytes: 0,
            },
            limit,
        };
        let went = stream.trim(Trim::MinId(id), Some(nodes));
        assert!(went <= below && (limit == 0 || went as u64 <= limit));
        // Where entries of the first node are gone already, it is done with the sooner.
        let missing = (stream.entries_added() as usize - before) % NODE_ENTRIES;
        let whole = (went + missing).is_multiple_of(NODE_ENTRIES);
        assert!(went == 0 || whole || went == before);
        assert!(below - went < NODE_ENTRIES || limit > 0);
        went
    };
    for _ in 0..asked {
        model.pop_first();
    }
}

#[test]
fn pieces_of_any_size_say_all_of_a_stream_once() {
    for_seeds(20, |random| {
        let mut stream = Stream::default();
        for ms in 0..random.below(300) as u64 {
            let text = any_text(random);
            stream.append(
                StreamId { ms: ms + 1, seq: 0 },
                [&text[..], b"x"].into_iter(),
            );
        }
        let all = |budget: &mut dyn FnMut() -> Budget| {
            let (mut commands, mut from) = (Vec::new(), Some(0));
            while let Some(place) = from {
                let mut shown = 0;
                from = stream.piece(b"k", place, budget(), |args| {
                    shown += 1;
                    commands.push(args.iter().map(|arg| arg.to_vec()).collect::<Vec<_>>());
                });
                assert!(shown > 0, "a piece without a command");
            }
            commands
        };
        let whole = all(&mut || Budget::new(usize::MAX, usize::MAX));
        let single = all(&mut || Budget::new(1, 0));
        let mixed = all(&mut || Budget::new(1 + random.below(50), random.below(2000)));
        assert_eq!(whole.len(), stream.len().max(1) + 1);
        assert!(whole == single && whole == mixed);
    });
}

#[test]
fn a_consumer_that_is_deleted_takes_what_was_pending_for_it_and_nothing_else() {
    for_seeds(40, |random| {
        let mut group = Group::new(StreamId::MIN, None);
        let names: [&[u8]; 3] = [b"a", b"b", b"c"];
        for name in names {
            group.create_consumer(name, UnixMillis(0));
        }
        let mut model: Vec<(StreamId, usize)> = Vec::new();
        let mut ms = 0;
        while model.len() < 700 {
            let (owner, run) = (random.below(3), 1 + random.below(60));
            for _ in 0..run {
                ms += 1 + random.below(3) as u64;
                let id = StreamId { ms, seq: 0 };
                group.deliver(Pending {
                    id,
                    consumer: names[owner],
                    delivered: UnixMillis(1),
                    deliveries: 1,
                });
                model.push((id, owner));
            }
        }
        for owner in [1, 0, 2] {
            let own = model.iter().filter(|(_, of)| *of == owner).count();
            assert_eq!(group.delete_consumer(names[owner]), Some(own));
            model.retain(|(_, of)| *of != owner);
            let left: Vec<StreamId> = group.pending_at(0).map(|pending| pending.id).collect();
            assert!(left.into_iter().eq(model.iter().map(|(id, _)| *id)));
        }
        assert_eq!(group.delete_consumer(b"a"), None);
    });
}
