//! The notation of `arguments.rs`, and how `COMMAND DOCS` tells it.
//!
//! | written | is |
//! | --- | --- |
//! | `value` | a string by this name |
//! | `count:i` `score:d` `pattern:p` `at:u` | an integer, a double, a pattern, a Unix time |
//! | `key:k0` `by:p1` | a key, a pattern, that the command's first, second key specification is about |
//! | `count:i=COUNT` | a word, and an integer behind it |
//! | `nx!NX` | a word alone |
//! | `pair(one other)` `either(\|one other)` | several arguments; one of several |
//! | `?` `*` `+` behind it | may be left out; may be repeated; its word is repeated with it |
//! | `@6.2.0` `^2.8.12` | since when it is there, since when it should not be used |
//!
//! A name or a word with one of these signs in it stands in `'…'`.

use super::arguments::arguments;
use super::registry::CommandId;
use crate::resp::ReplyWriter;

/// Signs that end a name, a word or a version.
const SIGNS: &[u8] = b" :=!@^?*+()|'";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    String,
    Integer,
    Double,
    Key,
    Pattern,
    UnixTime,
    PureToken,
    OneOf,
    Block,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Double => "double",
            Kind::Key => "key",
            Kind::Pattern => "pattern",
            Kind::UnixTime => "unix-time",
            Kind::PureToken => "pure-token",
            Kind::OneOf => "oneof",
            Kind::Block => "block",
        }
    }
}

#[derive(Debug)]
struct Argument {
    name: &'static str,
    kind: Kind,
    key_spec: Option<i64>,
    /// Names with their texts, in the order in which they are told.
    texts: Vec<(&'static str, &'static str)>,
    flags: Vec<&'static str>,
    parts: Vec<Argument>,
}

/// Reads a line of the table, which is well-formed.
struct Reader {
    rest: &'static str,
}

impl Reader {
    fn takes(&mut self, sign: char) -> bool {
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// A name, a word or a version.
    fn text(&mut self) -> &'static str {
        let quoted = self.takes('\'');
        let ends = |byte: &u8| match quoted {
            true => *byte == b'\'',
            false => SIGNS.contains(byte),
        };
        let end = self.rest.bytes().position(|byte| ends(&byte));
        let (text, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        if quoted {
            self.takes('\'');
        }
        text
    }

    fn list(&mut self) -> Vec<Argument> {
        let mut list = vec![self.argument()];
        while self.takes(' ') {
            list.push(self.argument());
        }
        list
    }

    fn argument(&mut self) -> Argument {
        let name = self.text();
        let (mut kind, mut key_spec) = (Kind::String, None);
        if self.takes(':') {
            let (letter, number) = self.text().split_at(1);
            key_spec = number.parse().ok();
            kind = match letter {
                "i" => Kind::Integer,
                "d" => Kind::Double,
                "p" => Kind::Pattern,
                "u" => Kind::UnixTime,
                "k" => Kind::Key,
                other => unreachable!("the table has no type {other}"),
            };
        }
        let mut texts = Vec::new();
        if self.takes('=') {
            texts.push(("token", self.text()));
        } else if self.takes('!') {
            kind = Kind::PureToken;
            texts.push(("token", self.text()));
        }
        for (sign, name) in [('@', "since"), ('^', "deprecated_since")] {
            if self.takes(sign) {
                texts.push((name, self.text()));
            }
        }
        let mut flags = Vec::new();
        for (sign, name) in [
            ('?', "optional"),
            ('*', "multiple"),
            ('+', "multiple_token"),
        ] {
            if self.takes(sign) {
                flags.push(name);
            }
        }
        let mut parts = Vec::new();
        if self.takes('(') {
            kind = if self.takes('|') {
                Kind::OneOf
            } else {
                Kind::Block
            };
            parts = self.list();
            self.takes(')');
        }
        Argument {
            name,
            kind,
            key_spec,
            texts,
            flags,
            parts,
        }
    }
}

/// Whether there is anything to tell.
pub(super) fn takes_arguments(id: CommandId) -> bool {
    !arguments(id).is_empty()
}

/// The array of a command's arguments.
pub(super) fn put_arguments(id: CommandId, reply: &mut ReplyWriter<'_>) {
    let mut reader = Reader {
        rest: arguments(id),
    };
    let list = reader.list();
    debug_assert!(reader.rest.is_empty(), "left over: {}", reader.rest);
    put_list(&list, reply);
}

fn put_list(list: &[Argument], reply: &mut ReplyWriter<'_>) {
    reply.array(list.len());
    for argument in list {
        put(argument, reply);
    }
}

fn put(argument: &Argument, reply: &mut ReplyWriter<'_>) {
    let (has_flags, has_parts) = (!argument.flags.is_empty(), !argument.parts.is_empty());
    let pairs = 2
        + usize::from(argument.key_spec.is_some())
        + argument.texts.len()
        + usize::from(has_flags)
        + usize::from(has_parts);
    reply.map(pairs);
    for (name, text) in [("name", argument.name), ("type", argument.kind.word())] {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
    if let Some(number) = argument.key_spec {
        reply.bulk(b"key_spec_index");
        reply.int(number);
    }
    for (name, text) in &argument.texts {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
    if has_flags {
        reply.bulk(b"flags");
        reply.set(argument.flags.len());
        for flag in &argument.flags {
            reply.simple(flag);
        }
    }
    if has_parts {
        reply.bulk(b"arguments");
        put_list(&argument.parts, reply);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::spec;

    #[test]
    fn every_line_is_read_to_its_end() {
        for &id in CommandId::ALL.iter().filter(|id| takes_arguments(**id)) {
            let mut reader = Reader {
                rest: arguments(id),
            };
            reader.list();
            assert_eq!(reader.rest, "", "{}", spec(id).name);
        }
    }
}
