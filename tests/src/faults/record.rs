//! Clients that write down every call: when it began and ended, and what came of it. From that: how long nothing was written or read, which errors were seen, and
//! which acknowledged writes are gone in the end.
//!
//! Each client keeps to one shard, so that a shard's fault does not hide what the others do. It calls on registers and counters that it shares with the other clients
//! of the shard, for [`linear`](crate::linear) to judge, and sets keys that nobody sets twice, of which one that was acknowledged and cannot be
//! found is one lost write.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use larder_wire::{SlotSet, slot_of};

use crate::chance::Chance;
use crate::client::Client;
use crate::linear::{Call, Operation, Outcome};
use crate::reply::Reply;

/// Longest wait of a client for an answer, in seconds; then the outcome is unknown and it connects anew.
pub const ANSWER_S_MAX: u64 = 12;
/// What a client waits between two calls, in microseconds: it is to see, not to load.
const PAUSE_US: u64 = 500;
/// Keys of either kind that the clients of a shard share.
const SHARED_KEYS: usize = 6;
/// Keys asked for at once when lost writes are counted.
const KEYS_AT_ONCE: usize = 500;

/// One call.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub shard: usize,
    pub key: String,
    pub operation: Operation,
    /// The first word of the error, or what became of the connection.
    pub error: Option<String>,
    /// On a key that nobody sets twice.
    pub single: bool,
}

impl Recorded {
    fn is_write(&self) -> bool {
        self.operation.call != Call::Get
    }

    fn is_answered(&self) -> bool {
        matches!(self.operation.outcome, Outcome::Answered(_))
    }
}

/// Clients at work.
pub struct Recorder {
    start: Instant,
    stop: Arc<AtomicBool>,
    /// Writes acknowledged by now, of each shard.
    written: Arc<Vec<AtomicU64>>,
    threads: Vec<JoinHandle<Vec<Recorded>>>,
}

impl Recorder {
    /// `clients` for each of the shards, whose slots these are.
    pub fn start(proxy: SocketAddr, seed: u64, shards: &[SlotSet], clients: usize) -> Recorder {
        let start = Instant::now();
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(shards.iter().map(|_| AtomicU64::new(0)).collect::<Vec<_>>());
        let threads = (0..shards.len() * clients)
            .map(|name| {
                let shard = name % shards.len();
                let mut writer = Writer {
                    proxy,
                    client: None,
                    chance: Chance::from_seed(
                        seed.wrapping_mul(1_000_003).wrapping_add(name as u64),
                    ),
                    name,
                    shard,
                    tag: tag_in(&shards[shard]),
                    next: 0,
                    start,
                    calls: Vec::new(),
                };
                let (stop, written) = (stop.clone(), written.clone());
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        writer.call(&written[shard]);
                        std::thread::sleep(Duration::from_micros(PAUSE_US));
                    }
                    writer.calls
                })
            })
            .collect();
        Recorder {
            start,
            stop,
            written,
            threads,
        }
    }

    /// Microseconds since the start.
    pub fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    /// Writes of the shard acknowledged by now.
    pub fn written(&self, shard: usize) -> u64 {
        self.written[shard].load(Ordering::Relaxed)
    }

    /// Waits until so many more writes of each of the shards are acknowledged; false when that takes longer than `most`.
    pub fn wait_written(&self, shards: &[usize], more: u64, most: Duration) -> bool {
        let from: Vec<u64> = shards.iter().map(|&shard| self.written(shard)).collect();
        let give_up = Instant::now() + most;
        while Instant::now() < give_up {
            let mut all = shards.iter().zip(&from);
            if all.all(|(&shard, from)| self.written(shard) >= from + more) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }

    /// Ends all clients after the calls that they have under way.
    pub fn finish(self) -> History {
        self.stop.store(true, Ordering::Relaxed);
        let end_us = self.now_us();
        let mut calls = Vec::new();
        for thread in self.threads {
            calls.extend(thread.join().expect("a client does not panic"));
        }
        History { calls, end_us }
    }
}

/// All that was recorded.
pub struct History {
    pub calls: Vec<Recorded>,
    /// When the clients were told to end, in microseconds.
    pub end_us: u64,
}

impl History {
    /// The longest time within `from_us` and the end in which no call of one of the shards succeeded: the longest among the shards, in microseconds.
    pub fn longest_without(&self, writes: bool, shards: &[usize], from_us: u64) -> u64 {
        let of_shard = |shard: usize| {
            let calls = self
                .calls
                .iter()
                .filter(|call| call.shard == shard && call.is_write() == writes);
            let ends = calls
                .filter(|call| call.is_answered())
                .map(|call| call.operation.end_us);
            let mut times: Vec<u64> = ends
                .filter(|&end| end >= from_us && end <= self.end_us)
                .collect();
            times.extend([from_us, self.end_us]);
            times.sort_unstable();
            let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
            gaps.max().unwrap_or(0)
        };
        shards
            .iter()
            .map(|&shard| of_shard(shard))
            .max()
            .unwrap_or(0)
    }

