//! Rules as text that gives them again: `ACL LIST`, `ACL GETUSER`, the ACL file.
//!
//! The text of the commands starts from all or from none, then takes the categories that fit best, then single commands:
//! 1. a category fits when more of its commands are to be changed than not; the one with the fewest that are not comes first,
//!    and of those alike the one with the most that are;
//! 2. what a category changed is out of the count for the next;
//! 3. single commands mend what the categories did not say exactly.
//!
//! Categories are weighed by the commands of Redis 7.0, so that the text is the same from both; later commands are mended singly.

use std::sync::LazyLock;

use larder_wire::command::{self, Categories, CommandId, docs};

use super::commands;
use super::selector::{CommandBits, KeyPattern, Selector};
use super::user::{Rules, Sanitize, User};

/// Commands that came with later releases of Redis do not weigh.
const WEIGHED_VERSION: (u32, u32) = (7, 0);

/// The commands that weigh, by category in the order of [`Categories::WORDS`].
static WEIGHED: LazyLock<Vec<(Categories, &'static str, Vec<CommandId>)>> = LazyLock::new(|| {
    Categories::WORDS
        .iter()
        .map(|(category, word)| {
            let of_it = commands().filter(|id| {
                command::spec(*id).categories.has(*category) && since(*id) <= WEIGHED_VERSION
            });
            (*category, *word, of_it.collect())
        })
        .collect()
});

fn since(id: CommandId) -> (u32, u32) {
    let mut parts = docs::doc(id).since.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => unreachable!("every row tells a version"),
    }
}

impl User {
    /// `user NAME RULES`, as `ACL LIST` and the ACL file have it.
    pub fn line(&self) -> Vec<u8> {
        let mut line = b"user ".to_vec();
        line.extend_from_slice(self.name());
        line.push(b' ');
        self.rules().describe_to(&mut line);
        line
    }
}

impl Rules {
    /// The words of `ACL GETUSER`'s flags.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.enabled { "on" } else { "off" }];
        if self.nopass {
            flags.push("nopass");
        }
        match self.sanitize {
            Sanitize::Unsaid => {}
            Sanitize::Skip => flags.push("skip-sanitize-payload"),
            Sanitize::Yes => flags.push("sanitize-payload"),
        }
        flags
    }

    #[cfg(test)]
    pub(super) fn describe(&self) -> String {
        let mut text = Vec::new();
        self.describe_to(&mut text);
        String::from_utf8(text).unwrap()
    }

    fn describe_to(&self, text: &mut Vec<u8>) {
        for flag in self.flags() {
            text.extend_from_slice(flag.as_bytes());
            text.push(b' ');
        }
        for password in &self.passwords {
            text.push(b'#');
            text.extend_from_slice(password.to_hex().as_bytes());
            text.push(b' ');
        }
        self.root.describe_to(text);
        for selector in &self.others {
            text.extend_from_slice(b" (");
            selector.describe_to(text);
            text.push(b')');
        }
    }
}

impl KeyPattern {
    fn describe_to(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(match (self.read, self.write) {
            (true, false) => b"%R~",
            (false, true) => b"%W~",
            (true, true) | (false, false) => b"~",
        });
        text.extend_from_slice(&self.pattern);
    }
}

impl Selector {
    fn describe_to(&self, text: &mut Vec<u8>) {
        let keys = self.keys_text();
        text.extend_from_slice(&keys);
        if !keys.is_empty() {
            text.push(b' ');
        }
        if !self.all_channels {
            text.extend_from_slice(b"resetchannels ");
        }
        let channels = self.channels_text();
        text.extend_from_slice(&channels);
        if !channels.is_empty() {
            text.push(b' ');
        }
        text.extend_from_slice(&self.commands_text());
    }

    /// `~a %R~b`.
    pub fn keys_text(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let mut text = Vec::new();
        for pattern in &self.keys {
            if !text.is_empty() {
                text.push(b' ');
            }
            pattern.describe_to(&mut text);
        }
        text
    }

    /// `&a &b`.
    pub fn channels_text(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        let mut text = Vec::new();
        for channel in &self.channels {
            if !text.is_empty() {
                text.push(b' ');
            }
            text.push(b'&');
            text.extend_from_slice(channel);
        }
        text
    }

    /// `+@all -@dangerous +keys`. See the module for how it is composed.
    pub fn commands_text(&self) -> Vec<u8> {
        let additive = !self.commands.future;
        let (mut said, mut text) = if additive {
            (CommandBits::NONE, b"-@all".to_vec())
        } else {
            (CommandBits::ALL, b"+@all".to_vec())
        };
        let mut unsaid = self.commands.clone();
        let mut used = Categories::NONE;
        while let Some((category, word)) = best_category(&unsaid, used, additive) {
            said.set_category(category, additive);
            unsaid.set_category(category, !additive);
            used = used.with(category);
            text.extend_from_slice(if additive { b" +" } else { b" -" });
            text.extend_from_slice(word.as_bytes());
        }
        for id in commands() {
            self.mend(id, &mut said, &mut text);
        }
        text
    }

    /// Says of one command what the categories did not.
    fn mend(&self, id: CommandId, said: &mut CommandBits, text: &mut Vec<u8>) {
        let name = command::spec(id).name.as_bytes();
        let allowed = self.commands.has(id);
        if allowed != said.has(id) {
            text.extend_from_slice(if allowed { b" +" } else { b" -" });
            text.extend_from_slice(name);
            said.set_with_subcommands(id, allowed);
        }
        if allowed {
            return;
        }
        for arg in self.first_args.get(&id).into_iter().flatten() {
            text.extend_from_slice(b" +");
            text.extend_from_slice(name);
            text.push(b'|');
            text.extend_from_slice(arg);
        }
    }
}

fn best_category(
    unsaid: &CommandBits,
    used: Categories,
    additive: bool,
) -> Option<(Categories, &'static str)> {
    let mut best: Option<(usize, usize, Categories, &'static str)> = None;
    for (category, word, of_it) in WEIGHED.iter() {
        if used.has(*category) {
            continue;
        }
        let on = of_it.iter().filter(|id| unsaid.has(**id)).count();
        let off = of_it.len() - on;
        let (same, differs) = if additive { (on, off) } else { (off, on) };
        let better =
            best.is_none_or(|(least, most, ..)| differs < least || differs == least && same > most);
        if same > differs && better {
            best = Some((differs, same, *category, word));
        }
    }
    best.map(|(_, _, category, word)| (category, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_described_gives_the_same_commands_again() {
        let mut random = larder_store::Random::new(7);
        for _ in 0..200 {
            let mut rules = Rules::new(false);
            for _ in 0..random.below(8) {
                let sign = if random.below(2) == 0 { '+' } else { '-' };
                let rule = if random.below(2) == 0 {
                    let (_, word) = Categories::WORDS[random.below(Categories::WORDS.len())];
                    format!("{sign}{word}")
                } else {
                    let all: Vec<CommandId> = commands().collect();
                    format!("{sign}{}", command::spec(all[random.below(all.len())]).name)
                };
                rules.apply(rule.as_bytes(), false).unwrap();
            }
            let text = String::from_utf8(rules.root.commands_text()).unwrap();
            let mut again = Rules::new(false);
            for rule in text.split(' ') {
                again.apply(rule.as_bytes(), false).unwrap();
            }
            assert_eq!(again.root.commands, rules.root.commands, "{text}");
        }
    }
}
