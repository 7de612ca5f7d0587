//! Finds the keys of a request.
//!
//! 1. Most commands have one plain range of keys: that is the hot path, no search at all.
//! 2. Others follow their key specifications: a counted group, a keyword, several groups.
//! 3. A few can only be read by their own grammar (SORT … STORE, MIGRATE … KEYS), or when a
//!    specification fails: those have a function here, as Redis has its `getkeys` functions.
//!
//! A request that a command would refuse as malformed has no keys here; whoever routes it sends
//! it somewhere, to get the refusal.

use super::registry::{CommandId, spec};
use super::spec::{BeginSearch, CommandSpec, FindKeys, Flags, KeyFlags};
use crate::resp::Request;

/// The first key, by which a request is routed.
#[inline]
pub fn first_key<'a>(id: CommandId, request: &Request<'a>) -> Option<&'a [u8]> {
    let spec = spec(id);
    if is_plain(spec) {
        return match spec.plain_keys.first {
            0 => None,
            first => request.get(first as usize),
        };
    }
    let at = positions(id, request).next()?.at;
    request.get(at)
}

/// Where one key is, and what the command does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyAt {
    /// The argument's index; the command's name is 0.
    pub at: usize,
    pub flags: KeyFlags,
}

/// The keys of a request, in the order that `COMMAND GETKEYS` names them.
#[inline]
pub fn positions(id: CommandId, request: &Request<'_>) -> Positions {
    let spec = spec(id);
    if is_plain(spec) {
        return plain_positions(spec, request);
    }
    let mut found = Positions::NONE;
    let specs_tell = !spec
        .keys
        .iter()
        .any(|key| key.flags.has(KeyFlags::VARIABLE_FLAGS));
    if specs_tell && follow_specs(spec, request, &mut found).is_some() {
        return found;
    }
    let mut found = Positions::NONE;
    by_grammar(id, request, &mut found);
    found
}

/// One plain range of real keys, and flags that do not depend on the arguments.
#[inline]
fn is_plain(spec: &CommandSpec) -> bool {
    match spec.keys {
        [] => true,
        [only] => {
            !spec.flags.has(Flags::MOVABLEKEYS)
                && !only.flags.has(KeyFlags::NOT_KEY)
                && !only.flags.has(KeyFlags::VARIABLE_FLAGS)
        }
        _ => false,
    }
}

#[inline]
fn plain_positions(spec: &CommandSpec, request: &Request<'_>) -> Positions {
    let mut found = Positions::NONE;
    if let [key] = spec.keys {
        let plain = spec.plain_keys;
        let first = plain.first as usize;
        let last = from_end(plain.last, request.len());
        if let Some(last) = last
            && first <= last
            && last < request.len()
        {
            found.push(first, last, plain.step as usize, key.flags);
        }
    }
    found
}

/// Follows every specification; `None` when one of them cannot tell.
fn follow_specs(spec: &CommandSpec, request: &Request<'_>, found: &mut Positions) -> Option<()> {
    for key in spec.keys {
        if key.flags.has(KeyFlags::NOT_KEY) {
            continue;
        }
        let first = match key.begin {
            BeginSearch::Index(at) => at as usize,
            BeginSearch::Keyword { word, from } => {
                // Of an option that says where to write, and stands there twice, the last one counts.
                let last = key.flags.has(KeyFlags::OW);
                match find_word(word, from, last, request) {
                    Some(at) => at + 1,
                    // An option that this request does not use.
                    None => continue,
                }
            }
            BeginSearch::Unknown => return None,
        };
        let (first, last, step) = find_keys(key.find, first, request)?;
        if last < first || last >= request.len() {
            return None;
        }
        found.push(first, last, step, key.flags);
        if key.flags.has(KeyFlags::INCOMPLETE) {
            return None;
        }
    }
    Some(())
}

/// First and last key and the step, from where the search began.
fn find_keys(find: FindKeys, first: usize, request: &Request<'_>) -> Option<(usize, usize, usize)> {
    match find {
        FindKeys::Range { last, step, limit } => {
            let last = if last >= 0 {
                first + last as usize
            } else if limit < 2 {
                from_end(last, request.len())?
            } else {
                let left = request.len().checked_sub(first)?;
                (first + left / limit as usize).checked_sub(1)?
            };
            Some((first, last, step as usize))
        }
        FindKeys::KeyNum {
            at,
            first: offset,
            step,
        } => {
            let count = key_count(request.get(first + at as usize)?)?;
            let first = first + offset as usize;
            let past = first + count * step as usize;
            Some((first, past.checked_sub(step as usize)?, step as usize))
        }
        FindKeys::Unknown => None,
    }
}

fn find_word(word: &str, from: i16, last: bool, request: &Request<'_>) -> Option<usize> {
    let is_word = |at: &usize| request.arg(*at).eq_ignore_ascii_case(word.as_bytes());
    if from >= 0 {
        // The word as last argument has nothing after it.
        let mut places = from as usize..request.len().saturating_sub(1);
        if last {
            places.rfind(is_word)
        } else {
            places.find(is_word)
        }
    } else {
        (2..=from_end(from, request.len())?).rev().find(is_word)
    }
}

