//! CLIENT and its subcommands: of all clients of the proxy, whichever thread has them.

use larder_wire::Refusal;
use larder_wire::resp::ReplyWriter;

use super::connection::integer;
use super::{Local, help_lines};
use crate::registry::ClientInfo;
use crate::switch::{Client, ReplyMode};

type Done = Result<(), Refusal>;

/// A name holds no spaces, line breaks or other special characters: CLIENT LIST would not be readable.
pub(crate) fn check_name(name: &[u8]) -> Done {
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(());
    }
    Err(Refusal::fixed(
        "ERR Client names cannot contain spaces, newlines or special characters.",
    ))
}

pub(super) fn id(_: &Local<'_>, client: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    reply.int(client.info.id as i64);
    Ok(())
}

pub(super) fn getname(_: &Local<'_>, client: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    let words = client.info.words();
    if words.name.is_empty() {
        reply.null();
    } else {
        reply.bulk(&words.name);
    }
    Ok(())
}

pub(super) fn setname(local: &Local<'_>, client: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    let name = local.request.arg(2);
    check_name(name)?;
    client.info.words().name = name.to_vec();
    reply.ok();
    Ok(())
}

pub(super) fn setinfo(local: &Local<'_>, client: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    let value = local.request.arg(3);
    let mut words = client.info.words();
    let (field, name) = if local.is_word(2, "lib-name") {
        (&mut words.lib_name, "lib-name")
    } else if local.is_word(2, "lib-ver") {
        (&mut words.lib_ver, "lib-ver")
    } else {
        return Err(Refusal::new(format!(
            "ERR Unrecognized option '{}'",
            String::from_utf8_lossy(local.request.arg(2))
        )));
    };
    check_name(value).map_err(|_| {
        Refusal::new(format!(
            "ERR {name} cannot contain spaces, newlines or special characters."
        ))
    })?;
    *field = value.to_vec();
    reply.ok();
    Ok(())
}

pub(super) fn info(_: &Local<'_>, client: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    reply.verbatim("txt", format!("{}\n", client.info.line()).as_bytes());
    Ok(())
}

pub(super) fn list(local: &Local<'_>, _: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    let request = local.request;
    let mut clients = local.shared.clients.all();
    if request.len() == 4 && local.is_word(2, "type") {
        let asked = client_type(request.arg(3))?;
        clients.retain(|client| kind_of(client) == asked);
    } else if request.len() > 3 && local.is_word(2, "id") {
        let ids = request.args_from(3).map(client_id);
        let ids: Vec<u64> = ids.collect::<Result<_, _>>()?;
        clients.retain(|client| ids.contains(&client.id));
    } else if request.len() != 2 {
        return Err(Refusal::SYNTAX);
    }
    let mut text = String::new();
    for client in clients {
        text.push_str(&client.line());
        text.push('\n');
    }
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

fn client_id(text: &[u8]) -> Result<u64, Refusal> {
    integer(text)
        .and_then(|id| u64::try_from(id).ok())
        .filter(|&id| id > 0)
        .ok_or(Refusal::fixed("ERR Invalid client ID"))
}

fn kind_of(client: &ClientInfo) -> &'static str {
    match client.words().subscriptions {
        [0, 0, 0] => "normal",
        _ => "pubsub",
    }
}

fn client_type(text: &[u8]) -> Result<&'static str, Refusal> {
    let types = ["normal", "master", "replica", "slave", "pubsub"];
    types
        .into_iter()
        .find(|word| text.eq_ignore_ascii_case(word.as_bytes()))
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
    user: Option<&'a [u8]>,
    max_age_seconds: Option<u64>,
    skip_me: bool,
}

impl KillFilter<'_> {
    fn takes(&self, client: &ClientInfo, me: u64) -> bool {
        let (age, _) = client.age_and_idle();
        self.id.is_none_or(|id| id == client.id)
            && self.kind.is_none_or(|kind| kind == kind_of(client))
            && self.addr.is_none_or(|addr| addr == client.addr.as_bytes())
            && self
                .laddr
                .is_none_or(|addr| addr == client.laddr.as_bytes())
            && self
                .user
                .is_none_or(|user| user == client.words().user.as_bytes())
            && self.max_age_seconds.is_none_or(|max| age >= max)
            && !(self.skip_me && client.id == me)
    }
}

pub(super) fn kill(local: &Local<'_>, client: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    let me = client.info.id;
    // The old form: one address, an error when there is no such client.
    let old_form = local.request.len() == 3;
    let filter = if old_form {
        KillFilter {
            addr: Some(local.request.arg(2)),
            ..KillFilter::default()
        }
    } else {
        kill_filter(local)?
    };
    let mut killed = 0;
    for other in local.shared.clients.all() {
        if !filter.takes(&other, me) {
            continue;
        }
        killed += 1;
        if other.id == me {
            client.closing = true;
        } else {
            other.kill();
        }
    }
    match (old_form, killed) {
        (true, 0) => return Err(Refusal::fixed("ERR No such client")),
        (true, _) => reply.ok(),
        (false, killed) => reply.int(killed),
    }
    Ok(())
}

