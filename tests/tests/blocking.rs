//! Commands that wait, byte for byte: several clients in turn on a real redis-server and on a node, in both protocols.
//!
//! A line of a scenario is a client's name and what it does:
//!
//! ```text
//! a: PING         sends and reads the reply
//! a! BLPOP k 0    sends, and goes on once the server says that the client is blocked
//! a> PING         sends and goes on
//! a?              reads a reply
//! a=              asks whether the client is blocked
//! a~ 20           waits so many milliseconds for a reply that does not come
//! a x             hangs up, and waits until the server knows
//! ```
//!
//! `$a` in a request is the id of client `a`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use larder_tests::RedisServer;
use larder_tests::client::Client;
use larder_tests::standalone::Standalone;
use larder_wire::resp::OwnedRequest;

const SCENARIOS: &[(&str, &str)] = &[
    (
        "who waits first is served first",
        "a! BLPOP k 0
         b! BLPOP k 0
         c: RPUSH k 1 2 3
         a?
         b?
         c: LRANGE k 0 -1",
    ),
    (
        "what is there is taken at once, from the first key that has something",
        "c: RPUSH two 1 2 3
         a: BLPOP one two 0
         a: BRPOP two one 0
         a: BLMPOP 0 2 one two LEFT
         c: RPUSH two 1 2 3
         a: BLMPOP 0 2 one two RIGHT COUNT 2
         a: BLMOVE two one LEFT RIGHT 0
         a: BRPOPLPUSH one three 0
         c: ZADD z 1 a 2 b 3 c 4 d
         a: BZPOPMIN none z 0
         a: BZPOPMAX none z 0
         a: BZMPOP 0 2 none z MIN COUNT 10
         c: KEYS *",
    ),
    (
        "several keys, of which the one that is filled answers",
        "a! BRPOP k1 k2 k3 0
         c: RPUSH k2 x y
         a?
         c: LRANGE k2 0 -1
         a! BLPOP k1 k1 k1 0
         c: RPUSH k1 x y
         a?
         c: LRANGE k1 0 -1",
    ),
    (
        "counted pops",
        "a! BLMPOP 0 2 k1 k2 LEFT COUNT 2
         b! BLMPOP 0 1 k2 RIGHT COUNT 10
         c: RPUSH k2 1 2 3 4
         a?
         b?
         c: EXISTS k2
         a! BZMPOP 0 2 z1 z2 MAX COUNT 2
         b! BZMPOP 0 1 z2 MIN
         c: ZADD z2 1 a 2 b 3.5 c
         a?
         b?
         c: EXISTS z2",
    ),
    (
        "sorted sets",
        "a! BZPOPMIN z1 z2 0
         b! BZPOPMAX z2 0
         c: ZADD z2 1 a 2.25 b 3 c
         a?
         b?
         c: ZRANGE z2 0 -1 WITHSCORES",
    ),
    (
        "a list moves through waiting lists",
        "a! BLMOVE l1 l2 LEFT RIGHT 0
         b! BLMOVE l2 l3 LEFT RIGHT 0
         d! BLPOP l3 0
         c: RPUSH l1 x
         a?
         b?
         d?
         c: KEYS *",
    ),
    (
        "a circle of moves ends",
        "a! BLMOVE l1 l2 LEFT RIGHT 0
         b! BLMOVE l2 l1 LEFT RIGHT 0
         c: RPUSH l1 x
         a?
         b?
         c: LRANGE l1 0 -1
         c: LRANGE l2 0 -1",
    ),
    (
        "a list that is turned over on itself",
        "a! BLMOVE l l LEFT RIGHT 0
         b! BRPOPLPUSH l l 0
         d! BLPOP l 0
         c: RPUSH l x y z
         a?
         b?
         d?
         c: LRANGE l 0 -1",
    ),
    (
        "a destination of the wrong type is told to who waits, and the next one is served",
        "c: SET target string
         a! BLMOVE l target LEFT RIGHT 0
         b! BLPOP l 0
         c: RPUSH l 1 2
         a?
         b?
         c: LRANGE l 0 -1
         a: BLMOVE l target LEFT LEFT 0
         a: BRPOPLPUSH target l 0
         stats blmove blpop",
    ),
    (
        "a key of another type is waited past",
        "a! BLPOP k 0
         b! BZPOPMIN k 0
         d! XREAD BLOCK 0 STREAMS k 0
         c: SET k string
         a=
         b=
         d=
         c: DEL k
         c: SADD k member
         c: DEL k
         c: ZADD k 1 member 2 other
         b?
         a=
         c: DEL k
         c: RPUSH k x y
         a?
         d=
         c: DEL k
         c: XADD k 1-1 f v
         d?",
    ),
    (
        "the wrong type is told at once",
        "c: SET s x
         a: BLPOP s 0
         a: BLPOP none s 0
         a: BLMPOP 0 2 none s LEFT
         a: BZPOPMIN s 0
         a: BZMPOP 0 1 s MIN
         a: BLMOVE s t LEFT LEFT 0
         a: BRPOPLPUSH s t 0
         a: XREAD BLOCK 0 STREAMS s 0
         a: XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
    ),
    (
        "arguments that are none",
        "a: BLPOP k
         a: BLPOP k x
         a: BLPOP k -1
         a: BLPOP k -0.1
         a: BLPOP k 1s
         a: BLPOP k inf
         a: BLPOP k 1e30
         a: BZPOPMIN k x
         a: BZPOPMIN k -1
         a: BLMOVE a b UP DOWN x
         a: BLMOVE a b LEFT DOWN x
         a: BLMOVE a b LEFT LEFT x
         a: BLMOVE a b LEFT LEFT -1
         a: BRPOPLPUSH a b x
         a: BLMPOP x 1 k LEFT
         a: BLMPOP -1 1 k LEFT
         a: BLMPOP 0 0 k LEFT
         a: BLMPOP 0 x k LEFT
         a: BLMPOP 0 1 k MIDDLE
         a: BLMPOP 0 2 k LEFT
         a: BLMPOP 0 1 k LEFT COUNT 0
         a: BLMPOP 0 1 k LEFT COUNT
         a: BLMPOP 0 1 k LEFT COUNT 1 COUNT 1
         a: BLMPOP x 1 k LEFT COUNT x
         a: BZMPOP 0 1 k LEFT
         a: BZMPOP 0 1 k MIN COUNT -1
         a: BZMPOP x 1 k MIN
         a: XREAD BLOCK x STREAMS k 0
         a: XREAD BLOCK -1 STREAMS k 0
         a: XREAD BLOCK 0 STREAMS k
         a: XREAD BLOCK 0 STREAMS k >
         a: XREAD BLOCK 0 STREAMS k x
         a: XREAD BLOCK
         a: XREAD BLOCK 0 COUNT 1
         a: XREAD BLOCK 0 NOACK STREAMS k 0
         a: XREADGROUP GROUP g c BLOCK 0 STREAMS k >
         a: XREADGROUP BLOCK 0 STREAMS k > x y
         c: XADD s 1-1 f v
         c: XGROUP CREATE s g $
         a: XREADGROUP GROUP g c BLOCK 0 STREAMS s $
         a: XREADGROUP GROUP none c BLOCK 0 STREAMS s >
         a: WAIT x 0
         a: WAIT 1 x
         a: WAIT 1 -1
         a: CLIENT UNBLOCK x
         a: CLIENT UNBLOCK 99999999
         a: CLIENT UNBLOCK 99999999 MAYBE
         a: CLIENT UNBLOCK x MAYBE
         a: CLIENT UNBLOCK 1 ERROR more
         a: CLIENT UNBLOCK",
    ),
    (
        "time runs out",
        "a: BLPOP k 0.01
         a: BRPOP k 0.001
         a: BLMPOP 0.01 1 k LEFT
         a: BLMOVE k l LEFT LEFT 0.01
         a: BRPOPLPUSH k l 0.01
         a: BZPOPMIN k 0.01
         a: BZPOPMAX k 0.01
         a: BZMPOP 0.01 1 k MIN
         a: XREAD BLOCK 10 STREAMS k 0
         c: XGROUP CREATE s g $ MKSTREAM
         a: XREADGROUP GROUP g c BLOCK 10 STREAMS s >
         a: WAIT 1 10
         a: WAIT 0 10
         a! BLPOP k 0.2
         b! BLPOP k 0.1
         b?
         a?
         c: RPUSH k x
         c: LLEN k
         stats blpop wait xread",
    ),
    (
        "who waits longer than the others does not hold them up",
        "a! BLPOP k 100
         b! BLPOP k 0.05
         b?
         a=
         c: RPUSH k x
         a?",
    ),
    (
        "a client that is gone takes nothing",
        "a! BLPOP k 0
         b! BLPOP k 0
         a x
         c: RPUSH k 1
         b?
         c: EXISTS k",
    ),
    (
        "a client that is killed takes nothing",
        "a! BLPOP k 0
         b! BLPOP k 0
         c> CLIENT KILL ID $a
         c> RPUSH k 1
         c> CLIENT UNBLOCK $a
         c?
         c?
         c?
         b?
         c: EXISTS k",
    ),
    (
        "CLIENT UNBLOCK",
        "a! BLPOP k 0
         c: CLIENT UNBLOCK $a
         a?
         a! BZMPOP 0 1 k MIN
         c: CLIENT UNBLOCK $a TIMEOUT
         a?
         a! BLMOVE k l LEFT LEFT 0
         c: CLIENT UNBLOCK $a timeout
         a?
         a! XREAD BLOCK 0 STREAMS k $
         c: CLIENT UNBLOCK $a ERROR
         a?
         a! WAIT 3 0
         c: CLIENT UNBLOCK $a TIMEOUT
         a?
         a! WAIT 3 0
         c: CLIENT UNBLOCK $a ERROR
         a?
         c: CLIENT UNBLOCK $a
         c: CLIENT UNBLOCK $c
         a! BLPOP k 0
         c: CLIENT UNBLOCK $a
         c: CLIENT UNBLOCK $a
         a?
         c: RPUSH k x
         c: LLEN k
         stats blpop wait xread bzmpop",
    ),
    (
        "commands behind one that waits",
        "a! BLPOP k 0
         a> INCR n
         a> RPUSH k 2
         a> BLPOP k 0
         a> BLPOP k 0
         a> PING
         c: GET n
         c: RPUSH k 1
         a?
         a?
         a?
         a?
         a=
         c: RPUSH k 3
         a?
         a?",
    ),
    (
        "one who pushes and pops in one go leaves what is left",
        "a! BLPOP k 0
         c> RPUSH k 1
         c> LPOP k
         c> LLEN k
         c?
         c?
         c?
         a?",
    ),
    (
        "a transaction that leaves nothing wakes nobody",
        "a! BLPOP k 0
         c: MULTI
         c: RPUSH k 1
         c: DEL k
         c: EXEC
         a=
         c: MULTI
         c: RPUSH k 1 2
         c: RPUSH k 3
         c: LPOP k
         c: EXEC
         a?
         c: LRANGE k 0 -1",
    ),
    (
        "a transaction never waits",
        "a: MULTI
         a: BLPOP k 0
         a: BRPOP k 0
         a: BLMPOP 0 1 k LEFT
         a: BLMOVE k l LEFT LEFT 0
         a: BRPOPLPUSH k l 0
         a: BZPOPMIN k 0
         a: BZPOPMAX k 0
         a: BZMPOP 0 1 k MIN
         a: XREAD BLOCK 0 STREAMS k $
         a: XREAD STREAMS k 0
         a: WAIT 5 0
         a: BLPOP k x
         a: RPUSH k 1 2 3
         a: BLPOP k 0
         a: BLMOVE k l LEFT LEFT 0
         a: BLMPOP 0 1 k LEFT
         a: XGROUP CREATE s g $ MKSTREAM
         a: XREADGROUP GROUP g c BLOCK 0 STREAMS s >
         a: EXEC",
    ),
    (
        "keys are served in the order in which a transaction filled them",
        "a! BLMOVE k1 out LEFT RIGHT 0
         b! BLMOVE k2 out LEFT RIGHT 0
         d! BLMOVE k3 out LEFT RIGHT 0
         c: MULTI
         c: RPUSH k3 three
         c: RPUSH k1 one
         c: RPUSH k2 two
         c: RPUSH k3 more
         c: EXEC
         a?
         b?
         d?
         c: LRANGE out 0 -1",
    ),
    (
        "a watched key that feeds a waiter was changed",
        "c: WATCH k
         a! BLPOP k 0
         b: RPUSH k 1
         a?
         c: MULTI
         c: PING
         c: EXEC
         c: WATCH out
         a! BLMOVE k out LEFT LEFT 0
         b: RPUSH k 1
         a?
         c: MULTI
         c: PING
         c: EXEC",
    ),
    (
        "keys that come by other ways than a push",
        "c: RPUSH list x y
         a! BLPOP k 0
         c: RENAME list k
         a?
         c: COPY k other
         c: LRANGE other 0 -1
         c: DEL k
         a! BLPOP k 0
         c: COPY other k
         a?
         a! BLPOP sorted 0
         c: RPUSH numbers 3 1 2
         c: SORT numbers STORE sorted
         a?
         a! BLPOP moved 0
         c: LMOVE numbers moved LEFT LEFT
         a?
         a! BZPOPMIN union 0
         c: ZADD z 1 a 2 b
         c: ZUNIONSTORE union 1 z
         a?
         a! BZPOPMAX range 0
         c: ZRANGESTORE range z 0 -1
         a?
         a! BZPOPMIN places 0
         c: GEOADD places 1 1 here
         a?
         a! BZPOPMIN scored 0
         c: ZINCRBY scored 5 m
         a?
         a! BRPOP pushed 0
         c: LPUSHX pushed 1
         a=
         c: LPUSH pushed 1 2
         a?
         c: LINSERT pushed BEFORE 2 0
         a! BLPOP renamed 0
         c: RENAMENX pushed renamed
         a?",
    ),
    (
        "a key whose time has passed serves nobody",
        "a! BLPOP k 0
         c: MULTI
         c: RPUSH k x
         c: PEXPIREAT k 1
         c: EXEC
         a=
         c: RPUSH k y
         a?",
    ),
    (
        "replies that are not wanted",
        "a> CLIENT REPLY SKIP
         a! BLPOP k 0
         c: RPUSH k x
         a: PING
         c: EXISTS k
         a> CLIENT REPLY OFF
         a! BLPOP k 0
         c: RPUSH k x
         a: CLIENT REPLY ON
         a! BLPOP k 0
         c: RPUSH k y
         a?",
    ),
    (
        "reading streams",
        "c: XADD s 1-1 f v
         a: XREAD BLOCK 0 STREAMS s 0
         a: XREAD BLOCK 0 COUNT 1 STREAMS none s 0 0-1
         a: XREAD STREAMS s $
         a: XREAD STREAMS s 1
         a: XREAD STREAMS s 1-1
         a! XREAD BLOCK 0 STREAMS s $
         b! XREAD COUNT 1 BLOCK 0 STREAMS other s $ 1-1
         d! XREAD BLOCK 0 STREAMS s 5
         c: XADD s 2-1 f v
         a?
         b?
         d=
         c: XADD s 6-1 f v
         d?",
    ),
    (
        "several entries at once",
        "a! XREAD BLOCK 0 STREAMS s $
         b! XREAD BLOCK 0 COUNT 2 STREAMS s 0
         c: MULTI
         c: XADD s 1-1 f 1
         c: XADD s 1-2 f 2
         c: XADD s 1-3 f 3
         c: EXEC
         a?
         b?",
    ),
    (
        "a reader on several streams is answered of the one that came first",
        "a! XREAD BLOCK 0 STREAMS s t u $ $ $
         c: MULTI
         c: XADD t 1-1 f v
         c: XADD s 1-1 f v
         c: EXEC
         a?",
    ),
    (
        "a stream whose entries went again",
        "a! XREAD BLOCK 0 STREAMS s $
         c: MULTI
         c: XADD s 1-1 f v
         c: XDEL s 1-1
         c: EXEC
         a?
         a! XREAD BLOCK 0 STREAMS s 0
         c: XSETID s 9-1
         c: XTRIM s MAXLEN 0
         c: XDEL s 1-1
         c: EXPIRE s 1000
         c: PERSIST s
         c: XGROUP CREATE s g 0
         c: XGROUP SETID s g $
         c: XGROUP CREATECONSUMER s g c
         a=
         c: XADD s 9-2 f v
         a?",
    ),
    (
        "a reader outlives its stream",
        "c: XADD s 5-5 f v
         a! XREAD BLOCK 0 STREAMS s $
         c: DEL s
         c: SET s string
         c: DEL s
         c: XADD s 1-1 f v
         a=
         c: XADD s 6-1 f v
         a?
         a! XREAD BLOCK 0 STREAMS s $
         c: FLUSHALL
         a=
         c: XADD s 7-1 f v
         a?",
    ),
    (
        "streams that come by other ways",
        "a! XREAD BLOCK 0 STREAMS k 0
         c: XADD s 1-1 f v
         c: RENAME s k
         a?
         a! XREAD BLOCK 0 STREAMS t 0
         c: COPY k t
         a?",
    ),
    (
        "consumers",
        "c: XGROUP CREATE s g $ MKSTREAM
         a! XREADGROUP GROUP g alice BLOCK 0 STREAMS s >
         b! XREADGROUP GROUP g bob BLOCK 0 COUNT 1 STREAMS s >
         c: XADD s 1-1 f v
         a?
         b=
         c: XADD s 1-2 f v
         b?
         c: XPENDING s g
         a: XREADGROUP GROUP g alice BLOCK 0 STREAMS s 0
         a: XREADGROUP GROUP g carol BLOCK 0 STREAMS s 0
         a! XREADGROUP GROUP g alice NOACK BLOCK 0 STREAMS s >
         c: MULTI
         c: XADD s 2-1 f v
         c: XADD s 2-2 f v
         c: EXEC
         a?
         c: XPENDING s g
         a! XREADGROUP GROUP g dave NOACK BLOCK 0 STREAMS s >
         c: XADD s 3-1 f v
         a?
         c: XINFO GROUPS s
         a: XREADGROUP GROUP g alice COUNT 1 STREAMS s >
         a: XREADGROUP GROUP g alice BLOCK 10 STREAMS s >",
    ),
    (
        "two groups, each of which is given all",
        "c: XGROUP CREATE s g $ MKSTREAM
         c: XGROUP CREATE s h $
         a! XREADGROUP GROUP g alice BLOCK 0 STREAMS s >
         b! XREADGROUP GROUP h bob BLOCK 0 STREAMS s >
         d! XREAD BLOCK 0 STREAMS s $
         c: XADD s 1-1 f v
         a?
         b?
         d?",
    ),
    (
        "a consumer whose stream or group goes",
        "c: XGROUP CREATE s g $ MKSTREAM
         a! XREADGROUP GROUP g alice BLOCK 0 STREAMS s >
         c: DEL s
         a?
         c: XGROUP CREATE s g $ MKSTREAM
         a! XREADGROUP GROUP g alice BLOCK 0 STREAMS s >
         c: SET s string
         a?
         c: DEL s
         c: XGROUP CREATE s g $ MKSTREAM
         a! XREADGROUP GROUP g alice BLOCK 0 STREAMS s >
         c: XGROUP DESTROY s g
         a?
         c: XGROUP CREATE s g $
         c: XGROUP CREATE s h $
         a! XREADGROUP GROUP g alice BLOCK 0 STREAMS s >
         b! XREADGROUP GROUP h alice BLOCK 0 STREAMS s >
         c: XGROUP DESTROY s h
         b?
         a=
         c: RENAME s moved
         a?
         a! XREADGROUP GROUP g alice BLOCK 0 STREAMS moved >
         c: FLUSHALL
         a?
         c: XGROUP CREATE s g $ MKSTREAM
         a! XREADGROUP GROUP g alice BLOCK 0 STREAMS s >
         c: FLUSHDB
         a?
         c: XGROUP CREATE s g $ MKSTREAM
         a! XREADGROUP GROUP g alice BLOCK 0 STREAMS s >
         c: MULTI
         c: DEL s
         c: XADD s 1-1 f v
         c: EXEC
         a?
         c: XGROUP CREATE s g $
         a! XREADGROUP GROUP g alice BLOCK 0 STREAMS s >
         c: MULTI
         c: DEL s
         c: SADD s member
         c: EXEC
         a?
         stats xreadgroup",
    ),
    (
        "a consumer whose stream runs out of time",
        "c: XGROUP CREATE s g $ MKSTREAM
         a! XREADGROUP GROUP g alice BLOCK 0 STREAMS s >
         c: PEXPIRE s 20
         a?
         c: XGROUP CREATE s g $ MKSTREAM
         a! XREADGROUP GROUP g alice BLOCK 0 STREAMS s >
         c: PEXPIREAT s 1
         a?",
    ),
    (
        "a consumer on two streams",
        "c: XGROUP CREATE s g $ MKSTREAM
         c: XGROUP CREATE t g $ MKSTREAM
         a! XREADGROUP GROUP g alice BLOCK 0 STREAMS s t > >
         c: DEL s
         a?
         c: XGROUP CREATE s g $ MKSTREAM
         a! XREADGROUP GROUP g alice BLOCK 0 STREAMS s t > >
         c: XADD t 1-1 f v
         a?
         c: XADD t 1-2 f v
         a: XREADGROUP GROUP g alice BLOCK 0 STREAMS s t > >
         a: XREADGROUP GROUP g alice BLOCK 0 STREAMS s t > 0",
    ),
    (
        "a pause",
        "a! BLPOP k 0
         c: CLIENT PAUSE 100000 WRITE
         b! RPUSH k x
         a=
         d: GET k
         c: CLIENT UNPAUSE
         b?
         a?
         a! BLPOP k 0.02
         c: CLIENT PAUSE 100 ALL
         a?
         b: BLPOP k 0.02",
    ),
    (
        "blocked clients are counted",
        "c: INFO clients/blocked_clients
         a! BLPOP k 0
         b! WAIT 1 0
         c: INFO clients/blocked_clients
         c: INFO clients/clients_in_timeout_table
         d! BLPOP k 100
         c: INFO clients/blocked_clients
         c: INFO clients/clients_in_timeout_table
         c: RPUSH k 1 2
         a?
         d?
         c: INFO clients/blocked_clients
         c: INFO clients/clients_in_timeout_table",
    ),
];

