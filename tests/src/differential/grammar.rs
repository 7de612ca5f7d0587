//! Makes a random request of a template.

use super::Args;
use crate::chance::Chance;

/// What EVAL is given: with two keys and an argument, or fewer of them.
const SCRIPTS: &[&str] = &[
    "return {KEYS, ARGV}",
    "return redis.call('GET', KEYS[1])",
    "return redis.pcall('GET', KEYS[2])",
    "return redis.call('SET', KEYS[1], ARGV[1])",
    "return redis.call('HGETALL', KEYS[1])",
    "redis.setresp(3) return redis.call('HGETALL', KEYS[2])",
    "redis.setresp(3) return redis.pcall('SMEMBERS', KEYS[1])",
    "redis.setresp(3) return {redis.pcall('ZSCORE', KEYS[1], 'm1'), true, false}",
    "return redis.call('INCRBYFLOAT', KEYS[1], 1.5)",
    "return redis.call('RPUSH', KEYS[1], 1, 2, unpack(ARGV))",
    "local r = redis.pcall('INCR', KEYS[1]) return type(r) == 'table' and r.err or r",
    "return cjson.encode({KEYS, ARGV, redis.pcall('TYPE', KEYS[1])})",
    "return cmsgpack.pack(ARGV)",
    "#!lua flags=no-writes\nreturn redis.call('DEL', KEYS[1])",
    "return {1, 2.7, false, 'x', {}, nil, 3}",
    "return nothing",
    "return redis.call('NOTHING', KEYS[1])",
    "return redis.error_reply('MY error')",
    "return redis.call('SELECT', 1)",
];

/// A template, parsed.
#[derive(Debug)]
pub struct Template {
    words: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Word(String),
    /// One of the alternatives.
    One(Vec<Vec<Part>>),
    /// None or one of the alternatives.
    Maybe(Vec<Vec<Part>>),
    Repeat(Box<Part>),
}

impl Template {
    /// # Panics
    /// When the line has brackets that do not match: a mistake in the list of templates.
    pub fn parse(line: &str) -> Template {
        let mut rest = tokens(line);
        rest.reverse();
        let mut alternatives = parse_until(&mut rest, None);
        assert_eq!(
            alternatives.len(),
            1,
            "{line}: alternatives outside of brackets"
        );
        Template {
            words: alternatives.remove(0),
        }
    }

    /// The command's name, and what follows it when that is a word in capitals (its subcommand, perhaps).
    pub fn names(&self) -> (&str, Option<&str>) {
        let word = |at: usize| match self.words.get(at) {
            Some(Part::Word(word)) if is_literal(word) => Some(word.as_str()),
            _ => None,
        };
        (word(0).expect("a template starts with a name"), word(1))
    }

    pub fn request(&self, chance: &mut Chance) -> Args {
        let mut args = Vec::new();
        for part in &self.words {
            part.write(&mut args, chance);
        }
        let (name, _) = self.names();
        // A blocking command with a time-out of 0 would wait for ever.
        let blocks = name.starts_with('B') && !name.starts_with("BIT");
        if chance.one_in(12) && !blocks {
            spoil(&mut args, chance);
        }
        args
    }
}

fn is_literal(word: &str) -> bool {
    !word.bytes().any(|byte| byte.is_ascii_lowercase())
}

fn tokens(line: &str) -> Vec<String> {
    let mut spaced = String::new();
    for c in line.chars() {
        match c {
            '[' | ']' | '(' | ')' | '|' | '+' => spaced.extend([' ', c, ' ']),
            other => spaced.push(other),
        }
    }
    spaced.split_whitespace().map(str::to_owned).collect()
}

/// Reads alternatives up to the closing bracket.
fn parse_until(rest: &mut Vec<String>, close: Option<&str>) -> Vec<Vec<Part>> {
    let mut alternatives = vec![Vec::new()];
    while let Some(token) = rest.pop() {
        let sequence = alternatives.last_mut().expect("there is one");
        match token.as_str() {
            "|" => alternatives.push(Vec::new()),
            "(" => sequence.push(Part::One(parse_until(rest, Some(")")))),
            "[" => sequence.push(Part::Maybe(parse_until(rest, Some("]")))),
            "+" => {
                let part = sequence.pop().expect("+ follows something");
                sequence.push(Part::Repeat(Box::new(part)));
            }
            bracket @ (")" | "]") => {
                assert_eq!(Some(bracket), close, "brackets match");
                return alternatives;
            }
            _ => sequence.push(Part::Word(token)),
        }
    }
    assert_eq!(close, None, "brackets are closed");
    alternatives
}

