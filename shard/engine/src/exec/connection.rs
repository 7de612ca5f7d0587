//! PING, ECHO, AUTH, HELLO, RESET, QUIT, READONLY, READWRITE, ASKING.

use larder_store::Db;
use larder_wire::Refusal;
use larder_wire::resp::Protocol;

use crate::session::ReplyMode;
use crate::turn::{Outcome, Turn};

/// The version of Redis whose behaviour is followed, as clients read it.
pub const REDIS_VERSION: &str = "7.2.0";

pub fn ping(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let listening = turn.session.is_listening();
    match (turn.request.len(), turn.request.get(1)) {
        (1 | 2, message) if listening => {
            turn.reply.array(2);
            turn.reply.bulk(b"pong");
            turn.reply.bulk(message.unwrap_or(b""));
        }
        (1, _) => turn.reply.simple("PONG"),
        (2, Some(message)) => turn.reply.bulk(message),
        _ => return Err(Refusal::wrong_arity("ping")),
    }
    Ok(Outcome::Done)
}

pub fn echo(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let message = turn.request.arg(1);
    turn.bulk(message)
}

pub fn quit(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.reply.ok();
    Ok(Outcome::Close)
}

pub fn asking(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    cluster_only(turn)?;
    // A slot is never served by halves here: there is nothing to ask for.
    turn.ok()
}

pub fn readonly(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    cluster_only(turn)?;
    turn.session.set_readonly(true);
    turn.ok()
}

pub fn readwrite(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    cluster_only(turn)?;
    turn.session.set_readonly(false);
    turn.ok()
}

pub(super) fn cluster_only(turn: &Turn<'_>) -> Result<(), Refusal> {
    if turn.node.ownership.is_standalone() {
        return Err(Refusal::fixed(
            "ERR This instance has cluster support disabled",
        ));
    }
    Ok(())
}

pub fn reset(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let (node, session) = (&mut *turn.node, &mut *turn.session);
    session.multi = None;
    session.client.queued.set(None);
    node.unwatch(session);
    node.pubsub.forget(&session.client);
    node.tracking.disable(&session.client);
    node.monitors.remove(&session.client);
    session.client.subscriber.set(false);
    session.set_protocol(Protocol::Resp2);
    session.set_readonly(false);
    session.set_db(Db::ZERO);
    session.reply_mode = ReplyMode::On;
    node.log_out(session);
    session.client.name.borrow_mut().clear();
    session.client.no_evict.set(false);
    session.client.no_touch.set(false);
    turn.reply.simple("RESET");
    Ok(Outcome::Done)
}

pub fn auth(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let request = turn.request;
    match request.len() {
        2 => {
            if turn.node.acl.default_user().rules().nopass {
                return Err(Refusal::fixed(
                    "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
                ));
            }
            authenticate(turn, b"default", request.arg(1))?;
        }
        3 => authenticate(turn, request.arg(1), request.arg(2))?,
        _ => return Err(Refusal::SYNTAX),
    }
    turn.ok()
}

fn authenticate(turn: &mut Turn<'_>, user: &[u8], password: &[u8]) -> Result<(), Refusal> {
    let command = turn.request.name();
    turn.node
        .log_in(turn.session, command, user, password, turn.clock)
}

pub fn hello(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let request = turn.request;
    let mut protocol = turn.session.protocol;
    if let Some(version) = request.get(1) {
        protocol = match larder_store::number::parse_i64(version) {
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return Err(Refusal::fixed("NOPROTO unsupported protocol version")),
            None => {
                return Err(Refusal::fixed(
                    "ERR Protocol version is not an integer or out of range",
                ));
            }
        };
    }
    let mut name = None;
    let mut at = 2;
    while let Some(option) = request.get(at) {
        let left = request.len() - at - 1;
        if option.eq_ignore_ascii_case(b"auth") && left >= 2 {
            authenticate(turn, request.arg(at + 1), request.arg(at + 2))?;
            at += 3;
        } else if option.eq_ignore_ascii_case(b"setname") && left >= 1 {
            let given = request.arg(at + 1);
            super::client::check_name(given)?;
            name = Some(given);
            at += 2;
        } else {
            return Err(Refusal::new(format!(
                "ERR Syntax error in HELLO option '{}'",
                String::from_utf8_lossy(option)
            )));
        }
    }
    if let Some(text) = turn.session.denied {
        return Err(Refusal::fixed(text));
    }
    if !turn.session.authenticated {
        return Err(Refusal::fixed(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        turn.session.client.name.replace(name.to_vec());
    }
    turn.session.set_protocol(protocol);
    let id = turn.session.client.id as i64;
    let cluster = !turn.node.ownership.is_standalone();
    let role: &[u8] = match turn.node.is_replica() {
        true => b"replica",
        false => b"master",
    };
    let reply = &mut turn.reply;
    reply.set_protocol(protocol);
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.int(if protocol == Protocol::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.int(id);
    reply.bulk(b"mode");
    reply.bulk(if cluster { b"cluster" } else { b"standalone" });
    reply.bulk(b"role");
    reply.bulk(role);
    reply.bulk(b"modules");
    reply.array(0);
    Ok(Outcome::Done)
}