/// Longest wait for a reply, and for what the server says of a client, in seconds.
const REPLY_WAIT_S_MAX: u64 = 10;

/// What stands for a reply that does not come.
const NO_REPLY: &str = "(no reply)";

/// A conversation with one server.
struct Stage {
    addr: SocketAddr,
    hello: &'static str,
    clients: BTreeMap<String, Actor>,
    watcher: Client,
    said: Vec<String>,
}

struct Actor {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    id: String,
}

impl Stage {
    fn new(addr: SocketAddr, hello: &'static str) -> Stage {
        let mut watcher = Client::to(addr);
        watcher.run("FLUSHALL");
        watcher.run("CONFIG RESETSTAT");
        Stage {
            addr,
            hello,
            clients: BTreeMap::new(),
            watcher,
            said: Vec::new(),
        }
    }

    fn play(mut self, script: &str) -> Vec<String> {
        for line in script.lines().map(str::trim) {
            self.step(line);
        }
        self.said
    }

    fn step(&mut self, line: &str) {
        if let Some(commands) = line.strip_prefix("stats ") {
            return self.note_stats(line, commands);
        }
        let (name, rest) = line.split_at(1);
        let (verb, words) = rest.split_at(1);
        self.enter(name);
        match verb {
            ":" => {
                self.send(name, words);
                self.note_reply(name, line);
            }
            ">" => self.send(name, words),
            "!" => {
                self.send(name, words);
                self.await_flag(name, true);
            }
            "?" => self.note_reply(name, line),
            "=" => {
                let blocked = self.is_blocked(name);
                self.said.push(format!("{line} {blocked:?}"));
            }
            " " => {
                self.clients.get(name).expect("entered").hang_up();
                self.await_gone(name);
            }
            verb => panic!("{line}: what is '{verb}'?"),
        }
    }

