//! Fuzzing of both scanners by properties: valid traffic cut anywhere, damaged traffic, and
//! hostile traffic, with the `redis-protocol` crate as the reader of another maker.
//!
//! `LARDER_FUZZ_CASES` sets the number of cases (default 512), `LARDER_FUZZ_SEED` repeats a run.

use std::hash::{BuildHasher, Hasher};

use larder_wire::resp::limits::{
    BULK_BYTES_MAX, INLINE_BYTES_MAX, MORE_BYTES_MAX, MULTIBULK_ITEMS_MAX, REPLY_DEPTH_MAX,
};
use larder_wire::resp::{OwnedRequest, ProtocolError, ReplyScanner, RequestScanner, Scanned};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use redis_protocol::resp2::types::OwnedFrame as Frame2;

/// Runs `property` on values of `strategy`; the seed stands in the output of a failing run.
fn fuzz<S: Strategy>(strategy: S, property: impl Fn(S::Value) -> Result<(), TestCaseError>)
where
    S::Value: std::fmt::Debug,
{
    let seed: u64 = match std::env::var("LARDER_FUZZ_SEED") {
        Ok(text) => text.parse().expect("LARDER_FUZZ_SEED is a number"),
        Err(_) => std::hash::RandomState::new().build_hasher().finish(),
    };
    let cases = match std::env::var("LARDER_FUZZ_CASES") {
        Ok(text) => text.parse().expect("LARDER_FUZZ_CASES is a number"),
        Err(_) => 512,
    };
    println!("LARDER_FUZZ_SEED={seed}");
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let mut seed_bytes = [0; 32];
    seed_bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed_bytes);
    match TestRunner::new_with_rng(config, rng).run(&strategy, property) {
        Ok(()) => {}
        Err(TestError::Fail(why, case)) => panic!("{why}\nshortest case: {case:?}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

type Args = Vec<Vec<u8>>;

fn args() -> impl Strategy<Value = Args> {
    let arg = prop_oneof![
        4 => vec(any::<u8>(), 0..12),
        1 => vec(any::<u8>(), 0..300),
        1 => Just(b"\r\n$3\r\n*1\r\n".to_vec()),
    ];
    vec(arg, 1..6)
}

fn encode(args: &Args) -> Vec<u8> {
    OwnedRequest::from_args(args.iter()).into_bytes()
}

/// Bytes of a damage done to valid traffic: where, what kind, with what byte.
type Damage = (prop::sample::Index, u8, u8);

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let byte = prop_oneof![
        any::<u8>(),
        prop::sample::select(b"\r\n$*:+-_%~|>=!,(#0123456789? \"'".to_vec()),
    ];
    vec((any::<prop::sample::Index>(), 0u8..5, byte), 1..4)
}

fn damage(bytes: &mut Vec<u8>, damages: &[Damage]) {
    for (index, kind, byte) in damages {
        if bytes.is_empty() {
            return;
        }
        let at = index.index(bytes.len());
        match kind {
            0 => bytes[at] = *byte,
            1 => bytes.insert(at, *byte),
            2 => drop(bytes.remove(at)),
            3 => bytes.truncate(at),
            _ => bytes.extend_from_within(at..),
        }
    }
}

/// What a connection would read of `stream` when it arrives in pieces of these sizes, in a
/// buffer that moves each time.
fn read_requests(stream: &[u8], pieces: &[usize]) -> (Vec<Args>, Result<(), ProtocolError>) {
    let mut scanner = RequestScanner::new();
    let (mut start, mut arrived) = (0, 0);
    let mut found = Vec::new();
    let mut sizes = pieces.iter().copied().cycle();
    loop {
        let buf = stream[start..arrived].to_vec();
        match scanner.scan(&buf) {
            Err(error) => return (found, Err(error)),
            Ok(Scanned::Request { consumed }) => {
                let moved = buf.clone();
                drop(buf);
                let request = scanner.request(&moved);
                if !scanner.is_inline() {
                    assert_eq!(request.bytes(), &moved[..consumed]);
                }
                found.push(request.args_from(0).map(<[u8]>::to_vec).collect());
                start += consumed;
            }
            Ok(Scanned::Incomplete { more }) => {
                assert!((1..=MORE_BYTES_MAX).contains(&more));
                if arrived == stream.len() {
                    return (found, Ok(()));
                }
                let size = sizes.next().expect("a cycle");
                arrived = (arrived + size).min(stream.len());
            }
        }
    }
}

#[test]
fn requests_are_found_however_they_are_cut() {
    fuzz(
        (vec(args(), 1..5), vec(1usize..40, 1..20)),
        |(requests, pieces)| {
            let stream: Vec<u8> = requests.iter().flat_map(encode).collect();
            let (found, end) = read_requests(&stream, &pieces);
            prop_assert_eq!(end, Ok(()));
            prop_assert_eq!(found, requests);
            Ok(())
        },
    );
}

#[test]
fn a_request_cut_at_every_place_is_the_same_request() {
    fuzz(args(), |args| {
        let bytes = encode(&args);
        for cut in 1..bytes.len() {
            let mut scanner = RequestScanner::new();
            let first = scanner.scan(&bytes[..cut]);
            let Ok(Scanned::Incomplete { more }) = first else {
                return Err(TestCaseError::fail(format!("cut at {cut}: {first:?}")));
            };
            prop_assert!(
                more <= bytes.len() - cut,
                "cut at {} asks for {}",
                cut,
                more
            );
            let consumed = bytes.len();
            prop_assert_eq!(scanner.scan(&bytes), Ok(Scanned::Request { consumed }));
            let found: Args = scanner
                .request(&bytes)
                .args_from(0)
                .map(<[u8]>::to_vec)
                .collect();
            prop_assert_eq!(&found, &args);
        }
        Ok(())
    });
}

#[test]
fn how_requests_are_cut_changes_nothing_about_damaged_ones() {
    fuzz(
        (vec(args(), 1..4), damages(), vec(1usize..40, 1..20)),
        |(requests, damages, pieces)| {
            let mut stream: Vec<u8> = requests.iter().flat_map(encode).collect();
            damage(&mut stream, &damages);
            let at_once = read_requests(&stream, &[stream.len().max(1)]);
            prop_assert_eq!(read_requests(&stream, &pieces), at_once);
            Ok(())
        },
    );
}

/// The request that `redis-protocol` reads at the start of `bytes`, and its end.
fn other_request(bytes: &[u8]) -> Result<Option<(Args, usize)>, ()> {
    match redis_protocol::resp2::decode::decode(bytes) {
        Ok(None) => Ok(None),
        Ok(Some((Frame2::Array(frames), end))) => {
            let strings = frames.into_iter().map(|frame| match frame {
                Frame2::BulkString(bytes) => Ok(bytes),
                _ => Err(()),
            });
            Ok(Some((strings.collect::<Result<_, ()>>()?, end)))
        }
        Ok(Some(_)) | Err(_) => Err(()),
    }
}

#[test]
fn another_reader_reads_the_same_requests() {
    fuzz(
        (args(), damages(), any::<bool>()),
        |(args, damages, whole)| {
            let mut bytes = encode(&args);
            if !whole {
                damage(&mut bytes, &damages);
            }
            if bytes.first() != Some(&b'*') {
                return Ok(());
            }
            let mut scanner = RequestScanner::new();
            let ours = scanner.scan(&bytes);
            let other = other_request(&bytes);
            match (&ours, &other) {
                (Ok(Scanned::Request { consumed }), _) => {
                    let found: Args = scanner
                        .request(&bytes)
                        .args_from(0)
                        .map(<[u8]>::to_vec)
                        .collect();
                    // `*0` and `*-1` mean nothing to us, but something to a reader of replies.
                    if !found.is_empty() {
                        prop_assert_eq!(&other, &Ok(Some((found, *consumed))));
                    }
                }
                (Ok(Scanned::Incomplete { .. }), Ok(Some(_))) => {
                    return Err(TestCaseError::fail(format!("not seen whole: {bytes:?}")));
                }
                // Ours is the stricter one, but not about what is plainly right.
                (Err(_), Ok(Some((found, end)))) => {
                    prop_assert_ne!(&encode(found)[..], &bytes[..*end]);
                }
                (Err(_), Ok(None) | Err(()))
                | (Ok(Scanned::Incomplete { .. }), Ok(None) | Err(())) => {}
            }
            Ok(())
        },
    );
}

/// Any reply of RESP2 or RESP3, encoded.
fn reply() -> impl Strategy<Value = Vec<u8>> {
    let text = "[ -~]{0,40}";
    let blob = |kind: char| {
        vec(any::<u8>(), 0..40).prop_map(move |bytes| {
            [
                format!("{kind}{}\r\n", bytes.len()).as_bytes(),
                &bytes,
                b"\r\n",
            ]
            .concat()
        })
    };
    let scalar = prop_oneof![
        Just(b"+OK\r\n".to_vec()),
        Just(b"_\r\n".to_vec()),
        text.prop_map(|text| format!("+{text}\r\n").into_bytes()),
        text.prop_map(|text| format!("-ERR {text}\r\n").into_bytes()),
        any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
        any::<f64>().prop_map(|number| format!(",{number}\r\n").into_bytes()),
        any::<bool>().prop_map(|yes| if yes {
            b"#t\r\n".to_vec()
        } else {
            b"#f\r\n".to_vec()
        }),
        "-?[1-9][0-9]{0,60}".prop_map(|digits| format!("({digits}\r\n").into_bytes()),
        blob('$'),
        blob('!'),
        vec(any::<u8>(), 0..40).prop_map(|bytes| {
            [
                format!("={}\r\ntxt:", bytes.len() + 4).as_bytes(),
                &bytes,
                b"\r\n",
            ]
            .concat()
        }),
    ];
    // The other reader hashes the keys of maps and the elements of sets: whole numbers here.
    let distinct = |len: usize| (0..len).map(|key| format!(":{key}\r\n").into_bytes());
    scalar.prop_recursive(4, 64, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(|items| [
                format!("*{}\r\n", items.len()).into_bytes(),
                items.concat()
            ]
            .concat()),
            vec(inner.clone(), 0..6).prop_map(move |values| {
                let pairs = distinct(values.len())
                    .zip(&values)
                    .map(|(key, value)| [&key[..], value].concat());
                let pairs: Vec<_> = pairs.collect();
                [format!("%{}\r\n", pairs.len()).into_bytes(), pairs.concat()].concat()
            }),
            (0usize..6).prop_map(move |len| {
                let items: Vec<_> = distinct(len).collect();
                [format!("~{len}\r\n").into_bytes(), items.concat()].concat()
            }),
            vec(inner.clone(), 1..4).prop_map(|items| [
                format!(">{}\r\n", items.len()).into_bytes(),
                items.concat()
            ]
            .concat()),
            // An attribute stands before a reply that can carry one.
            vec(inner, 1..4).prop_map(|items| {
                [
                    &b"|1\r\n+ttl\r\n:3600\r\n"[..],
                    format!("*{}\r\n", items.len()).as_bytes(),
                    &items.concat(),
                ]
                .concat()
            }),
        ]
    })
}

