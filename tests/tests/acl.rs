//! Users against a real redis-server: rules at random, what they come to, and what a user may then do; the log, the file.
//!
//! Redis tells single commands in the order of its own hash table, which is another in each process: they are compared sorted. Commands
//! that came after 7.0 are left out of our texts.

use larder_tests::chance::{Chance, seeds};
use larder_tests::standalone::Standalone;
use larder_tests::{Client, RedisServer, Reply};
use larder_wire::command::{CommandId, docs, spec};

struct Pair {
    redis: RedisServer,
    larder: Standalone,
}

/// Two connections that are asked the same.
struct Both {
    redis: Client,
    larder: Client,
}

impl Pair {
    fn start() -> Pair {
        Pair {
            redis: RedisServer::start(),
            larder: Standalone::start(),
        }
    }

    fn both(&self) -> Both {
        Both {
            redis: self.redis.client(),
            larder: self.larder.client(),
        }
    }
}

impl Both {
    fn ask<A: AsRef<[u8]>>(&mut self, args: &[A]) -> (Reply, Reply) {
        let ask = |client: &mut Client| {
            let reply = client.ask(args);
            normal(reply.expect("a reply"))
        };
        (ask(&mut self.redis), ask(&mut self.larder))
    }

    /// Both answer alike. Returns the answer.
    #[track_caller]
    fn same<A: AsRef<[u8]>>(&mut self, args: &[A], context: &str) -> Reply {
        let (theirs, ours) = self.ask(args);
        let shown: Vec<String> = args
            .iter()
            .map(|arg| arg.as_ref().escape_ascii().to_string())
            .collect();
        assert_eq!(
            ours, theirs,
            "{shown:?} ({context})\nredis  {theirs}\nlarder {ours}"
        );
        theirs
    }

    #[track_caller]
    fn line(&mut self, line: &str) -> Reply {
        let args: Vec<&str> = line.split_whitespace().collect();
        self.same(&args, line)
    }

    /// Neither answers: the connection has ended.
    #[track_caller]
    fn ended(&mut self) {
        for client in [&mut self.redis, &mut self.larder] {
            let ended = client.ask(&["PING"]).is_err();
            assert!(ended, "a connection that should have ended");
        }
    }
}

/// Texts of rules with single commands sorted, ages and clients' lines out of `ACL LOG`.
fn normal(reply: Reply) -> Reply {
    match reply {
        Reply::Bulk(bytes) => Reply::Bulk(sorted_rules(&bytes)),
        Reply::Array(items) => Reply::Array(masked(items)),
        Reply::Set(items) => Reply::Set(items.into_iter().map(normal).collect()),
        Reply::Map(pairs) => {
            let flat = pairs.into_iter().flat_map(|(key, value)| [key, value]);
            Reply::Array(masked(flat.collect()))
        }
        other => other,
    }
}

fn masked(items: Vec<Reply>) -> Vec<Reply> {
    let mut mask = false;
    items
        .into_iter()
        .map(|item| {
            let hidden = std::mem::take(&mut mask);
            mask = matches!(
                item.as_text().as_deref(),
                Some("age-seconds" | "client-info")
            );
            if hidden {
                Reply::bulk("…")
            } else {
                normal(item)
            }
        })
        .collect()
}

fn sorted_rules(text: &[u8]) -> Vec<u8> {
    let is_single = |word: &[u8]| matches!(word, [b'+' | b'-', first, ..] if *first != b'@');
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut run: Vec<Vec<u8>> = Vec::new();
    for word in text.split(|byte| *byte == b' ') {
        let (word, closes) = match word.strip_suffix(b")") {
            Some(inner) if is_single(inner) => (inner, true),
            Some(_) | None => (word, false),
        };
        if is_single(word) {
            if !came_later(&word[1..]) {
                run.push(word.to_vec());
            }
        } else {
            run.sort_unstable();
            words.append(&mut run);
            words.push(word.to_vec());
        }
        if closes {
            run.sort_unstable();
            words.append(&mut run);
            words.push(b")".to_vec());
        }
    }
    run.sort_unstable();
    words.append(&mut run);
    words.join(&b' ')
}