    /// How many calls ended in which error.
    pub fn errors(&self) -> BTreeMap<String, usize> {
        let mut errors = BTreeMap::new();
        for error in self.calls.iter().filter_map(|call| call.error.as_ref()) {
            *errors.entry(error.clone()).or_insert(0) += 1;
        }
        errors
    }

    pub fn answered(&self) -> usize {
        self.calls.iter().filter(|call| call.is_answered()).count()
    }

    /// What happened on each key that is written more than once.
    pub fn shared_keys(&self) -> BTreeMap<String, Vec<Operation>> {
        let mut keys: BTreeMap<String, Vec<Operation>> = BTreeMap::new();
        for call in self.calls.iter().filter(|call| !call.single) {
            keys.entry(call.key.clone())
                .or_default()
                .push(call.operation);
        }
        keys
    }

    /// Acknowledged writes of keys that nobody set twice, and how many of them are not there any more. Of shards that cannot be asked for
    /// [`ANSWER_S_MAX`] nothing is known. `late_us`: those that were acknowledged after are counted apart, too.
    pub fn count_lost(&self, client: &mut Client, shards: &[usize], late_us: u64) -> Lost {
        let mut lost = Lost::default();
        let written: Vec<&Recorded> = self
            .calls
            .iter()
            .filter(|call| call.single && call.is_answered() && shards.contains(&call.shard))
            .collect();
        for chunk in written.chunks(KEYS_AT_ONCE) {
            let gets: Vec<Vec<&str>> = chunk
                .iter()
                .map(|call| vec!["GET", call.key.as_str()])
                .collect();
            let replies = answered(client, &gets);
            for (call, reply) in chunk.iter().zip(replies) {
                lost.acknowledged += 1;
                let late = usize::from(call.operation.start_us > late_us);
                lost.acknowledged_late += late;
                if let Reply::Error(_) = reply {
                    lost.refused += 1;
                    continue;
                }
                let expected = match call.operation.call {
                    Call::Set(value) => Reply::bulk(&value.to_string()),
                    Call::Get | Call::Incr => unreachable!("single keys are set"),
                };
                if reply != expected {
                    lost.lost += 1;
                    lost.lost_late += late;
                    lost.first.get_or_insert_with(|| {
                        format!("{} is {reply:?}: {}", call.key, call.operation)
                    });
                }
            }
        }
        lost
    }
}

