use larder_wire::UnixMillis;
use larder_wire::resp::{Protocol, ReplyWriter, Request};

use crate::call::{Call, Effects};
use crate::collection::{Budget, CollectionSettings};
use crate::entry::Tray;
use crate::exec::dispatch;
use crate::keyspace::Keyspace;
use crate::random::Random;
use crate::rdb::{self, Malformed, crc64::crc64};
use crate::strings::{SetExpiry, Store};
use crate::value::{Collection, StringRef, Value, ValueRef};

const NOW: UnixMillis = UnixMillis(1000);

/// Executes a request and returns its reply.
fn run(keyspace: &mut Keyspace, request: Request<'_>) -> Vec<u8> {
    use larder_wire::command::{Found, lookup};
    let Found::Command(id) = lookup(request.name(), request.get(1)) else {
        panic!("{request:?} is no command")
    };
    let mut out = Vec::new();
    let mut call = Call {
        keyspace,
        request,
        first_key: None,
        now: NOW,
        reply: ReplyWriter::new(&mut out, Protocol::Resp2),
        effects: &mut Effects::default(),
        random: &mut Random::new(1),
    };
    dispatch(id).expect("a command of the store")(&mut call).expect("no refusal");
    out
}

fn run_words(keyspace: &mut Keyspace, words: &[&[u8]]) -> Vec<u8> {
    run(
        keyspace,
        larder_wire::resp::OwnedRequest::from_args(words.iter()).view(),
    )
}

/// Everything in a value, in an order of its own.
fn contents(value: ValueRef<'_>) -> Vec<Vec<u8>> {
    let mut all = match value {
        ValueRef::String(StringRef::Int(int)) => vec![int.to_string().into_bytes()],
        ValueRef::String(StringRef::Bytes(bytes)) => vec![bytes.to_vec()],
        ValueRef::Collection(Collection::List(list)) => {
            return list.iter().map(|item| item.to_vec()).collect();
        }
        ValueRef::Collection(Collection::Set(set)) => {
            set.iter().map(|item| item.to_vec()).collect()
        }
        ValueRef::Collection(Collection::Hash(hash)) => hash
            .iter_timed()
            .map(|(field, value, time)| {
                let time = time.map_or(Vec::new(), |at| at.0.to_string().into_bytes());
                [field.to_vec(), value.to_vec(), time].join(&b'=')
            })
            .collect(),
        ValueRef::Collection(Collection::ZSet(zset)) => zset
            .iter()
            .map(|(member, score)| [member.to_vec(), score.to_string().into_bytes()].join(&b'='))
            .collect(),
        ValueRef::Collection(Collection::Stream(stream)) => {
            let (all, mut commands) = (Budget::new(usize::MAX, usize::MAX), Vec::new());
            stream.piece(b"", 0, all, |args| commands.push(args.concat()));
            return commands;
        }
    };
    all.sort();
    all
}

/// A stream with entries deleted, groups, consumers and what they have not acknowledged.
fn stream(keyspace: &mut Keyspace, key: &[u8], entries: usize) {
    let mut run = |line: &str| {
        let mut words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        for word in &mut words {
            if *word == b"KEY" {
                *word = key;
            }
        }
        run_words(keyspace, &words);
    };
    for at in 1..=entries {
        run(&format!(
            "XADD KEY {at}-{} field v{at} f{} {at}",
            at % 3,
            at % 7
        ));
    }
    run("XDEL KEY 2-2");
    run("XGROUP CREATE KEY g 0");
    run("XGROUP CREATE KEY idle $ ENTRIESREAD 2");
    run("XGROUP CREATECONSUMER KEY g nobody");
    run("XCLAIM KEY g some 0 1-1 3-0 FORCE RETRYCOUNT 4 JUSTID");
    for at in 4..entries / 2 {
        run(&format!(
            "XCLAIM KEY g other 0 {at}-{} FORCE LASTID 9-0",
            at % 3
        ));
    }
    run("XACK KEY g 5-2");
}

