//! CLIENT TRACKING, CACHING, GETREDIR, TRACKINGINFO, and MONITOR.

use larder_wire::Refusal;

use crate::tracking::Mode;
use crate::turn::{Outcome, Turn};

pub fn tracking(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let request = turn.request;
    let (mode, prefixes) = options(turn)?;
    if turn.is_word(2, "on") {
        check(turn, mode, &prefixes)?;
        let client = &turn.session.client;
        turn.node.tracking.enable(client, mode, &prefixes);
    } else if request.arg(2).eq_ignore_ascii_case(b"off") {
        turn.node.tracking.disable(&turn.session.client);
    } else {
        return Err(Refusal::SYNTAX);
    }
    turn.ok()
}

fn options<'a>(turn: &Turn<'a>) -> Result<(Mode, Vec<&'a [u8]>), Refusal> {
    let request = turn.request;
    let (mut mode, mut prefixes) = (Mode::default(), Vec::new());
    let mut at = 3;
    while let Some(word) = request.get(at) {
        match (word.to_ascii_lowercase().as_slice(), request.get(at + 1)) {
            (b"redirect", Some(id)) => {
                if mode.redirect != 0 {
                    return Err(Refusal::fixed(
                        "ERR A client can only redirect to a single other client",
                    ));
                }
                let id = larder_store::number::parse_i64(id).ok_or(Refusal::NOT_AN_INTEGER)?;
                let there = u64::try_from(id)
                    .ok()
                    .filter(|id| turn.node.clients.get(*id).is_some());
                mode.redirect = there.ok_or(Refusal::fixed(
                    "ERR The client ID you want redirect to does not exist",
                ))?;
                at += 1;
            }
            (b"bcast", _) => mode.bcast = true,
            (b"optin", _) => mode.optin = true,
            (b"optout", _) => mode.optout = true,
            (b"noloop", _) => mode.noloop = true,
            (b"prefix", Some(prefix)) => {
                prefixes.push(prefix);
                at += 1;
            }
            _ => return Err(Refusal::SYNTAX),
        }
        at += 1;
    }
    Ok((mode, prefixes))
}

/// Whether the options go together, and with what the client does so far.
fn check(turn: &Turn<'_>, mode: Mode, prefixes: &[&[u8]]) -> Result<(), Refusal> {
    let before = turn.session.client.tracking.get();
    let refuse = |text| Err(Refusal::fixed(text));
    if !mode.bcast && !prefixes.is_empty() {
        return refuse("ERR PREFIX option requires BCAST mode to be enabled");
    }
    if before.on && before.bcast != mode.bcast {
        return refuse(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.",
        );
    }
    if mode.bcast && (mode.optin || mode.optout) {
        return refuse("ERR OPTIN and OPTOUT are not compatible with BCAST");
    }
    if mode.optin && mode.optout {
        return refuse("ERR You can't specify both OPTIN mode and OPTOUT mode");
    }
    if mode.optin && before.optout || mode.optout && before.optin {
        return refuse(
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode.",
        );
    }
    if mode.bcast {
        check_overlaps(turn, prefixes)?;
    }
    Ok(())
}

/// A key that two prefixes of one client fit would be told twice.
fn check_overlaps(turn: &Turn<'_>, prefixes: &[&[u8]]) -> Result<(), Refusal> {
    let overlap = |one: &[u8], other: &[u8]| one.starts_with(other) || other.starts_with(one);
    let refusal = |one: &[u8], which: &str, other: &[u8]| {
        Refusal::new(format!(
            "ERR Prefix '{}' overlaps with {which} prefix '{}'. Prefixes for a single client must not overlap.",
            String::from_utf8_lossy(one),
            String::from_utf8_lossy(other)
        ))
    };
    let named = turn.session.client.prefixes.borrow();
    for (index, prefix) in prefixes.iter().enumerate() {
        if let Some(old) = named.iter().find(|old| overlap(old, prefix)) {
            return Err(refusal(prefix, "an existing", old));
        }
        let mut later = prefixes[index + 1..].iter();
        if let Some(other) = later.find(|other| overlap(prefix, other)) {
            return Err(refusal(prefix, "another provided", other));
        }
    }
    Ok(())
}

pub fn caching(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let mode = turn.session.client.tracking.get();
    if !mode.on {
        return Err(Refusal::fixed(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ));
    }
    if turn.is_word(2, "yes") {
        if !mode.optin {
            return Err(Refusal::fixed(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            ));
        }
    } else if turn.is_word(2, "no") {
        if !mode.optout {
            return Err(Refusal::fixed(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            ));
        }
    } else {
        return Err(Refusal::SYNTAX);
    }
    turn.session.client.tracking.set(Mode {
        caching: true,
        ..mode
    });
    turn.ok()
}

pub fn getredir(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let redirect = turn.session.client.redirect();
    turn.int(redirect)
}

pub fn trackinginfo(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let client = &turn.session.client;
    let mode = client.tracking.get();
    let flags = [
        (mode.on, "on"),
        (!mode.on, "off"),
        (mode.bcast, "bcast"),
        (mode.optin, "optin"),
        (mode.optin && mode.caching, "caching-yes"),
        (mode.optout, "optout"),
        (mode.optout && mode.caching, "caching-no"),
        (mode.noloop, "noloop"),
        (mode.broken, "broken_redirect"),
    ];
    let set = || flags.iter().filter(|(set, _)| *set);
    let reply = &mut turn.reply;
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(set().count());
    set().for_each(|(_, word)| reply.bulk(word.as_bytes()));
    reply.bulk(b"redirect");
    reply.int(client.redirect());
    reply.bulk(b"prefixes");
    let prefixes = client.prefixes.borrow();
    reply.array(prefixes.len());
    prefixes.iter().for_each(|prefix| reply.bulk(prefix));
    Ok(Outcome::Done)
}

pub fn monitor(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if turn.session.in_exec {
        return Err(Refusal::fixed(
            "ERR MONITOR isn't allowed for DENY BLOCKING client",
        ));
    }
    turn.node.monitors.add(&turn.session.client);
    turn.ok()
}
