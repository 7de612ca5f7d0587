//! Writers that keep a model of what was acknowledged, so that at the end every key can be compared:
//! counters (INCR), lists (RPUSH of ascending numbers), one large hash each (HSET), and plain values.
//!
//! Each writer owns its keys. A reply that does not fit the model is recorded at once (a lost or doubled write shows
//! in INCR's and RPUSH's own answers), so are errors, and the longest wait for a reply.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use larder_wire::{Slot, slot_of};

use crate::chance::Chance;
use crate::client::Client;
use crate::reply::Reply;

/// Most faults that one writer writes down before it stops.
const FAULTS_MAX: usize = 1000;

/// How much each writer does.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub writers: usize,
    pub counters: usize,
    pub lists: usize,
    pub hash_fields: usize,
    /// Requests that a writer sends before it reads the replies, at most.
    pub pipeline: usize,
}

/// What is known of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Model {
    Counter(i64),
    /// Holds 0, 1, … below this.
    List(i64),
    Hash(BTreeMap<String, String>),
}

/// One thing that went wrong, with the slot of its key.
#[derive(Clone, Debug)]
pub struct Fault {
    pub slot: Slot,
    pub key: String,
    pub what: String,
}

/// What one writer leaves.
#[derive(Debug, Default)]
pub struct Outcome {
    pub model: BTreeMap<String, Model>,
    pub faults: Vec<Fault>,
    pub requests: u64,
    pub longest: Duration,
}

/// Writers at work.
pub struct Workload {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Outcome>>,
}

impl Workload {
    pub fn start(addr: SocketAddr, seed: u64, load: Load) -> Workload {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let threads = (0..load.writers)
            .map(|writer| {
                let (stop, done) = (stop.clone(), done.clone());
                std::thread::spawn(move || Writer::new(addr, seed, writer, load, done).run(&stop))
            })
            .collect();
        Workload {
            stop,
            done,
            threads,
        }
    }