fn kill_filter<'a>(local: &Local<'a>) -> Result<KillFilter<'a>, Refusal> {
    let request = local.request;
    let mut filter = KillFilter {
        skip_me: true,
        ..KillFilter::default()
    };
    let mut at = 2;
    while at < request.len() {
        let Some(value) = request.get(at + 1) else {
            return Err(Refusal::SYNTAX);
        };
        if local.is_word(at, "id") {
            let id = client_id(value);
            let wrong = Refusal::fixed("ERR client-id should be greater than 0");
            filter.id = Some(id.map_err(|_| wrong)?);
        } else if local.is_word(at, "type") {
            filter.kind = Some(client_type(value)?);
        } else if local.is_word(at, "addr") {
            filter.addr = Some(value);
        } else if local.is_word(at, "laddr") {
            filter.laddr = Some(value);
        } else if local.is_word(at, "user") {
            if value != b"default" && value != larder_wire::control::OPERATOR_USER.as_bytes() {
                return Err(Refusal::new(format!(
                    "ERR No such user '{}'",
                    String::from_utf8_lossy(value)
                )));
            }
            filter.user = Some(value);
        } else if local.is_word(at, "maxage") {
            filter.max_age_seconds = Some(client_id(value)?);
        } else if local.is_word(at, "skipme") {
            filter.skip_me = match value.to_ascii_lowercase().as_slice() {
                b"yes" => true,
                b"no" => false,
                _ => return Err(Refusal::SYNTAX),
            };
        } else {
            return Err(Refusal::SYNTAX);
        }
        at += 2;
    }
    Ok(filter)
}

/// CLIENT NO-EVICT and NO-TOUCH: what they ask for, the shared connections cannot give one client alone, and
/// without them nothing breaks.
pub(super) fn on_off(local: &Local<'_>, _: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    if !local.is_word(2, "on") && !local.is_word(2, "off") {
        return Err(Refusal::SYNTAX);
    }
    reply.ok();
    Ok(())
}

pub(super) fn reply_mode(
    local: &Local<'_>,
    client: &mut Client,
    reply: &mut ReplyWriter<'_>,
) -> Done {
    if local.is_word(2, "on") {
        client.reply_mode = ReplyMode::On;
        reply.ok();
    } else if local.is_word(2, "off") {
        client.reply_mode = ReplyMode::Off;
    } else if local.is_word(2, "skip") {
        if client.reply_mode == ReplyMode::On {
            client.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(Refusal::SYNTAX);
    }
    Ok(())
}

pub(super) fn getredir(_: &Local<'_>, _: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    // Client-side caching is off.
    reply.int(-1);
    Ok(())
}

pub(super) fn trackinginfo(_: &Local<'_>, _: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(1);
    reply.bulk(b"off");
    reply.bulk(b"redirect");
    reply.int(-1);
    reply.bulk(b"prefixes");
    reply.array(0);
    Ok(())
}

pub(super) fn unblock(local: &Local<'_>, _: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    let with_error = match local.request.get(3) {
        None => false,
        Some(_) if local.is_word(3, "timeout") => false,
        Some(_) if local.is_word(3, "error") => true,
        Some(_) => {
            return Err(Refusal::fixed(
                "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR",
            ));
        }
    };
    if local.request.len() > 4 {
        return Err(Refusal::SYNTAX);
    }
    let id = integer(local.request.arg(2)).ok_or(Refusal::NOT_AN_INTEGER)?;
    let clients = local.shared.clients.all();
    let client = clients.iter().find(|client| client.id as i64 == id);
    let unblocked = client.is_some_and(|client| client.ask_to_unblock(with_error));
    reply.int(unblocked.into());
    Ok(())
}

pub(super) fn help(_: &Local<'_>, _: &mut Client, reply: &mut ReplyWriter<'_>) -> Done {
    help_lines(
        reply,
        "CLIENT",
        &[
            "GETNAME",
            "    Return the name of the current connection.",
            "ID",
            "    Return the ID of the current connection.",
            "INFO",
            "    Return information about the current client connection.",
            "KILL <option> ...",
            "    Kill connections, by ID, TYPE, ADDR, LADDR, USER, MAXAGE or SKIPME.",
            "LIST [options ...]",
            "    Return information about client connections of the proxy.",
            "REPLY (ON|OFF|SKIP)",
            "    Control the replies sent to the current connection.",
            "SETINFO <option> <value>",
            "    Set LIB-NAME or LIB-VER of the current connection.",
            "SETNAME <name>",
            "    Assign the name <name> to the current connection.",
        ],
    );
    Ok(())
}
