//! Glob patterns as KEYS, SCAN's MATCH and PSUBSCRIBE take them: `*`, `?`, `[a-z]`, `[^a]`, `\` before a literal.
//!
//! Answers what Redis' `stringmatchlen` (util.c) answers, unfinished brackets included, in time that is at most the
//! product of both lengths.

/// True when all of `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when a literal fails: behind the last star, one byte further in the text.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        let step = match (p < pattern.len(), text.get(t)) {
            (false, None) => return true,
            (true, Some(&byte)) => matches_one(&pattern[p..], byte),
            (true, None) | (false, Some(_)) => None,
        };
        if let Some(consumed) = step {
            p += consumed;
            t += 1;
            continue;
        }
        match retry {
            Some((star, from)) if from < text.len() => {
                retry = Some((star, from + 1));
                (p, t) = (star, from + 1);
            }
            Some(_) | None => return false,
        }
    }
}

/// Matches one byte against the head of a pattern that does not start with a star: how much of the pattern that took.
fn matches_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => {
            let (inside, taken) = class_holds(class, byte);
            inside.then_some(1 + taken)
        }
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [literal, ..] => (*literal == byte).then_some(1),
        [] => None,
    }
}

/// `class` is what follows `[`: whether it holds `byte`, and its length with the closing bracket if there is one.
fn class_holds(class: &[u8], byte: u8) -> (bool, usize) {
    let negated = class.first() == Some(&b'^');
    let (mut at, mut found) = (usize::from(negated), false);
    loop {
        at += match &class[at..] {
            [] => return (found != negated, at),
            [b']', ..] => return (found != negated, at + 1),
            [b'\\', literal, ..] => {
                found |= *literal == byte;
                2
            }
            [one, b'-', other, ..] => {
                found |= (*one.min(other)..=*one.max(other)).contains(&byte);
                3
            }
            [literal, ..] => {
                found |= *literal == byte;
                1
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_what_redis_matches() {
        let cases: [(&str, &str, bool); 26] = [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZd", false),
            ("a**", "a", true),
            ("?", "", false),
            ("h?llo", "hello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[^e]llo", "hallo", true),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h[a-b]llo", "hcllo", false),
            ("[", "[", false),
            ("[a", "a", true),
            ("[^", "x", true),
            ("[]a", "a", false),
            ("[\\]]", "]", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("\\", "\\", true),
            ("a\\", "a\\", true),
            ("[a-", "-", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn a_pattern_of_many_stars_does_not_explode() {
        let pattern = "a*".repeat(1000) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(3000).as_bytes()));
    }
}
