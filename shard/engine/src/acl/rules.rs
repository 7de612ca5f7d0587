//! One rule of `ACL SETUSER`, of an ACL file's line, or of a selector in parentheses.
//!
//! What each rule says: <https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/>.

use larder_wire::command::{self, Categories, CommandId, Found};
use larder_wire::resp::split_args;

use super::selector::{KeyPattern, Selector};
use super::user::{PasswordHash, Rules, Sanitize};
use super::{commands, has_space_or_zero, until_zero};

/// Why a rule is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleError {
    Unknown,
    Syntax,
    PatternAfterAllKeys,
    PatternAfterAllChannels,
    NoSuchPassword,
    BadHash,
    FirstArgOfSubcommand,
}

impl RuleError {
    pub fn text(self) -> &'static str {
        match self {
            RuleError::Unknown => "Unknown command or category name in ACL",
            RuleError::Syntax => "Syntax error",
            RuleError::PatternAfterAllKeys => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try 'resetkeys' to start with an empty list of patterns"
            }
            RuleError::PatternAfterAllChannels => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. Try 'resetchannels' to start with an empty list of channels"
            }
            RuleError::NoSuchPassword => {
                "The password you are trying to remove from the user does not exist"
            }
            RuleError::BadHash => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
            }
            RuleError::FirstArgOfSubcommand => {
                "Allowing first-arg of a subcommand is not supported"
            }
        }
    }
}

/// Joins the arguments of a selector that is spread over several: `(+get`, `~a)` becomes `(+get ~a)`. Fails with the argument
/// that opens what nothing closes.
pub(super) fn join_selectors<'a>(
    args: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<Vec<u8>>, &'a [u8]> {
    let mut joined = Vec::new();
    let mut open: Option<(&[u8], Vec<u8>)> = None;
    for arg in args {
        open = match open {
            Some((first, mut selector)) => {
                selector.push(b' ');
                selector.extend_from_slice(until_zero(arg));
                if arg.ends_with(b")") {
                    joined.push(selector);
                    None
                } else {
                    Some((first, selector))
                }
            }
            None if arg.starts_with(b"(") && !arg.ends_with(b")") => Some((arg, arg.to_vec())),
            None => {
                joined.push(arg.to_vec());
                None
            }
        };
    }
    match open {
        Some((first, _)) => Err(first),
        None => Ok(joined),
    }
}

impl Rules {
    /// Applies one rule. `all_channels`: what new selectors and `reset` give (`acl-pubsub-default`).
    pub fn apply(&mut self, rule: &[u8], all_channels: bool) -> Result<(), RuleError> {
        let word = until_zero(rule);
        let is = |text: &str| word.eq_ignore_ascii_case(text.as_bytes());
        if rule.is_empty() {
            // Nothing asked for, nothing done.
        } else if is("on") {
            self.enabled = true;
        } else if is("off") {
            self.enabled = false;
        } else if is("skip-sanitize-payload") {
            self.sanitize = Sanitize::Skip;
        } else if is("sanitize-payload") {
            self.sanitize = Sanitize::Yes;
        } else if is("nopass") {
            self.nopass = true;
            self.passwords.clear();
        } else if is("resetpass") {
            self.nopass = false;
            self.passwords.clear();
        } else if is("clearselectors") {
            self.others.clear();
        } else if is("reset") {
            self.reset(all_channels);
        } else {
            match rule {
                [b'>', password @ ..] => self.add_password(PasswordHash::of(password)),
                [b'#', hash @ ..] => self.add_password(read_hash(hash)?),
                [b'<', password @ ..] => self.remove_password(PasswordHash::of(password))?,
                [b'!', hash @ ..] => self.remove_password(read_hash(hash)?)?,
                [b'(', inner @ .., b')'] => self.others.push(selector_of(inner, all_channels)?),
                _ => self.root.apply(rule)?,
            }
        }
        Ok(())
    }

    fn reset(&mut self, all_channels: bool) {
        *self = Rules {
            sanitize: Sanitize::Yes,
            ..Rules::new(all_channels)
        };
    }

    fn add_password(&mut self, hash: PasswordHash) {
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
        self.nopass = false;
    }

    fn remove_password(&mut self, hash: PasswordHash) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|known| *known == hash);
        self.passwords.remove(at.ok_or(RuleError::NoSuchPassword)?);
        Ok(())
    }
}

fn read_hash(hex: &[u8]) -> Result<PasswordHash, RuleError> {
    PasswordHash::from_hex(hex).ok_or(RuleError::BadHash)
}