    fn enter(&mut self, name: &str) {
        if self.clients.contains_key(name) {
            return;
        }
        let stream = TcpStream::connect(self.addr).expect("a server");
        stream.set_nodelay(true).expect("a socket");
        stream
            .set_read_timeout(Some(Duration::from_secs(REPLY_WAIT_S_MAX)))
            .expect("a time-out");
        let reader = BufReader::new(stream.try_clone().expect("a socket"));
        let mut actor = Actor {
            stream,
            reader,
            id: String::new(),
        };
        actor.send(self.hello);
        actor.read();
        actor.send("CLIENT ID");
        let id = actor.read();
        actor.id = id
            .trim_start_matches(':')
            .trim_end_matches("\r\n")
            .to_owned();
        self.clients.insert(name.to_owned(), actor);
    }

    fn send(&mut self, name: &str, words: &str) {
        let mut words = words.trim().to_owned();
        for (other, actor) in &self.clients {
            words = words.replace(&format!("${other}"), &actor.id);
        }
        // What of INFO is wanted is not for the server.
        let request = words.split('/').next().unwrap_or_default().to_owned();
        self.clients.get_mut(name).expect("entered").send(&request);
    }

    fn note_reply(&mut self, name: &str, line: &str) {
        let mut reply = self.clients.get_mut(name).expect("entered").read();
        if let Some((_, field)) = line.split_once("INFO clients/") {
            let found = reply.lines().find(|line| line.starts_with(field));
            reply = found.unwrap_or("no such field").to_owned();
        }
        self.said.push(format!("{line} {}", reply.escape_debug()));
    }