impl Part {
    fn write(&self, args: &mut Args, chance: &mut Chance) {
        match self {
            Part::Word(word) => write_word(word, args, chance),
            Part::One(alternatives) => {
                for part in chance.pick(alternatives) {
                    part.write(args, chance);
                }
            }
            Part::Maybe(alternatives) => {
                if chance.one_in(2) {
                    for part in chance.pick(alternatives) {
                        part.write(args, chance);
                    }
                }
            }
            Part::Repeat(part) => {
                // Now and then enough to outgrow a small encoding.
                let times = if chance.one_in(25) {
                    150
                } else {
                    1 + chance.below(4)
                };
                for _ in 0..times {
                    part.write(args, chance);
                }
            }
        }
    }
}

fn write_word(word: &str, args: &mut Args, chance: &mut Chance) {
    if let Some(counted) = word.strip_prefix("N:") {
        let count = 1 + chance.below(3);
        args.push(count.to_string().into_bytes());
        for _ in 0..count {
            write_word(counted, args, chance);
        }
        return;
    }
    if word == "bits" {
        let width = *chance.pick(&[1, 2, 5, 8, 16, 31, 32, 63]);
        args.push(format!("{}{width}", chance.pick(&["u", "i"])).into_bytes());
        return;
    }
    if is_literal(word) {
        args.push(any_case(word, chance));
        return;
    }
    args.push(match word {
        "s" | "h" | "l" | "t" | "z" | "p" | "g" => key(Some(word), chance),
        "x" => format!("x{}", chance.below(3)).into_bytes(),
        "k" => key(None, chance),
        "v" => value(chance),
        "f" | "m" => member(chance),
        "int" => integer(chance),
        "idx" => chance.between(-8, 8).to_string().into_bytes(),
        "n" => chance.between(0, 12).to_string().into_bytes(),
        "bit" => bit_offset(chance),
        "float" => float(chance),
        "score" => score(chance),
        "min" | "max" => bound(chance),
        "lmin" | "lmax" => lex_bound(chance),
        "lon" => degrees(180, chance),
        "lat" => degrees(85, chance),
        "len" => length(chance),
        "db" => database(chance),
        "unit" => chance
            .pick(&["m", "km", "ft", "mi", "KM"])
            .as_bytes()
            .to_vec(),
        "sec" => chance
            .pick(&["100", "1000", "5000", "100000"])
            .as_bytes()
            .to_vec(),
        "ms" => chance
            .pick(&["100000", "1000000", "5000000"])
            .as_bytes()
            .to_vec(),
        // The year 2100, or long past.
        "at" => chance
            .pick(&["4102444800", "4102444801", "1"])
            .as_bytes()
            .to_vec(),
        "atms" => chance
            .pick(&["4102444800000", "4102444801234", "1"])
            .as_bytes()
            .to_vec(),
        "flags" => chance
            .pick(&["NX", "XX", "GT", "LT", "gt"])
            .as_bytes()
            .to_vec(),
        "pat" => chance
            .pick(&["*", "s*", "?0", "[st]1", "m*", "*1*", "nomatch"])
            .as_bytes()
            .to_vec(),
        "lua" => chance.pick(SCRIPTS).as_bytes().to_vec(),
        "type" => chance
            .pick(&["string", "hash", "list", "set", "zset", "stream"])
            .as_bytes()
            .to_vec(),
        // nosort, maxmemory, x …: themselves.
        other => other.as_bytes().to_vec(),
    });
}

fn any_case(word: &str, chance: &mut Chance) -> Vec<u8> {
    if chance.one_in(10) {
        word.to_ascii_lowercase().into_bytes()
    } else {
        word.as_bytes().to_vec()
    }
}

/// What the names of keys start with, by what most of them hold.
const KINDS: &[&str] = &["s", "h", "l", "t", "z", "p", "g"];

/// All keys that requests name.
pub fn all_keys() -> impl Iterator<Item = String> {
    let same_score = (0..3).map(|number| format!("x{number}"));
    any_keys().chain(same_score)
}

/// Those that may hold anything.
pub fn any_keys() -> impl Iterator<Item = String> {
    KINDS
        .iter()
        .flat_map(|kind| (0..4).map(move |number| format!("{kind}{number}")))
}

fn key(kind: Option<&str>, chance: &mut Chance) -> Vec<u8> {
    let kind = match kind {
        Some(kind) if !chance.one_in(15) => kind,
        _ => chance.pick(KINDS),
    };
    format!("{kind}{}", chance.below(4)).into_bytes()
}

fn value(chance: &mut Chance) -> Vec<u8> {
    match chance.below(12) {
        0 => Vec::new(),
        1 => integer(chance),
        2 => float(chance),
        3 => b"bin\0\r\n\xff".to_vec(),
        4 => vec![b'x'; 45 + chance.below(3)],
        5 => vec![b'L'; 63 + chance.below(3)],
        6 if chance.one_in(4) => vec![b'y'; 9000],
        _ => format!("v{}", chance.below(10)).into_bytes(),
    }
}

