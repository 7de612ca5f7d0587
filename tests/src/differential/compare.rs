//! Which replies have to be equal, and which may differ in what way.

use super::Args;
use crate::reply::Reply;

/// Two servers that are asked one after the other may be this far apart in time, in milliseconds.
const SKEW_MS_MAX: i64 = 2000;

/// How replies to one request are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Likeness {
    /// Equal.
    Same,
    /// Equal when sorted.
    Unordered,
    /// Equal when sorted by pairs (a flat array to RESP2, a map to RESP3).
    UnorderedPairs,
    /// Integers that are milliseconds or seconds, equal within the skew.
    Milliseconds,
    Seconds,
    /// Of one type, arrays of one length.
    Shape,
    /// Equal, or a short string that Redis keeps `raw` since it was once changed in place.
    Encoding,
    /// Equal but for the sign of zero, which a packed sorted set loses: with Redis as well, at other moments.
    UnsignedZero,
    /// Both an error or both not.
    Outcome,
    /// Not at all.
    Any,
}

fn likeness(args: &Args) -> Likeness {
    let name = String::from_utf8_lossy(&args[0]).to_ascii_uppercase();
    let sub = args
        .get(1)
        .map(|arg| String::from_utf8_lossy(arg).to_ascii_uppercase());
    match (name.as_str(), sub.as_deref()) {
        ("KEYS" | "SMEMBERS" | "SINTER" | "SUNION" | "SDIFF" | "HKEYS" | "HVALS", _) => {
            Likeness::Unordered
        }
        ("HGETALL", _) => Likeness::UnorderedPairs,
        ("PTTL" | "PEXPIRETIME", _) => Likeness::Milliseconds,
        ("TTL" | "EXPIRETIME", _) => Likeness::Seconds,
        ("SPOP" | "SRANDMEMBER" | "HRANDFIELD" | "ZRANDMEMBER" | "RANDOMKEY", _) => Likeness::Shape,
        ("OBJECT", Some("IDLETIME" | "FREQ")) => Likeness::Shape,
        // Keys that are over are counted until somebody has noticed.
        ("DBSIZE", _) => Likeness::Shape,
        // Unsorted, a set comes in each server's own order, of which LIMIT takes any part.
        ("SORT" | "SORT_RO", _) if args.iter().any(|arg| arg == b"nosort") => Likeness::Shape,
        // What a cursor means that no SCAN has given is each server's own affair.
        ("SCAN", cursor) if cursor != Some("0") => Likeness::Any,
        ("SSCAN" | "HSCAN" | "ZSCAN", _) if args.get(2).is_some_and(|arg| arg != b"0") => {
            Likeness::Any
        }
        ("OBJECT", Some("ENCODING")) => Likeness::Encoding,
        // A value's bytes may differ where its meaning does not.
        ("DUMP", _) => Likeness::Outcome,
        // Redis reads the number of keys more loosely here (`01`, `1e400`) than the command itself does.
        ("COMMAND", Some("GETKEYS")) if !args.get(4).is_some_and(|count| is_a_count(count)) => {
            Likeness::Any
        }
        // Which commands there are differs, and flags come in any order.
        ("COMMAND", Some("LIST" | "INFO" | "DOCS" | "COUNT")) => Likeness::Outcome,
        (name, _) if name.starts_with('Z') => Likeness::UnsignedZero,
        _ => Likeness::Same,
    }
}

/// `None` when the replies are alike, else both as they were compared.
pub fn difference(args: &Args, redis: &Reply, larder: &Reply) -> Option<(Reply, Reply)> {
    let (a, b) = (redis.clone(), larder.clone());
    let (a, b) = match likeness(args) {
        Likeness::Same => (a, b),
        Likeness::Unordered => (sorted(a), sorted(b)),
        Likeness::UnorderedPairs => (sorted_pairs(a), sorted_pairs(b)),
        Likeness::Milliseconds => return apart(a, b, SKEW_MS_MAX),
        Likeness::Seconds => return apart(a, b, SKEW_MS_MAX / 1000),
        Likeness::Shape => (shape(a), shape(b)),
        Likeness::Encoding => {
            let pair = (a.as_text(), b.as_text());
            match (pair.0.as_deref(), pair.1.as_deref()) {
                (Some("raw"), Some("embstr")) => return None,
                // SORT turns a small sorted set of Redis into a large one.
                (Some("skiplist"), Some("listpack")) => return None,
                _ => (a, b),
            }
        }
        Likeness::UnsignedZero => (unsigned_zero(a), unsigned_zero(b)),
        Likeness::Any => return None,
        Likeness::Outcome => {
            if a.is_error() == b.is_error() {
                return None;
            }
            (a, b)
        }
    };
    (a != b).then_some((a, b))
}

fn apart(a: Reply, b: Reply, most: i64) -> Option<(Reply, Reply)> {
    match (a.as_int(), b.as_int()) {
        (Some(x), Some(y)) if x >= 0 && y >= 0 && (x - y).abs() <= most => None,
        _ => (a != b).then_some((a, b)),
    }
}

pub fn sorted(reply: Reply) -> Reply {
    match reply {
        Reply::Array(mut items) => {
            items.sort();
            Reply::Array(items)
        }
        Reply::Set(mut items) => {
            items.sort();
            Reply::Set(items)
        }
        other => other,
    }
}

pub fn sorted_pairs(reply: Reply) -> Reply {
    match reply {
        Reply::Array(items) => {
            let mut pairs: Vec<&[Reply]> = items.chunks(2).collect();
            pairs.sort();
            Reply::Array(pairs.concat())
        }
        Reply::Map(mut pairs) => {
            pairs.sort();
            Reply::Map(pairs)
        }
        other => other,
    }
}

/// The type and the lengths, the contents left out. Errors stay as they are.
fn shape(reply: Reply) -> Reply {
    match reply {
        Reply::Array(items) => Reply::Array(items.into_iter().map(shape).collect()),
        Reply::Set(items) => Reply::Set(items.into_iter().map(shape).collect()),
        Reply::Bulk(_) => Reply::Bulk(Vec::new()),
        Reply::Double(_) => Reply::Double(String::new()),
        Reply::Int(_) => Reply::Int(0),
        other => other,
    }
}

fn unsigned_zero(reply: Reply) -> Reply {
    match reply {
        Reply::Array(items) => Reply::Array(items.into_iter().map(unsigned_zero).collect()),
        Reply::Bulk(text) if text == b"-0" => Reply::Bulk(b"0".to_vec()),
        Reply::Double(text) if text == "-0" => Reply::Double("0".to_owned()),
        other => other,
    }
}

fn is_a_count(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_digit) && !text.is_empty() && (text.len() == 1 || text[0] != b'0')
}
