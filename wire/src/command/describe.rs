//! The answers of the COMMAND family: the table, told to clients.
//!
//! Nodes and the proxy answer from here. Commands that nothing executes are left out: to a
//! client they do not exist.

use super::docs::doc;
use super::keys;
use super::lookup::{Found, lookup};
use super::registry::{CommandId, spec, subcommands};
use super::spec::{BeginSearch, Categories, FindKeys, Home, KeyFlags, KeySpec};
use super::syntax::{put_arguments, takes_arguments};
use crate::glob;
use crate::refusal::Refusal;
use crate::resp::{ReplyWriter, Request};

const NOT_A_COMMAND: Refusal = Refusal::fixed("ERR Invalid command specified");
const NO_KEY_ARGUMENTS: Refusal = Refusal::fixed("ERR The command has no key arguments");
const BAD_ARITY: Refusal = Refusal::fixed("ERR Invalid number of arguments specified for command");
const BAD_ARGUMENTS: Refusal = Refusal::fixed("ERR Invalid arguments specified for command");

/// The lines of `COMMAND HELP` after its first: what Redis answers, to the letter.
const HELP: &[&str] = &[
    "(no subcommand)",
    "    Return details about all Redis commands.",
    "COUNT",
    "    Return the total number of commands in this Redis server.",
    "LIST",
    "    Return a list of all commands in this Redis server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "GETKEYS <full-command>",
    "    Return the keys from a full Redis command.",
    "GETKEYSANDFLAGS <full-command>",
    "    Return the keys and the access flags from a full Redis command.",
    "HELP",
    "    Prints this help.",
];

/// `COMMAND`.
pub fn all(reply: &mut ReplyWriter<'_>) {
    reply.array(top_level().count());
    for id in top_level() {
        info_of(id, reply);
    }
}

/// `COMMAND COUNT`.
pub fn count(reply: &mut ReplyWriter<'_>) {
    reply.int(top_level().count() as i64);
}

/// `COMMAND INFO [name …]`.
pub fn info(request: &Request<'_>, reply: &mut ReplyWriter<'_>) {
    if request.len() <= 2 {
        return all(reply);
    }
    reply.array(request.len() - 2);
    for name in request.args_from(2) {
        match by_full_name(name) {
            Some(id) => info_of(id, reply),
            None => reply.null_array(),
        }
    }
}

/// `COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]`.
pub fn list(request: &Request<'_>, reply: &mut ReplyWriter<'_>) -> Result<(), Refusal> {
    let names: Vec<&str> = match request.len() {
        2 => names(|_| true),
        5 if request.arg(2).eq_ignore_ascii_case(b"filterby") => {
            let (by, what) = (request.arg(3), request.arg(4));
            if by.eq_ignore_ascii_case(b"module") {
                Vec::new()
            } else if by.eq_ignore_ascii_case(b"aclcat") {
                names(|id| in_category(id, what))
            } else if by.eq_ignore_ascii_case(b"pattern") {
                names(|id| glob::matches_ignore_case(what, spec(id).name.as_bytes()))
            } else {
                return Err(Refusal::SYNTAX);
            }
        }
        _ => return Err(Refusal::SYNTAX),
    };
    reply.array(names.len());
    for name in names {
        reply.bulk(name.as_bytes());
    }
    Ok(())
}

/// `COMMAND DOCS [name …]`.
pub fn docs(request: &Request<'_>, reply: &mut ReplyWriter<'_>) {
    let ids: Vec<CommandId> = if request.len() <= 2 {
        top_level().collect()
    } else {
        request.args_from(2).filter_map(by_full_name).collect()
    };
    reply.map(ids.len());
    for id in ids {
        docs_of(id, reply);
    }
}

/// `COMMAND GETKEYS request`.
pub fn getkeys(request: &Request<'_>, reply: &mut ReplyWriter<'_>) -> Result<(), Refusal> {
    let (inner, found) = keys_asked_for(request)?;
    reply.array(found.clone().count());
    for key in found {
        reply.bulk(inner.arg(key.at));
    }
    Ok(())
}

/// `COMMAND GETKEYSANDFLAGS request`.
pub fn getkeysandflags(request: &Request<'_>, reply: &mut ReplyWriter<'_>) -> Result<(), Refusal> {
    let (inner, found) = keys_asked_for(request)?;
    reply.array(found.clone().count());
    for key in found {
        reply.array(2);
        reply.bulk(inner.arg(key.at));
        words(key.flags.words(), reply);
    }
    Ok(())
}