/// Keys of every kind, small and large.
fn filled() -> (Keyspace, Vec<&'static [u8]>) {
    let mut keyspace = Keyspace::default();
    let texts: Vec<Vec<u8>> = (0..3000)
        .map(|i| format!("element-{i}").into_bytes())
        .collect();
    let ints: Vec<Vec<u8>> = (0..3000)
        .map(|i| (i * 7 - 300).to_string().into_bytes())
        .collect();
    for (count, hash, list, set, zset, numbers) in [
        (
            10,
            &b"h1"[..],
            &b"l1"[..],
            &b"s1"[..],
            &b"z1"[..],
            &b"n1"[..],
        ),
        (3000, b"h2", b"l2", b"s2", b"z2", b"n2"),
    ] {
        for at in 0..count {
            run_words(&mut keyspace, &[b"HSET", hash, &texts[at], &ints[at]]);
            run_words(&mut keyspace, &[b"RPUSH", list, &texts[at], &ints[at]]);
            run_words(&mut keyspace, &[b"SADD", set, &texts[at]]);
            run_words(&mut keyspace, &[b"SADD", numbers, &ints[at]]);
            let score = format!("{}.25", at * 3).into_bytes();
            run_words(&mut keyspace, &[b"ZADD", zset, &score, &texts[at]]);
        }
    }
    for (key, field) in [(&b"h3"[..], 5), (b"h4", 2000)] {
        for at in 0..field {
            run_words(&mut keyspace, &[b"HSET", key, &texts[at], &ints[at]]);
            if at % 3 > 0 {
                let time = (90_000 + at % 4).to_string();
                let time: &[&[u8]] = &[b"HPEXPIREAT", key, time.as_bytes(), b"FIELDS", b"1"];
                run_words(&mut keyspace, &[time, &[&texts[at]]].concat());
            }
        }
    }
    for (key, entries) in [(&b"x1"[..], 3), (b"x2", 1500)] {
        stream(&mut keyspace, key, entries);
    }
    let long = vec![b'x'; 20_000];
    for (key, value) in [
        (&b"a"[..], &b"text"[..]),
        (b"b", b"-129"),
        (b"c", b"9223372036854775807"),
        (b"d", &long),
        (b"e", b""),
    ] {
        keyspace.set_string(key, value, Store::Encoded, SetExpiry::Clear, NOW);
    }
    let keys = vec![
        &b"a"[..],
        b"b",
        b"c",
        b"d",
        b"e",
        b"h1",
        b"h2",
        b"h3",
        b"h4",
        b"l1",
        b"l2",
        b"s1",
        b"s2",
        b"z1",
        b"z2",
        b"n1",
        b"n2",
        b"x1",
        b"x2",
    ];
    (keyspace, keys)
}

#[test]
fn every_value_is_read_back_from_its_payload() {
    let (keyspace, keys) = filled();
    let settings = CollectionSettings::new(9);
    for key in keys {
        let mut tray = Tray::default();
        let value = keyspace.peek_value(key, NOW, &mut tray).expect("there");
        let mut payload = Vec::new();
        rdb::to_payload(value, &mut payload);
        let back = rdb::from_payload(&payload, &settings).expect("well-formed");
        assert_eq!(contents(back.view()), contents(value));
    }
}

#[test]
fn a_payload_cut_or_changed_anywhere_is_refused_or_still_a_value() {
    let (keyspace, keys) = filled();
    let settings = CollectionSettings::new(9);
    let mut random = Random::new(5);
    for key in keys {
        let mut payload = Vec::new();
        rdb::to_payload(
            keyspace
                .peek_value(key, NOW, &mut Tray::default())
                .expect("there"),
            &mut payload,
        );
        assert_eq!(
            rdb::from_payload(&payload[..payload.len() - 1], &settings).err(),
            Some(Malformed::Footer)
        );
        for _ in 0..100 {
            let mut changed = payload.clone();
            let body = changed.len() - 10;
            changed[random.below(body)] = random.next_u64() as u8;
            let crc = crc64(0, &changed[..body + 2]).to_le_bytes();
            changed[body + 2..].copy_from_slice(&crc);
            // Whatever it is by now: it neither panics nor claims memory that is not there.
            if let Ok(Value::Collection(collection)) = rdb::from_payload(&changed, &settings) {
                assert!(!collection.is_empty());
            }
        }
    }
}