#[test]
fn replies_are_measured_however_they_are_cut() {
    fuzz(
        (vec(reply(), 1..5), vec(1usize..40, 1..20)),
        |(replies, pieces)| {
            let stream = replies.concat();
            let mut scanner = ReplyScanner::new();
            let (mut start, mut arrived) = (0, 0);
            let mut sizes = pieces.iter().copied().cycle();
            let mut found = Vec::new();
            while start < stream.len() {
                match scanner.scan(&stream[start..arrived]) {
                    Ok(Some(end)) => {
                        found.push(stream[start..start + end].to_vec());
                        start += end;
                    }
                    Ok(None) => {
                        prop_assert!(arrived < stream.len(), "all has arrived");
                        arrived = (arrived + sizes.next().expect("a cycle")).min(stream.len());
                    }
                    Err(error) => return Err(TestCaseError::fail(error.to_string())),
                }
            }
            prop_assert_eq!(found, replies);
            Ok(())
        },
    );
}

#[test]
fn another_reader_measures_the_same_replies() {
    fuzz(
        (reply(), damages(), any::<bool>()),
        |(mut bytes, damages, whole)| {
            if !whole {
                damage(&mut bytes, &damages);
            }
            let ours = ReplyScanner::new().scan(&bytes);
            let other = redis_protocol::resp3::decode::complete::decode(&bytes);
            let other = other.map(|found| found.map(|(_, end)| end));
            match (ours, other) {
                (Ok(Some(ours)), Ok(Some(other))) => prop_assert_eq!(ours, other),
                (Ok(Some(end)), Ok(None)) => {
                    return Err(TestCaseError::fail(format!(
                        "only we see an end at {end}: {bytes:?}"
                    )));
                }
                (Ok(None), Ok(Some(end))) => {
                    return Err(TestCaseError::fail(format!(
                        "only they see an end at {end}: {bytes:?}"
                    )));
                }
                // Either may be the stricter one, but not about what is plainly right.
                (Ok(_), Err(_)) | (Err(_), Ok(_)) => {
                    prop_assert!(!whole, "{:?}: {:?}", bytes, ours)
                }
                (Ok(None), Ok(None)) | (Err(_), Err(_)) => {}
            }
            Ok(())
        },
    );
}