/// `COMMAND HELP`.
pub fn help(reply: &mut ReplyWriter<'_>) {
    reply.array(1 + HELP.len());
    reply.simple("COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    for line in HELP {
        reply.simple(line);
    }
}

fn keys_asked_for<'a>(request: &Request<'a>) -> Result<(Request<'a>, keys::Positions), Refusal> {
    let inner = Request::new(request.bytes(), request.ranges().get(2..).unwrap_or(&[]));
    let Found::Command(id) = lookup(inner.name(), inner.get(1)) else {
        return Err(NOT_A_COMMAND);
    };
    let spec = spec(id);
    if spec.keys.iter().all(|key| key.flags.has(KeyFlags::NOT_KEY)) {
        return Err(NO_KEY_ARGUMENTS);
    }
    if !spec.takes(inner.len()) {
        return Err(BAD_ARITY);
    }
    let found = keys::positions(id, &inner);
    if found.clone().next().is_none() && !spec.flags.has(super::Flags::NO_MANDATORY_KEYS) {
        return Err(BAD_ARGUMENTS);
    }
    Ok((inner, found))
}

/// Some command, or some subcommand of it, is executed.
fn is_served(id: CommandId) -> bool {
    match spec(id).home {
        Home::Store | Home::Engine => true,
        Home::Container => subcommands(id).any(is_served),
        Home::Nobody => false,
    }
}

fn is_subcommand(id: CommandId) -> bool {
    spec(id).name.contains('|')
}

fn top_level() -> impl Iterator<Item = CommandId> {
    CommandId::ALL
        .iter()
        .copied()
        .filter(|id| !is_subcommand(*id) && is_served(*id))
}

fn served_subcommands(id: CommandId) -> impl Iterator<Item = CommandId> + Clone {
    let subs: Vec<CommandId> = subcommands(id).filter(|sub| is_served(*sub)).collect();
    subs.into_iter()
}

fn names(keep: impl Fn(CommandId) -> bool) -> Vec<&'static str> {
    CommandId::ALL
        .iter()
        .filter(|id| is_served(**id) && keep(**id))
        .map(|id| spec(*id).name)
        .collect()
}

/// `category` is named without its `@`, as Redis has it here.
fn in_category(id: CommandId, category: &[u8]) -> bool {
    Categories::WORDS
        .iter()
        .find(|(_, word)| word.as_bytes()[1..].eq_ignore_ascii_case(category))
        .is_some_and(|(flag, _)| spec(id).categories.has(*flag))
}

/// `config|get` as well as `get`.
fn by_full_name(name: &[u8]) -> Option<CommandId> {
    let mut parts = name.splitn(2, |byte| *byte == b'|');
    let (name, sub) = (parts.next()?, parts.next());
    match lookup(name, sub) {
        // A command without subcommands passes over the second part: `get|x` is no command.
        Found::Command(id) if is_served(id) && is_subcommand(id) == sub.is_some() => Some(id),
        Found::Command(_) | Found::UnknownSubcommand(_) | Found::Unknown => None,
    }
}

fn info_of(id: CommandId, reply: &mut ReplyWriter<'_>) {
    let spec = spec(id);
    reply.array(10);
    reply.bulk(spec.name.as_bytes());
    reply.int(spec.arity.into());
    words(spec.flags.words(), reply);
    reply.int(spec.plain_keys.first.into());
    reply.int(spec.plain_keys.last.into());
    reply.int(spec.plain_keys.step.into());
    words(spec.categories.words(), reply);
    let tips = doc(id).tips;
    reply.set(tips.len());
    for tip in tips {
        reply.bulk(tip.as_bytes());
    }
    reply.set(spec.keys.len());
    for key in spec.keys {
        key_spec(key, reply);
    }
    let subs = served_subcommands(id);
    reply.set(subs.clone().count());
    for sub in subs {
        info_of(sub, reply);
    }
}

fn words(words: impl Iterator<Item = &'static str>, reply: &mut ReplyWriter<'_>) {
    let words: Vec<&str> = words.collect();
    reply.set(words.len());
    for word in words {
        reply.simple(word);
    }
}

