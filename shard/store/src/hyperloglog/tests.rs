use super::*;

const SPARSE_BYTES_MAX: usize = 3000;

fn of(elements: std::ops::Range<u32>) -> HyperLogLog {
    let mut hll = HyperLogLog::default();
    for element in elements {
        hll.add(Vote::of(element.to_string().as_bytes()), SPARSE_BYTES_MAX)
            .unwrap();
    }
    hll.invalidate_cache();
    hll
}

fn view(hll: &HyperLogLog) -> View<'_> {
    View::new(hll.bytes()).unwrap()
}

#[test]
fn an_empty_one_is_the_bytes_that_redis_writes() {
    let empty = HyperLogLog::default();
    assert_eq!(empty.bytes(), b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff");
    assert_eq!(view(&empty).cached_count(), Some(0));
    assert_eq!(view(&empty).count(), Ok(0));
}

#[test]
fn counts_are_within_two_percent_at_every_size() {
    for size in [1, 10, 100, 1000, 10_000, 100_000] {
        let hll = of(0..size);
        let count = view(&hll).count().unwrap() as f64;
        let error = (count - f64::from(size)).abs() / f64::from(size);
        assert!(error < 0.02, "{size} elements: counted {count}");
    }
}

#[test]
fn both_forms_of_the_same_elements_count_alike_and_merge_alike() {
    let sparse = of(0..300);
    assert!(!view(&sparse).is_dense());
    let mut dense = sparse.clone();
    dense.make_dense().unwrap();
    assert!(view(&dense).is_dense());
    assert_eq!(view(&sparse).count(), view(&dense).count());
    for (one, other) in [(&sparse, &dense), (&dense, &sparse), (&dense, &dense)] {
        let mut union = Union::default();
        union.include(view(one)).unwrap();
        union.include(view(other)).unwrap();
        assert_eq!(union.count(), view(&sparse).count().unwrap());
        let mut merged = HyperLogLog::default();
        union.write_to(&mut merged, SPARSE_BYTES_MAX).unwrap();
        assert_eq!(
            merged.bytes()[HEADER_BYTES..],
            dense.bytes()[HEADER_BYTES..]
        );
    }
}

#[test]
fn a_sparse_one_never_outgrows_its_limit_and_becomes_dense_with_all_registers() {
    let mut hll = HyperLogLog::default();
    let mut expected = [0; REGISTERS];
    for element in 0..5000_u32 {
        let vote = Vote::of(&element.to_le_bytes());
        expected[vote.register] = vote.value.max(expected[vote.register]);
        hll.add(vote, SPARSE_BYTES_MAX).unwrap();
        assert!(view(&hll).is_dense() || hll.bytes().len() <= SPARSE_BYTES_MAX);
    }
    assert!(view(&hll).is_dense());
    let values: Vec<u8> = dense::values(view(&hll).registers()).collect();
    assert_eq!(values, expected);
}

#[test]
fn a_value_that_sparse_runs_cannot_say_makes_it_dense() {
    let mut hll = HyperLogLog::default();
    let vote = Vote {
        register: 16_383,
        value: 33,
    };
    assert_eq!(hll.add(vote, SPARSE_BYTES_MAX), Ok(true));
    assert!(view(&hll).is_dense());
    assert_eq!(dense::get(view(&hll).registers(), 16_383), 33);
    assert_eq!(hll.add(vote, SPARSE_BYTES_MAX), Ok(false));
}

#[test]
fn bytes_that_are_none_are_told_from_those_that_are_broken() {
    let empty = HyperLogLog::default();
    let foreign: &[&[u8]] = &[b"", b"HYLL", b"HYLX\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff"];
    for bytes in foreign {
        assert_eq!(View::new(bytes).err(), Some(Fault::Foreign), "{bytes:?}");
    }
    for (at, byte) in [(ENCODING_AT, 2), (ENCODING_AT, DENSE)] {
        let mut bytes = empty.bytes().to_vec();
        bytes[at] = byte;
        assert_eq!(View::new(&bytes).err(), Some(Fault::Foreign), "{bytes:?}");
    }
    // Too few registers, too many, none.
    for tail in [&b"\x7f\xfe"[..], b"\x7f\xff\x00", b"", b"\x7f"] {
        let mut bytes = empty.bytes()[..HEADER_BYTES].to_vec();
        bytes.extend(tail);
        let broken = View::new(&bytes).unwrap();
        assert_eq!(broken.count(), Err(Fault::Corrupted), "{tail:?}");
        assert_eq!(
            broken.to_owned().make_dense(),
            Err(Fault::Corrupted),
            "{tail:?}"
        );
    }
}
