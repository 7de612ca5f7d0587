//! Streams as feeds and replicas see them: effects and pieces make the same stream again.

use larder_wire::UnixMillis;
use larder_wire::command::{CommandId, Found, lookup};
use larder_wire::resp::{OwnedRequest, Protocol, ReplyWriter};

use crate::call::{Call, Effects};
use crate::collection::{Budget, Stream};
use crate::exec::{dispatch, stream_read};
use crate::keyspace::Keyspace;
use crate::random::Random;

/// Runs a request and returns its effects.
fn run(keyspace: &mut Keyspace, request: &OwnedRequest, now: i64) -> Vec<OwnedRequest> {
    let view = request.view();
    let Found::Command(id) = lookup(view.name(), view.get(1)) else {
        panic!("{request:?} is no command")
    };
    let (mut out, mut effects) = (Vec::new(), Effects::default());
    let mut call = Call {
        keyspace,
        request: view,
        first_key: None,
        now: UnixMillis(now),
        reply: ReplyWriter::new(&mut out, Protocol::Resp2),
        effects: &mut effects,
        random: &mut Random::new(1),
    };
    // What may wait is tried by the engine.
    let exec = match id {
        CommandId::Xreadgroup => stream_read::XREADGROUP.attempt,
        id => dispatch(id).expect("a command of the store"),
    };
    if exec(&mut call).is_err() {
        assert!(effects.is_empty(), "refused with an effect: {request:?}");
    }
    let owned = |effect: larder_wire::resp::Request<'_>| {
        OwnedRequest::from_args(effect.args_from(0).collect::<Vec<_>>())
    };
    effects.iter(view).map(owned).collect()
}

/// All that a stream is, as the commands that make it.
fn commands(keyspace: &Keyspace) -> Vec<OwnedRequest> {
    let stream = keyspace.peek::<Stream>(&b"s"[..], UnixMillis(0));
    let Some(stream) = stream.expect("no other type is there") else {
        return Vec::new();
    };
    let (mut all, mut from) = (Vec::new(), Some(0));
    while let Some(place) = from {
        from = stream.piece(b"s", place, Budget::new(5, 300), |args| {
            all.push(OwnedRequest::from_args(args.to_vec()));
        });
    }
    all
}

fn texts(requests: &[OwnedRequest]) -> Vec<String> {
    let text = |request: &OwnedRequest| {
        let view = request.view();
        let words: Vec<_> = view.args_from(0).map(String::from_utf8_lossy).collect();
        words.join(" ")
    };
    requests.iter().map(text).collect()
}

fn any_line(random: &mut Random) -> String {
    let group = ["g", "h"][random.below(2)];
    let consumer = ["a", "b", "c", "d"][random.below(4)];
    let n = random.below(60);
    match random.below(24) {
        0..6 => format!("XADD s {n}-* f v{n}"),
        6 => format!("XADD s MAXLEN ~ {n} * f v"),
        7 => format!("XADD s MAXLEN {n} * f v g w"),
        8 | 9 => format!("XDEL s {n}-0 {n}-1"),
        10 => format!("XTRIM s MINID {}", n / 4),
        11 => format!("XGROUP CREATE s {group} {n} MKSTREAM"),
        12 if n == 0 => format!("XGROUP DESTROY s {group}"),
        12 => format!("XGROUP SETID s {group} {n}"),
        13 if n < 9 => format!("XGROUP DELCONSUMER s {group} {consumer}"),
        13..17 => format!(
            "XREADGROUP GROUP {group} {consumer} COUNT {} STREAMS s >",
            n + 1
        ),
        17 => format!("XREADGROUP GROUP {group} {consumer} NOACK COUNT 3 STREAMS s >"),
        18 => format!("XREADGROUP GROUP {group} {consumer} COUNT 3 STREAMS s {n}"),
        19 => format!("XACK s {group} {n}-0 {n}-1 {}", n + 1),
        20 => format!("XCLAIM s {group} {consumer} {n} {n}-0 {}-1", n + 1),
        21 => format!("XCLAIM s {group} {consumer} 0 {n}-0 FORCE LASTID {n}-1"),
        22 => format!("XAUTOCLAIM s {group} {consumer} {n} {} COUNT 4", n / 2),
        _ => format!("XSETID s 9999999-{n}"),
    }
}

#[test]
fn effects_and_pieces_make_the_same_stream_elsewhere() {
    let mut pending_seen = 0;
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let (mut source, mut replica) = (Keyspace::default(), Keyspace::default());
        let mut now = 10;
        for _ in 0..random.below(400) {
            let line = any_line(&mut random);
            if line.starts_with("XSETID") && random.below(30) > 0 {
                continue;
            }
            now += random.below(20) as i64;
            let request = OwnedRequest::from_args(line.split(' ').collect::<Vec<_>>());
            for effect in run(&mut source, &request, now) {
                let again = run(&mut replica, &effect, now + 5);
                assert!(!again.is_empty(), "seed {seed}: {:?}", texts(&[effect]));
            }
            assert_eq!(
                texts(&commands(&source)),
                texts(&commands(&replica)),
                "seed {seed} after {line}"
            );
        }
        let made = commands(&source);
        let mut copy = Keyspace::default();
        for command in &made {
            run(&mut copy, command, now + 9);
        }
        assert_eq!(texts(&made), texts(&commands(&copy)), "seed {seed}");
        let claims = |text: &String| text.starts_with("XCLAIM");
        pending_seen += texts(&made).iter().filter(|text| claims(text)).count();
    }
    assert!(pending_seen > 100, "the story left {pending_seen} pending");
}