/// A command that Redis 7.0 does not have.
fn came_later(name: &[u8]) -> bool {
    CommandId::ALL.iter().any(|id| {
        let since = docs::doc(*id).since;
        spec(*id).name.as_bytes() == name && since >= "7.1"
    })
}

fn names_of(client: &mut Client, line: &str) -> Vec<String> {
    let mut names: Vec<String> = client
        .run(line)
        .items()
        .iter()
        .filter_map(Reply::as_text)
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn categories_hold_the_same_commands() {
    let pair = Pair::start();
    let mut both = pair.both();
    let categories = both.line("ACL CAT").items();
    assert!(categories.len() > 20);
    for category in categories {
        let line = format!("ACL CAT {}", category.as_text().unwrap());
        let mut ours = names_of(&mut both.larder, &line);
        ours.retain(|name| !came_later(name.as_bytes()));
        assert_eq!(ours, names_of(&mut both.redis, &line), "{line}");
    }
}

#[test]
fn wrong_subcommands_and_rules_are_refused_in_the_same_words() {
    let pair = Pair::start();
    let mut both = pair.both();
    for line in [
        "ACL",
        "ACL NOSUCH",
        "ACL CAT x y",
        "ACL CAT nosuch",
        "ACL GENPASS 0",
        "ACL GENPASS 5000",
        "ACL GENPASS x",
        "ACL GENPASS 1 2",
        "ACL LOG x",
        "ACL LOG 1 2",
        "ACL LOG -1",
        "ACL LOAD",
        "ACL SAVE",
        "ACL GETUSER nosuch",
        "ACL GETUSER",
        "ACL DELUSER default",
        "ACL DELUSER a b",
        "ACL DELUSER",
        "ACL HELP",
        "ACL HELP x",
        "ACL WHOAMI x",
        "ACL DRYRUN nosuch get x",
        "ACL DRYRUN default nosuch",
        "ACL DRYRUN default get",
        "ACL DRYRUN default config",
        "ACL DRYRUN default config nosuch",
        "ACL DRYRUN default get x",
        "ACL SETUSER",
        "ACL SETUSER u (",
        "ACL SETUSER u )",
        "ACL SETUSER u on (+get ~x off",
        "ACL SETUSER u +nosuch",
        "ACL SETUSER u <nosuch",
        "ACL SETUSER u ~* ~b",
        "ACL SETUSER u &* &b",
        "ACL SETUSER u #abc",
        "ACL SETUSER u +client|id|x",
        "ACL SETUSER u %~a",
        "ACL USERS",
    ] {
        both.line(line);
    }
    both.same(&["ACL", "SETUSER", "a b"], "a space in a name");
    both.same(&["ACL", "SETUSER", "a\0b"], "a zero byte in a name");
    both.same(&["ACL", "SETUSER", "u", "~a b"], "a space in a pattern");
}

/// Requests that a random user is tried with.
const REQUESTS: &[&str] = &[
    "get a",
    "set a 1",
    "set a 1 get",
    "mget a b c",
    "mset a 1 b 2",
    "copy a b",
    "del a b",
    "incr b",
    "config get maxmemory",
    "config resetstat",
    "publish ch x",
    "publish news x",
    "spublish ch x",
    "select 0",
    "select 1",
    "echo hi",
    "ping",
    "sort a",
    "sort a by w_* get #",
    "sort a by nosort store b",
    "zunionstore a 2 b c",
    "object encoding a",
    "acl whoami",
    "bitfield a get u8 0",
    "bitfield a set u8 0 1",
    "georadius a 0 0 1 m store b",
    "lmove a b left right",
    "client id",
    "strlen a",
    "keys nosuch*",
    "nosuch",
    "get",
    "config",
    "config nosuch",
    "xgroup create a g $",
    "sintercard 2 a b",
    "rename a b",
    "exists a b",
    "touch a",
    "command count",
    "watch a",
    "unwatch",
    "cluster info",
    "hset h f v",
    "type a",
    "getrange a 0 1",
    "ttl a",
    "expire a 100",
    "lpush l x",
    "sadd s x",
    "zadd z 1 x",
];
/// Those that are only asked about: they would disturb the test.
const DRY_REQUESTS: &[&str] = &[
    "xread streams a b 0 0",
    "subscribe ch",
    "psubscribe n*",
    "psubscribe news",
    "unsubscribe x",
    "ssubscribe ch",
    "flushall",
    "hello 2",
    "auth x",
    "eval x 1 a",
    "multi",
    "exec",
    "reset",
    "quit",
    "migrate h 1 a 0 1",
    "blpop a b 0",
    "client kill 1:1",
    "psync a b",
];

struct Rules<'a> {
    chance: &'a mut Chance,
    commands: &'a [String],
    categories: &'a [String],
}

