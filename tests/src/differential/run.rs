//! Runs a case on both servers, and shortens one that fails.

use std::io;
use std::net::SocketAddr;

use super::Args;
use super::case::{CONNECTIONS, Step, line};
use super::compare::{difference, sorted, sorted_pairs};
use super::grammar::{DATABASES, all_keys};
use super::waiting::Waiting;
use crate::client::Client;
use crate::reply::Reply;

/// Most runs that are spent on shortening one case.
const SHORTENING_RUNS_MAX: usize = 400;
/// Most rounds of one walk of a cursor.
const WALK_ROUNDS_MAX: usize = 10_000;

/// Where the servers differed.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The index of the step, or the number of steps when the keys differ after the last.
    pub step: usize,
    pub request: String,
    pub redis: Reply,
    pub larder: Reply,
}

/// The two servers that are compared.
pub struct Pair {
    pub redis: SocketAddr,
    pub larder: SocketAddr,
    /// What is told of keys (`notify-keyspace-events`) is compared, too.
    pub hears_events: bool,
}

impl Pair {
    /// Runs `steps` from empty servers; `None` when all replies and all keys at the end are alike.
    pub fn run(&self, steps: &[Step]) -> Option<Difference> {
        let mut run = Run::start(self).unwrap_or_else(|error| panic!("a case begins: {error}"));
        for (at, step) in steps.iter().enumerate() {
            if let Some(difference) = run.step(step).or_else(|| run.compare_events(step)) {
                return Some(Difference {
                    step: at,
                    ..difference
                });
            }
        }
        run.compare_keys().map(|difference| Difference {
            step: steps.len(),
            ..difference
        })
    }

    /// A case as short as can be found that still fails, and how it fails.
    pub fn shorten(&self, steps: &[Step], found: Difference) -> (Vec<Step>, Difference) {
        let mut steps = steps[..steps.len().min(found.step + 1)].to_vec();
        let mut found = found;
        let mut runs = 0;
        let mut chunk = steps.len().div_ceil(2).max(1);
        loop {
            let mut from = 0;
            let mut shorter = false;
            while from < steps.len() && runs < SHORTENING_RUNS_MAX {
                let mut fewer = steps.clone();
                fewer.drain(from..(from + chunk).min(steps.len()));
                runs += 1;
                match self.run(&fewer) {
                    Some(difference) => {
                        fewer.truncate(difference.step + 1);
                        (steps, found, shorter) = (fewer, difference, true);
                    }
                    None => from += chunk,
                }
            }
            if runs >= SHORTENING_RUNS_MAX || (chunk == 1 && !shorter) {
                return (steps, found);
            }
            chunk = (chunk / 2).max(1);
        }
    }
}

/// A report that a person can act on.
pub fn report(seed: u64, steps: &[Step], found: &Difference) -> String {
    let steps: Vec<String> = steps.iter().map(Step::to_string).collect();
    format!(
        "seed {seed} (LARDER_SEED={seed} runs it alone); shortest case, [0] speaks RESP2, [1] RESP3:\n{}\n\
         {}\n  redis  {}\n  larder {}",
        steps.join("\n"),
        found.request,
        found.redis,
        found.larder
    )
}

/// The connections of one run.
struct Run {
    addrs: [SocketAddr; 2],
    redis: Vec<Side>,
    larder: Vec<Side>,
    /// Who hears of events at each server.
    ears: Option<[Client; 2]>,
}

/// One connection to one server.
struct Side {
    client: Client,
    /// What MULTI has queued, to know what EXEC's replies belong to.
    queued: Option<Vec<Args>>,
}

impl Side {
    fn ask(&mut self, args: &Args) -> Reply {
        self.client.ask(args).unwrap_or_else(broken)
    }
}

/// A broken connection is a difference like any other.
fn broken(error: io::Error) -> Reply {
    Reply::Error(format!("(connection broken: {})", error.kind()))
}

impl Run {
    fn start(pair: &Pair) -> io::Result<Run> {
        let open = |addr: SocketAddr| -> io::Result<Vec<Side>> {
            (0..CONNECTIONS)
                .map(|number| {
                    let mut client = Client::connect(addr)?;
                    if number == 1 {
                        client.ask(&["HELLO", "3"])?;
                    }
                    Ok(Side {
                        client,
                        queued: None,
                    })
                })
                .collect()
        };
        let mut run = Run {
            addrs: [pair.redis, pair.larder],
            redis: open(pair.redis)?,
            larder: open(pair.larder)?,
            ears: None,
        };
        run.redis[0].client.ask(&["FLUSHALL"])?;
        run.larder[0].client.ask(&["FLUSHALL"])?;
        if pair.hears_events {
            run.ears = Some([listen(pair.redis)?, listen(pair.larder)?]);
        }
        Ok(run)
    }

