//! Scripts on a node, without sockets: what takes several turns, and what a wire test cannot see.

use std::sync::atomic::{AtomicU64, Ordering};

use larder_wire::NodeId;
use larder_wire::resp::OwnedRequest;

use crate::clock::Clock;
use crate::node::{Node, NodeSettings};
use crate::session::Session;
use crate::turn::Outcome;

const ENDLESS: &str = "while true do end";
/// Past the default `busy-reply-threshold`.
const LATE_MS: u64 = 6000;

struct Bed {
    node: Node,
    clock: Clock,
}

impl Bed {
    fn new(standalone: bool) -> Bed {
        let id = NodeId::from_bytes([1; 20]);
        let node = Node::new(NodeSettings {
            id,
            run_id: id,
            standalone,
            addr: "127.0.0.1:1".to_string(),
            port: 1,
            secret: None,
            maxmemory: 0,
            hash_seed: 7,
            random_seed: 7,
        });
        let clock = Clock {
            unix_us: 1_700_000_000_000_000,
            mono_ms: 0,
        };
        Bed { node, clock }
    }

    fn session(&mut self) -> Session {
        self.node.open_session(
            "127.0.0.1:2".to_string(),
            "127.0.0.1:1".to_string(),
            self.clock,
        )
    }

    fn begin(&mut self, session: &mut Session, words: &[&str]) -> (Outcome, String) {
        let request = OwnedRequest::from_args(words.iter());
        let mut out = Vec::new();
        let outcome = self
            .node
            .call(session, request.view(), self.clock, &mut out);
        (outcome, String::from_utf8_lossy(&out).into_owned())
    }

    /// What a command answers.
    fn run(&mut self, session: &mut Session, words: &[&str]) -> String {
        let (outcome, mut reply) = self.begin(session, words);
        // Instructions are counted over all scripts: any may be the one that is left aside for a moment.
        if outcome == Outcome::Script {
            let ms = self.clock.mono_ms;
            reply.push_str(&self.finish(session, ms));
        }
        reply
    }

    /// Goes on with a script as if `ms` had passed since the start.
    fn go_on(&mut self, session: &mut Session, ms: u64) -> (Outcome, String) {
        self.clock.mono_ms = ms;
        let mut out = Vec::new();
        let outcome = self.node.go_on(session, self.clock, &mut out);
        (outcome, String::from_utf8_lossy(&out).into_owned())
    }

    /// Goes on until the script ends.
    fn finish(&mut self, session: &mut Session, ms: u64) -> String {
        let mut replies = String::new();
        loop {
            let (outcome, reply) = self.go_on(session, ms);
            replies.push_str(&reply);
            if outcome != Outcome::Script {
                return replies;
            }
        }
    }
}

#[test]
fn a_script_of_several_slices_is_in_the_slow_log_with_all_of_its_time() {
    fn stopwatch() -> u64 {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        // Each look is 8 ms after the one before.
        CALLS.fetch_add(8_000_000, Ordering::Relaxed)
    }
    let mut bed = Bed::new(true);
    bed.node.set_stopwatch(stopwatch);
    bed.node
        .set_config(&[(b"slowlog-log-slower-than", b"10000")])
        .unwrap();
    let mut caller = bed.session();
    let long = "for i = 1, 1000000 do end";
    let (outcome, _) = bed.begin(&mut caller, &["EVAL", long, "0"]);
    assert_eq!(outcome, Outcome::Script);
    // Looks behind the first: at the end of the first slice, this one of somebody else's, at the end.
    stopwatch();
    bed.finish(&mut caller, 0);
    let logged: Vec<_> = bed.node.timing.slow.iter().collect();
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert_eq!(
        (logged[0].took_us, &*logged[0].args[1]),
        (24_000, long.as_bytes())
    );
}

#[test]
fn a_script_that_runs_for_long_leaves_others_busy_until_it_is_killed() {
    let mut bed = Bed::new(true);
    let (mut caller, mut other) = (bed.session(), bed.session());
    let (outcome, reply) = bed.begin(&mut caller, &["EVAL", ENDLESS, "0"]);
    assert_eq!((outcome, reply.as_str()), (Outcome::Script, ""));
    assert!(!bed.node.script_is_busy());
    assert_eq!(bed.go_on(&mut caller, 100).0, Outcome::Script);
    assert!(!bed.node.script_is_busy());
    assert_eq!(bed.go_on(&mut caller, LATE_MS).0, Outcome::Script);
    assert!(bed.node.script_is_busy());
    let busy = "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n";
    assert_eq!(bed.run(&mut other, &["SET", "a", "1"]), busy);
    assert_eq!(bed.run(&mut other, &["FUNCTION", "KILL"]), busy);
    assert_eq!(bed.run(&mut other, &["FUNCTION", "STATS"]), busy);
    assert_eq!(bed.run(&mut other, &["SCRIPT", "KILL"]), "+OK\r\n");
    let reply = bed.finish(&mut caller, LATE_MS);
    assert!(
        reply.starts_with("-ERR Script killed by user with SCRIPT KILL... script: "),
        "{reply}"
    );
    assert_eq!(bed.run(&mut other, &["SET", "a", "1"]), "+OK\r\n");
    assert_eq!(
        bed.run(&mut other, &["SCRIPT", "KILL"]),
        "-NOTBUSY No scripts in execution right now.\r\n"
    );
    assert_eq!(bed.run(&mut caller, &["EVAL", "return 1", "0"]), ":1\r\n");
}

