//! CLIENT and its subcommands.

use std::rc::Rc;

use larder_wire::Refusal;

use crate::acl::User;
use crate::client::Client;
use crate::node::Pause;
use crate::session::ReplyMode;
use crate::turn::{Outcome, Turn, help, wrong_subcommand};

/// A name holds no spaces, line breaks or other special characters: CLIENT LIST would not be readable.
pub(super) fn check_name(name: &[u8]) -> Result<(), Refusal> {
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(());
    }
    Err(Refusal::fixed(
        "ERR Client names cannot contain spaces, newlines or special characters.",
    ))
}

pub fn id(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let id = turn.session.client.id as i64;
    turn.int(id)
}

pub fn getname(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let client = Rc::clone(&turn.session.client);
    let name = client.name.borrow();
    if name.is_empty() {
        turn.reply.null();
    } else {
        turn.reply.bulk(&name);
    }
    Ok(Outcome::Done)
}

pub fn setname(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let name = turn.request.arg(2);
    check_name(name)?;
    turn.session.client.name.replace(name.to_vec());
    turn.ok()
}

pub fn setinfo(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let (attribute, value) = (turn.request.arg(2), turn.request.arg(3));
    let client = &turn.session.client;
    let (cell, name) = if attribute.eq_ignore_ascii_case(b"lib-name") {
        (&client.library, "lib-name")
    } else if attribute.eq_ignore_ascii_case(b"lib-ver") {
        (&client.library_version, "lib-ver")
    } else {
        return Err(Refusal::new(format!(
            "ERR Unrecognized option '{}'",
            String::from_utf8_lossy(attribute)
        )));
    };
    check_name(value).map_err(|_| {
        Refusal::new(format!(
            "ERR {name} cannot contain spaces, newlines or special characters."
        ))
    })?;
    cell.replace(value.to_vec());
    turn.ok()
}

pub fn info(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let mut text = String::new();
    turn.session.client.describe(turn.clock.mono_ms, &mut text);
    text.push('\n');
    turn.reply.verbatim("txt", text.as_bytes());
    Ok(Outcome::Done)
}

pub fn list(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let request = turn.request;
    let mut text = String::new();
    let mut describe = |client: &Client| {
        client.describe(turn.clock.mono_ms, &mut text);
        text.push('\n');
    };
    if request.len() == 4 && turn.is_word(2, "type") {
        let kind = client_type(request.arg(3))?;
        let clients = turn.node.clients.iter();
        clients
            .filter(|client| client.kind() == kind)
            .for_each(|client| describe(client));
    } else if request.len() > 3 && turn.is_word(2, "id") {
        for at in 3..request.len() {
            let id = larder_store::number::parse_i64(request.arg(at))
                .ok_or(Refusal::fixed("ERR Invalid client ID"))?;
            // Numbers that are no ids are nobody's.
            let known = u64::try_from(id).ok();
            if let Some(client) = known.and_then(|id| turn.node.clients.get(id)) {
                describe(client);
            }
        }
    } else if request.len() == 2 {
        turn.node.clients.iter().for_each(|client| describe(client));
    } else {
        return Err(Refusal::SYNTAX);
    }
    turn.reply.verbatim("txt", text.as_bytes());
    Ok(Outcome::Done)
}

fn above_zero(text: &[u8]) -> Option<u64> {
    larder_store::number::parse_i64(text)
        .and_then(|number| u64::try_from(number).ok())
        .filter(|&number| number > 0)
}

fn client_type(text: &[u8]) -> Result<&'static str, Refusal> {
    let types = [
        ("normal", "normal"),
        ("master", "master"),
        ("replica", "replica"),
        ("slave", "replica"),
        ("pubsub", "pubsub"),
    ];
    types
        .into_iter()
        .find(|(word, _)| text.eq_ignore_ascii_case(word.as_bytes()))
        .map(|(_, kind)| kind)
        .ok_or_else(|| {
            Refusal::new(format!(
                "ERR Unknown client type '{}'",
                String::from_utf8_lossy(text)
            ))
        })
}

/// What `CLIENT KILL` filters by.
#[derive(Default)]
struct KillFilter<'a> {
    id: Option<u64>,
    kind: Option<&'static str>,
    addr: Option<&'a [u8]>,
    laddr: Option<&'a [u8]>,
    user: Option<Rc<User>>,
    max_age_seconds: Option<u64>,
    skip_me: bool,
}