/// An index counted from the end when negative: -1 is the last of `len`.
#[inline]
fn from_end(index: i16, len: usize) -> Option<usize> {
    if index >= 0 {
        Some(index as usize)
    } else {
        len.checked_sub(index.unsigned_abs() as usize)
    }
}

/// The number of keys that a request claims, bounded by what can be added to an index.
fn key_count(digits: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(digits).ok()?;
    let strict = text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    if !strict {
        return None;
    }
    text.parse::<u32>().ok().map(|count| count as usize)
}

/// Commands whose keys only their own grammar tells.
fn by_grammar(id: CommandId, request: &Request<'_>, found: &mut Positions) {
    use super::columns::{OW_UPDATE, RO_ACCESS, RW_ACCESS_DELETE, RW_ACCESS_UPDATE};
    match id {
        CommandId::Set => {
            let flags = if set_has_get(request) {
                RW_ACCESS_UPDATE
            } else {
                OW_UPDATE
            };
            found.push_one(1, flags, request);
        }
        CommandId::Bitfield => {
            let flags = if bitfield_only_reads(request) {
                RO_ACCESS
            } else {
                RW_ACCESS_UPDATE
            };
            found.push_one(1, flags, request);
        }
        CommandId::Sort => {
            found.push_one(1, RO_ACCESS, request);
            if let Some(at) = sort_store(request) {
                found.push_one(at, OW_UPDATE, request);
            }
        }
        CommandId::SortRo => found.push_one(1, RO_ACCESS, request),
        CommandId::Migrate => match migrate_keys(request) {
            Some(first) if first < request.len() => {
                found.push(first, request.len() - 1, 1, RW_ACCESS_DELETE);
            }
            Some(_) => {}
            None => found.push_one(3, RW_ACCESS_DELETE, request),
        },
        // For all others the specifications are complete: where they fail, the request is malformed.
        _ => {}
    }
}

/// True when SET is to return the old value.
fn set_has_get(request: &Request<'_>) -> bool {
    request
        .args_from(3)
        .any(|option| option.eq_ignore_ascii_case(b"get"))
}

/// True when a BITFIELD has GETs alone.
fn bitfield_only_reads(request: &Request<'_>) -> bool {
    let mut at = 2;
    while let Some(word) = request.get(at) {
        let left = request.len() - at - 1;
        if word.eq_ignore_ascii_case(b"get") && left >= 2 {
            at += 3;
        } else if word.eq_ignore_ascii_case(b"overflow") && left >= 1 {
            at += 2;
        } else {
            return false;
        }
    }
    true
}

/// Where the target key of SORT's last STORE is.
fn sort_store(request: &Request<'_>) -> Option<usize> {
    let mut target = None;
    let mut at = 2;
    while let Some(word) = request.get(at) {
        if word.eq_ignore_ascii_case(b"limit") {
            at += 2;
        } else if word.eq_ignore_ascii_case(b"get") || word.eq_ignore_ascii_case(b"by") {
            at += 1;
        } else if word.eq_ignore_ascii_case(b"store") && at + 1 < request.len() {
            target = Some(at + 1);
        }
        at += 1;
    }
    target
}

/// Where MIGRATE's list of keys begins, when it has one.
fn migrate_keys(request: &Request<'_>) -> Option<usize> {
    let mut at = 6;
    while let Some(word) = request.get(at) {
        if word.eq_ignore_ascii_case(b"keys") {
            // A list and a key of its own: malformed.
            let malformed = !request.arg(3).is_empty();
            return Some(if malformed { request.len() } else { at + 1 });
        } else if word.eq_ignore_ascii_case(b"auth") {
            at += 1;
        } else if word.eq_ignore_ascii_case(b"auth2") {
            at += 2;
        }
        at += 1;
    }
    None
}

/// An iterator over the keys of a request. Holds no request and allocates nothing.
#[derive(Clone, Debug)]
pub struct Positions {
    groups: [Group; GROUPS_MAX],
    /// The group that is being walked, and how many there are.
    at: u8,
    len: u8,
}

/// Most groups of keys that a command has: one a key specification.
const GROUPS_MAX: usize = 3;

#[derive(Clone, Copy, Debug)]
struct Group {
    next: usize,
    last: usize,
    step: usize,
    flags: KeyFlags,
}

impl Positions {
    const NONE: Positions = Positions {
        groups: [Group {
            next: 0,
            last: 0,
            step: 1,
            flags: KeyFlags::NONE,
        }; GROUPS_MAX],
        at: 0,
        len: 0,
    };