    fn note_stats(&mut self, line: &str, commands: &str) {
        let info = self.watcher.run("INFO commandstats");
        let info = info.as_text().expect("a text");
        for command in commands.split(' ') {
            let prefix = format!("cmdstat_{command}:");
            let counts: Vec<&str> = info
                .lines()
                .find_map(|line| line.strip_prefix(&prefix))
                .unwrap_or_else(|| panic!("{line}: {command} was not called"))
                .split(',')
                .filter(|field| !field.starts_with("usec"))
                .collect();
            self.said.push(format!("{line}: {command} {counts:?}"));
        }
    }

    /// `None`: there is no such client.
    fn is_blocked(&mut self, name: &str) -> Option<bool> {
        let id = &self.clients[name].id;
        let line = self.watcher.run(&format!("CLIENT LIST ID {id}"));
        let line = line.as_text().expect("a text");
        let flags = line
            .split_whitespace()
            .find_map(|it| it.strip_prefix("flags="))?;
        Some(flags.contains('b'))
    }

    fn await_flag(&mut self, name: &str, blocked: bool) {
        let deadline = Instant::now() + Duration::from_secs(REPLY_WAIT_S_MAX);
        while self.is_blocked(name) != Some(blocked) {
            assert!(
                Instant::now() < deadline,
                "{name} is not blocked: {:?}",
                self.said
            );
        }
    }

