//! Finds a command by the name that a client sent, in whatever case.
//!
//! One open-addressed table of ids, built at compile time, holds commands and subcommands; a subcommand's
//! place depends on its container too. A name of up to eight bytes is one word, in lower case: it is found and compared by that. Nothing is allocated.

use super::registry::{CommandId, NAMES, spec};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Command(CommandId),
    /// The command exists and has subcommands, but none of this name.
    UnknownSubcommand(CommandId),
    Unknown,
}

/// Finds `name`, or its subcommand `sub` when `name` has subcommands. `sub` is the request's
/// second argument, if it has one, whatever the command: one without subcommands passes over it.
#[inline]
pub fn lookup(name: &[u8], sub: Option<&[u8]>) -> Found {
    let found = if matches!(name.len(), 1..=8) {
        let word = word(name);
        probe(place_of(word), |candidate| {
            WORDS[candidate as usize] == word
        })
    } else {
        probe(hash(name, NO_CONTAINER), |candidate| {
            spec(candidate).name.as_bytes().eq_ignore_ascii_case(name)
        })
    };
    let Some(id) = found else {
        return Found::Unknown;
    };
    if !HAS_SUBCOMMANDS[id as usize] {
        return Found::Command(id);
    }
    match sub {
        None => Found::Command(id),
        Some(sub) => lookup_sub(id, sub),
    }
}

fn lookup_sub(container: CommandId, sub: &[u8]) -> Found {
    let prefix = spec(container).name.len();
    let found = probe(hash(sub, container as u32), |candidate| {
        let candidate = spec(candidate).name.as_bytes();
        candidate.len() == prefix + 1 + sub.len()
            && candidate[prefix] == b'|'
            && candidate[..prefix] == *spec(container).name.as_bytes()
            && candidate[prefix + 1..].eq_ignore_ascii_case(sub)
    });
    match found {
        Some(id) => Found::Command(id),
        None => Found::UnknownSubcommand(container),
    }
}

/// Places of the table: a power of two, more than twice the rows, so that chains stay short.
const PLACES: usize = 2048;
/// What stands in for the container in the hash of a command that is in none.
const NO_CONTAINER: u32 = u32::MAX;

const _: () = assert!(NAMES.len() * 2 < PLACES);

static TABLE: [Option<CommandId>; PLACES] = build();
/// The word of each command; of longer names and of subcommands [`NO_WORD`].
static WORDS: [u64; NAMES.len()] = words();
static HAS_SUBCOMMANDS: [bool; NAMES.len()] = containers();

#[inline]
fn probe(mut place: usize, matches: impl Fn(CommandId) -> bool) -> Option<CommandId> {
    loop {
        let id = TABLE[place]?;
        if matches(id) {
            return Some(id);
        }
        place = (place + 1) % PLACES;
    }
}

/// What no name's word is: letters in words are lower case.
const NO_WORD: u64 = u64::MAX / 0xFF * b'Z' as u64;

/// A name of one to eight bytes, in lower case, filled up with what no name has.
#[inline]
const fn word(name: &[u8]) -> u64 {
    let len = name.len();
    let bytes = if len >= 4 {
        // They overlap, and say the same where they do.
        let head = u32::from_le_bytes([name[0], name[1], name[2], name[3]]);
        let tail = u32::from_le_bytes([name[len - 4], name[len - 3], name[len - 2], name[len - 1]]);
        head as u64 | (tail as u64) << (8 * (len - 4))
    } else {
        name[0] as u64
            | (name[len / 2] as u64) << (8 * (len / 2))
            | (name[len - 1] as u64) << (8 * (len - 1))
    };
    // Shifted in two steps: eight bytes are no shift.
    lower(bytes) | NO_WORD << (4 * len) << (4 * len)
}

/// The letters `A` to `Z` of a word in lower case.
#[inline]
const fn lower(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    let low = word & !HIGH;
    // The highest bit of each byte says whether it is beyond a letter; no byte carries into the next.
    let from_a = low + ONES * (0x80 - b'A' as u64);
    let beyond_z = low + ONES * (0x7F - b'Z' as u64);
    let upper = from_a & !beyond_z & !word & HIGH;
    word | upper >> 2
}

#[inline]
const fn place_of(word: u64) -> usize {
    (word.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - PLACES.trailing_zeros())) as usize
}

/// Four bytes from each end, in lower case, and the length: enough to keep most names apart.
#[inline]
const fn hash(name: &[u8], container: u32) -> usize {
    let len = name.len();
    let (head, tail) = if len >= 4 {
        (
            u32::from_le_bytes([name[0], name[1], name[2], name[3]]),
            u32::from_le_bytes([name[len - 4], name[len - 3], name[len - 2], name[len - 1]]),
        )
    } else if len > 0 {
        (
            u32::from_le_bytes([name[0], name[len / 2], name[len - 1], 0]),
            0,
        )
    } else {
        (0, 0)
    };
    const LOWER: u64 = 0x2020_2020_2020_2020;
    let ends = (head as u64 | (tail as u64) << 32) | LOWER;
    place_of(ends ^ (len as u64) << 59 ^ (container as u64) << 17)
}