#[test]
fn payloads_of_old_and_new_servers_are_read() {
    let settings = CollectionSettings::new(9);
    let sealed = |body: &[u8], version: u16| {
        let mut payload = body.to_vec();
        payload.extend_from_slice(&version.to_le_bytes());
        let crc = crc64(0, &payload);
        payload.extend_from_slice(&crc.to_le_bytes());
        payload
    };
    let read = |body: &[u8]| {
        let value = rdb::from_payload(&sealed(body, 6), &settings).expect("well-formed");
        contents(value.view())
    };
    // Redis 2.8's ziplist of "ab", 5, -100, 70000 as a list, and as a hash.
    let ziplist = b"\x19\0\0\0\x13\0\0\0\x04\0\0\x02ab\x04\xf6\x02\xfe\x9c\x03\xf0\x70\x11\x01\xff";
    let with = |kind: u8, blob: &[u8]| [&[kind, blob.len() as u8], blob].concat();
    assert_eq!(
        read(&with(10, ziplist)),
        [&b"ab"[..], b"5", b"-100", b"70000"]
    );
    assert_eq!(read(&with(13, ziplist)), [&b"-100=70000="[..], b"ab=5="]);
    let quicklist = [&[14, 1][..], &with(0, ziplist)[1..]].concat();
    assert_eq!(read(&quicklist), [&b"ab"[..], b"5", b"-100", b"70000"]);
    // A zipmap of foo=bar, hello=world.
    let zipmap = b"\x02\x03foo\x03\x00bar\x05hello\x05\x00world\xff";
    assert_eq!(read(&with(9, zipmap)), [&b"foo=bar="[..], b"hello=world="]);
    // Scores as text, a compressed string.
    assert_eq!(
        read(b"\x03\x02\x01a\x031.5\x01b\xfe"),
        [&b"a=1.5"[..], b"b=inf"]
    );
    assert_eq!(read(b"\x00\xc3\x05\x0a\x00a\xe0\x00\x00"), [b"aaaaaaaaaa"]);
    assert_eq!(
        rdb::from_payload(&sealed(b"\x00\x01a", 99), &settings).err(),
        Some(Malformed::Footer)
    );
}

/// The bytes that hexadecimal digits stand for.
fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).expect("a digit") as u8;
    let (pairs, _) = text.as_bytes().as_chunks::<2>();
    pairs
        .iter()
        .map(|[high, low]| digit(high) << 4 | digit(low))
        .collect()
}