    /// `first <= last`, both arguments of the request.
    fn push(&mut self, first: usize, last: usize, step: usize, flags: KeyFlags) {
        self.groups[self.len as usize] = Group {
            next: first,
            last,
            step: step.max(1),
            flags,
        };
        self.len += 1;
    }

    fn push_one(&mut self, at: usize, flags: KeyFlags, request: &Request<'_>) {
        if at < request.len() {
            self.push(at, at, 1, flags);
        }
    }
}

impl Iterator for Positions {
    type Item = KeyAt;

    #[inline]
    fn next(&mut self) -> Option<KeyAt> {
        while self.at < self.len {
            let group = &mut self.groups[self.at as usize];
            if group.next <= group.last {
                let at = group.next;
                group.next += group.step;
                return Some(KeyAt {
                    at,
                    flags: group.flags,
                });
            }
            self.at += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Found, lookup};
    use crate::resp::OwnedRequest;

    fn keys(line: &str) -> Vec<String> {
        let args: Vec<&str> = line
            .split(' ')
            .map(|arg| if arg == "''" { "" } else { arg })
            .collect();
        let request = OwnedRequest::from_args(args.iter());
        let request = request.view();
        let Found::Command(id) = lookup(request.name(), request.get(1)) else {
            panic!("no command: {line}");
        };
        let found: Vec<String> = positions(id, &request)
            .map(|key| String::from_utf8(request.arg(key.at).to_vec()).unwrap())
            .collect();
        let first = first_key(id, &request).map(|key| String::from_utf8(key.to_vec()).unwrap());
        assert_eq!(first.as_ref(), found.first(), "{line}");
        found
    }

    #[test]
    fn of_two_places_to_store_the_last_one_is_the_key() {
        let line = "georadius a 0 0 1 km store b storedist c store d";
        let request = OwnedRequest::from_args(line.split(' ').collect::<Vec<_>>());
        let found = positions(CommandId::Georadius, &request.view());
        assert_eq!(found.map(|key| key.at).collect::<Vec<_>>(), [1, 11, 9]);
    }

    #[test]
    fn plain_ranges_are_walked_by_their_step() {
        assert_eq!(keys("get a"), ["a"]);
        assert_eq!(keys("mget a b c"), ["a", "b", "c"]);
        assert_eq!(keys("mset a 1 b 2"), ["a", "b"]);
        assert_eq!(keys("blpop a b 0"), ["a", "b"]);
        assert_eq!(keys("bitop and d a b"), ["d", "a", "b"]);
        assert_eq!(keys("object encoding a"), ["a"]);
        assert_eq!(keys("ping a"), [""; 0]);
    }

    #[test]
    fn counted_keys_follow_their_number() {
        assert_eq!(keys("eval code 2 a b c"), ["a", "b"]);
        assert_eq!(keys("eval code 0 a"), [""; 0]);
        assert_eq!(keys("zunionstore d 2 a b weights 1 2"), ["d", "a", "b"]);
        assert_eq!(keys("lmpop 1 a left"), ["a"]);
    }

    #[test]
    fn a_number_of_keys_that_cannot_be_gives_no_keys() {
        for count in ["-1", "x", "3", "02", "99999999999999999999", "4294967295"] {
            assert_eq!(keys(&format!("eval code {count} a b")), [""; 0], "{count}");
        }
    }

    #[test]
    fn keys_behind_words_are_found() {
        assert_eq!(keys("xread count 1 streams a b 0 0"), ["a", "b"]);
        assert_eq!(keys("xreadgroup group g c streams a >"), ["a"]);
        assert_eq!(keys("sort a by nosort get # limit 0 1 store d"), ["a", "d"]);
        assert_eq!(keys("sort a store d store e"), ["a", "e"]);
        assert_eq!(keys("sort a get store"), ["a"]);
        assert_eq!(keys("georadius a 0 0 1 m store d"), ["a", "d"]);
        assert_eq!(keys("georadius a 0 0 1 m"), ["a"]);
        assert_eq!(keys("migrate h 1 '' 0 1 copy keys a b"), ["a", "b"]);
        assert_eq!(keys("migrate h 1 a 0 1"), ["a"]);
    }

    #[test]
    fn the_flags_of_set_and_bitfield_follow_their_options() {
        let flags = |line: &str| {
            let request = OwnedRequest::from_args(line.split(' ').collect::<Vec<_>>());
            let request = request.view();
            let Found::Command(id) = lookup(request.name(), None) else {
                panic!("no command: {line}");
            };
            positions(id, &request)
                .next()
                .map(|key| key.flags.words().collect::<Vec<_>>())
        };
        assert_eq!(flags("set a 1 ex 3"), Some(vec!["OW", "update"]));
        assert_eq!(flags("set a 1 Get"), Some(vec!["RW", "access", "update"]));
        assert_eq!(flags("bitfield a get u8 0"), Some(vec!["RO", "access"]));
        assert_eq!(
            flags("bitfield a get u8 0 set u8 0 1"),
            Some(vec!["RW", "access", "update"])
        );
    }
}