impl Rules<'_> {
    fn pattern(&mut self) -> &'static str {
        const PATTERNS: &[&str] = &[
            "a", "b", "a*", "*", "n*", "ch", "[ab]", "?", "w_*", "", "news",
        ];
        self.chance.pick::<&str>(PATTERNS)
    }

    fn in_some_case(&mut self, rule: String) -> String {
        if self.chance.one_in(5) {
            rule.to_uppercase()
        } else {
            rule
        }
    }

    fn one(&mut self, in_selector: bool) -> String {
        let sign = *self.chance.pick(&["+", "-"]);
        match self.chance.below(100) {
            0..20 => {
                let name = self.chance.pick(self.commands).clone();
                self.in_some_case(format!("{sign}{name}"))
            }
            20..40 => {
                let all = "all".to_owned();
                let category = if self.chance.one_in(8) {
                    &all
                } else {
                    self.chance.pick(self.categories)
                };
                let rule = format!("{sign}@{category}");
                self.in_some_case(rule)
            }
            40..55 => {
                let kind = *self.chance.pick(&[
                    "~", "~", "%R~", "%W~", "%RW~", "%w~", "%", "%R", "%RR~", "%~",
                ]);
                format!("{kind}{}", self.pattern())
            }
            55..65 => format!("&{}", self.pattern()),
            65..77 => {
                let word = *self.chance.pick(&[
                    "allkeys",
                    "resetkeys",
                    "allchannels",
                    "resetchannels",
                    "allcommands",
                    "nocommands",
                    "on",
                    "off",
                    "nopass",
                    "resetpass",
                    "reset",
                    "clearselectors",
                    "sanitize-payload",
                    "skip-sanitize-payload",
                    "",
                    "~*",
                    "&*",
                    "+@all",
                    "-@all",
                ]);
                self.in_some_case(word.to_owned())
            }
            77..82 => (*self.chance.pick(&[
                "+select|0",
                "+select|1",
                "+get|x",
                "+config|nosuch",
                "+config|",
                "+|x",
                "+config|get|x",
                "+nosuch",
                "-nosuch",
                "-select|0",
                "+@nosuch",
                "bad",
                "+",
                "-",
                "~a b",
                "&a b",
                "+client|ID",
                "@",
                ">",
                "#",
                "(",
                ")",
                "()",
                "(on)",
                "(+get \"~a)",
                "(+get \"~a\" 'x')",
            ]))
            .to_owned(),
            82..88 => format!("{}p{}", self.chance.pick(&[">", "<"]), self.chance.below(3)),
            88..90 => {
                let hash = self.chance.pick(&["a", "b", "A"]).repeat(64);
                format!("{}{hash}", self.chance.pick(&["#", "!"]))
            }
            _ if in_selector => format!("+{}", self.chance.pick(self.commands)),
            _ => {
                let inner: Vec<String> =
                    (0..self.chance.below(5)).map(|_| self.one(true)).collect();
                format!("({})", inner.join(" "))
            }
        }
    }

    /// Up to four rules; some selectors come in several arguments.
    fn some(&mut self) -> Vec<String> {
        let count = self.chance.below(5);
        let mut rules = Vec::new();
        for _ in 0..count {
            let rule = self.one(false);
            if self.chance.one_in(3) {
                rules.extend(rule.split(' ').map(str::to_owned));
            } else {
                rules.push(rule);
            }
        }
        rules
    }
}

