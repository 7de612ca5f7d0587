//! Whether a user may run a request: the command by its bit, each key by what is done with it, each channel.
//!
//! One selector must allow all of it. When none does, one reason is told: that of the selector that came furthest.

use larder_wire::command::keys::{self, KeyAt};
use larder_wire::command::{self, CommandId, Flags, KeyFlags};
use larder_wire::glob;
use larder_wire::resp::Request;

use super::selector::Selector;
use super::until_zero;
use super::user::{Rules, User};

/// What a user may not do. Ordered by how far the check came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denied {
    Command,
    /// The argument that is the key, or the channel.
    Key(usize),
    Channel(usize),
}

impl User {
    /// Whether the user may run `request`, which is for `id` and has as many arguments as it takes.
    #[inline]
    pub fn check(&self, id: CommandId, request: &Request<'_>) -> Result<(), Denied> {
        if self.may_all() {
            return Ok(());
        }
        self.rules().check(id, request)
    }

    /// As [`User::check`], and every key of the node may be read besides: SORT's patterns reach keys that no argument names.
    pub fn may_run_and_read_all(&self, id: CommandId, request: &Request<'_>) -> bool {
        self.may_all()
            || self
                .rules()
                .selectors()
                .any(|selector| selector.check(id, request).is_ok() && selector.reads_every_key())
    }

    /// Whether the user may subscribe to a channel, or to a pattern of them.
    pub fn may_hear(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.may_all()
            || self.rules().selectors().any(|selector| {
                selector.all_channels || selector.names_channel(channel, is_pattern)
            })
    }
}

impl Rules {
    pub(super) fn check(&self, id: CommandId, request: &Request<'_>) -> Result<(), Denied> {
        let mut furthest = Denied::Command;
        for selector in self.selectors() {
            match selector.check(id, request) {
                Ok(()) => return Ok(()),
                Err(denied) => furthest = furthest.max(denied),
            }
        }
        Err(furthest)
    }
}

impl Selector {
    fn check(&self, id: CommandId, request: &Request<'_>) -> Result<(), Denied> {
        if !self.all_commands && !self.allows_command(id, request) {
            return Err(Denied::Command);
        }
        if !self.all_keys {
            let denied =
                keys::positions(id, request).find(|key| !self.allows_key(request.arg(key.at), key));
            if let Some(key) = denied {
                return Err(Denied::Key(key.at));
            }
        }
        if !self.all_channels
            && let Some((channels, is_pattern)) = channels_of(id, request)
        {
            for at in channels {
                if !self.names_channel(request.arg(at), is_pattern) {
                    return Err(Denied::Channel(at));
                }
            }
        }
        Ok(())
    }

    fn allows_command(&self, id: CommandId, request: &Request<'_>) -> bool {
        if self.commands.has(id) || command::spec(id).flags.has(Flags::NO_AUTH) {
            return true;
        }
        let (Some(args), Some(first)) = (self.first_args.get(&id), request.get(1)) else {
            return false;
        };
        args.iter()
            .any(|arg| arg.eq_ignore_ascii_case(until_zero(first)))
    }

    fn allows_key(&self, key: &[u8], at: &KeyAt) -> bool {
        let reads = at.flags.has(KeyFlags::ACCESS);
        let writes = at.flags.any_of(
            KeyFlags::INSERT
                .with(KeyFlags::DELETE)
                .with(KeyFlags::UPDATE),
        );
        self.keys.iter().any(|allowed| {
            (allowed.read || !reads)
                && (allowed.write || !writes)
                && glob::matches(&allowed.pattern, key)
        })
    }

    fn reads_every_key(&self) -> bool {
        self.all_keys
            || self
                .keys
                .iter()
                .any(|key| key.read && *key.pattern == *b"*")
    }

    /// A pattern to subscribe to must be one of those that are allowed, word for word.
    fn names_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.channels.iter().any(|allowed| {
            if is_pattern {
                **allowed == *until_zero(channel)
            } else {
                glob::matches(allowed, channel)
            }
        })
    }
}

/// Which arguments are channels that are spoken to or listened to, and whether they are patterns.
fn channels_of(id: CommandId, request: &Request<'_>) -> Option<(std::ops::Range<usize>, bool)> {
    match id {
        CommandId::Publish | CommandId::Spublish => Some((1..2, false)),
        CommandId::Subscribe | CommandId::Ssubscribe => Some((1..request.len(), false)),
        CommandId::Psubscribe => Some((1..request.len(), true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_wire::command::{Found, lookup};
    use larder_wire::resp::OwnedRequest;

    fn check(rules: &str, line: &str) -> Result<(), Denied> {
        let mut user = Rules::new(false);
        let args: Vec<&[u8]> = rules.split(' ').map(str::as_bytes).collect();
        for rule in super::super::rules::join_selectors(args).unwrap() {
            user.apply(&rule, false).unwrap();
        }
        let request = OwnedRequest::from_args(line.split(' ').collect::<Vec<_>>());
        let request = request.view();
        let Found::Command(id) = lookup(request.name(), request.get(1)) else {
            panic!("no command: {line}");
        };
        User::new(b"u", user).check(id, &request)
    }

    #[test]
    fn a_command_needs_its_bit_its_keys_and_its_channels() {
        for (rules, line, expected) in [
            ("+get ~a*", "get ab", Ok(())),
            ("+get ~a*", "get b", Err(Denied::Key(1))),
            ("+get ~a*", "set ab 1", Err(Denied::Command)),
            ("+mget ~a* ~b*", "mget a b c", Err(Denied::Key(3))),
            ("+@all %R~a", "get a", Ok(())),
            ("+@all %R~a", "set a 1", Err(Denied::Key(1))),
            ("+@all %W~a", "set a 1", Ok(())),
            ("+@all %W~a", "set a 1 get", Err(Denied::Key(1))),
            ("+@all %W~a", "strlen a", Ok(())),
            ("+@all %R~a %W~b", "copy a b", Ok(())),
            ("+@all %R~a %W~b", "copy b a", Err(Denied::Key(1))),
            ("+@all &n*", "publish news x", Ok(())),
            ("+@all &n*", "publish old n", Err(Denied::Channel(1))),
            ("+@all &n*", "psubscribe n*", Ok(())),
            ("+@all &n*", "psubscribe news", Err(Denied::Channel(1))),
            ("+@all &n*", "subscribe news n x", Err(Denied::Channel(3))),
            ("+@all &n*", "unsubscribe x", Ok(())),
            ("+select|0", "select 0", Ok(())),
            ("+select|0", "select 1", Err(Denied::Command)),
            ("+config|get", "config get x", Ok(())),
            ("+config|get", "config resetstat", Err(Denied::Command)),
            ("-@all", "auth x", Ok(())),
        ] {
            assert_eq!(check(rules, line), expected, "{rules}: {line}");
        }
    }

    #[test]
    fn one_selector_must_allow_all_of_it_and_the_furthest_reason_is_told() {
        for (rules, line, expected) in [
            ("+get ~a (+set ~b)", "set b 1", Ok(())),
            ("+get ~a (+set ~b)", "set a 1", Err(Denied::Key(1))),
            ("+mget ~a (+mget ~a ~b)", "mget a b c", Err(Denied::Key(3))),
            ("+get ~a (+get ~b &c)", "get c", Err(Denied::Key(1))),
            ("~* (+publish &a)", "publish b x", Err(Denied::Channel(1))),
        ] {
            assert_eq!(check(rules, line), expected, "{rules}: {line}");
        }
    }
}
