//! PING, ECHO, SELECT, AUTH, HELLO, RESET, and the opening of an operator's connection.

use larder_runtime::Trust;
use larder_runtime::protect::{self, Admission};
use larder_wire::Refusal;
use larder_wire::control::Peer;
use larder_wire::resp::{Protocol, ReplyWriter};
use larder_wire::trust::{self, Answerer};

use super::Local;
use crate::switch::{Client, ClientKey, Flow, ReplyMode, Switch};

/// The version of Redis whose behaviour is followed, as clients read it; that of the nodes.
pub(super) const REDIS_VERSION: &str = "7.2.0";

pub(super) fn ping(
    local: &Local<'_>,
    _: &mut Client,
    reply: &mut ReplyWriter<'_>,
) -> Result<(), Refusal> {
    match (local.request.len(), local.request.get(1)) {
        (1, _) => reply.simple("PONG"),
        (2, Some(message)) => reply.bulk(message),
        _ => return Err(Refusal::wrong_arity("ping")),
    }
    Ok(())
}

pub(super) fn echo(
    local: &Local<'_>,
    _: &mut Client,
    reply: &mut ReplyWriter<'_>,
) -> Result<(), Refusal> {
    reply.bulk(local.request.arg(1));
    Ok(())
}

pub(super) fn ok(
    _: &Local<'_>,
    _: &mut Client,
    reply: &mut ReplyWriter<'_>,
) -> Result<(), Refusal> {
    reply.ok();
    Ok(())
}

pub(super) fn select(
    local: &Local<'_>,
    _: &mut Client,
    reply: &mut ReplyWriter<'_>,
) -> Result<(), Refusal> {
    match integer(local.request.arg(1)) {
        Some(0) => {
            reply.ok();
            Ok(())
        }
        Some(_) => Err(Refusal::fixed("ERR SELECT is not allowed in cluster mode")),
        None => Err(Refusal::NOT_AN_INTEGER),
    }
}

pub(super) fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

pub(super) fn auth(
    local: &Local<'_>,
    client: &mut Client,
    reply: &mut ReplyWriter<'_>,
) -> Result<(), Refusal> {
    match local.request.len() {
        2 => {
            return Err(Refusal::fixed(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
            ));
        }
        3 => authenticate(local, client, local.request.arg(1), local.request.arg(2))?,
        _ => return Err(Refusal::SYNTAX),
    }
    reply.ok();
    Ok(())
}

/// The operator by the cluster's secret. The default user has no password: any will do.
fn authenticate(
    local: &Local<'_>,
    client: &mut Client,
    user: &[u8],
    password: &[u8],
) -> Result<(), Refusal> {
    if let Some(judged) = trust::answer_auth(user, password, local.shared.secret.as_ref()) {
        trusted(client, judged?);
        return Ok(());
    }
    if user == b"default" {
        return Ok(());
    }
    Err(Refusal::WRONG_PASS)
}

fn trusted(client: &mut Client, trust: Trust) {
    client.trust = trust;
    client.admission = Admission::Open;
    client.info.words().user = larder_wire::control::OPERATOR_USER;
}

pub(super) fn larder_hello(
    local: &Local<'_>,
    client: &mut Client,
    reply: &mut ReplyWriter<'_>,
) -> Result<(), Refusal> {
    let answerer = Answerer {
        server: Peer::Proxy,
        release: env!("CARGO_PKG_VERSION"),
        secret: local.shared.secret.as_ref(),
    };
    let (trust, welcome) = trust::answer_hello(local.request, answerer)?;
    trusted(client, trust);
    let json = serde_json::to_vec(&welcome)
        .map_err(|error| Refusal::new(format!("ERR the welcome cannot be written: {error}")))?;
    reply.bulk(&json);
    Ok(())
}

pub(super) fn hello(
    local: &Local<'_>,
    client: &mut Client,
    reply: &mut ReplyWriter<'_>,
) -> Result<(), Refusal> {
    let request = local.request;
    let mut protocol = client.protocol;
    if let Some(version) = request.get(1) {
        protocol = match integer(version) {
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
            authenticate(local, client, request.arg(at + 1), request.arg(at + 2))?;
            at += 3;
        } else if option.eq_ignore_ascii_case(b"setname") && left >= 1 {
            super::check_name(request.arg(at + 1))?;
            name = Some(request.arg(at + 1));
            at += 2;
        } else {
            return Err(Refusal::new(format!(
                "ERR Syntax error in HELLO option '{}'",
                String::from_utf8_lossy(option)
            )));
        }
    }
    if client.admission != Admission::Open {
        return Err(Refusal::fixed(protect::DENIED));
    }
    client.protocol = protocol;
    let proto = match protocol {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    };
    {
        let mut words = client.info.words();
        words.resp = proto;
        if let Some(name) = name {
            words.name = name.to_vec();
        }
    }
    reply.set_protocol(protocol);
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.int(proto.into());
    reply.bulk(b"id");
    reply.int(client.info.id as i64);
    reply.bulk(b"mode");
    reply.bulk(b"cluster");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

/// The connection is as it was when it was made.
pub(super) fn reset(switch: &mut Switch, key: ClientKey) -> Flow {
    if let Flow::Wait = switch.alone(key) {
        return Flow::Wait;
    }
    switch.end_multi(key);
    switch.end_subscriptions(key);
    let Some(client) = switch.client(key) else {
        return Flow::Taken;
    };
    client.protocol = Protocol::Resp2;
    client.trust = Trust::Stranger;
    client.admission = client.arrival;
    client.reply_mode = ReplyMode::On;
    {
        let mut words = client.info.words();
        words.user = "default";
        words.resp = 2;
        words.name.clear();
    }
    client.reply(|reply| reply.simple("RESET"));
    Flow::Taken
}
