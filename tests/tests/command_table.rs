//! The command table against the `COMMAND` reply and `COMMAND GETKEYS` of a real redis-server 7.0.

use std::collections::{BTreeMap, BTreeSet};

use larder_tests::chance::seeds;
use larder_tests::standalone::Standalone;
use larder_tests::{Chance, Client, RedisServer, Reply};
use larder_wire::command::{
    BeginSearch, CommandId, CommandSpec, FindKeys, Found, Home, KeySpec, docs, keys, lookup, spec,
    subcommands,
};
use larder_wire::resp::OwnedRequest;

/// Rows that redis-server 7.0 does not have.
const NEWER: &[&str] = &[
    // Redis 7.2
    "client|no-touch",
    "client|setinfo",
    "cluster|myshardid",
    "waitaof",
    // Valkey 9.0 and 9.1
    "delifeq",
    "msetex",
    // Expiry of hash fields, Redis 7.4 and 8.0
    "hexpire",
    "hexpireat",
    "hexpiretime",
    "hgetdel",
    "hgetex",
    "hpersist",
    "hpexpire",
    "hpexpireat",
    "hpexpiretime",
    "hpttl",
    "hsetex",
    "httl",
];

/// Commands that take an option since Redis 7.2, and their arity with it.
const LONGER: &[(&str, i64)] = &[("zrank", -3), ("zrevrank", -3)];

fn is_newer(name: &str) -> bool {
    NEWER.contains(&name) || name == "larder" || name.starts_with("larder|")
}

/// One row of either side, in a shape that can be compared and printed.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    arity: i64,
    flags: BTreeSet<String>,
    first: i64,
    last: i64,
    step: i64,
    categories: BTreeSet<String>,
    tips: BTreeSet<String>,
    keys: Vec<String>,
}

fn ours(id: CommandId) -> Row {
    let spec: &CommandSpec = spec(id);
    let words = |words: &mut dyn Iterator<Item = &'static str>| words.map(str::to_owned).collect();
    Row {
        arity: spec.arity.into(),
        flags: words(&mut spec.flags.words()),
        first: spec.plain_keys.first.into(),
        last: spec.plain_keys.last.into(),
        step: spec.plain_keys.step.into(),
        categories: words(&mut spec.categories.words()),
        tips: words(&mut docs::doc(id).tips.iter().copied()),
        keys: spec.keys.iter().map(our_key).collect(),
    }
}

fn our_key(key: &KeySpec) -> String {
    let flags: BTreeSet<&str> = key.flags.words().collect();
    let begin = match key.begin {
        BeginSearch::Index(at) => format!("index {at}"),
        BeginSearch::Keyword { word, from } => format!("keyword {word} {from}"),
        BeginSearch::Unknown => "unknown".to_owned(),
    };
    let find = match key.find {
        FindKeys::Range { last, step, limit } => format!("range {last} {step} {limit}"),
        FindKeys::KeyNum { at, first, step } => format!("keynum {at} {first} {step}"),
        FindKeys::Unknown => "unknown".to_owned(),
    };
    format!("{flags:?} {begin}, {find}")
}

fn theirs(row: &Reply, rows: &mut BTreeMap<String, Row>) {
    let items = row.items();
    let texts = |at: usize| -> BTreeSet<String> {
        items[at]
            .items()
            .iter()
            .filter_map(Reply::as_text)
            .collect()
    };
    let int = |at: usize| items[at].as_int().expect("an integer");
    let found = Row {
        arity: int(1),
        flags: texts(2),
        first: int(3),
        last: int(4),
        step: int(5),
        categories: texts(6),
        tips: texts(7),
        keys: items[8].items().iter().map(their_key).collect(),
    };
    rows.insert(items[0].as_text().expect("a name"), found);
    for sub in items[9].items() {
        theirs(&sub, rows);
    }
}

fn their_key(key: &Reply) -> String {
    let flags = key.field("flags").expect("flags").items();
    let flags: BTreeSet<String> = flags.iter().filter_map(Reply::as_text).collect();
    let part = |name: &str| {
        let part = key.field(name).expect("a search");
        let kind = part.field("type").and_then(|kind| kind.as_text());
        let values = part.field("spec").expect("a specification").items();
        let values = values.iter().skip(1).step_by(2).map(|value| match value {
            Reply::Int(value) => value.to_string(),
            other => other.as_text().expect("a word"),
        });
        kind.into_iter().chain(values).collect::<Vec<_>>().join(" ")
    };
    format!("{flags:?} {}, {}", part("begin_search"), part("find_keys"))
}