fn member(chance: &mut Chance) -> Vec<u8> {
    match chance.below(10) {
        0 => integer(chance),
        1 => value(chance),
        2 => format!("m{}", chance.below(400)).into_bytes(),
        _ => format!("m{}", chance.below(12)).into_bytes(),
    }
}

fn integer(chance: &mut Chance) -> Vec<u8> {
    match chance.below(14) {
        0 => i64::MAX.to_string(),
        1 => i64::MIN.to_string(),
        2 => "0".to_owned(),
        3 => chance.between(-70_000, 70_000).to_string(),
        4 => (1_i64 << chance.below(62)).to_string(),
        _ => chance.between(-20, 20).to_string(),
    }
    .into_bytes()
}

fn bit_offset(chance: &mut Chance) -> Vec<u8> {
    match chance.below(10) {
        0 => format!("#{}", chance.below(20)),
        1 => "-1".to_owned(),
        2 => "4294967296".to_owned(),
        _ => chance.below(300).to_string(),
    }
    .into_bytes()
}

fn float(chance: &mut Chance) -> Vec<u8> {
    match chance.below(12) {
        0 => "1e5".to_owned(),
        1 => "-1.5e-3".to_owned(),
        2 => "inf".to_owned(),
        3 => "nan".to_owned(),
        4 => "3.0000".to_owned(),
        5 => "1e308".to_owned(),
        6 => "0.1".to_owned(),
        _ => format!("{}.{}", chance.between(-50, 50), chance.below(1000)),
    }
    .into_bytes()
}

fn score(chance: &mut Chance) -> Vec<u8> {
    match chance.below(12) {
        0 => b"inf".to_vec(),
        1 => b"-inf".to_vec(),
        2 => b"1e20".to_vec(),
        3 => b"0.1".to_vec(),
        4 => format!("{}.{}", chance.between(-9, 9), chance.below(100)).into_bytes(),
        _ => chance.between(-5, 5).to_string().into_bytes(),
    }
}

/// Mostly near to each other, and now and then in one place.
fn degrees(most: i64, chance: &mut Chance) -> Vec<u8> {
    match chance.below(10) {
        0 => most.to_string(),
        1 => (most + 1).to_string(),
        2 | 3 => format!(
            "{}.{}",
            chance.between(1 - most, most - 1),
            chance.below(10_000)
        ),
        4 | 5 => chance.between(-2, 2).to_string(),
        _ => format!("{}.{:03}", chance.between(10, 15), chance.below(1000)),
    }
    .into_bytes()
}

/// Databases that requests name.
pub const DATABASES: &[&str] = &["0", "1", "2"];

fn database(chance: &mut Chance) -> Vec<u8> {
    const NONE: &[&str] = &["16", "-1", "x", "99999999999"];
    let from = if chance.one_in(8) { NONE } else { DATABASES };
    chance.pick(from).as_bytes().to_vec()
}

fn length(chance: &mut Chance) -> Vec<u8> {
    match chance.below(8) {
        0 => "0".to_owned(),
        1 => "-1".to_owned(),
        2 => format!("0.{}", chance.below(1000)),
        _ => (1_i64 << chance.below(25)).to_string(),
    }
    .into_bytes()
}

fn bound(chance: &mut Chance) -> Vec<u8> {
    match chance.below(8) {
        0 => b"-inf".to_vec(),
        1 => b"+inf".to_vec(),
        2 => {
            let mut open = b"(".to_vec();
            open.extend(score(chance));
            open
        }
        _ => score(chance),
    }
}

fn lex_bound(chance: &mut Chance) -> Vec<u8> {
    match chance.below(6) {
        0 => b"-".to_vec(),
        1 => b"+".to_vec(),
        2 => b"m".to_vec(),
        number => {
            let mut bound = if number == 3 {
                b"(".to_vec()
            } else {
                b"[".to_vec()
            };
            bound.extend(member(chance));
            bound
        }
    }
}

/// One argument too few or too many, or one that is of another kind.
fn spoil(args: &mut Args, chance: &mut Chance) {
    const JUNK: &[&str] = &[
        "",
        "x",
        "-1",
        "0",
        "1.5",
        "9223372036854775808",
        "1e400",
        "NX",
        "COUNT",
        "LIMIT",
        "WITHSCORES",
        "EX",
        " 1",
        "01",
    ];
    if args.len() < 2 {
        args.push(chance.pick(JUNK).as_bytes().to_vec());
        return;
    }
    let at = 1 + chance.below(args.len() - 1);
    match chance.below(4) {
        0 => {
            args.remove(at);
        }
        1 => args.push(chance.pick(JUNK).as_bytes().to_vec()),
        2 => args.insert(at, args[at].clone()),
        _ => args[at] = chance.pick(JUNK).as_bytes().to_vec(),
    }
}