impl KillFilter<'_> {
    fn takes(&self, client: &Client, me: u64, mono_ms: u64) -> bool {
        let age = mono_ms.saturating_sub(client.born_ms) / 1000;
        self.id.is_none_or(|id| id == client.id)
            && self.kind.is_none_or(|kind| kind == client.kind())
            && self.addr.is_none_or(|addr| addr == client.addr.as_bytes())
            && self
                .laddr
                .is_none_or(|addr| addr == client.laddr.as_bytes())
            && self
                .user
                .as_ref()
                .is_none_or(|user| Rc::ptr_eq(user, &client.user()))
            && self.max_age_seconds.is_none_or(|max| age >= max)
            && !(self.skip_me && client.id == me)
    }
}

pub fn kill(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let request = turn.request;
    let me = turn.session.client.id;
    // The old form: one address, an error when there is no such client.
    let old_form = request.len() == 3;
    let filter = if old_form {
        KillFilter {
            addr: Some(request.arg(2)),
            ..KillFilter::default()
        }
    } else {
        kill_filter(turn)?
    };
    let mut killed = 0;
    let mut suicide = false;
    for client in turn.node.clients.iter() {
        if filter.takes(client, me, turn.clock.mono_ms) {
            killed += 1;
            if client.id == me {
                suicide = true;
            } else {
                client.kill();
            }
        }
    }
    if old_form {
        if killed == 0 {
            return Err(Refusal::fixed("ERR No such client"));
        }
        turn.reply.ok();
    } else {
        turn.reply.int(killed);
    }
    Ok(if suicide {
        Outcome::Close
    } else {
        Outcome::Done
    })
}

fn kill_filter<'a>(turn: &Turn<'a>) -> Result<KillFilter<'a>, Refusal> {
    let request = turn.request;
    let mut filter = KillFilter {
        skip_me: true,
        ..KillFilter::default()
    };
    let mut at = 2;
    while at < request.len() {
        let Some(value) = request.get(at + 1) else {
            return Err(Refusal::SYNTAX);
        };
        if turn.is_word(at, "id") {
            let wrong = Refusal::fixed("ERR client-id should be greater than 0");
            filter.id = Some(above_zero(value).ok_or(wrong)?);
        } else if turn.is_word(at, "type") {
            filter.kind = Some(client_type(value)?);
        } else if turn.is_word(at, "addr") {
            filter.addr = Some(value);
        } else if turn.is_word(at, "laddr") {
            filter.laddr = Some(value);
        } else if turn.is_word(at, "user") {
            let operator = turn.node.acl.operator();
            let user = turn
                .node
                .acl
                .get(value)
                .or((value == operator.name()).then_some(operator));
            filter.user = Some(Rc::clone(user.ok_or_else(|| {
                Refusal::new(format!(
                    "ERR No such user '{}'",
                    String::from_utf8_lossy(value)
                ))
            })?));
        } else if turn.is_word(at, "maxage") {
            if larder_store::number::parse_i64(value).is_none() {
                return Err(Refusal::fixed(
                    "ERR maxage is not an integer or out of range",
                ));
            }
            let wrong = Refusal::fixed("ERR maxage should be greater than 0");
            filter.max_age_seconds = Some(above_zero(value).ok_or(wrong)?);
        } else if turn.is_word(at, "skipme") {
            filter.skip_me = if value.eq_ignore_ascii_case(b"yes") {
                true
            } else if value.eq_ignore_ascii_case(b"no") {
                false
            } else {
                return Err(Refusal::SYNTAX);
            };
        } else {
            return Err(Refusal::SYNTAX);
        }
        at += 2;
    }
    Ok(filter)
}

pub fn no_evict(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let on = on_or_off(turn)?;
    turn.session.client.no_evict.set(on);
    turn.ok()
}

pub fn no_touch(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let on = on_or_off(turn)?;
    turn.session.client.no_touch.set(on);
    turn.ok()
}

fn on_or_off(turn: &Turn<'_>) -> Result<bool, Refusal> {
    if turn.is_word(2, "on") {
        Ok(true)
    } else if turn.is_word(2, "off") {
        Ok(false)
    } else {
        Err(Refusal::SYNTAX)
    }
}