    fn step(&mut self, step: &Step) -> Option<Difference> {
        match step {
            Step::Requests {
                connection,
                requests,
            } => requests
                .iter()
                .find_map(|args| self.request(*connection, args)),
            Step::Walk {
                connection,
                args,
                at,
            } => {
                let redis = walk(&mut self.redis[*connection], args, *at);
                let larder = walk(&mut self.larder[*connection], args, *at);
                (redis != larder).then(|| differ(format!("walk {}", line(args)), redis, larder))
            }
            Step::Cross { from, to } => self.cross(from, to),
            Step::Wait(waiting) => self.wait(waiting),
        }
    }

    fn wait(&self, waiting: &Waiting) -> Option<Difference> {
        let [theirs, ours] = self.addrs.map(|addr| {
            waiting
                .run(addr)
                .unwrap_or_else(|error| vec![broken(error)])
        });
        let pairs = theirs.iter().zip(&ours);
        let mut pairs = waiting.requests().into_iter().zip(pairs);
        pairs.find_map(|(args, (theirs, ours))| {
            let (theirs, ours) = difference(&args, theirs, ours)?;
            Some(differ(line(&args), theirs, ours))
        })
    }

    fn request(&mut self, connection: usize, args: &Args) -> Option<Difference> {
        let (redis, larder) = (&mut self.redis[connection], &mut self.larder[connection]);
        let (theirs, ours) = (redis.ask(args), larder.ask(args));
        let queued = redis.queued.take();
        let is = |name: &str| args[0].eq_ignore_ascii_case(name.as_bytes());
        let found = match (&queued, &theirs, &ours) {
            (Some(queued), Reply::Array(theirs), Reply::Array(ours))
                if is("EXEC") && theirs.len() == ours.len() && queued.len() == ours.len() =>
            {
                queued
                    .iter()
                    .zip(theirs.iter().zip(ours))
                    .find_map(|(args, (a, b))| {
                        let (a, b) = difference(args, a, b)?;
                        Some(differ(format!("{} in EXEC", line(args)), a, b))
                    })
            }
            // Queued: the reply is no reply to the command yet.
            (Some(_), _, _) => {
                (theirs != ours).then(|| differ(line(args), theirs.clone(), ours.clone()))
            }
            (None, _, _) => difference(args, &theirs, &ours).map(|(a, b)| differ(line(args), a, b)),
        };
        redis.queued = match queued {
            None if is("MULTI") && theirs == Reply::ok() => Some(Vec::new()),
            Some(_) if is("EXEC") || is("DISCARD") => None,
            Some(mut list) => {
                if theirs == Reply::Simple("QUEUED".to_owned()) {
                    list.push(args.clone());
                }
                Some(list)
            }
            None => None,
        };
        found
    }

    /// What was told of keys during a step. When a key is found to have expired is each server's own affair, and so is what follows
    /// from it.
    fn compare_events(&mut self, step: &Step) -> Option<Difference> {
        let [redis, larder] = self.ears.as_mut()?;
        let (theirs, ours) = (hear(redis), hear(larder));
        let expired = |events: &[String]| events.iter().any(|event| event.contains("expired"));
        if theirs == ours || expired(&theirs) || expired(&ours) {
            return None;
        }
        let told = |events: Vec<String>| {
            Reply::Array(events.iter().map(|event| Reply::bulk(event)).collect())
        };
        Some(differ(
            format!("events of {step}"),
            told(theirs),
            told(ours),
        ))
    }

    fn cross(&mut self, from: &[u8], to: &[u8]) -> Option<Difference> {
        let dump: Args = vec![b"DUMP".to_vec(), from.to_vec()];
        let (theirs, ours) = (self.redis[0].ask(&dump), self.larder[0].ask(&dump));
        let (Some(payload_of_redis), Some(payload_of_larder)) =
            (theirs.as_bytes(), ours.as_bytes())
        else {
            return (theirs != ours).then(|| differ(line(&dump), theirs, ours));
        };
        let restore = |payload: &[u8]| -> Args {
            vec![
                b"RESTORE".to_vec(),
                to.to_vec(),
                b"0".to_vec(),
                payload.to_vec(),
                b"REPLACE".to_vec(),
            ]
        };
        let on_redis = self.redis[0].ask(&restore(payload_of_larder));
        let on_larder = self.larder[0].ask(&restore(payload_of_redis));
        let request = format!(
            "RESTORE {} of the other's DUMP",
            String::from_utf8_lossy(to)
        );
        if on_redis != Reply::ok() || on_larder != Reply::ok() {
            return Some(differ(request, on_redis, on_larder));
        }
        self.compare_key(to)
    }