#[test]
fn arbitrary_bytes_end_neither_scanner() {
    fuzz(
        (vec(any::<u8>(), 0..200), vec(1usize..40, 1..5)),
        |(bytes, pieces)| {
            // Either outcome is right; that there is one, and the same for all cuts, is what counts.
            let at_once = read_requests(&bytes, &[bytes.len().max(1)]);
            prop_assert_eq!(read_requests(&bytes, &pieces), at_once);
            let whole = ReplyScanner::new().scan(&bytes);
            let mut scanner = ReplyScanner::new();
            let by_byte = (0..=bytes.len()).map(|have| scanner.scan(&bytes[..have]));
            let first = by_byte.into_iter().find(|result| *result != Ok(None));
            prop_assert_eq!(first.unwrap_or(Ok(None)), whole);
            Ok(())
        },
    );
}

/// What either scanner may hold for a peer who has only claimed something.
const CLAIM_BYTES_MAX: usize = 16 * 1024;

#[test]
fn claims_cost_no_memory() {
    for claim in [
        format!("*{MULTIBULK_ITEMS_MAX}\r\n"),
        format!("*{MULTIBULK_ITEMS_MAX}\r\n${BULK_BYTES_MAX}\r\n"),
        format!("*1\r\n${BULK_BYTES_MAX}\r\nabc"),
    ] {
        let mut scanner = RequestScanner::new();
        let Ok(Scanned::Incomplete { more }) = scanner.scan(claim.as_bytes()) else {
            panic!("{claim:?} is incomplete");
        };
        assert!(more <= MORE_BYTES_MAX);
        assert!(
            scanner.size() <= CLAIM_BYTES_MAX,
            "{claim:?} costs {}",
            scanner.size()
        );
    }
    let deepest = "*4294967295\r\n".repeat(REPLY_DEPTH_MAX);
    for claim in [
        "*4294967295\r\n",
        "%4294967295\r\n:1\r\n",
        "$536870912\r\nabc",
        &deepest,
    ] {
        let mut scanner = ReplyScanner::new();
        assert_eq!(scanner.scan(claim.as_bytes()), Ok(None), "{claim:?}");
        assert!(
            scanner.size() <= CLAIM_BYTES_MAX,
            "{claim:?} costs {}",
            scanner.size()
        );
    }
}