pub fn reply(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if turn.is_word(2, "on") {
        turn.session.reply_mode = ReplyMode::On;
        turn.reply.ok();
    } else if turn.is_word(2, "off") {
        turn.session.reply_mode = ReplyMode::Off;
    } else if turn.is_word(2, "skip") {
        if turn.session.reply_mode == ReplyMode::On {
            turn.session.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(Refusal::SYNTAX);
    }
    Ok(Outcome::Done)
}

pub fn pause(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let writes_only = match turn.request.len() {
        3 => false,
        4 if turn.is_word(3, "write") => true,
        4 if turn.is_word(3, "all") => false,
        4 => {
            return Err(Refusal::fixed("ERR CLIENT PAUSE mode must be WRITE or ALL"));
        }
        _ => return Err(wrong_subcommand(turn, "CLIENT")),
    };
    let wrong = Refusal::fixed("ERR timeout is not an integer or out of range");
    let ms = larder_store::number::parse_i64(turn.request.arg(2)).ok_or(wrong)?;
    if ms < 0 {
        return Err(Refusal::fixed("ERR timeout is negative"));
    }
    let until_ms = turn.clock.mono_ms.saturating_add(ms as u64);
    // A pause in force is made stricter and longer, never the reverse.
    let (until_ms, writes_only) = match turn.node.pause {
        Some(old) if old.until_ms > turn.clock.mono_ms => {
            (until_ms.max(old.until_ms), writes_only && old.writes_only)
        }
        Some(_) | None => (until_ms, writes_only),
    };
    // Nor does anything expire.
    turn.node.pause = Some(Pause {
        until_ms,
        writes_only,
    });
    turn.node.settle_passive();
    turn.ok()
}

pub fn unpause(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.node.pause = None;
    turn.node.settle_passive();
    turn.node.release();
    turn.ok()
}

pub fn unblock(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let len = turn.request.len();
    if len > 4 {
        return Err(Refusal::new(format!(
            "ERR unknown subcommand or wrong number of arguments for '{}'. Try CLIENT HELP.",
            String::from_utf8_lossy(turn.request.arg(1))
        )));
    }
    let with_error = len == 4 && turn.is_word(3, "error");
    if len == 4 && !with_error && !turn.is_word(3, "timeout") {
        return Err(Refusal::fixed(
            "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR",
        ));
    }
    let id = turn.arg_int(2)?;
    let unblocked = u64::try_from(id).is_ok_and(|id| turn.node.unblock(id, with_error));
    turn.int(i64::from(unblocked))
}

pub fn help_(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    help(
        turn,
        "CLIENT",
        &[
            "CACHING (YES|NO)",
            "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
            "GETREDIR",
            "    Return the client ID we are redirecting to when tracking is enabled.",
            "GETNAME",
            "    Return the name of the current connection.",
            "ID",
            "    Return the ID of the current connection.",
            "INFO",
            "    Return information about the current client connection.",
            "KILL <ip:port>",
            "    Kill connection made from <ip:port>.",
            "KILL <option> <value> [<option> <value> [...]]",
            "    Kill connections. Options are:",
            "    * ADDR (<ip:port>|<unixsocket>:0)",
            "      Kill connections made from the specified address",
            "    * LADDR (<ip:port>|<unixsocket>:0)",
            "      Kill connections made to specified local address",
            "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
            "      Kill connections by type.",
            "    * USER <username>",
            "      Kill connections authenticated by <username>.",
            "    * SKIPME (YES|NO)",
            "      Skip killing current connection (default: yes).",
            "    * MAXAGE <maxage>",
            "      Kill connections that are at least so many seconds old.",
            "LIST [options ...]",
            "    Return information about client connections. Options:",
            "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
            "      Return clients of specified type.",
            "UNPAUSE",
            "    Stop the current client pause, resuming traffic.",
            "PAUSE <timeout> [WRITE|ALL]",
            "    Suspend all, or just write, clients for <timeout> milliseconds.",
            "REPLY (ON|OFF|SKIP)",
            "    Control the replies sent to the current connection.",
            "SETINFO <option> <value>",
            "    Set the name (LIB-NAME) and the version (LIB-VER) of the client's library.",
            "SETNAME <name>",
            "    Assign the name <name> to the current connection.",
            "UNBLOCK <clientid> [TIMEOUT|ERROR]",
            "    Unblock the specified blocked client.",
            "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
            "         [OPTIN] [OPTOUT] [NOLOOP]",
            "    Control server assisted client side caching.",
            "TRACKINGINFO",
            "    Report tracking status for the current connection.",
            "NO-EVICT (ON|OFF)",
            "    Protect current client connection from eviction.",
            "NO-TOUCH (ON|OFF)",
            "    Leave what eviction knows of keys as it is when this connection reads them.",
        ],
    )
}