    /// Requests answered by now, of all writers.
    pub fn answered(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until so many more requests were answered.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_for_more(&self, requests: u64) {
        let (from, give_up) = (self.answered(), Instant::now() + Duration::from_secs(60));
        while self.answered() < from + requests {
            assert!(Instant::now() < give_up, "the writers stand still");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends all writers after the requests that they have under way.
    pub fn finish(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Outcome::default();
        for thread in self.threads {
            let outcome = thread.join().expect("a writer does not panic");
            all.model.extend(outcome.model);
            all.faults.extend(outcome.faults);
            all.requests += outcome.requests;
            all.longest = all.longest.max(outcome.longest);
        }
        all
    }
}

/// Compares every key of the model with what the server has.
pub fn compare(client: &mut Client, model: &BTreeMap<String, Model>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (key, expected) in model {
        let found = match expected {
            Model::Counter(_) => client
                .run(&format!("GET {key}"))
                .as_text()
                .and_then(|text| text.parse().ok())
                .map(Model::Counter),
            Model::List(_) => list_model(client.run(&format!("LRANGE {key} 0 -1"))),
            Model::Hash(_) => hash_model(client.run(&format!("HGETALL {key}"))),
        };
        if found.as_ref() != Some(expected) {
            let what = format!(
                "expected {}, found {}",
                brief(Some(expected)),
                brief(found.as_ref())
            );
            faults.push(Fault {
                slot: slot_of(key.as_bytes()),
                key: key.clone(),
                what,
            });
        }
    }
    faults
}

fn list_model(reply: Reply) -> Option<Model> {
    let Reply::Array(items) = reply else {
        return None;
    };
    let in_order = items
        .iter()
        .enumerate()
        .all(|(index, item)| item.as_text() == Some(index.to_string()));
    in_order.then_some(Model::List(items.len() as i64))
}

fn hash_model(reply: Reply) -> Option<Model> {
    let Reply::Array(items) = reply else {
        return None;
    };
    let texts: Option<Vec<String>> = items.iter().map(Reply::as_text).collect();
    Some(Model::Hash(
        texts?
            .chunks_exact(2)
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect(),
    ))
}

fn brief(model: Option<&Model>) -> String {
    match model {
        None => "something else".into(),
        Some(Model::Hash(fields)) => format!("a hash of {} fields", fields.len()),
        Some(other) => format!("{other:?}"),
    }
}

struct Writer {
    addr: SocketAddr,
    client: Option<Client>,
    chance: Chance,
    name: usize,
    load: Load,
    done: Arc<AtomicU64>,
    /// Keys that a fault has hit: what they hold is not known any more, they are left alone.
    spoilt: BTreeSet<String>,
    out: Outcome,
}

struct Sent {
    key: String,
    args: Vec<String>,
}

impl Writer {
    fn new(addr: SocketAddr, seed: u64, name: usize, load: Load, done: Arc<AtomicU64>) -> Writer {
        let chance = Chance::from_seed(seed.wrapping_mul(1_000_003).wrapping_add(name as u64));
        Writer {
            addr,
            client: None,
            chance,
            name,
            load,
            done,
            spoilt: BTreeSet::new(),
            out: Outcome::default(),
        }
    }

    fn run(mut self, stop: &AtomicBool) -> Outcome {
        while !stop.load(Ordering::Relaxed) && self.out.faults.len() < FAULTS_MAX {
            let mut batch: Vec<Sent> = (0..1 + self.chance.below(self.load.pipeline))
                .map(|_| self.next())
                .collect();
            batch.retain(|sent| !self.spoilt.contains(&sent.key));
            if !batch.is_empty() {
                self.send(&batch);
            }
        }
        self.out
    }

    fn next(&mut self) -> Sent {
        let name = self.name;
        let (key, words) = match self.chance.below(3) {
            0 => {
                let key = format!("counter:{name}:{}", self.chance.below(self.load.counters));
                (key.clone(), vec!["INCR".into(), key])
            }
            1 => {
                let key = format!("list:{name}:{}", self.chance.below(self.load.lists));
                // What the list will hold by then: all earlier requests of this writer are answered or before it in the pipeline.
                (key.clone(), vec!["RPUSH".into(), key, String::new()])
            }
            _ => {
                let key = format!("hash:{name}");
                let field = format!("field:{}", self.chance.below(self.load.hash_fields));
                let value = format!("value:{}", self.chance.next_u64());
                (key.clone(), vec!["HSET".into(), key, field, value])
            }
        };
        Sent { key, args: words }
    }

    fn send(&mut self, batch: &[Sent]) {
        let mut lengths: BTreeMap<&str, i64> = BTreeMap::new();
        let requests: Vec<Vec<String>> = batch
            .iter()
            .map(|sent| {
                let mut args = sent.args.clone();
                if args[0] == "RPUSH" {
                    let length = lengths.entry(&sent.key).or_insert_with(|| {
                        match self.out.model.get(&sent.key) {
                            Some(Model::List(length)) => *length,
                            _ => 0,
                        }
                    });
                    args[2] = length.to_string();
                    *length += 1;
                }
                args
            })
            .collect();
        let client = match &mut self.client {
            Some(client) => client,
            none => match Client::connect(self.addr) {
                Ok(client) => none.insert(client),
                Err(error) => return self.fault(&batch[0], format!("no connection: {error}")),
            },
        };
        let start = Instant::now();
        let replies = client.pipeline(&requests);
        self.out.longest = self.out.longest.max(start.elapsed());
        match replies {
            Err(error) => {
                self.client = None;
                for sent in batch {
                    self.fault(sent, format!("connection lost: {error}"));
                }
            }
            Ok(replies) => {
                self.done.fetch_add(batch.len() as u64, Ordering::Relaxed);
                self.out.requests += batch.len() as u64;
                for ((sent, args), reply) in batch.iter().zip(&requests).zip(replies) {
                    self.judge(sent, args, &reply);
                }
            }
        }
    }

    fn judge(&mut self, sent: &Sent, args: &[String], reply: &Reply) {
        match args[0].as_str() {
            "INCR" => {
                let Model::Counter(value) = self
                    .out
                    .model
                    .entry(sent.key.clone())
                    .or_insert(Model::Counter(0))
                else {
                    unreachable!("counters are counters")
                };
                let expected = *value + 1;
                match reply.as_int() {
                    Some(found) if found == expected => *value = expected,
                    _ => self.fault(
                        sent,
                        format!("INCR answered {reply:?}, expected {expected}"),
                    ),
                }
            }
            "RPUSH" => {
                let Model::List(length) = self
                    .out
                    .model
                    .entry(sent.key.clone())
                    .or_insert(Model::List(0))
                else {
                    unreachable!("lists are lists")
                };
                let expected = *length + 1;
                match reply.as_int() {
                    Some(found) if found == expected => *length = expected,
                    _ => self.fault(
                        sent,
                        format!("RPUSH answered {reply:?}, expected {expected}"),
                    ),
                }
            }
            "HSET" => {
                let Model::Hash(fields) = self
                    .out
                    .model
                    .entry(sent.key.clone())
                    .or_insert(Model::Hash(BTreeMap::new()))
                else {
                    unreachable!("hashes are hashes")
                };
                let expected = i64::from(!fields.contains_key(&args[2]));
                match reply.as_int() {
                    Some(found) if found == expected => {
                        fields.insert(args[2].clone(), args[3].clone());
                    }
                    _ => self.fault(
                        sent,
                        format!("HSET answered {reply:?}, expected {expected}"),
                    ),
                }
            }
            other => unreachable!("no writer sends {other}"),
        }
    }

    fn fault(&mut self, sent: &Sent, what: String) {
        self.spoilt.insert(sent.key.clone());
        let slot = slot_of(sent.key.as_bytes());
        self.out.faults.push(Fault {
            slot,
            key: sent.key.clone(),
            what,
        });
    }
}