#[test]
fn random_rules_come_to_the_same_and_allow_the_same() {
    let pair = Pair::start();
    let mut admin = pair.both();
    let categories = names_of(&mut admin.redis, "ACL CAT");
    let commands = names_of(&mut admin.redis, "COMMAND LIST");
    for seed in seeds(60) {
        let mut chance = Chance::from_seed(seed);
        admin.line("ACL DELUSER u");
        admin.line("FLUSHALL");
        for step in 0..6 {
            let mut rules = Rules {
                chance: &mut chance,
                commands: &commands,
                categories: &categories,
            };
            let rules = rules.some();
            let context = format!("LARDER_SEED={seed} step {step}: {rules:?}");
            let mut set = vec!["ACL".to_owned(), "SETUSER".to_owned(), "u".to_owned()];
            set.extend(rules);
            admin.same(&set, &context);
            admin.same(&["ACL", "GETUSER", "u"], &context);
            admin.same(&["ACL", "LIST"], &context);
            for _ in 0..8 {
                let requests = if chance.one_in(4) {
                    DRY_REQUESTS
                } else {
                    REQUESTS
                };
                let request = format!("ACL DRYRUN u {}", chance.pick(requests));
                let args: Vec<&str> = request.split(' ').collect();
                admin.same(&args, &context);
            }
        }
        act_as_user(&pair, &mut admin, &mut chance, seed);
    }
}

/// What the user may really do, in transactions too, while its rules change under it.
fn act_as_user(pair: &Pair, admin: &mut Both, chance: &mut Chance, seed: u64) {
    let context = format!("LARDER_SEED={seed}");
    admin.same(&["ACL", "SETUSER", "u", "on", ">pw"], &context);
    admin.same(&["ACL", "LOG", "RESET"], &context);
    let mut user = pair.both();
    user.same(&["AUTH", "u", "pw"], &context);
    let mut queued = 0;
    for _ in 0..20 {
        let line = match chance.below(10) {
            0 if queued == 0 => "multi",
            1 => "exec",
            _ => chance.pick(REQUESTS),
        };
        queued = match line {
            "multi" => 1,
            "exec" => 0,
            _ => queued,
        };
        let args: Vec<&str> = line.split(' ').collect();
        let (theirs, ours) = user.ask(&args);
        // Answers that tell of the server itself; whether they are refused is what counts.
        let tells = [
            "client id",
            "command count",
            "cluster info",
            "config get",
            "object encoding",
            "exec",
        ];
        if tells.iter().any(|known| line.starts_with(known)) && !theirs.is_error() {
            assert_eq!(
                ours.is_error(),
                theirs.is_error(),
                "{line} ({context}): {theirs} {ours}"
            );
        } else {
            assert_eq!(ours, theirs, "{line} ({context})");
        }
        if chance.one_in(6) {
            let sign = *chance.pick(&["+", "-"]);
            let rule = format!(
                "{sign}{}",
                chance.pick(&["get", "set", "@read", "@write", "@fast", "multi", "exec"])
            );
            admin.same(&["ACL", "SETUSER", "u", &rule], &context);
        }
    }
    admin.same(&["ACL", "LOG", "100"], &context);
    admin.same(&["ACL", "DELUSER", "u"], &context);
    user.ended();
}

