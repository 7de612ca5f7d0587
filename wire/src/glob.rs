//! Patterns as KEYS, SCAN and PSUBSCRIBE take them: `*`, `?`, `[a-z]`, `[^a]`, `\` before a
//! character that is meant itself. Bytes, not characters.

/// Most stars with something behind them; what has more matches nothing, as Redis has it.
const STARS_MAX: usize = 1000;

/// True when all of `text` matches `pattern`. Time is at most in proportion to the product of their lengths.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    matches_by(pattern, text, |a, b| a == b)
}

/// As [`matches`], letters alike in both cases.
pub fn matches_ignore_case(pattern: &[u8], text: &[u8]) -> bool {
    matches_by(pattern, text, |a, b| a.eq_ignore_ascii_case(&b))
}

fn matches_by(pattern: &[u8], text: &[u8], same: impl Fn(u8, u8) -> bool + Copy) -> bool {
    let (mut at, mut seen) = (0, 0);
    // After the last `*`: where the pattern goes on, and how much of the text the star took.
    let mut star: Option<(usize, usize)> = None;
    let mut stars = 0;
    loop {
        let step = match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, seen));
                stars += usize::from(pattern.get(at).is_some_and(|next| *next != b'*'));
                if stars > STARS_MAX {
                    return false;
                }
                continue;
            }
            None if seen == text.len() => return true,
            None => None,
            Some(_) => text
                .get(seen)
                .and_then(|byte| match_one(&pattern[at..], *byte, same)),
        };
        match (step, star) {
            (Some(taken), _) => {
                at += taken;
                seen += 1;
            }
            // The star takes one more.
            (None, Some((after, took))) if took < text.len() => {
                star = Some((after, took + 1));
                at = after;
                seen = took + 1;
            }
            (None, _) => return false,
        }
    }
}

/// The length of the element at the start of `pattern`, which is not `*`, when it matches `byte`.
fn match_one(pattern: &[u8], byte: u8, same: impl Fn(u8, u8) -> bool) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', ..] => match_class(pattern, byte, same),
        [b'\\', meant, ..] => same(*meant, byte).then_some(2),
        [other, ..] => same(*other, byte).then_some(1),
        [] => None,
    }
}

/// `[…]`; one that is not closed ends with the pattern.
fn match_class(pattern: &[u8], byte: u8, same: impl Fn(u8, u8) -> bool) -> Option<usize> {
    let mut at = 1;
    let not = pattern.get(at) == Some(&b'^');
    if not {
        at += 1;
    }
    let mut matched = false;
    loop {
        match &pattern[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', meant, ..] => {
                matched |= same(*meant, byte);
                at += 2;
            }
            [low, b'-', high, ..] => {
                let (low, high) = (*low.min(high), *low.max(high));
                matched |= (low..=high).contains(&byte)
                    || same(b'a', b'A')
                        && ((low.to_ascii_lowercase()..=high.to_ascii_lowercase())
                            .contains(&byte.to_ascii_lowercase()));
                at += 3;
            }
            [one, ..] => {
                matched |= same(*one, byte);
                at += 1;
            }
        }
    }
    (matched != not).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::{STARS_MAX, matches, matches_ignore_case};

    #[test]
    fn a_pattern_of_too_many_stars_matches_nothing() {
        let text = "a".repeat(2000);
        assert!(matches("*?".repeat(STARS_MAX).as_bytes(), text.as_bytes()));
        assert!(!matches(
            "*?".repeat(STARS_MAX + 1).as_bytes(),
            text.as_bytes()
        ));
        assert!(matches(
            "*".repeat(STARS_MAX + 1).as_bytes(),
            text.as_bytes()
        ));
    }

    #[test]
    fn patterns_match_as_redis_has_them() {
        let cases: &[(&str, &str, bool)] = &[
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "abc", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("a*b*c", "aXbYbZc", true),
            ("**a**", "xax", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h[a-b]llo", "hcllo", false),
            ("[a", "a", true),
            ("[]a", "a", false),
            ("[^]", "a", true),
            ("[\\]]", "]", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("a\\", "a\\", true),
            ("?", "", false),
            ("a", "A", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                *expected,
                "{pattern} {text}"
            );
        }
        assert!(matches_ignore_case(b"GE?[a-c]", b"getB"));
        assert!(!matches_ignore_case(b"GE?", b"gex-"));
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_long_time() {
        let pattern = "a*".repeat(200) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(2000).as_bytes()));
    }
}