#[test]
fn no_script_escapes_a_kill_by_catching_it() {
    let scripts = [
        "while true do pcall(function() while true do end end) end",
        "while true do\n pcall(function()\n while true do\n local a = 1\n end\n end)\n end",
        "while true do xpcall(function() while true do end end, function(e) return e end) end",
        "while true do local co = coroutine.create(function() while true do pcall(function() while true do end end) end end) coroutine.resume(co) end",
        "while true do pcall(coroutine.wrap(function() while true do end end)) end",
        "while true do redis.pcall('PING') end",
    ];
    for script in scripts {
        let mut bed = Bed::new(true);
        let (mut caller, mut other) = (bed.session(), bed.session());
        let (outcome, _) = bed.begin(&mut caller, &["EVAL", script, "0"]);
        assert_eq!(outcome, Outcome::Script, "{script}");
        let _ = bed.go_on(&mut caller, LATE_MS);
        assert_eq!(
            bed.run(&mut other, &["SCRIPT", "KILL"]),
            "+OK\r\n",
            "{script}"
        );
        let reply = bed.finish(&mut caller, LATE_MS);
        assert!(reply.contains("Script killed by user"), "{script}: {reply}");
    }
}

#[test]
fn a_script_that_has_written_cannot_be_killed() {
    let mut bed = Bed::new(true);
    let (mut caller, mut other) = (bed.session(), bed.session());
    let script = "redis.call('SET', KEYS[1], 'x') for i = 1, 1000000 do end return 'done'";
    let (outcome, _) = bed.begin(&mut caller, &["EVAL", script, "1", "key"]);
    assert_eq!(outcome, Outcome::Script);
    let (outcome, mut reply) = bed.go_on(&mut caller, LATE_MS);
    assert_eq!(outcome, Outcome::Script);
    assert!(
        bed.run(&mut other, &["SCRIPT", "KILL"])
            .starts_with("-UNKILLABLE Sorry the script already executed write commands")
    );
    reply.push_str(&bed.finish(&mut caller, LATE_MS));
    assert_eq!(reply, "$4\r\ndone\r\n");
}

#[test]
fn a_transaction_goes_on_behind_a_long_script() {
    let mut bed = Bed::new(true);
    let mut caller = bed.session();
    bed.run(&mut caller, &["MULTI"]);
    bed.run(&mut caller, &["SET", "a", "1"]);
    let script = "for i = 1, 1000000 do end return redis.call('INCR', 'a')";
    bed.run(&mut caller, &["EVAL", script, "1", "a"]);
    bed.run(&mut caller, &["INCR", "a"]);
    let (outcome, begun) = bed.begin(&mut caller, &["EXEC"]);
    assert_eq!(
        (outcome, begun.as_str()),
        (Outcome::Script, "*3\r\n+OK\r\n")
    );
    assert_eq!(bed.finish(&mut caller, 10), ":2\r\n:3\r\n");
    assert_eq!(bed.run(&mut caller, &["GET", "a"]), "$1\r\n3\r\n");
}

#[test]
fn a_script_without_a_reply_wanted_leaves_none() {
    let mut bed = Bed::new(true);
    let mut caller = bed.session();
    bed.run(&mut caller, &["CLIENT", "REPLY", "SKIP"]);
    let script = "for i = 1, 1000000 do end return 5";
    let (outcome, _) = bed.begin(&mut caller, &["EVAL", script, "0"]);
    assert_eq!(outcome, Outcome::Script);
    assert_eq!(bed.finish(&mut caller, 10), "");
    assert_eq!(bed.run(&mut caller, &["PING"]), "+PONG\r\n");
}

#[test]
fn what_a_script_writes_breaks_a_watch() {
    let mut bed = Bed::new(true);
    let (mut watcher, mut caller) = (bed.session(), bed.session());
    bed.run(&mut watcher, &["WATCH", "a"]);
    bed.run(
        &mut caller,
        &["EVAL", "return redis.call('SET', KEYS[1], 'x')", "1", "a"],
    );
    bed.run(&mut watcher, &["MULTI"]);
    bed.run(&mut watcher, &["PING"]);
    assert_eq!(bed.run(&mut watcher, &["EXEC"]), "*-1\r\n");
}