#[test]
fn logging_in_is_refused_and_noted_in_the_same_words() {
    let pair = Pair::start();
    let mut both = pair.both();
    for line in [
        "AUTH x",
        "AUTH default x",
        "AUTH x y",
        "AUTH a b c",
        "HELLO 3 AUTH default",
        "HELLO 4",
        "HELLO x",
        "HELLO 3 FOO",
        "HELLO 3 AUTH nobody x",
        "ACL SETUSER alice on >pw ~a* &n* +@all -config",
        "AUTH alice bad",
        "AUTH alice pw",
        "ACL WHOAMI",
        "GET b",
        "MGET a b",
        "CONFIG GET x",
        "PUBLISH x y",
        "PUBLISH news y",
        "SUBSCRIBE x",
        "MULTI",
        "GET b",
        "EXEC",
        "MULTI",
        "GET a",
        "EXEC",
        "SORT a BY w_* GET #",
        "ACL SETUSER alice -get",
        "GET a",
        "MULTI",
        "AUTH alice bad",
        "AUTH default x",
        "EXEC",
        "ACL LOG 20",
        "ACL LOG 2",
        "ACL LOG RESET",
        "ACL LOG",
    ] {
        both.line(line);
    }
    // A password of the default user, by CONFIG and by its rules.
    for line in [
        "CONFIG SET requirepass foo",
        "AUTH bar",
        "AUTH default bar",
        "AUTH foo",
        "ACL GETUSER default",
        "CONFIG GET requirepass",
    ] {
        both.line(line);
    }
    let mut stranger = pair.both();
    for line in [
        "PING",
        "GET",
        "NOSUCH",
        "MULTI",
        "EXEC",
        "HELLO 3",
        "HELLO 2 AUTH default bar",
        "RESET",
        "PING",
        "AUTH foo",
        "PING",
    ] {
        stranger.line(line);
    }
    both.line("ACL SETUSER default >second");
    for line in [
        "RESET",
        "PING",
        "AUTH second",
        "ACL WHOAMI",
        "CONFIG GET requirepass",
    ] {
        stranger.line(line);
    }
    both.same(&["CONFIG", "SET", "requirepass", ""], "no password");
    for line in [
        "ACL GETUSER default",
        "ACL SETUSER default off",
        "PING",
        "AUTH default x",
        "ACL SETUSER default on",
        "CONFIG SET acllog-max-len 2",
        "AUTH a x",
        "AUTH b x",
        "AUTH c x",
        "ACL LOG",
        "CONFIG SET acl-pubsub-default allchannels",
        "ACL SETUSER bob",
        "ACL GETUSER bob",
        "ACL SETUSER bob reset (+get)",
        "ACL GETUSER bob",
        "CONFIG SET acl-pubsub-default resetchannels",
        "ACL SETUSER bob reset (+get)",
        "ACL GETUSER bob",
        "ACL LIST",
        "HELLO 3",
        "ACL GETUSER bob",
        "ACL LOG",
    ] {
        if line == "HELLO 3" {
            let _ = both.ask(&["HELLO", "3"]);
            continue;
        }
        both.line(line);
    }
}

#[test]
fn a_stranger_may_not_send_much() {
    let pair = Pair::start();
    let mut both = pair.both();
    both.line("CONFIG SET requirepass foo");
    for header in [
        "*100\r\n",
        "*1\r\n$100000000\r\n",
        "*2\r\n$4\r\nECHO\r\n$16385\r\n",
    ] {
        let refused = |addr| {
            let mut client = Client::to(addr);
            client.send_raw(header.as_bytes()).unwrap();
            let reply = client.read().unwrap();
            assert!(client.read().is_err(), "still open after {header:?}");
            reply
        };
        let theirs = refused(pair.redis.addr());
        assert!(theirs.is_error());
        assert_eq!(refused(pair.larder.addr()), theirs, "{header:?}");
    }
    // What stands behind AUTH in one packet is read by who has logged in.
    let value = "x".repeat(50_000);
    for mut client in [pair.redis.client(), pair.larder.client()] {
        let requests = [vec!["AUTH", "foo"], vec!["SET", "a", &value]];
        assert_eq!(
            client.pipeline(&requests).unwrap(),
            [Reply::ok(), Reply::ok()]
        );
    }
}

#[test]
fn subscribers_go_when_a_channel_is_taken_from_them_and_users_when_they_are_deleted() {
    let pair = Pair::start();
    let mut admin = pair.both();
    admin.line("ACL SETUSER alice on nopass +@all ~* &a &b &p*");
    for (subscribe, rules, ends) in [
        ("SUBSCRIBE a", "&c", false),
        ("SUBSCRIBE a", "resetchannels &b", true),
        ("PSUBSCRIBE p*", "resetchannels &pa &p*", false),
        ("PSUBSCRIBE p*", "resetchannels &pa &p?", true),
        ("SSUBSCRIBE pa", "resetchannels &q", true),
        ("PING", "resetchannels", false),
    ] {
        admin.line("ACL SETUSER alice resetchannels &a &b &p*");
        let mut alice = pair.both();
        alice.line("AUTH alice x");
        alice.line(subscribe);
        admin.line(&format!("ACL SETUSER alice {rules}"));
        if ends {
            alice.ended();
        } else {
            alice.line("PING");
        }
    }
    let mut alice = pair.both();
    alice.line("AUTH alice x");
    admin.line("ACL DELUSER alice");
    alice.ended();
    // Who deletes itself is answered first.
    admin.line("ACL SETUSER bob on nopass +@all");
    let mut bob = pair.both();
    bob.line("AUTH bob x");
    bob.line("ACL DELUSER bob");
    bob.ended();
}

