//! ACL and its subcommands.

use std::rc::Rc;

use larder_wire::Refusal;
use larder_wire::command::{self, Categories, CommandId, Found};
use larder_wire::resp::Request;

use crate::acl::{Denied, Selector};
use crate::call::is_control;
use crate::config::Parameter;
use crate::node::Node;
use crate::turn::{Outcome, Turn, help, wrong_subcommand};

/// Entries that `ACL LOG` shows when nothing else is asked for.
const LOG_ENTRIES_DEFAULT: i64 = 10;
/// Bits of a generated password: when nothing is asked for, and at most.
const GENPASS_BITS_DEFAULT: i64 = 256;
const GENPASS_BITS_MAX: i64 = 4096;

const NO_FILE: Refusal = Refusal::fixed(
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the Redis configuration.",
);

impl Node {
    /// Whether new users may use every channel.
    fn all_channels(&self) -> bool {
        self.config.get(Parameter::AclPubsubDefault) == "allchannels"
    }

    /// Reads the users of the ACL file, as at the start; what is wrong in it otherwise.
    pub fn load_acl_file(&mut self) -> Result<Vec<Rc<crate::acl::User>>, String> {
        let name = self.config.get(Parameter::Aclfile).to_owned();
        let text = match &self.acl.host {
            Some(host) => host.read(),
            None => Err("there are no files here".to_owned()),
        };
        let text =
            text.map_err(|error| format!("Error loading ACLs, opening file '{name}': {error}"))?;
        let all_channels = self.all_channels();
        self.acl.take_file(&text, &name, all_channels)
    }
}

pub fn setuser(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let all_channels = turn.node.all_channels();
    let request = turn.request;
    let (user, before) =
        turn.node
            .acl
            .set_user(request.arg(2), request.args_from(3), all_channels)?;
    let outcome = match before {
        Some(before) => turn.node.silence(&user, &before, turn.session),
        None => Outcome::Done,
    };
    turn.reply.ok();
    Ok(outcome)
}

pub fn deluser(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let removed = turn.node.acl.remove(turn.request.args_from(2))?;
    turn.reply.int(removed.len() as i64);
    Ok(end_if(turn.node.send_away(&removed, turn.session)))
}

fn end_if(gone: bool) -> Outcome {
    if gone { Outcome::Close } else { Outcome::Done }
}

pub fn getuser(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let Some(user) = turn.node.acl.get(turn.request.arg(2)) else {
        turn.reply.null();
        return Ok(Outcome::Done);
    };
    let rules = user.rules();
    let reply = &mut turn.reply;
    reply.map(6);
    reply.bulk(b"flags");
    let flags = rules.flags();
    reply.set(flags.len());
    for flag in flags {
        reply.bulk(flag.as_bytes());
    }
    reply.bulk(b"passwords");
    reply.array(rules.passwords.len());
    for password in &rules.passwords {
        reply.bulk(password.to_hex().as_bytes());
    }
    let describe = |selector: &Selector, reply: &mut larder_wire::resp::ReplyWriter<'_>| {
        reply.bulk(b"commands");
        reply.bulk(&selector.commands_text());
        reply.bulk(b"keys");
        reply.bulk(&selector.keys_text());
        reply.bulk(b"channels");
        reply.bulk(&selector.channels_text());
    };
    describe(&rules.root, reply);
    reply.bulk(b"selectors");
    reply.array(rules.others.len());
    for selector in &rules.others {
        reply.map(3);
        describe(selector, reply);
    }
    Ok(Outcome::Done)
}

pub fn list(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let users = turn.node.acl.iter();
    turn.reply.array(users.len());
    for user in users {
        turn.reply.bulk(&user.line());
    }
    Ok(Outcome::Done)
}

pub fn users(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let users = turn.node.acl.iter();
    turn.reply.array(users.len());
    for user in users {
        turn.reply.bulk(user.name());
    }
    Ok(Outcome::Done)
}

pub fn whoami(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.reply.bulk(turn.session.user.name());
    Ok(Outcome::Done)
}

pub fn cat(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    match turn.request.len() {
        2 => {
            turn.reply.array(Categories::WORDS.len());
            for (_, word) in Categories::WORDS {
                turn.reply.bulk(&word.as_bytes()[1..]);
            }
        }
        3 => {
            let name = turn.request.arg(2);
            let category = Categories::WORDS
                .iter()
                .find(|(_, word)| word.as_bytes()[1..].eq_ignore_ascii_case(name));
            let Some((category, _)) = category else {
                return Err(Refusal::new(format!(
                    "ERR Unknown category '{}'",
                    String::from_utf8_lossy(&name[..name.len().min(128)])
                )));
            };
            let names: Vec<&str> = CommandId::ALL
                .iter()
                .filter(|id| !is_control(**id))
                .map(|id| command::spec(*id))
                .filter(|spec| spec.categories.has(*category))
                .map(|spec| spec.name)
                .collect();
            turn.reply.array(names.len());
            for name in names {
                turn.reply.bulk(name.as_bytes());
            }
        }
        _ => return Err(wrong_subcommand(turn, "ACL")),
    }
    Ok(Outcome::Done)
}