const fn is_word(name: &[u8]) -> bool {
    name.len() <= 8 && bar(name) == name.len()
}

const fn words() -> [u64; NAMES.len()] {
    let mut words = [NO_WORD; NAMES.len()];
    let mut row = 0;
    while row < NAMES.len() {
        let name = NAMES[row].as_bytes();
        if is_word(name) {
            words[row] = word(name);
        }
        row += 1;
    }
    words
}

const fn build() -> [Option<CommandId>; PLACES] {
    let mut table = [None; PLACES];
    let mut container = 0;
    let mut row = 0;
    while row < NAMES.len() {
        let name = NAMES[row].as_bytes();
        let bar = bar(name);
        let mut place = if bar == name.len() {
            container = row as u32;
            if is_word(name) {
                place_of(word(name))
            } else {
                hash(name, NO_CONTAINER)
            }
        } else {
            hash(name.split_at(bar + 1).1, container)
        };
        while table[place].is_some() {
            place = (place + 1) % PLACES;
        }
        table[place] = Some(CommandId::ALL[row]);
        row += 1;
    }
    table
}

const fn containers() -> [bool; NAMES.len()] {
    let mut has = [false; NAMES.len()];
    let mut container = 0;
    let mut row = 0;
    while row < NAMES.len() {
        let name = NAMES[row].as_bytes();
        if bar(name) == name.len() {
            container = row;
        } else {
            has[container] = true;
        }
        row += 1;
    }
    has
}

/// Where the `|` of a subcommand's name is; the name's length when it has none.
const fn bar(name: &[u8]) -> usize {
    let mut at = 0;
    while at < name.len() && name[at] != b'|' {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(name: &str) -> (&str, Option<&str>) {
        match name.split_once('|') {
            Some((container, sub)) => (container, Some(sub)),
            None => (name, None),
        }
    }

    #[test]
    fn every_row_is_found_by_its_name_in_any_case() {
        for &id in CommandId::ALL {
            let (name, sub) = split(spec(id).name);
            for spell in [str::to_owned, |text: &str| text.to_ascii_uppercase()] {
                let (name, sub) = (spell(name), sub.map(spell));
                let found = lookup(name.as_bytes(), sub.as_deref().map(str::as_bytes));
                assert_eq!(found, Found::Command(id), "{name} {sub:?}");
            }
        }
    }

    #[test]
    fn lower_case_is_that_of_each_byte() {
        for byte in 0..=u8::MAX {
            let bytes = [byte, b'A', byte, b'Z', byte, 0xFF, byte, byte];
            let lowered = bytes.map(|byte| byte.to_ascii_lowercase());
            assert_eq!(lower(u64::from_le_bytes(bytes)).to_le_bytes(), lowered);
        }
    }

    #[test]
    fn names_are_unique_and_in_lower_case() {
        let mut names: Vec<_> = NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES.len());
        for name in NAMES {
            assert_eq!(name, name.to_ascii_lowercase());
        }
    }

    #[test]
    fn a_subcommand_s_row_stands_below_its_container_s() {
        for &id in CommandId::ALL {
            if let (container, Some(_)) = split(spec(id).name) {
                let Found::Command(container) = lookup(container.as_bytes(), None) else {
                    panic!("{} has no container", spec(id).name);
                };
                assert!(
                    super::super::registry::subcommands(container).any(|sub| sub == id),
                    "{}",
                    spec(id).name
                );
            }
        }
    }

    #[test]
    fn what_is_no_name_is_unknown() {
        let unknown: [&[u8]; 12] = [
            b"",
            b"g",
            b"ge",
            b"gett",
            b"config|get",
            b"GE\0",
            b"\xff\xfe\xfd\xfc",
            b"@et",
            b"get\0",
            b"getZ",
            b"ZZZZZZZZ",
            b"\xE7et",
        ];
        for name in unknown {
            assert_eq!(lookup(name, None), Found::Unknown, "{name:?}");
            assert_eq!(lookup(name, Some(b"get")), Found::Unknown, "{name:?}");
        }
        assert_eq!(lookup(&[b'a'; 4096], None), Found::Unknown);
    }

    #[test]
    fn a_container_tells_its_unknown_subcommands_apart_and_others_pass_over_arguments() {
        assert_eq!(
            lookup(b"Config", Some(b"nope")),
            Found::UnknownSubcommand(CommandId::Config)
        );
        assert_eq!(
            lookup(b"config", Some(b"")),
            Found::UnknownSubcommand(CommandId::Config)
        );
        assert_eq!(lookup(b"CONFIG", None), Found::Command(CommandId::Config));
        assert_eq!(lookup(b"get", Some(b"set")), Found::Command(CommandId::Get));
        assert_eq!(
            lookup(b"config", Some(b"doctor")),
            Found::UnknownSubcommand(CommandId::Config),
            "a subcommand of another container"
        );
    }
}
