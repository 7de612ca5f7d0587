//! Finds a command by the name that a client sent, in whatever case.
//!
//! One open-addressed table of ids, built at compile time, holds commands and subcommands; a subcommand's
//! place depends on its container too. Nothing is allocated.

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
    let Some(id) = probe(hash(name, NO_CONTAINER), |candidate| {
        candidate.as_bytes().eq_ignore_ascii_case(name)
    }) else {
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
        let candidate = candidate.as_bytes();
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
const EMPTY: u16 = u16::MAX;
/// What stands in for the container in the hash of a command that is in none.
const NO_CONTAINER: u32 = u32::MAX;

const _: () = assert!(NAMES.len() * 2 < PLACES && NAMES.len() < EMPTY as usize);

static TABLE: [u16; PLACES] = build();
static HAS_SUBCOMMANDS: [bool; NAMES.len()] = containers();

#[inline]
fn probe(mut place: usize, matches: impl Fn(&'static str) -> bool) -> Option<CommandId> {
    loop {
        let entry = TABLE[place];
        if entry == EMPTY {
            return None;
        }
        let id = CommandId::ALL[entry as usize];
        if matches(spec(id).name) {
            return Some(id);
        }
        place = (place + 1) % PLACES;
    }
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
    let mixed =
        (ends ^ (len as u64) << 59 ^ (container as u64) << 17).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> (64 - PLACES.trailing_zeros())) as usize
}

const fn build() -> [u16; PLACES] {
    let mut table = [EMPTY; PLACES];
    let mut container = 0;
    let mut row = 0;
    while row < NAMES.len() {
        let name = NAMES[row].as_bytes();
        let bar = bar(name);
        let mut place = if bar == name.len() {
            container = row as u32;
            hash(name, NO_CONTAINER)
        } else {
            hash(name.split_at(bar + 1).1, container)
        };
        while table[place] != EMPTY {
            place = (place + 1) % PLACES;
        }
        table[place] = row as u16;
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
        let unknown: [&[u8]; 8] = [
            b"",
            b"g",
            b"ge",
            b"gett",
            b"config|get",
            b"GE\0",
            b"\xff\xfe\xfd\xfc",
            b"@et",
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
