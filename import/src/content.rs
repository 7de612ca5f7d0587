//! What a key holds, read with ordinary commands, in a form in which two servers can be compared: whatever their encodings, and in
//! whatever order they keep what has none.

use larder_runtime::Reply;
use larder_runtime::foreign::{Foreign, ForeignError};
use larder_store::Db;
use larder_wire::resp::OwnedRequest;

use crate::ledger::Name;

/// Two servers are asked one after the other, and their clocks differ: times to live may differ by so much, in milliseconds.
const TTL_SKEW_MS_MAX: i64 = 2000;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Content {
    pub(crate) kind: String,
    /// Milliseconds to live; -1: for good, -2: there is no such key.
    pub(crate) ttl_ms: i64,
    parts: Vec<Reply>,
}

impl Content {
    pub(crate) fn is_like(&self, other: &Content) -> bool {
        let ttls = match (self.ttl_ms, other.ttl_ms) {
            (one, other) if one < 0 || other < 0 => one == other,
            (one, other) => (one - other).abs() <= TTL_SKEW_MS_MAX,
        };
        self.kind == other.kind && ttls && self.parts == other.parts
    }

    /// Whether it is so near its end that the two servers may disagree about its being there.
    pub(crate) fn is_about_to_go(&self) -> bool {
        (0..TTL_SKEW_MS_MAX).contains(&self.ttl_ms)
    }
}

/// Reads keys of one database, one after the other in two rounds; and what `first` asks for, in the same transaction as the
/// contents when `at_once`. `None` for a key whose type has changed between the rounds.
pub(crate) async fn read(
    server: &mut Foreign,
    db: Db,
    names: &[&Name],
    at_once: Option<&[&str]>,
) -> Result<(Vec<Option<Content>>, Option<Reply>), ForeignError> {
    let mut bytes = Vec::new();
    push(&mut bytes, &[b"SELECT", db.to_string().as_bytes()]);
    for name in names {
        push(&mut bytes, &[b"TYPE", &name.key]);
    }
    let kinds = server.ask_all(&bytes, names.len() + 1).await?;
    let kinds: Vec<String> = kinds[1..].iter().map(text).collect();
    let mut requests = Vec::new();
    let mut count = 0;
    if let Some(first) = at_once {
        push(&mut requests, &[b"MULTI"]);
        let first: Vec<&[u8]> = first.iter().map(|word| word.as_bytes()).collect();
        push(&mut requests, &first);
        count += 2;
    }
    for (name, kind) in names.iter().zip(&kinds) {
        push(&mut requests, &[b"PTTL", &name.key]);
        count += 1;
        for question in questions(kind) {
            let args: Vec<&[u8]> = question
                .iter()
                .map(|word| {
                    if *word == "?" {
                        &name.key[..]
                    } else {
                        word.as_bytes()
                    }
                })
                .collect();
            push(&mut requests, &args);
            count += 1;
        }
    }
    if at_once.is_some() {
        push(&mut requests, &[b"EXEC"]);
        count += 1;
    }
    let mut replies = server.ask_all(&requests, count).await?;
    if at_once.is_some() {
        replies = match replies.pop() {
            Some(Reply::Array(replies)) => replies,
            Some(other) => {
                return Err(ForeignError::Refused {
                    addr: server.addr().to_string(),
                    text: text(&other),
                });
            }
            None => Vec::new(),
        };
    }
    let mut replies = replies.into_iter();
    let first = at_once.and_then(|_| replies.next());
    let mut contents = Vec::new();
    for kind in kinds {
        let ttl_ms = match replies.next() {
            Some(Reply::Int(ttl)) => ttl,
            Some(_) | None => -2,
        };
        let parts: Vec<Reply> = replies.by_ref().take(questions(&kind).len()).collect();
        // Between the two rounds the key has become another, or has gone.
        let changed = parts.iter().any(|part| matches!(part, Reply::Error(_)))
            || (ttl_ms == -2) != (kind == "none");
        let parts = canonical(&kind, parts);
        contents.push((!changed).then_some(Content {
            kind,
            ttl_ms,
            parts,
        }));
    }
    Ok((contents, first))
}

/// What is asked of a key of a type; `?` stands for the key.
fn questions(kind: &str) -> &'static [&'static [&'static str]] {
    match kind {
        "string" => &[&["GET", "?"]],
        "list" => &[&["LRANGE", "?", "0", "-1"]],
        "set" => &[&["SMEMBERS", "?"]],
        "zset" => &[&["ZRANGE", "?", "0", "-1", "WITHSCORES"]],
        "hash" => &[&["HGETALL", "?"]],
        "stream" => &[
            &["XRANGE", "?", "-", "+"],
            &["XINFO", "GROUPS", "?"],
            &["XINFO", "STREAM", "?"],
        ],
        _ => &[],
    }
}

fn canonical(kind: &str, mut parts: Vec<Reply>) -> Vec<Reply> {
    match kind {
        "set" => parts.iter_mut().for_each(|part| sort_by_chunks(part, 1)),
        "hash" => parts.iter_mut().for_each(|part| sort_by_chunks(part, 2)),
        "zset" => parts.iter_mut().for_each(same_numbers),
        "stream" => {
            if let Some(info) = parts.get_mut(2) {
                *info = Reply::Array(fields(info, &["length", "last-generated-id"]));
            }
            if let Some(Reply::Array(groups)) = parts.get_mut(1) {
                for group in groups {
                    // A read that finds nothing makes a consumer of which no replica is told.
                    let told = ["name", "pending", "last-delivered-id"];
                    *group = Reply::Array(fields(group, &told));
                }
            }
        }
        _ => {}
    }
    parts
}

/// The values of some fields of a map that is written as a flat array.
fn fields(map: &Reply, names: &[&str]) -> Vec<Reply> {
    let Reply::Array(items) = map else {
        return vec![map.clone()];
    };
    let pairs = items.chunks_exact(2);
    let wanted = pairs.filter(|pair| names.contains(&text(&pair[0]).as_str()));
    wanted.map(|pair| pair[1].clone()).collect()
}

fn sort_by_chunks(part: &mut Reply, size: usize) {
    if let Reply::Array(items) = part {
        let mut chunks: Vec<Vec<Reply>> = items.chunks(size).map(<[Reply]>::to_vec).collect();
        chunks.sort_by(|one, other| one[0].bytes().cmp(&other[0].bytes()));
        *items = chunks.into_iter().flatten().collect();
    }
}

/// Scores are the same number in whatever spelling.
fn same_numbers(part: &mut Reply) {
    if let Reply::Array(items) = part {
        for score in items.iter_mut().skip(1).step_by(2) {
            if let Ok(number) = text(score).parse::<f64>() {
                *score = Reply::Simple(number.to_string().into_bytes());
            }
        }
    }
}

pub(crate) fn text(reply: &Reply) -> String {
    match reply {
        Reply::Simple(bytes) | Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Error(text) => text.clone(),
        Reply::Int(number) => number.to_string(),
        Reply::Null => String::new(),
        Reply::Array(_) => String::new(),
    }
}

pub(crate) fn push(bytes: &mut Vec<u8>, args: &[&[u8]]) {
    bytes.extend(OwnedRequest::from_args(args).into_bytes());
}
