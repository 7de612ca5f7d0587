//! How long a command waits, as its request says it: where the time stands, and the same request with what is left of it.
//!
//! Knows only bytes. A time that cannot be read stays as it is: the node says what is wrong with it.

use larder_wire::command::CommandId;
use larder_wire::resp::{OwnedRequest, Request, RequestScanner, Scanned};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Seconds,
    Millis,
}

/// Whether the node may keep the answer back.
pub(super) fn may_block(id: CommandId, request: &Request<'_>) -> bool {
    place(id, request).is_some()
}

/// Which argument is the time, and in which unit.
fn place(id: CommandId, request: &Request<'_>) -> Option<(usize, Unit)> {
    match id {
        CommandId::Blpop
        | CommandId::Brpop
        | CommandId::Blmove
        | CommandId::Brpoplpush
        | CommandId::Bzpopmin
        | CommandId::Bzpopmax => Some((request.len() - 1, Unit::Seconds)),
        CommandId::Blmpop | CommandId::Bzmpop => Some((1, Unit::Seconds)),
        CommandId::Xread => block_option(request, 1),
        CommandId::Xreadgroup => block_option(request, 4),
        CommandId::Wait => Some((2, Unit::Millis)),
        CommandId::Waitaof => Some((3, Unit::Millis)),
        _ => None,
    }
}

/// The argument behind BLOCK, among the options that begin at `at`.
fn block_option(request: &Request<'_>, mut at: usize) -> Option<(usize, Unit)> {
    while let Some(word) = request.get(at) {
        if word.eq_ignore_ascii_case(b"block") {
            return (at + 1 < request.len()).then_some((at + 1, Unit::Millis));
        }
        if word.eq_ignore_ascii_case(b"count") {
            at += 2;
        } else if word.eq_ignore_ascii_case(b"noack") {
            at += 1;
        } else {
            return None;
        }
    }
    None
}

/// How many milliseconds the request wants to wait; `None`: without end, or nobody can say.
pub(super) fn millis(id: CommandId, request: &Request<'_>) -> Option<u64> {
    let (at, unit) = place(id, request)?;
    let text = std::str::from_utf8(request.get(at)?).ok()?;
    let millis = match unit {
        Unit::Millis => text.parse::<u64>().ok()?,
        Unit::Seconds => {
            let seconds = text.parse::<f64>().ok().filter(|s| s.is_finite())?;
            // What is out of range, the node refuses.
            if !(0.0..1e12).contains(&seconds) {
                return None;
            }
            (seconds * 1000.0).ceil() as u64
        }
    };
    (millis > 0).then_some(millis)
}

/// The request with `left_ms` in place of its time.
pub(super) fn with_left(id: CommandId, bytes: &[u8], left_ms: u64) -> Vec<u8> {
    let mut scanner = RequestScanner::new();
    let Ok(Scanned::Request { .. }) = scanner.scan(bytes) else {
        debug_assert!(false, "a forwarded request reads as it did before");
        return bytes.to_vec();
    };
    let request = scanner.request(bytes);
    let Some((at, unit)) = place(id, &request) else {
        return bytes.to_vec();
    };
    let left_ms = left_ms.max(1);
    let text = match unit {
        Unit::Millis => left_ms.to_string(),
        Unit::Seconds => format!("{}.{:03}", left_ms / 1000, left_ms % 1000),
    };
    let mut args: Vec<&[u8]> = request.args_from(0).collect();
    args[at] = text.as_bytes();
    OwnedRequest::from_args(args).into_bytes()
}

#[cfg(test)]
mod tests {
    use larder_wire::command::{self, Found};

    use super::*;

    fn with<T>(line: &str, look: impl FnOnce(CommandId, &Request<'_>) -> T) -> T {
        let words: Vec<&str> = line.split(' ').collect();
        let owned = OwnedRequest::from_args(&words);
        let request = owned.view();
        let Found::Command(id) = command::lookup(request.name(), request.get(1)) else {
            panic!("{line} is no command");
        };
        look(id, &request)
    }

    #[test]
    fn the_time_of_every_command_that_waits_is_found_and_replaced() {
        for (line, wants, left) in [
            ("BLPOP a b 1.5", Some(1500), "BLPOP a b 0.250"),
            ("BRPOP a 2", Some(2000), "BRPOP a 0.250"),
            (
                "BLMOVE a b LEFT RIGHT 1",
                Some(1000),
                "BLMOVE a b LEFT RIGHT 0.250",
            ),
            ("BRPOPLPUSH a b 1", Some(1000), "BRPOPLPUSH a b 0.250"),
            ("BZPOPMIN a 1", Some(1000), "BZPOPMIN a 0.250"),
            ("BZPOPMAX a 0.0001", Some(1), "BZPOPMAX a 0.250"),
            ("BLMPOP 1 1 a LEFT", Some(1000), "BLMPOP 0.250 1 a LEFT"),
            ("BZMPOP 1 1 a MIN", Some(1000), "BZMPOP 0.250 1 a MIN"),
            (
                "XREAD COUNT 1 BLOCK 700 STREAMS a $",
                Some(700),
                "XREAD COUNT 1 BLOCK 250 STREAMS a $",
            ),
            (
                "XREADGROUP GROUP block count NOACK BLOCK 700 STREAMS a >",
                Some(700),
                "XREADGROUP GROUP block count NOACK BLOCK 250 STREAMS a >",
            ),
            ("WAIT 1 300", Some(300), "WAIT 1 250"),
            ("WAITAOF 1 0 300", Some(300), "WAITAOF 1 0 250"),
            ("BLPOP a 0", None, "BLPOP a 0.250"),
            ("BLPOP a -1", None, "BLPOP a 0.250"),
            ("BLPOP a soon", None, "BLPOP a 0.250"),
            ("BLPOP a nan", None, "BLPOP a 0.250"),
        ] {
            assert!(with(line, may_block), "{line}");
            assert_eq!(with(line, millis), wants, "{line}");
            let words: Vec<&str> = left.split(' ').collect();
            let expected = OwnedRequest::from_args(&words).into_bytes();
            let replaced = with(line, |id, request| with_left(id, request.bytes(), 250));
            assert_eq!(replaced, expected, "{line}");
        }
    }

    #[test]
    fn a_read_of_streams_waits_only_when_it_says_so() {
        assert!(!with("XREAD STREAMS block 0", may_block));
        assert!(!with("XREAD COUNT 2 STREAMS a 0", may_block));
        assert!(!with("XREADGROUP GROUP g c STREAMS block >", may_block));
        assert!(!with("GET block", may_block));
    }
}