/// A refusal says nothing of what is there: it is asked again.
fn answered(client: &mut Client, gets: &[Vec<&str>]) -> Vec<Reply> {
    let give_up = Instant::now() + Duration::from_secs(ANSWER_S_MAX);
    loop {
        let replies = client.pipeline(gets).expect("the proxy answers");
        let refused = |reply: &Reply| matches!(reply, Reply::Error(_));
        if !replies.iter().any(refused) || Instant::now() > give_up {
            return replies;
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Lost {
    pub acknowledged: usize,
    pub lost: usize,
    /// Of both, those that were written after a moment that was named.
    pub acknowledged_late: usize,
    pub lost_late: usize,
    /// What is there of them nobody says.
    pub refused: usize,
    /// One of those that are lost.
    pub first: Option<String>,
}

/// A hash tag whose slot is one of these.
pub fn tag_in(slots: &SlotSet) -> String {
    (0..)
        .map(|n: u32| format!("t{n}"))
        .find(|tag| slots.contains(slot_of(tag.as_bytes())))
        .expect("a shard with slots")
}

struct Writer {
    proxy: SocketAddr,
    client: Option<Client>,
    chance: Chance,
    name: usize,
    shard: usize,
    tag: String,
    next: i64,
    start: Instant,
    calls: Vec<Recorded>,
}

impl Writer {
    fn call(&mut self, written: &AtomicU64) {
        let (key, call, single) = self.choose();
        let words = match call {
            Call::Set(value) => vec!["SET".to_owned(), key.clone(), value.to_string()],
            Call::Get => vec!["GET".to_owned(), key.clone()],
            Call::Incr => vec!["INCR".to_owned(), key.clone()],
        };
        let start_us = self.now_us();
        let heard = self.ask(&words);
        let end_us = self.now_us();
        let (outcome, error) = match heard {
            Ok(reply) => understand(call, &reply),
            Err(error) => (Outcome::Unknown, Some(error)),
        };
        if call != Call::Get && matches!(outcome, Outcome::Answered(_)) {
            written.fetch_add(1, Ordering::Relaxed);
        }
        self.calls.push(Recorded {
            shard: self.shard,
            key,
            operation: Operation {
                client: self.name,
                call,
                outcome,
                start_us,
                end_us,
            },
            error,
            single,
        });
    }

    fn choose(&mut self) -> (String, Call, bool) {
        self.next += 1;
        let number = (self.name as i64) << 32 | self.next;
        let (tag, shared) = (&self.tag, self.chance.below(SHARED_KEYS));
        match self.chance.below(6) {
            0 => (
                format!("register:{{{tag}}}:{shared}"),
                Call::Set(number),
                false,
            ),
            1 => (format!("register:{{{tag}}}:{shared}"), Call::Get, false),
            2 => (format!("counter:{{{tag}}}:{shared}"), Call::Incr, false),
            3 => (format!("counter:{{{tag}}}:{shared}"), Call::Get, false),
            _ => {
                let key = format!("single:{{{tag}}}:{}:{}", self.name, self.next);
                (key, Call::Set(number), true)
            }
        }
    }

    fn ask(&mut self, words: &[String]) -> Result<Reply, String> {
        let client = match &mut self.client {
            Some(client) => client,
            none => {
                let client = Client::connect(self.proxy).map_err(|_| "no connection".to_owned())?;
                let wait = Duration::from_secs(ANSWER_S_MAX);
                client
                    .set_read_timeout(Some(wait))
                    .map_err(|_| "no connection".to_owned())?;
                none.insert(client)
            }
        };
        let heard = client.ask(words);
        heard.map_err(|error| {
            self.client = None;
            match error.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => "no answer",
                _ => "connection lost",
            }
            .to_owned()
        })
    }

    fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

/// What a reply says of the call.
fn understand(call: Call, reply: &Reply) -> (Outcome, Option<String>) {
    if let Reply::Error(text) = reply {
        // The proxy repeats what was refused until its deadline; the rest it says may have been carried out.
        let refused = text.starts_with("CLUSTERDOWN") || text.starts_with("MISCONF");
        let word = match text.split(' ').next() {
            Some("ERR") if text.contains("may or may not have been applied") => "in doubt",
            Some(word) => word,
            None => "an error without a word",
        };
        let outcome = match refused {
            true => Outcome::Refused,
            false => Outcome::Unknown,
        };
        return (outcome, Some(word.to_owned()));
    }
    let answer = match call {
        Call::Set(_) if *reply == Reply::ok() => Some(None),
        Call::Incr => reply.as_int().map(Some),
        Call::Get if *reply == Reply::Null => Some(None),
        Call::Get => reply.as_text().and_then(|text| text.parse().ok()).map(Some),
        Call::Set(_) => None,
    };
    match answer {
        Some(answer) => (Outcome::Answered(answer), None),
        None => (Outcome::Unknown, Some(format!("answered {reply}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::judge_all;
    use crate::redis::RedisServer;

    fn all_slots() -> SlotSet {
        larder_wire::Slot::all().collect()
    }

    #[test]
    fn a_server_that_answers_is_written_down_as_one_that_loses_nothing() {
        let server = RedisServer::start();
        let recorder = Recorder::start(server.addr(), 1, &[all_slots()], 4);
        assert!(recorder.wait_written(&[0], 500, Duration::from_secs(20)));
        let history = recorder.finish();
        assert_eq!(history.errors(), BTreeMap::new());
        assert_eq!(judge_all(&history.shared_keys()), []);
        let mut client = Client::to(server.addr());
        let lost = history.count_lost(&mut client, &[0], history.end_us);
        assert!(lost.acknowledged > 100 && lost.lost == 0, "{lost:?}");
        assert_eq!((lost.acknowledged_late, lost.refused), (0, 0));
        // What is not there is counted, and what was is missed by readers.
        client.run("FLUSHALL");
        let lost = history.count_lost(&mut client, &[0], 0);
        assert_eq!(lost.lost, lost.acknowledged);
        assert_eq!(lost.lost_late, lost.acknowledged_late);
        assert!(lost.lost_late > 100);
    }

    #[test]
    fn a_server_that_forgets_is_found_out() {
        let server = RedisServer::start();
        let recorder = Recorder::start(server.addr(), 2, &[all_slots()], 4);
        assert!(recorder.wait_written(&[0], 500, Duration::from_secs(20)));
        Client::to(server.addr()).run("FLUSHALL");
        assert!(recorder.wait_written(&[0], 500, Duration::from_secs(20)));
        let broken = judge_all(&recorder.finish().shared_keys());
        assert!(!broken.is_empty());
    }

    #[test]
    fn the_longest_time_without_is_that_of_the_shard_that_stood_longest() {
        let call = |shard: usize, end_us: u64, call: Call, outcome: Outcome| Recorded {
            shard,
            key: String::new(),
            operation: Operation {
                client: 0,
                call,
                outcome,
                start_us: end_us,
                end_us,
            },
            error: None,
            single: false,
        };
        let answered = Outcome::Answered(None);
        let history = History {
            calls: vec![
                call(0, 10, Call::Set(1), answered),
                call(0, 50, Call::Set(1), Outcome::Unknown),
                call(0, 90, Call::Set(1), answered),
                call(1, 20, Call::Set(1), answered),
                call(1, 60, Call::Get, answered),
            ],
            end_us: 100,
        };
        assert_eq!(history.longest_without(true, &[0], 0), 80);
        assert_eq!(history.longest_without(true, &[0], 40), 50);
        assert_eq!(history.longest_without(true, &[0, 1], 15), 80);
        assert_eq!(history.longest_without(false, &[1], 15), 45);
    }
}