#[test]
fn a_node_that_ends_ends_the_script_that_runs() {
    let mut bed = Bed::new(true);
    let mut caller = bed.session();
    let script =
        "redis.call('SET', 'a', '1') while true do pcall(function() while true do end end) end";
    let (outcome, _) = bed.begin(&mut caller, &["EVAL", script, "0"]);
    assert_eq!(outcome, Outcome::Script);
    drop(bed);
}

#[test]
fn a_library_that_does_not_end_is_not_loaded() {
    let mut bed = Bed::new(true);
    let mut caller = bed.session();
    let source = format!("#!lua name=endless\n{ENDLESS}");
    let reply = bed.run(&mut caller, &["FUNCTION", "LOAD", &source]);
    assert!(reply.contains("FUNCTION LOAD timeout"), "{reply}");
    let source =
        "#!lua name=lib\nredis.register_function('f', function(keys, args) return args[1] end)";
    assert_eq!(
        bed.run(&mut caller, &["FUNCTION", "LOAD", source]),
        "$3\r\nlib\r\n"
    );
    assert_eq!(
        bed.run(&mut caller, &["FCALL", "f", "0", "hello"]),
        "$5\r\nhello\r\n"
    );
}

#[test]
fn a_select_of_a_script_is_its_own() {
    let mut bed = Bed::new(true);
    let mut caller = bed.session();
    let script = "redis.call('SELECT', '3') return redis.call('SET', 'a', 'x')";
    assert_eq!(bed.run(&mut caller, &["EVAL", script, "0"]), "+OK\r\n");
    assert_eq!(bed.run(&mut caller, &["EXISTS", "a"]), ":0\r\n");
    bed.run(&mut caller, &["SELECT", "3"]);
    assert_eq!(bed.run(&mut caller, &["EXISTS", "a"]), ":1\r\n");
}

#[test]
fn more_scripts_and_arguments_than_lua_has_places_are_no_trouble() {
    let mut bed = Bed::new(true);
    let mut caller = bed.session();
    for index in 0..9000 {
        let script = format!("return {index}");
        let reply = bed.run(&mut caller, &["EVAL", &script, "0"]);
        assert_eq!(reply, format!(":{index}\r\n"));
    }
    let script =
        "local a = {} for i = 1, 7000 do a[i] = i end return redis.call('RPUSH', 'l', unpack(a))";
    assert_eq!(bed.run(&mut caller, &["EVAL", script, "0"]), ":7000\r\n");
    let script = "return #redis.call('LRANGE', 'l', 0, -1)";
    assert_eq!(bed.run(&mut caller, &["EVAL", script, "0"]), ":7000\r\n");
    let script =
        "local a = {} for i = 1, 7990 do a[i] = i end return redis.call('RPUSH', 'l2', unpack(a))";
    let reply = bed.run(&mut caller, &["EVAL", script, "0"]);
    assert!(reply == ":7990\r\n" || reply.starts_with("-ERR"), "{reply}");
}

#[test]
fn deep_and_endless_values_end_in_an_error() {
    let mut bed = Bed::new(true);
    let mut caller = bed.session();
    for script in [
        "local a = {} a[1] = a return a",
        "local a = {} a.map = a return a",
        "local function f() return f() + 1 end return f()",
        "return cjson.encode((function() local a = {} a[1] = a return a end)())",
        "cjson.decode_max_depth(1000000) return cjson.decode(string.rep('[', 100000))",
        "return cmsgpack.unpack(string.rep(string.char(0x91), 100000))",
        "return {unpack({1, 2, 3}, -2, 2147483647)}",
        "return {unpack({1, 2, 3}, -2147483648, 1)}",
        "return {unpack({}, 2147483646, 2147483647 + 4294967296)}",
        "return ('a'):rep(10000):find(('a?'):rep(9000))",
        "return ('a'):rep(1000000):find(('a?'):rep(1000000))",
    ] {
        bed.run(&mut caller, &["EVAL", script, "0"]);
    }
    assert_eq!(bed.run(&mut caller, &["EVAL", "return 1", "0"]), ":1\r\n");
}

#[test]
fn scripts_and_functions_reach_commands_by_the_name_that_valkey_gives() {
    let mut bed = Bed::new(true);
    let mut session = bed.session();
    let script = "return server.call('ECHO', ARGV[1]) .. redis.sha1hex('')";
    let told = bed.run(&mut session, &["EVAL", script, "0", "x"]);
    assert_eq!(told, "$41\r\nxda39a3ee5e6b4b0d3255bfef95601890afd80709\r\n");
    let library =
        "#!lua name=l\nserver.register_function('f', function() return server.call('PING') end)";
    let told = bed.run(&mut session, &["FUNCTION", "LOAD", library]);
    assert_eq!(told, "$1\r\nl\r\n");
    assert_eq!(bed.run(&mut session, &["FCALL", "f", "0"]), "+PONG\r\n");
}