#[test]
fn the_users_file_is_loaded_saved_and_refused_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let write = |text: &str| {
        for name in ["redis.acl", "larder.acl"] {
            std::fs::write(path(name), text).unwrap();
        }
    };
    write(
        "user alice on >pw ~a* &n* +@all -config\n\nuser default on nopass ~* &* +@all\nuser bob off (+get ~b)\n",
    );
    let pair = Pair {
        redis: RedisServer::start_with(&["--aclfile", &path("redis.acl")]),
        larder: Standalone::start_with(&["--aclfile", &path("larder.acl")]),
    };
    let mut both = pair.both();
    both.line("ACL LIST");
    let mut alice = pair.both();
    alice.line("AUTH alice pw");
    both.line("ACL LOAD");
    // Every user but the default one is another, even when nothing changed.
    alice.ended();
    let as_ours = |reply: &Reply| {
        reply
            .as_text()
            .unwrap_or_default()
            .replace("redis.acl", "larder.acl")
    };
    for wrong in [
        "user alice on\nnonsense\n",
        "user\n",
        "user alice on\nuser alice off\n",
        "user alice +nosuch +@none bad worse\n",
        "user x\ty on\n",
        "# a comment\n",
        "user alice on +get|\n  user bob ~* ~a  \n",
    ] {
        write(wrong);
        let (theirs, ours) = both.ask(&["ACL", "LOAD"]);
        assert!(theirs.is_error(), "{wrong:?}: {theirs}");
        assert_eq!(
            ours.as_text().unwrap_or_default(),
            as_ours(&theirs),
            "{wrong:?}"
        );
        both.line("ACL LIST");
    }
    write("user carol on  nopass\t\r\n  user default on nopass +@all ~* &*  \n");
    both.line("ACL LOAD");
    both.line("ACL LIST");
    both.line("ACL SETUSER dave on >pw %R~x (~y +get) +@read -get");
    both.line("ACL SAVE");
    let lines = |name: &str| {
        let text = std::fs::read(path(name)).unwrap();
        let lines: Vec<Vec<u8>> = text
            .split(|byte| *byte == b'\n')
            .map(sorted_rules)
            .collect();
        lines
    };
    assert_eq!(lines("larder.acl"), lines("redis.acl"));
    both.line("ACL DELUSER dave");
    both.line("ACL LOAD");
    both.line("ACL GETUSER dave");
    for name in ["redis.acl", "larder.acl"] {
        std::fs::remove_file(path(name)).unwrap();
    }
    let (theirs, ours) = both.ask(&["ACL", "LOAD"]);
    assert_eq!(ours.as_text().unwrap_or_default(), as_ours(&theirs));
}

#[test]
fn the_cluster_s_operator_is_no_user_that_rules_reach() {
    let larder = Standalone::start();
    let mut admin = larder.client();
    let refused = admin.run("ACL SETUSER larder on nopass");
    assert!(refused.is_error(), "{refused}");
    let mut operator = larder.client();
    assert_eq!(
        operator
            .ask(&["AUTH", "larder", larder_tests::cluster::SECRET])
            .unwrap(),
        Reply::ok()
    );
    assert_eq!(operator.run("ACL WHOAMI"), Reply::bulk("larder"));
    assert!(!operator.run("LARDER STATE").is_error());
    // The default user without rights: control goes on by the secret, and ends with another login.
    admin.run("ACL SETUSER alice on nopass +acl");
    assert_eq!(admin.run("ACL SETUSER default -@all +ping"), Reply::ok());
    assert!(admin.run("GET a").is_error());
    assert!(!operator.run("LARDER STATE").is_error());
    assert_eq!(operator.run("AUTH alice x"), Reply::ok());
    assert!(operator.run("LARDER STATE").is_error());
    assert!(admin.run("LARDER STATE").is_error());
}

