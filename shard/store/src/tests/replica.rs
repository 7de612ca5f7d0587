//! What a write leaves as effects makes another keyspace the same, whatever chance decides there; a write without effects
//! has changed nothing.

use std::collections::BTreeMap;

use larder_wire::command::{Found, lookup};
use larder_wire::resp::{OwnedRequest, Protocol, ReplyWriter, Request};
use larder_wire::{Refusal, UnixMillis};

use crate::call::{Call, Effects};
use crate::entry::Tray;
use crate::exec::dispatch;
use crate::keyspace::Keyspace;
use crate::random::Random;
use crate::rdb;

const NOW: UnixMillis = UnixMillis(1000);
const STEPS: usize = 800;
const KEYS: &[&str] = &["h1", "h2", "l1", "l2", "s1", "s2", "z1", "z2"];

/// Commands with places for a key of a kind (`h`, `l`, `s`, `z`), any key (`k`), an element (`e`), many elements
/// (`E`), element and number pairs (`P`), number and element pairs (`Q`), a number (`n`) and a small count (`c`).
const TEMPLATES: &[&str] = &[
    "HSET $h $P",
    "HSET $h $P",
    "HSETNX $h $e $e",
    "HDEL $h $E",
    "HINCRBY $h $e $n",
    "HINCRBYFLOAT $h $e 0.1",
    "HEXPIRE $h 100 FIELDS 2 $e $e",
    "HPEXPIRE $h $n FIELDS 1 $e",
    "HSETEX $h PX $c FIELDS 1 $e $e",
    "HSETEX $h FXX KEEPTTL FIELDS 1 $e $e",
    "HGETEX $h EX $c FIELDS 2 $e $e",
    "HGETEX $h PERSIST FIELDS 2 $e $e",
    "HPERSIST $h FIELDS 1 $e",
    "HGETDEL $h FIELDS 1 $e",
    "LPUSH $l $E",
    "RPUSH $l $E",
    "LPUSHX $l $e",
    "LPOP $l",
    "RPOP $l $c",
    "LSET $l $n $e",
    "LREM $l $n $e",
    "LINSERT $l BEFORE $e $e",
    "LTRIM $l $n -1",
    "LTRIM $l 0 $n",
    "LMOVE $l $l LEFT RIGHT",
    "RPOPLPUSH $l $l",
    "LMPOP 2 $l $l RIGHT COUNT $c",
    "SADD $s $E",
    "SADD $s $E",
    "SREM $s $E",
    "SPOP $s",
    "SPOP $s $c",
    "SMOVE $s $s $e",
    "SINTERSTORE $k $s $s",
    "SUNIONSTORE $s $s $s",
    "SDIFFSTORE $s $s $s",
    "ZADD $z $Q",
    "ZADD $z $Q",
    "ZADD $z GT CH $Q",
    "ZADD $z NX $Q",
    "ZADD $z XX INCR $n $e",
    "ZINCRBY $z 0.1 $e",
    "ZREM $z $E",
    "ZPOPMIN $z",
    "ZPOPMAX $z $c",
    "ZMPOP 2 $z $z MIN COUNT $c",
    "ZREMRANGEBYRANK $z 0 $n",
    "ZREMRANGEBYSCORE $z -5 $n",
    "ZREMRANGEBYLEX $z [5 (6",
    "ZRANGESTORE $z $z 0 $n",
    "ZUNIONSTORE $z 2 $z $s WEIGHTS 2 0.5",
    "ZINTERSTORE $z 2 $z $z AGGREGATE MAX",
    "ZDIFFSTORE $z 2 $z $s",
    "DEL $k",
];

/// Executes a request; its effects, none after a refusal.
fn run(keyspace: &mut Keyspace, request: Request<'_>, random: &mut Random) -> Vec<OwnedRequest> {
    let Found::Command(id) = lookup(request.name(), None) else {
        panic!("{request:?} is no command")
    };
    let (mut out, mut effects) = (Vec::new(), Effects::default());
    let done: Result<(), Refusal> = dispatch(id).expect("a command of the store")(&mut Call {
        keyspace,
        request,
        first_key: None,
        now: NOW,
        reply: ReplyWriter::new(&mut out, Protocol::Resp3),
        effects: &mut effects,
        random,
    });
    match done {
        Ok(()) => effects.iter(request).map(OwnedRequest::from).collect(),
        Err(_) => Vec::new(),
    }
}

fn request(template: &str, random: &mut Random) -> OwnedRequest {
    let mut args: Vec<String> = Vec::new();
    // Now and then a key of another kind, and a range wide enough for the large forms.
    let element = |random: &mut Random| match random.below(40) {
        0 => "long".repeat(20) + &random.below(9).to_string(),
        1..12 => random.below(600).to_string(),
        _ => format!("e{}", random.below(400)),
    };
    let number = |random: &mut Random| (random.below(40) as i64 - 12).to_string();
    for word in template.split(' ') {
        let many = if random.below(12) == 0 {
            200
        } else {
            1 + random.below(4)
        };
        match word {
            "$h" | "$l" | "$s" | "$z" if random.below(30) > 0 => {
                args.push(format!("{}{}", &word[1..], 1 + random.below(2)));
            }
            "$h" | "$l" | "$s" | "$z" | "$k" => {
                args.push(KEYS[random.below(KEYS.len())].to_string())
            }
            "$e" => args.push(element(random)),
            "$n" => args.push(number(random)),
            "$c" => args.push(random.below(30).to_string()),
            "$E" => (0..many).for_each(|_| args.push(element(random))),
            "$P" => (0..many).for_each(|_| args.extend([element(random), number(random)])),
            "$Q" => (0..many).for_each(|_| args.extend([number(random), element(random)])),
            word => args.push(word.to_string()),
        }
    }
    OwnedRequest::from_args(args.iter())
}

/// Every key with its value as commands would see it: dumps of both forms are told apart by nothing but their form.
fn contents(keyspace: &Keyspace) -> BTreeMap<&'static str, Vec<u8>> {
    let dump = |key: &&'static str| {
        let mut payload = Vec::new();
        rdb::to_payload(
            keyspace.peek_value(key.as_bytes(), NOW, &mut Tray::default())?,
            &mut payload,
        );
        Some((*key, payload))
    };
    KEYS.iter().filter_map(dump).collect()
}

#[test]
fn effects_of_collections_make_a_replica_the_same() {
    for seed in 0..8 {
        let mut random = Random::new(seed);
        let (mut chance, mut other_chance) = (Random::new(seed + 1), Random::new(seed + 1000));
        let (mut primary, mut replica) = (Keyspace::default(), Keyspace::default());
        let mut effective = 0;
        for step in 0..STEPS {
            let request = request(TEMPLATES[random.below(TEMPLATES.len())], &mut random);
            let effects = run(&mut primary, request.view(), &mut chance);
            effective += usize::from(!effects.is_empty());
            for effect in &effects {
                run(&mut replica, effect.view(), &mut other_chance);
            }
            assert_eq!(
                contents(&primary),
                contents(&replica),
                "seed {seed}, step {step}: {request:?} left {effects:?}"
            );
        }
        assert!(
            effective > STEPS / 4,
            "seed {seed}: {effective} writes did something"
        );
    }
}