    fn await_gone(&mut self, name: &str) {
        let deadline = Instant::now() + Duration::from_secs(REPLY_WAIT_S_MAX);
        while self.is_blocked(name).is_some() {
            assert!(
                Instant::now() < deadline,
                "{name} is still there: {:?}",
                self.said
            );
        }
    }
}

impl Actor {
    fn send(&mut self, words: &str) {
        let args = OwnedRequest::from_args(words.split_whitespace().collect::<Vec<_>>());
        self.stream
            .write_all(&args.into_bytes())
            .expect("a server that reads");
    }

    fn hang_up(&self) {
        self.stream
            .shutdown(std::net::Shutdown::Both)
            .expect("a socket");
    }

    /// The bytes of one reply.
    fn read(&mut self) -> String {
        let mut bytes = Vec::new();
        read_reply(&mut self.reader, &mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Appends one reply as it comes.
fn read_reply(from: &mut BufReader<TcpStream>, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    if let Err(error) = from.read_until(b'\n', bytes) {
        assert!(
            matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            "{error}"
        );
        bytes.extend(NO_REPLY.bytes());
        return;
    }
    let line = String::from_utf8_lossy(&bytes[start..]).into_owned();
    let (kind, count) = line.split_at(line.len().min(1));
    let count = count.trim_end().parse::<i64>().unwrap_or(0);
    let parts = match kind {
        "$" | "=" if count >= 0 => {
            let mut text = vec![0; count as usize + 2];
            from.read_exact(&mut text).expect("the rest of a string");
            bytes.extend(text);
            0
        }
        "*" | "~" | ">" => count,
        "%" => 2 * count,
        _ => 0,
    };
    for _ in 0..parts {
        read_reply(from, bytes);
    }
}

#[test]
fn clients_that_wait_are_answered_as_by_redis() {
    let (redis, node) = (RedisServer::start(), Standalone::start());
    let only = std::env::var("LARDER_SCENARIO").unwrap_or_default();
    let mut wrong = Vec::new();
    for hello in ["HELLO 2", "HELLO 3"] {
        for (name, script) in SCENARIOS.iter().filter(|(name, _)| name.contains(&only)) {
            let expected = Stage::new(redis.addr(), hello).play(script);
            let said = Stage::new(node.addr(), hello).play(script);
            assert!(
                expected.iter().all(|line| !line.ends_with(NO_REPLY)),
                "{name}: {expected:?}"
            );
            for (expected, said) in expected.iter().zip(&said) {
                if expected != said {
                    wrong.push(format!(
                        "{name} ({hello})\n  redis  {expected}\n  larder {said}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// WAITAOF came after the oracle's version: its texts are those of Valkey 9.1.
#[test]
fn waiting_for_an_append_only_file_that_is_not_there() {
    let node = Standalone::start();
    let said = Stage::new(node.addr(), "HELLO 2").play(
        "a: WAITAOF 0 0 0
         a: WAITAOF 0 1 10
         a: WAITAOF 1 0 0
         a: WAITAOF 2 0 0
         a: WAITAOF x 0 0
         a: WAITAOF 0 -1 0
         a: WAITAOF 0 0 -1
         a: WAITAOF 0 0 x
         a: MULTI
         a: WAITAOF 0 1 0
         a: EXEC",
    );
    let positive = "-ERR value is out of range, must be positive\\r\\n";
    let none = "*2\\r\\n:0\\r\\n:0\\r\\n";
    let expected = [
        none,
        none,
        "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\\r\\n",
        "-ERR value is out of range, value must between 0 and 1\\r\\n",
        "-ERR value is not an integer or out of range\\r\\n",
        positive,
        "-ERR timeout is negative\\r\\n",
        "-ERR timeout is not an integer or out of range\\r\\n",
        "+OK\\r\\n",
        "+QUEUED\\r\\n",
        "*1\\r\\n*2\\r\\n:0\\r\\n:0\\r\\n",
    ];
    assert_eq!(said.len(), expected.len());
    for (said, expected) in said.iter().zip(expected) {
        assert!(
            said.ends_with(&format!(" {expected}")),
            "{said}, not {expected}"
        );
    }
}
