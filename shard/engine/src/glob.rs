//! Glob patterns as Redis has them, for `CONFIG GET`: `*`, `?`, `[a-z]`, `[^…]`, `\x`.
//!
//! Bounded: a pattern of many stars takes time in proportion to pattern × text, not more.

/// Source: the semantics of Redis' `stringmatchlen` (util.c).
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last star was, and what it has been made to cover.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(_) => one(pattern, p, text[t]),
            None => None,
        };
        match (step, star) {
            (Some(next), _) => {
                p = next;
                t += 1;
            }
            (None, Some((at, covered))) => {
                star = Some((at, covered + 1));
                p = at + 1;
                t = covered + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// Where the pattern goes on if its element at `p` takes `byte`.
fn one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match pattern[p] {
        b'?' => Some(p + 1),
        b'[' => class(pattern, p + 1, byte),
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1] == byte).then_some(p + 2),
        literal => (literal == byte).then_some(p + 1),
    }
}

fn class(pattern: &[u8], mut p: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(p) == Some(&b'^');
    if negated {
        p += 1;
    }
    let mut found = false;
    while let Some(&element) = pattern.get(p) {
        match element {
            b']' => {
                p += 1;
                break;
            }
            b'\\' if p + 1 < pattern.len() => {
                found |= pattern[p + 1] == byte;
                p += 2;
            }
            _ if pattern.get(p + 1) == Some(&b'-') && p + 2 < pattern.len() => {
                let (low, high) = (element.min(pattern[p + 2]), element.max(pattern[p + 2]));
                found |= (low..=high).contains(&byte);
                p += 3;
            }
            _ => {
                found |= element == byte;
                p += 1;
            }
        }
    }
    (found != negated).then_some(p)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("max*", "maxmemory", true),
            ("*memory*", "maxmemory-policy", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[a-e]llo", "hallo", true),
            ("h[^a-e]llo", "hallo", false),
            ("h[^x]llo", "hallo", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
            ("", "a", false),
            ("", "", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "a*".repeat(60) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(4000).as_bytes()));
    }
}