#[test]
fn every_row_says_what_redis_says() {
    let redis = RedisServer::start();
    let mut expected = expected(&redis);
    assert!(
        expected.len() > 300,
        "COMMAND of a Redis 7 has hundreds of rows"
    );

    let mut wrong = Vec::new();
    for &id in CommandId::ALL {
        let spec = spec(id);
        match expected.remove(spec.name) {
            Some(row) if row != ours(id) => {
                wrong.push(format!(
                    "{}:\n  redis  {row:?}\n  larder {:?}",
                    spec.name,
                    ours(id)
                ));
            }
            Some(_) => assert!(!is_newer(spec.name), "{} is listed as newer", spec.name),
            None if !is_newer(spec.name) => wrong.push(format!("{} is not in Redis", spec.name)),
            None => {}
        }
    }
    wrong.extend(expected.keys().map(|name| format!("{name} has no row")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What `COMMAND` of redis-server says, with the options that came later.
fn expected(redis: &RedisServer) -> BTreeMap<String, Row> {
    let mut rows = rows_of(redis.client());
    for (name, arity) in LONGER {
        rows.get_mut(*name).expect("a row").arity = *arity;
    }
    rows
}

/// What `COMMAND` of a server says, by name.
fn rows_of(mut client: Client) -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    for row in client.run("COMMAND").items() {
        theirs(&row, &mut rows);
    }
    rows
}

#[test]
fn a_node_tells_of_its_commands_what_redis_tells() {
    let (redis, node) = (RedisServer::start(), Standalone::start());
    let expected = expected(&redis);
    let told = rows_of(node.client());
    for (name, row) in &told {
        if !is_newer(name) {
            assert_eq!(Some(row), expected.get(name), "{name}");
        }
    }
    let served = CommandId::ALL
        .iter()
        .filter(|id| matches!(spec(**id).home, Home::Store | Home::Engine));
    for &id in served {
        assert!(
            told.contains_key(spec(id).name),
            "{} is served",
            spec(id).name
        );
    }
    let count = node.client().run("COMMAND COUNT");
    let top_level = told.keys().filter(|name| !name.contains('|')).count();
    assert_eq!(count, Reply::Int(top_level as i64));
}

#[test]
fn keys_are_found_where_redis_finds_them() {
    let redis = RedisServer::start();
    let mut client = redis.client();
    for seed in seeds(3) {
        let mut chance = Chance::from_seed(seed);
        for &id in CommandId::ALL {
            let name = spec(id).name;
            let is_longer = LONGER.iter().any(|(longer, _)| *longer == name);
            if is_newer(name) || is_longer || subcommands(id).next().is_some() {
                continue;
            }
            for _ in 0..40 {
                compare_keys(&mut client, &random_request(id, &mut chance), seed);
            }
        }
    }
}

fn compare_keys(client: &mut Client, args: &[String], seed: u64) {
    let twice = |word: &str| {
        args.iter()
            .filter(|arg| arg.eq_ignore_ascii_case(word))
            .count()
            > 1
    };
    if args[0].starts_with("georadius") && (twice("STORE") || twice("STOREDIST")) {
        // Redis 7.0 names the first place to store and writes to the last.
        return;
    }
    let mut question = vec!["COMMAND".to_owned(), "GETKEYSANDFLAGS".to_owned()];
    question.extend_from_slice(args);
    let theirs = client.ask(&question).expect("a reply");
    let request = OwnedRequest::from_args(args.iter());
    let request = request.view();
    let Found::Command(id) = lookup(request.name(), request.get(1)) else {
        panic!("{args:?} is in the table");
    };
    let ours: Vec<(String, BTreeSet<String>)> = keys::positions(id, &request)
        .map(|key| {
            let name = String::from_utf8_lossy(request.arg(key.at)).into_owned();
            (name, key.flags.words().map(str::to_owned).collect())
        })
        .collect();
    let theirs: Vec<(String, BTreeSet<String>)> = theirs
        .items()
        .iter()
        .map(|pair| {
            let pair = pair.items();
            let flags = pair[1].items().iter().filter_map(Reply::as_text).collect();
            (pair[0].as_text().expect("a key"), flags)
        })
        .collect();
    // Where the specifications fail on a malformed request, Redis reads it by an older, laxer rule (a number of keys
    // of "2x" is 2), which gives keys without flags. The command itself refuses such a request.
    let guessed = ours.is_empty() && theirs.iter().all(|(_, flags)| flags.is_empty());
    // A wrong arity is refused before anyone looks for keys.
    if spec(id).takes(args.len()) && !guessed {
        assert_eq!(ours, theirs, "seed {seed}: {args:?}");
    }
}

/// A request of about the right length whose arguments are words that matter to some command's keys.
fn random_request(id: CommandId, chance: &mut Chance) -> Vec<String> {
    const WORDS: &[&str] = &[
        "STORE",
        "store",
        "STOREDIST",
        "KEYS",
        "keys",
        "STREAMS",
        "streams",
        "GET",
        "get",
        "SET",
        "BY",
        "LIMIT",
        "COUNT",
        "BLOCK",
        "GROUP",
        "NOACK",
        "COPY",
        "AUTH",
        "AUTH2",
        "OVERFLOW",
        "INCRBY",
        "WEIGHTS",
        "",
        "0",
        "1",
        "2",
        "3",
        "-1",
        "+1",
        "01",
        "2x",
        "9999999999",
    ];
    let spec = spec(id);
    let mut args: Vec<String> = spec.name.split('|').map(str::to_owned).collect();
    let least = spec.arity.unsigned_abs() as usize;
    let len = if spec.arity < 0 {
        least + chance.below(8)
    } else {
        least
    };
    while args.len() < len {
        args.push(if chance.one_in(2) {
            (*chance.pick(WORDS)).to_owned()
        } else {
            format!("k{}", chance.below(100))
        });
    }
    args
}

#[test]
fn the_command_family_answers_in_the_same_words() {
    let redis = RedisServer::start();
    let larder = Standalone::start();
    let (mut theirs, mut ours) = (redis.client(), larder.client());
    for line in [
        "COMMAND NOSUCH",
        "COMMAND COUNT x",
        "COMMAND HELP",
        "COMMAND HELP x",
        "COMMAND LIST FOO",
        "COMMAND LIST FILTERBY",
        "COMMAND LIST FILTERBY MODULE",
        "COMMAND LIST FILTERBY x y",
        "COMMAND LIST FILTERBY MODULE x",
        "COMMAND LIST FILTERBY ACLCAT nosuch",
        "COMMAND LIST FILTERBY ACLCAT @geo",
        "COMMAND LIST FILTERBY ACLCAT geo x",
        "COMMAND LIST FILTERBY ACLCAT GEO",
        "COMMAND LIST FILTERBY ACLCAT transaction",
        "COMMAND LIST FILTERBY PATTERN nosuch*",
        "COMMAND LIST FILTERBY PATTERN geo*",
        "COMMAND LIST FILTERBY PATTERN Config|[gs]et",
        "COMMAND INFO nosuch",
        "COMMAND INFO get|x",
        "COMMAND INFO config|nosuch",
        "COMMAND INFO config|get|x",
        "COMMAND DOCS nosuch",
        "COMMAND DOCS get|x",
        "COMMAND GETKEYS",
        "COMMAND GETKEYS get",
        "COMMAND GETKEYSANDFLAGS",
        "COMMAND GETKEYSANDFLAGS get",
        "COMMAND GETKEYSANDFLAGS ping",
        "COMMAND GETKEYSANDFLAGS nosuch x",
        "COMMAND GETKEYSANDFLAGS set a b",
        "COMMAND GETKEYSANDFLAGS set a b get",
        "COMMAND GETKEYSANDFLAGS mset a 1 b 2",
        "COMMAND GETKEYSANDFLAGS sort a store b",
        "COMMAND GETKEYSANDFLAGS bitfield a get u8 0",
        "COMMAND GETKEYSANDFLAGS bitfield a set u8 0 1",
        "COMMAND GETKEYSANDFLAGS copy a b",
        "COMMAND GETKEYSANDFLAGS georadius a 0 0 1 m store b",
        "COMMAND GETKEYSANDFLAGS del a b",
        "COMMAND GETKEYSANDFLAGS spublish a b",
    ] {
        // Redis lists names in the order of its own hash table.
        let sorted = |reply: Reply| match reply {
            Reply::Array(mut items) if line.contains("LIST") => {
                items.sort_unstable();
                Reply::Array(items)
            }
            other => other,
        };
        let (theirs, ours) = (sorted(theirs.run(line)), sorted(ours.run(line)));
        assert_eq!(ours, theirs, "{line}\nredis  {theirs}\nlarder {ours}");
    }
}

/// What `COMMAND DOCS` says of each command's arguments.
fn arguments_of(mut client: Client) -> BTreeMap<String, Reply> {
    fn walk(docs: &Reply, found: &mut BTreeMap<String, Reply>) {
        for pair in docs.items().chunks(2) {
            let [name, told] = pair else {
                panic!("names with what is told of them")
            };
            if let Some(arguments) = told.field("arguments") {
                found.insert(name.as_text().expect("a name"), arguments.clone());
            }
            if let Some(subs) = told.field("subcommands") {
                walk(&subs, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&client.run("COMMAND DOCS"), &mut found);
    found
}

#[test]
fn arguments_are_told_as_redis_tells_them() {
    let (redis, node) = (RedisServer::start(), Standalone::start());
    let expected = arguments_of(redis.client());
    let told = arguments_of(node.client());
    assert!(
        told.len() > 250,
        "{} commands tell of arguments",
        told.len()
    );
    for &id in CommandId::ALL {
        let name = spec(id).name;
        let is_longer = LONGER.iter().any(|(longer, _)| *longer == name);
        let is_served = matches!(spec(id).home, Home::Store | Home::Engine);
        if is_served && !is_newer(name) && !is_longer {
            assert_eq!(told.get(name), expected.get(name), "{name}");
        }
    }
}