#[test]
fn streams_and_timed_hashes_of_other_servers_are_read() {
    let settings = CollectionSettings::new(9);
    let read = |body: &[u8]| {
        let value = rdb::from_payload(body, &settings).expect("well-formed");
        contents(value.view())
    };
    // The same stream of Redis 7.0 and of Redis 8.0, which knows when a consumer was last given something.
    let seven = unhex(
        "13011000000000000000010000000000000001c34057405f075f0000002200040140000781660200010201002001068276\
         31030401032015400b0032200b00022001400b0033600b0003600b0034200b1d00010601dfff020201856f746865720681\
         7802846d6f7265050c010801ff0407000101020105010167030181ffffffffffffffff0200000000000000010000000000\
         000001e8030000000000000300000000000000030000000000000001d007000000000000010203626f62d2aef5fea10100\
         000200000000000000010000000000000001000000000000000300000000000000010469646c65b4aef5fea1010000000a\
         00b91c2b4217f8aee2",
    );
    let eight = unhex(
        "15011000000000000000010000000000000001c34057405f075f0000002200040140000781660200010201002001068276\
         31030401032015400b0032200b00022001400b0033600b0003600b0034200b1d00010601dfff020201856f746865720681\
         7802846d6f7265050c010801ff0407000101020105010167030181ffffffffffffffff0200000000000000010000000000\
         000001e8030000000000000300000000000000030000000000000001d007000000000000010203626f6258aff5fea10100\
         0058aff5fea10100000200000000000000010000000000000001000000000000000300000000000000010469646c6558af\
         f5fea1010000ffffffffffffffff000c00948255dd72fb09d2",
    );
    let expected = [
        "XADD1-1fv1",
        "XADD3-1fv3",
        "XADD4-1fv4",
        "XADD7-0otherxmore12",
        "XSETID7-0ENTRIESADDED5MAXDELETEDID2-1",
        "XGROUPCREATEg3-1ENTRIESREAD-1",
        "XGROUPCREATECONSUMERgbob",
        "XGROUPCREATECONSUMERgidle",
        "XCLAIMgbob01-1TIME1000RETRYCOUNT3JUSTIDFORCE",
        "XCLAIMgbob03-1TIME2000RETRYCOUNT1JUSTIDFORCE",
    ];
    assert_eq!(read(&seven), expected.map(|text| text.as_bytes().to_vec()));
    assert_eq!(read(&eight), read(&seven));
    // Redis 5's form has neither counters nor the first id: they follow from the entries.
    let nodes = &seven[1..111];
    let mut sealed = [&[15][..], nodes, &[4, 7, 0, 1, 1, b'g', 7, 0, 0, 0]].concat();
    sealed.extend_from_slice(&9u16.to_le_bytes());
    let crc = crc64(0, &sealed);
    sealed.extend_from_slice(&crc.to_le_bytes());
    assert_eq!(
        read(&sealed)[4..],
        [
            b"XSETID7-0ENTRIESADDED4MAXDELETEDID0-0".to_vec(),
            b"XGROUPCREATEg7-0ENTRIESREAD4".to_vec(),
        ]
    );
    // Valkey 9 and Redis 8, packed and not: a=1 and ccc=xyz expire, b=2 stays.
    let timed = [
        &b"\x16\x03\x01a\xc0\x01\xfe\x9frN\x18\t\x00\x00\x01b\xc0\x02\xff\xff\xff\xff\xff\xff\xff\xff\x03ccc\x03xyz\xff\x9frN\x18\t\x00\x00P\x000Q\x95A\xff\x84\x16\xff"[..],
        b"\x19\xff\x9frN\x18\t\x00\x0011\x00\x00\x00\t\x00\x81a\x02\x01\x01\xf4\xfe\x9frN\x18\t\x00\x00\t\x83ccc\x04\x83xyz\x04\xf4\xff\x9frN\x18\t\x00\x00\t\x81b\x02\x02\x01\x00\x01\xff\x0c\x00\xcd\x18\x83[\x8d\x0e\x1c\xff",
    ];
    for payload in timed {
        assert_eq!(
            read(payload),
            [&b"a=1=9999999999998"[..], b"b=2=", b"ccc=xyz=9999999999999"]
        );
    }
    let metadata = b"\x18\xfe\x9frN\x18\t\x00\x00\x04\x00\xc3\t@F\x01qq\xe09\x00\x01qq\xc0\x01\x00\x01b\xc0\x02\x02\x03ccc\x03xyz\x01\x01a\xc0\x01\x0c\x00\x95\xd6\xc3\x83\xc5\xbb\xd9e";
    let long = [&[b'q'; 70][..], b"=1="].concat();
    assert_eq!(
        read(metadata),
        [
            &b"a=1=9999999999998"[..],
            b"b=2=",
            b"ccc=xyz=9999999999999",
            &long
        ]
    );
}