#[test]
fn client_commands_answer_in_the_same_words() {
    let pair = Pair::start();
    let mut both = pair.both();
    for line in [
        "CLIENT",
        "CLIENT NOSUCH",
        "CLIENT KILL",
        "CLIENT KILL ID",
        "CLIENT KILL ID 0",
        "CLIENT KILL ID x",
        "CLIENT KILL ID -1",
        "CLIENT KILL TYPE nosuch",
        "CLIENT KILL USER nosuch",
        "CLIENT KILL SKIPME maybe",
        "CLIENT KILL ADDR 1.2.3.4:5",
        "CLIENT KILL LADDR 1.2.3.4:5",
        "CLIENT KILL 1.2.3.4:5",
        "CLIENT KILL ID 1000000 SKIPME no",
        "CLIENT KILL FOO bar",
        "CLIENT KILL TYPE pubsub",
        "CLIENT KILL USER default SKIPME yes TYPE replica",
        "CLIENT LIST TYPE nosuch",
        "CLIENT LIST TYPE pubsub",
        "CLIENT LIST FOO",
        "CLIENT LIST ID x",
        "CLIENT LIST ID 0",
        "CLIENT LIST ID 1000000",
        "CLIENT LIST ID",
        "CLIENT LIST TYPE",
        "CLIENT NO-EVICT maybe",
        "CLIENT NO-EVICT on",
        "CLIENT NO-EVICT off",
        "CLIENT NO-EVICT",
        "CLIENT INFO x",
        "CLIENT PAUSE x",
        "CLIENT PAUSE -1",
        "CLIENT PAUSE 1 foo",
        "CLIENT PAUSE 1 all x",
        "CLIENT PAUSE 9223372036854775807",
        "CLIENT UNPAUSE",
        "CLIENT UNPAUSE x",
        "CLIENT REPLY foo",
        "CLIENT GETNAME",
        "CLIENT SETNAME foo",
        "CLIENT GETNAME",
        "CLIENT ID x",
        "CLIENT GETREDIR",
        "CLIENT TRACKINGINFO",
    ] {
        both.line(line);
    }
    both.same(&["CLIENT", "SETNAME", "a b"], "a space");
    both.same(&["CLIENT", "SETNAME", "a\x01"], "a control character");
    both.same(&["CLIENT", "SETNAME", ""], "no name");
    both.same(&["CLIENT", "GETNAME"], "no name");
    // What the line of a client tells of it.
    both.line("ACL SETUSER alice on nopass +@all ~* &*");
    for line in [
        "AUTH alice x",
        "CLIENT SETNAME foo",
        "CLIENT NO-EVICT on",
        "SELECT 3",
        "MULTI",
        "PING",
    ] {
        both.line(line);
    }
    let mut watcher = pair.both();
    for client in [&mut watcher.redis, &mut watcher.larder] {
        let list = client.run("CLIENT LIST TYPE normal").as_text().unwrap();
        let line = list
            .lines()
            .find(|line| line.contains("user=alice"))
            .expect("alice's line");
        for field in [
            "name=foo",
            "flags=xe",
            "db=3",
            "multi=1",
            "cmd=ping",
            "user=alice",
            "sub=0",
            "resp=2",
            "redir=-1",
        ] {
            assert!(line.split(' ').any(|word| word == field), "{field}: {line}");
        }
    }
    watcher.line("CLIENT KILL USER alice");
    both.ended();
}

#[test]
fn a_client_that_asks_for_no_touch_leaves_idle_times_as_they_are() {
    let larder = Standalone::start();
    let mut client = larder.client();
    client.run("CONFIG SET maxmemory-policy allkeys-lfu");
    client.run("SET a 1");
    let counted = |client: &mut Client| client.run("OBJECT FREQ a").as_int().expect("a count");
    let before = counted(&mut client);
    assert_eq!(client.run("CLIENT NO-TOUCH on"), Reply::ok());
    for _ in 0..200 {
        client.run("GET a");
    }
    assert_eq!(counted(&mut client), before);
    client.run("TOUCH a");
    client.run("CLIENT NO-TOUCH off");
    for _ in 0..200 {
        client.run("GET a");
    }
    assert!(counted(&mut client) > before);
}