pub fn dryrun(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let request = turn.request;
    let Some(user) = turn.node.acl.get(request.arg(2)) else {
        return Err(Refusal::new(format!(
            "ERR User '{}' not found",
            String::from_utf8_lossy(request.arg(2))
        )));
    };
    let inner = Request::new(request.bytes(), &request.ranges()[3..]);
    let id = match command::lookup(inner.name(), inner.get(1)) {
        Found::Command(id) if !is_control(id) => id,
        Found::Command(_) | Found::UnknownSubcommand(_) | Found::Unknown => {
            return Err(Refusal::new(format!(
                "ERR Command '{}' not found",
                String::from_utf8_lossy(inner.name())
            )));
        }
    };
    let spec = command::spec(id);
    if !spec.takes(inner.len()) {
        return Err(Refusal::wrong_arity(spec.name));
    }
    let (object, what) = match turn.node.check_acl(user, id, &inner) {
        Ok(()) => return turn.ok(),
        Err(Denied::Command) => {
            let text = format!(
                "This user has no permissions to run the '{}' command",
                spec.name
            );
            return turn.bulk(text.as_bytes());
        }
        Err(Denied::Key(at)) => (inner.arg(at), "key"),
        Err(Denied::Channel(at)) => (inner.arg(at), "channel"),
    };
    let mut text = b"This user has no permissions to access the '".to_vec();
    text.extend_from_slice(object);
    text.extend_from_slice(b"' ");
    text.extend_from_slice(what.as_bytes());
    turn.bulk(&text)
}

pub fn genpass(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let bits = match turn.request.len() {
        2 => GENPASS_BITS_DEFAULT,
        3 => turn.arg_int(2)?,
        _ => return Err(wrong_subcommand(turn, "ACL")),
    };
    if !(1..=GENPASS_BITS_MAX).contains(&bits) {
        return Err(Refusal::new(format!(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to {GENPASS_BITS_MAX}"
        )));
    }
    let digits = (bits as usize).div_ceil(4);
    let mut random = vec![0; digits.div_ceil(2)];
    let filled = match &turn.node.acl.host {
        Some(host) => host.fill_random(&mut random),
        None => Err("there is no randomness here".to_owned()),
    };
    filled.map_err(|error| Refusal::new(format!("ERR cannot make a password: {error}")))?;
    let mut password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    password.truncate(digits);
    turn.bulk(password.as_bytes())
}

pub fn log(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let count = match turn.request.len() {
        2 => LOG_ENTRIES_DEFAULT,
        3 if turn.is_word(2, "reset") => {
            turn.node.acl.log.borrow_mut().clear();
            return turn.ok();
        }
        3 => turn.arg_int(2)?,
        _ => return Err(wrong_subcommand(turn, "ACL")),
    };
    let log = turn.node.acl.log.borrow();
    let entries = log.latest(usize::try_from(count).unwrap_or(0));
    let reply = &mut turn.reply;
    reply.array(entries.len());
    for entry in entries {
        let age_ms = turn.clock.now().0 - entry.at.0;
        reply.map(7);
        reply.bulk(b"count");
        reply.int(entry.count as i64);
        reply.bulk(b"reason");
        reply.bulk(entry.reason.word().as_bytes());
        reply.bulk(b"context");
        reply.bulk(entry.context.word().as_bytes());
        reply.bulk(b"object");
        reply.bulk(&entry.object);
        reply.bulk(b"username");
        reply.bulk(&entry.username);
        reply.bulk(b"age-seconds");
        reply.double(age_ms as f64 / 1000.0);
        reply.bulk(b"client-info");
        reply.bulk(entry.client.as_bytes());
    }
    Ok(Outcome::Done)
}

fn has_file(turn: &Turn<'_>) -> bool {
    !turn.node.config.get(Parameter::Aclfile).is_empty()
}

pub fn load(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if !has_file(turn) {
        return Err(NO_FILE);
    }
    let loaded = turn.node.load_acl_file();
    let removed = loaded.map_err(|error| Refusal::new(format!("ERR {error}")))?;
    turn.reply.ok();
    Ok(end_if(turn.node.send_away(&removed, turn.session)))
}

pub fn save(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if !has_file(turn) {
        return Err(NO_FILE);
    }
    let saved = match &turn.node.acl.host {
        Some(host) => host.write(&turn.node.acl.file_text()),
        None => Err("there are no files here".to_owned()),
    };
    saved.map_err(|_| {
        Refusal::fixed(
            "ERR There was an error trying to save the ACLs. Please check the server logs for more information",
        )
    })?;
    turn.ok()
}

pub fn help_(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    help(
        turn,
        "ACL",
        &[
            "CAT [<category>]",
            "    List all commands that belong to <category>, or all command categories",
            "    when no category is specified.",
            "DELUSER <username> [<username> ...]",
            "    Delete a list of users.",
            "DRYRUN <username> <command> [<arg> ...]",
            "    Returns whether the user can execute the given command without executing the command.",
            "GETUSER <username>",
            "    Get the user's details.",
            "GENPASS [<bits>]",
            "    Generate a secure 256-bit user password. The optional `bits` argument can",
            "    be used to specify a different size.",
            "LIST",
            "    Show users details in config file format.",
            "LOAD",
            "    Reload users from the ACL file.",
            "LOG [<count> | RESET]",
            "    Show the ACL log entries.",
            "SAVE",
            "    Save the current config to the ACL file.",
            "SETUSER <username> <attribute> [<attribute> ...]",
            "    Create or modify a user with the specified attributes.",
            "USERS",
            "    List all the registered usernames.",
            "WHOAMI",
            "    Return the current connection username.",
        ],
    )
}