fn selector_of(inner: &[u8], all_channels: bool) -> Result<Selector, RuleError> {
    let mut selector = Selector::new(all_channels);
    // Quotes that nothing closes leave a selector without rules.
    for rule in split_args(inner).unwrap_or_default() {
        selector.apply(&rule)?;
    }
    Ok(selector)
}

impl Selector {
    /// Applies one rule about commands, keys or channels.
    pub fn apply(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        let word = until_zero(rule);
        let is = |text: &str| word.eq_ignore_ascii_case(text.as_bytes());
        if is("allkeys") || is("~*") {
            self.all_keys = true;
            self.keys.clear();
        } else if is("resetkeys") {
            self.all_keys = false;
            self.keys.clear();
        } else if is("allchannels") || is("&*") {
            self.all_channels = true;
            self.channels.clear();
        } else if is("resetchannels") {
            self.all_channels = false;
            self.channels.clear();
        } else if is("allcommands") || is("+@all") {
            self.allow_all_commands();
        } else if is("nocommands") || is("-@all") {
            self.allow_no_commands();
        } else {
            match rule {
                [b'~' | b'%', ..] => self.add_key_pattern(rule)?,
                [b'&', pattern @ ..] => self.add_channel(pattern)?,
                [b'+', b'@', ..] => self.set_category(category(&word[2..])?, true),
                [b'-', b'@', ..] => self.set_category(category(&word[2..])?, false),
                [b'+', ..] => self.allow(&word[1..])?,
                [b'-', ..] => self.set_command(command_named(&word[1..])?, false),
                _ => return Err(RuleError::Syntax),
            }
        }
        Ok(())
    }

    fn add_key_pattern(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::PatternAfterAllKeys);
        }
        let (read, write, pattern) = match rule {
            [b'%', rest @ ..] => permissions(rest)?,
            _ => (true, true, &rule[1..]),
        };
        if has_space_or_zero(pattern) {
            return Err(RuleError::Syntax);
        }
        match self.keys.iter_mut().find(|key| *key.pattern == *pattern) {
            Some(known) => {
                known.read |= read;
                known.write |= write;
            }
            None => self.keys.push(KeyPattern {
                read,
                write,
                pattern: pattern.into(),
            }),
        }
        Ok(())
    }

    fn add_channel(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.all_channels {
            return Err(RuleError::PatternAfterAllChannels);
        }
        if has_space_or_zero(pattern) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|known| **known == *pattern) {
            self.channels.push(pattern.into());
        }
        Ok(())
    }

    /// `+command`, `+container|sub`, `+command|first-argument`.
    fn allow(&mut self, name: &[u8]) -> Result<(), RuleError> {
        let Some(bar) = name.iter().rposition(|byte| *byte == b'|') else {
            self.set_command(command_named(name)?, true);
            return Ok(());
        };
        let (base, sub) = (&name[..bar], &name[bar + 1..]);
        let id = command_named(base)?;
        if command::spec(id).name.contains('|') {
            return Err(RuleError::FirstArgOfSubcommand);
        }
        if sub.is_empty() {
            return Err(RuleError::Syntax);
        }
        if command::subcommands(id).next().is_some() {
            self.set_command(command_named(name)?, true);
        } else {
            self.allow_first_arg(id, sub);
        }
        Ok(())
    }
}

/// What stands between `%` and `~`, and the pattern.
fn permissions(rule: &[u8]) -> Result<(bool, bool, &[u8]), RuleError> {
    let (mut read, mut write) = (false, false);
    let mut rest = rule;
    loop {
        match rest {
            [b'R' | b'r', after @ ..] if !read => {
                read = true;
                rest = after;
            }
            [b'W' | b'w', after @ ..] if !write => {
                write = true;
                rest = after;
            }
            [b'~', ..] | [] => break,
            _ => return Err(RuleError::Syntax),
        }
    }
    if !read && !write {
        return Err(RuleError::Syntax);
    }
    Ok((read, write, rest.strip_prefix(b"~").unwrap_or(rest)))
}

/// A category by its name without the `@`.
pub(super) fn category(name: &[u8]) -> Result<Categories, RuleError> {
    Categories::WORDS
        .iter()
        .find(|(_, word)| word.as_bytes()[1..].eq_ignore_ascii_case(name))
        .map(|(category, _)| *category)
        .ok_or(RuleError::Unknown)
}