fn key_spec(key: &KeySpec, reply: &mut ReplyWriter<'_>) {
    reply.map(3);
    reply.bulk(b"flags");
    words(key.flags.words(), reply);
    reply.bulk(b"begin_search");
    match key.begin {
        BeginSearch::Index(at) => search("index", &[("index", at.into())], reply),
        BeginSearch::Keyword { word, from } => {
            search_head("keyword", 2, reply);
            reply.bulk(b"keyword");
            reply.bulk(word.as_bytes());
            reply.bulk(b"startfrom");
            reply.int(from.into());
        }
        BeginSearch::Unknown => search("unknown", &[], reply),
    }
    reply.bulk(b"find_keys");
    match key.find {
        FindKeys::Range { last, step, limit } => search(
            "range",
            &[
                ("lastkey", last.into()),
                ("keystep", step.into()),
                ("limit", limit.into()),
            ],
            reply,
        ),
        FindKeys::KeyNum { at, first, step } => search(
            "keynum",
            &[
                ("keynumidx", at.into()),
                ("firstkey", first.into()),
                ("keystep", step.into()),
            ],
            reply,
        ),
        FindKeys::Unknown => search("unknown", &[], reply),
    }
}

fn search(kind: &str, numbers: &[(&str, i64)], reply: &mut ReplyWriter<'_>) {
    search_head(kind, numbers.len(), reply);
    for (name, number) in numbers {
        reply.bulk(name.as_bytes());
        reply.int(*number);
    }
}

fn search_head(kind: &str, fields: usize, reply: &mut ReplyWriter<'_>) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(fields);
}

fn docs_of(id: CommandId, reply: &mut ReplyWriter<'_>) {
    let (spec, doc) = (spec(id), doc(id));
    let subs = served_subcommands(id);
    let sub_count = subs.clone().count();
    reply.bulk(spec.name.as_bytes());
    let has_arguments = takes_arguments(id);
    reply.map(3 + usize::from(has_arguments) + usize::from(sub_count > 0));
    for (name, text) in [
        ("summary", doc.summary),
        ("since", doc.since),
        ("group", doc.group),
    ] {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
    if has_arguments {
        reply.bulk(b"arguments");
        put_arguments(id, reply);
    }
    if sub_count > 0 {
        reply.bulk(b"subcommands");
        reply.map(sub_count);
        for sub in subs {
            docs_of(sub, reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{OwnedRequest, Protocol};

    fn answer(
        line: &str,
        run: impl Fn(&Request<'_>, &mut ReplyWriter<'_>) -> Result<(), Refusal>,
    ) -> String {
        let request = OwnedRequest::from_args(line.split(' ').collect::<Vec<_>>());
        let mut out = Vec::new();
        let mut reply = ReplyWriter::new(&mut out, Protocol::Resp3);
        match run(&request.view(), &mut reply) {
            Ok(()) => String::from_utf8(out).unwrap().replace("\r\n", " "),
            Err(refusal) => refusal.text().to_owned(),
        }
    }

    #[test]
    fn getkeys_answers_as_redis_does() {
        for (line, expected) in [
            ("command getkeys nosuch x", "ERR Invalid command specified"),
            (
                "command getkeys config nosuch",
                "ERR Invalid command specified",
            ),
            (
                "command getkeys config get x",
                "ERR The command has no key arguments",
            ),
            (
                "command getkeys spublish a b",
                "ERR The command has no key arguments",
            ),
            (
                "command getkeys get a b",
                "ERR Invalid number of arguments specified for command",
            ),
            (
                "command getkeys zunion 2 a",
                "ERR Invalid arguments specified for command",
            ),
            ("command getkeys eval a 0", "*0 "),
            ("command getkeys sort a by x", "*1 $1 a "),
            ("command getkeys mset a 1 b 2", "*2 $1 a $1 b "),
        ] {
            assert_eq!(answer(line, getkeys), expected, "{line}");
        }
        assert_eq!(
            answer("command getkeysandflags set a b", getkeysandflags),
            "*1 *2 $1 a ~2 +OW +update "
        );
    }

    #[test]
    fn list_filters_or_refuses_the_syntax() {
        for line in [
            "command list foo bar",
            "command list x",
            "command list filterby x y",
        ] {
            assert_eq!(answer(line, list), "ERR syntax error", "{line}");
        }
        assert_eq!(answer("command list filterby module x", list), "*0 ");
        assert_eq!(answer("command list filterby aclcat nosuch", list), "*0 ");
    }

    #[test]
    fn a_name_that_is_none_is_null_in_info_and_left_out_of_docs() {
        let nothing = |run: fn(&Request<'_>, &mut ReplyWriter<'_>)| {
            answer("command x nosuch get|x", |request, reply| {
                run(request, reply);
                Ok(())
            })
        };
        assert_eq!(nothing(info), "*2 _ _ ");
        assert_eq!(nothing(docs), "%0 ");
    }

    #[test]
    fn every_command_has_a_sentence() {
        for &id in CommandId::ALL {
            let summary = doc(id).summary;
            assert!(
                summary.ends_with('.') && summary.len() < 100,
                "{}",
                spec(id).name
            );
        }
    }
}
