//! A case: a list of steps made from a seed.

use std::fmt;

use larder_wire::command::{CommandId, Found, Home, lookup, spec};

use super::Args;
use super::grammar::{Template, any_keys};
use super::templates::TEMPLATES;
use super::waiting::{Waiting, waiting};
use crate::chance::Chance;

/// Connections of a case: the first speaks RESP2, the second RESP3.
pub const CONNECTIONS: usize = 2;

/// What stays together when a failing case is shortened.
#[derive(Clone, Debug)]
pub enum Step {
    /// Requests on one connection, one after the other.
    Requests {
        connection: usize,
        requests: Vec<Args>,
    },
    /// Walks a cursor to its end; `at` is the cursor's argument.
    Walk {
        connection: usize,
        args: Args,
        at: usize,
    },
    /// DUMPs a key on each server and RESTOREs it on the other under a new name.
    Cross { from: Vec<u8>, to: Vec<u8> },
    /// A client waits for what another does.
    Wait(Waiting),
}

/// The templates of commands that a node executes.
pub struct Commands {
    templates: Vec<Template>,
    /// DEBUG SLEEP is there to let time pass.
    can_sleep: bool,
}

impl Commands {
    pub fn executed() -> Commands {
        Commands::those(|id| match spec(id).home {
            Home::Store | Home::Engine | Home::Container => true,
            Home::Nobody => false,
        })
    }

    /// Those that `keep` keeps, and names that are none.
    pub fn those(keep: impl Fn(CommandId) -> bool) -> Commands {
        let templates = TEMPLATES
            .iter()
            .map(|line| Template::parse(line))
            .filter(|template| {
                let (name, sub) = template.names();
                match lookup(name.as_bytes(), sub.map(str::as_bytes)) {
                    Found::Command(id) | Found::UnknownSubcommand(id) => keep(id),
                    Found::Unknown => true,
                }
            })
            .collect();
        Commands {
            templates,
            can_sleep: keep(CommandId::Debug),
        }
    }

    /// Names of commands that have a template.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.templates.iter().map(|template| template.names().0)
    }

    pub fn case(&self, seed: u64, steps: usize) -> Vec<Step> {
        let mut chance = Chance::from_seed(seed);
        (0..steps).map(|_| self.step(&mut chance)).collect()
    }

    fn step(&self, chance: &mut Chance) -> Step {
        let connection = chance.below(CONNECTIONS);
        match chance.below(40) {
            0 => self.transaction(connection, chance),
            1 if self.can_sleep => expiring(connection, chance),
            2 if self.has("DUMP") && self.has("RESTORE") => {
                let keys: Vec<String> = any_keys().collect();
                Step::Cross {
                    from: chance.pick(&keys).clone().into_bytes(),
                    to: chance.pick(&keys).clone().into_bytes(),
                }
            }
            3 if self.has("BLPOP") => Step::Wait(waiting(chance)),
            _ => self.single(connection, chance),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.names().any(|has| has == name)
    }

    fn single(&self, connection: usize, chance: &mut Chance) -> Step {
        let mut args = chance.pick(&self.templates).request(chance);
        if args[0].eq_ignore_ascii_case(b"ZRANK") || args[0].eq_ignore_ascii_case(b"ZREVRANK") {
            // WITHSCORE came after Redis 7.0, which refuses a third argument before it looks at it.
            args.truncate(3);
        }
        let is = |name: &str| args[0].eq_ignore_ascii_case(name.as_bytes());
        if is("SPOP") {
            // What is left differs: the set goes away.
            let mut requests = vec![args];
            requests.extend(delete_second(&requests[0]));
            return Step::Requests {
                connection,
                requests,
            };
        }
        let cursor = if is("SCAN") { 1 } else { 2 };
        let walks = is("SCAN") || is("SSCAN") || is("HSCAN") || is("ZSCAN");
        if walks && args.get(cursor).is_some_and(|arg| arg == b"0") {
            return Step::Walk {
                connection,
                args,
                at: cursor,
            };
        }
        Step::Requests {
            connection,
            requests: vec![args],
        }
    }

    fn transaction(&self, connection: usize, chance: &mut Chance) -> Step {
        let mut requests: Vec<Args> = Vec::new();
        if chance.one_in(2) {
            requests.push(words(&["WATCH", "s0", "h0"]));
        }
        if chance.one_in(4) {
            requests.push(words(&["SET", "s0", "changed"]));
        }
        requests.push(words(&["MULTI"]));
        for _ in 0..chance.below(6) {
            match self.single(connection, chance) {
                Step::Requests { requests: more, .. } => requests.extend(more),
                Step::Walk { .. } | Step::Cross { .. } | Step::Wait(_) => {}
            }
        }
        requests.push(words(&[if chance.one_in(6) { "DISCARD" } else { "EXEC" }]));
        Step::Requests {
            connection,
            requests,
        }
    }
}

/// A key that lives for a millisecond, looked at when that is over.
fn expiring(connection: usize, chance: &mut Chance) -> Step {
    let keys: Vec<String> = any_keys().collect();
    let key = chance.pick(&keys).as_str();
    let look = *chance.pick(&["GET", "TYPE", "TTL", "EXISTS", "INCR", "DEL", "PERSIST"]);
    Step::Requests {
        connection,
        requests: vec![
            words(&["PEXPIRE", key, "1"]),
            words(&["DEBUG", "SLEEP", "0.003"]),
            words(&[look, key]),
        ],
    }
}

fn delete_second(args: &Args) -> Option<Args> {
    let key = args.get(1)?.clone();
    Some(vec![b"DEL".to_vec(), key])
}

fn words(words: &[&str]) -> Args {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// One line, as one would type it into redis-cli.
pub fn line(args: &Args) -> String {
    let quoted = args.iter().map(|arg| {
        let plain = !arg.is_empty()
            && arg
                .iter()
                .all(|byte| byte.is_ascii_graphic() && *byte != b'"');
        if plain && arg.len() <= 80 {
            String::from_utf8_lossy(arg).into_owned()
        } else if arg.len() > 80 {
            format!("\"{}…{} bytes\"", arg[..8].escape_ascii(), arg.len())
        } else {
            format!("\"{}\"", arg.escape_ascii())
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Requests {
                connection,
                requests,
            } => {
                let lines: Vec<String> = requests.iter().map(line).collect();
                write!(f, "[{connection}] {}", lines.join("\n    "))
            }
            Step::Walk {
                connection, args, ..
            } => write!(f, "[{connection}] walk {}", line(args)),
            Step::Wait(waiting) => write!(f, "{waiting}"),
            Step::Cross { from, to } => write!(
                f,
                "DUMP {}, RESTORE {} on the other",
                String::from_utf8_lossy(from),
                String::from_utf8_lossy(to)
            ),
        }
    }
}