/// `get`, `config`, `config|get`; whether somebody executes it is of no account.
fn command_named(name: &[u8]) -> Result<CommandId, RuleError> {
    let mut parts = name.split(|byte| *byte == b'|');
    let (base, sub, more) = (parts.next().unwrap_or(b""), parts.next(), parts.next());
    match command::lookup(base, sub) {
        Found::Command(id)
            if more.is_none()
                && command::spec(id).name.contains('|') == sub.is_some()
                && commands().any(|known| known == id) =>
        {
            Ok(id)
        }
        Found::Command(_) | Found::UnknownSubcommand(_) | Found::Unknown => Err(RuleError::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(rules: &[&str]) -> Result<String, RuleError> {
        let mut user = Rules::new(false);
        for rule in rules {
            user.apply(rule.as_bytes(), false)?;
        }
        Ok(user.describe())
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_refused_with_its_reason() {
        for (rules, error) in [
            (&["nonsense"][..], RuleError::Syntax),
            (&["+nosuch"], RuleError::Unknown),
            (&["+@nosuch"], RuleError::Unknown),
            (&["+"], RuleError::Unknown),
            (&["+get|"], RuleError::Syntax),
            (&["-get|x"], RuleError::Unknown),
            (&["+config|"], RuleError::Syntax),
            (&["+config|nosuch"], RuleError::Unknown),
            (&["+config|get|x"], RuleError::FirstArgOfSubcommand),
            (&["+get|a|b"], RuleError::Unknown),
            (&["allkeys", "~a"], RuleError::PatternAfterAllKeys),
            (&["allkeys", "%"], RuleError::PatternAfterAllKeys),
            (&["&*", "&a"], RuleError::PatternAfterAllChannels),
            (&["~a b"], RuleError::Syntax),
            (&["%~a"], RuleError::Syntax),
            (&["%RR~a"], RuleError::Syntax),
            (&["<nosuch"], RuleError::NoSuchPassword),
            (&["#ABC"], RuleError::BadHash),
            (&["(+get on)"], RuleError::Syntax),
            (&["+larder"], RuleError::Unknown),
            (&["+larder|status"], RuleError::Unknown),
        ] {
            assert_eq!(after(rules), Err(error), "{rules:?}");
        }
    }

    #[test]
    fn rules_are_described_as_they_could_be_given_again() {
        for (rules, expected) in [
            (&[][..], "off resetchannels -@all"),
            (
                &["on", "nopass", "~*", "&*", "+@all"],
                "on nopass ~* &* +@all",
            ),
            (&["reset"], "off sanitize-payload resetchannels -@all"),
            (&["+get", "%R~a", "%W~a"], "off ~a resetchannels -@all +get"),
            (&["%rw~a", "%R"], "off ~a %R~ resetchannels -@all"),
            (&["+select|0"], "off resetchannels -@all +select|0"),
            (&["+@all", "-config"], "off resetchannels +@all -config"),
            (&["+config|get"], "off resetchannels -@all +config|get"),
            (
                &["(+get ~a)", "(&b)"],
                "off resetchannels -@all (~a resetchannels -@all +get) (resetchannels &b -@all)",
            ),
        ] {
            assert_eq!(after(rules).as_deref(), Ok(expected), "{rules:?}");
        }
    }

    #[test]
    fn a_selector_may_be_spread_over_arguments_and_must_be_closed() {
        let join = |args: &[&'static str]| {
            join_selectors(args.iter().map(|arg| arg.as_bytes())).map(|joined| {
                joined
                    .into_iter()
                    .map(|arg| String::from_utf8(arg).unwrap())
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(
            join(&["on", "(+get", "~a)", "off"]),
            Ok(vec!["on".into(), "(+get ~a)".into(), "off".into()])
        );
        assert_eq!(join(&["()", ""]), Ok(vec!["()".into(), String::new()]));
        assert_eq!(join(&["(+get", "~a"]), Err(&b"(+get"[..]));
        assert_eq!(join(&["("]), Err(&b"("[..]));
    }

    #[test]
    fn the_first_command_taken_away_ends_the_right_to_all() {
        let mut rules = Rules::new(false);
        for rule in ["+@all", "~*", "&*"] {
            rules.apply(rule.as_bytes(), false).unwrap();
        }
        assert!(rules.may_all());
        rules.apply(b"-get", false).unwrap();
        rules.apply(b"+get", false).unwrap();
        assert!(
            !rules.may_all(),
            "as Redis has it: +@all alone gives it back"
        );
    }
}