#[test]
fn a_scanner_gives_back_what_a_large_request_took() {
    let mut scanner = RequestScanner::new();
    let large = [&b"*100000\r\n"[..], &b"$1\r\nx\r\n".repeat(100_000)].concat();
    assert_eq!(
        scanner.scan(&large),
        Ok(Scanned::Request {
            consumed: large.len()
        })
    );
    assert_eq!(scanner.request(&large).len(), 100_000);
    let inline = [&vec![b'x'; INLINE_BYTES_MAX - 1][..], b"\n"].concat();
    assert_eq!(
        scanner.scan(&inline),
        Ok(Scanned::Request {
            consumed: inline.len()
        })
    );
    scanner.reset();
    assert!(scanner.size() <= 64 * 1024, "{}", scanner.size());
}

/// Bytes that arrive one at a time are looked at once: this ends at once, or takes hours.
#[test]
fn arrival_in_small_pieces_costs_no_more_than_its_length() {
    const PIECE: usize = 16 * 1024;
    let mut bulk = b"*2\r\n$3\r\nSET\r\n$268435456\r\n".to_vec();
    bulk.resize(bulk.len() + (256 << 20), b'x');
    bulk.extend_from_slice(b"\r\n");
    let mut scanner = RequestScanner::new();
    let mut replies = ReplyScanner::new();
    for have in (1..bulk.len()).step_by(PIECE) {
        assert!(matches!(
            scanner.scan(&bulk[..have]),
            Ok(Scanned::Incomplete { .. })
        ));
        assert_eq!(replies.scan(&bulk[..have]), Ok(None));
    }
    assert_eq!(
        scanner.scan(&bulk),
        Ok(Scanned::Request {
            consumed: bulk.len()
        })
    );
    assert_eq!(replies.scan(&bulk), Ok(Some(bulk.len())));

    let many = [&b"*1000000\r\n"[..], &b"$1\r\nx\r\n".repeat(1_000_000)].concat();
    for have in (1..many.len()).step_by(5) {
        assert!(matches!(
            scanner.scan(&many[..have]),
            Ok(Scanned::Incomplete { .. })
        ));
        assert_eq!(replies.scan(&many[..have]), Ok(None));
    }
    assert_eq!(
        scanner.scan(&many),
        Ok(Scanned::Request {
            consumed: many.len()
        })
    );
    assert_eq!(replies.scan(&many), Ok(Some(many.len())));
}