    fn compare_keys(&mut self) -> Option<Difference> {
        for connection in 0..CONNECTIONS {
            // A transaction that was left open would only queue.
            let _ = self.request(connection, &vec![b"DISCARD".to_vec()]);
        }
        DATABASES.iter().find_map(|db| {
            let select = ["SELECT", db];
            self.ask_both(&select)
                .or_else(|| all_keys().find_map(|key| self.compare_key(key.as_bytes())))
                // Each key was looked at: none that is over is left to be counted.
                .or_else(|| self.ask_both(&["DBSIZE"]))
                .map(|found| Difference {
                    request: format!("{} in database {db}", found.request),
                    ..found
                })
        })
    }

    /// Demands the very same reply.
    fn ask_both(&mut self, args: &[&str]) -> Option<Difference> {
        let redis = self.redis[0].client.ask(args).unwrap_or_else(broken);
        let larder = self.larder[0].client.ask(args).unwrap_or_else(broken);
        (redis != larder).then(|| differ(args.join(" "), redis, larder))
    }

    /// The type, the value and the time to live.
    fn compare_key(&mut self, key: &[u8]) -> Option<Difference> {
        let request = |name: &str, more: &[&str]| -> Args {
            let mut args: Args = vec![name.as_bytes().to_vec(), key.to_vec()];
            args.extend(more.iter().map(|arg| arg.as_bytes().to_vec()));
            args
        };
        let kind = self.redis[0].ask(&request("TYPE", &[]));
        let read = match kind.as_text().as_deref() {
            Some("string") => request("GET", &[]),
            Some("list") => request("LRANGE", &["0", "-1"]),
            Some("hash") => request("HGETALL", &[]),
            Some("set") => request("SMEMBERS", &[]),
            Some("zset") => request("ZRANGE", &["0", "-1", "WITHSCORES"]),
            _ => request("EXISTS", &[]),
        };
        [request("TYPE", &[]), read, request("PTTL", &[])]
            .iter()
            .find_map(|args| self.request(0, args))
    }
}

/// A client that hears of all events.
fn listen(addr: SocketAddr) -> io::Result<Client> {
    let mut client = Client::connect(addr)?;
    client.ask(&["CONFIG", "SET", "notify-keyspace-events", "KEAnm"])?;
    client.ask(&["PSUBSCRIBE", "__key*"])?;
    Ok(client)
}

/// The messages up to now, channel and content.
fn hear(client: &mut Client) -> Vec<String> {
    let mut heard = Vec::new();
    if let Err(error) = client.send(&["PING"]) {
        return vec![format!("(connection broken: {})", error.kind())];
    }
    loop {
        match client.read().map(|message| message.items()) {
            Ok(items) => match items.as_slice() {
                [_, _, channel, content] => heard.push(format!("{channel} {content}")),
                _ => return heard,
            },
            Err(error) => return vec![format!("(connection broken: {})", error.kind())],
        }
    }
}

fn differ(request: String, redis: Reply, larder: Reply) -> Difference {
    Difference {
        step: 0,
        request,
        redis,
        larder,
    }
}

/// All that a cursor visits, sorted and each once; or the first error.
fn walk(side: &mut Side, args: &Args, at: usize) -> Reply {
    let in_pairs =
        !args[0].eq_ignore_ascii_case(b"SCAN") && !args[0].eq_ignore_ascii_case(b"SSCAN");
    let mut args = args.clone();
    let mut seen = Vec::new();
    for _ in 0..WALK_ROUNDS_MAX {
        let reply = side.ask(&args);
        let [cursor, found] = reply
            .items()
            .try_into()
            .unwrap_or([Reply::Null, reply.clone()]);
        let Some(cursor) = cursor.as_bytes() else {
            return reply;
        };
        seen.extend(found.items());
        if cursor == b"0" {
            return if in_pairs {
                let mut pairs = sorted_pairs(Reply::Array(seen)).items();
                let mut unique: Vec<Vec<Reply>> = pairs.chunks(2).map(<[Reply]>::to_vec).collect();
                unique.dedup();
                pairs = unique.concat();
                Reply::Array(pairs)
            } else {
                seen.sort();
                seen.dedup();
                sorted(Reply::Array(seen))
            };
        }
        args[at] = cursor.to_vec();
    }
    Reply::Error(format!(
        "(the cursor does not end within {WALK_ROUNDS_MAX} rounds)"
    ))
}