// Each text was given by redis-server 7.0.15, but that it takes up to 2^31 arguments.
#[test]
fn protocol_errors_are_those_of_redis() {
    let endless = |start: &str| format!("{start}{}", "1".repeat(INLINE_BYTES_MAX));
    for (bytes, text) in [
        (
            "*x\r\n".to_owned(),
            "ERR Protocol error: invalid multibulk length",
        ),
        (
            "*\r\n".to_owned(),
            "ERR Protocol error: invalid multibulk length",
        ),
        (
            "*+1\r\n".to_owned(),
            "ERR Protocol error: invalid multibulk length",
        ),
        (
            "*01\r\n".to_owned(),
            "ERR Protocol error: invalid multibulk length",
        ),
        (
            "*1 \r\n".to_owned(),
            "ERR Protocol error: invalid multibulk length",
        ),
        (
            "*1048577\r\n".to_owned(),
            "ERR Protocol error: invalid multibulk length",
        ),
        (
            "*9223372036854775808\r\n".to_owned(),
            "ERR Protocol error: invalid multibulk length",
        ),
        (
            "*1\r\n$-1\r\n".to_owned(),
            "ERR Protocol error: invalid bulk length",
        ),
        (
            "*1\r\n$\r\n".to_owned(),
            "ERR Protocol error: invalid bulk length",
        ),
        (
            "*1\r\n$04\r\n".to_owned(),
            "ERR Protocol error: invalid bulk length",
        ),
        (
            "*1\r\n$536870913\r\n".to_owned(),
            "ERR Protocol error: invalid bulk length",
        ),
        (
            "*3\r\nfoo\r\n".to_owned(),
            "ERR Protocol error: expected '$', got 'f'",
        ),
        (
            "*3\r\n\r\n".to_owned(),
            "ERR Protocol error: expected '$', got ' '",
        ),
        (
            endless("*"),
            "ERR Protocol error: too big mbulk count string",
        ),
        (
            endless("*1\r\n$"),
            "ERR Protocol error: too big bulk count string",
        ),
        (
            endless("*1\r\nx"),
            "ERR Protocol error: too big bulk count string",
        ),
        (endless("x"), "ERR Protocol error: too big inline request"),
        (
            "ECHO \"a\r\n".to_owned(),
            "ERR Protocol error: unbalanced quotes in request",
        ),
    ] {
        let error = RequestScanner::new().scan(bytes.as_bytes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            text,
            "{:?}",
            &bytes[..bytes.len().min(40)]
        );
    }
    for (bytes, text) in [
        (
            "*11\r\n",
            "ERR Protocol error: unauthenticated multibulk length",
        ),
        (
            "*10\r\n$16385\r\n",
            "ERR Protocol error: unauthenticated bulk length",
        ),
    ] {
        let mut scanner = RequestScanner::new();
        scanner.set_authenticated(false);
        assert_eq!(
            scanner.scan(bytes.as_bytes()).unwrap_err().to_string(),
            text
        );
        assert!(RequestScanner::new().scan(bytes.as_bytes()).is_ok());
    }
}

#[test]
fn what_asks_for_nothing_is_passed_over() {
    let stream = b"\r\n\n  \r\n*0\r\n*-1\r\n*-5\r\nPING\r\n*1\r\n$4\r\nPING\r\nset a \"b c\"\n";
    let (found, end) = read_requests(stream, &[3]);
    assert_eq!(end, Ok(()));
    let found: Vec<Args> = found.into_iter().filter(|args| !args.is_empty()).collect();
    let expected: Vec<Args> = vec![
        vec![b"PING".to_vec()],
        vec![b"PING".to_vec()],
        vec![b"set".to_vec(), b"a".to_vec(), b"b c".to_vec()],
    ];
    assert_eq!(found, expected);
}

#[test]
fn an_inline_request_is_carried_on_as_an_array() {
    let mut scanner = RequestScanner::new();
    let line = b"SET \"a b\" '*1'\r\nnext";
    assert_eq!(scanner.scan(line), Ok(Scanned::Request { consumed: 16 }));
    let request = scanner.request(line);
    assert_eq!(
        request.bytes(),
        b"*3\r\n$3\r\nSET\r\n$3\r\na b\r\n$2\r\n*1\r\n"
    );
    assert_eq!(request.arg(2), b"*1");
}
