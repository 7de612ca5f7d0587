//! SUBSCRIBE and its family, PUBLISH, SPUBLISH, PUBSUB.
//!
//! Confirmations of subscriptions are pushes: CLIENT REPLY does not silence them. A message that a client publishes to itself comes
//! after the command's reply, so that it never stands within the reply of a transaction.

use larder_wire::resp::ReplyWriter;
use larder_wire::{Refusal, glob};

use crate::pubsub::{Topic, confirm};
use crate::session::ReplyMode;
use crate::turn::{Outcome, Turn, help};

pub fn subscribe(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    subscribe_to(turn, Topic::Channel)
}

pub fn psubscribe(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    subscribe_to(turn, Topic::Pattern)
}

pub fn ssubscribe(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    if turn.session.in_exec {
        return Err(Refusal::fixed(
            "ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client",
        ));
    }
    subscribe_to(turn, Topic::Shard)
}

pub fn unsubscribe(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    unsubscribe_from(turn, Topic::Channel)
}

pub fn punsubscribe(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    unsubscribe_from(turn, Topic::Pattern)
}

pub fn sunsubscribe(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    unsubscribe_from(turn, Topic::Shard)
}

fn subscribe_to(turn: &mut Turn<'_>, topic: Topic) -> Result<Outcome, Refusal> {
    let request = turn.request;
    for name in request.args_from(1) {
        let client = &turn.session.client;
        turn.node.pubsub.subscribe(topic, client, name);
        let count = client.subscriptions.borrow().shown(topic);
        tell(turn, |reply| {
            confirm(reply, topic.subscribed(), Some(name), count);
        });
    }
    turn.session.client.subscriber.set(true);
    Ok(Outcome::Done)
}

/// From all without arguments; there is always a reply.
fn unsubscribe_from(turn: &mut Turn<'_>, topic: Topic) -> Result<Outcome, Refusal> {
    let request = turn.request;
    if request.len() > 1 {
        for name in request.args_from(1) {
            end_one(turn, topic, name);
        }
    } else {
        let names = turn.session.client.subscriptions.borrow().names(topic);
        for name in &names {
            end_one(turn, topic, name);
        }
        if names.is_empty() {
            let count = turn.session.client.subscriptions.borrow().shown(topic);
            tell(turn, |reply| {
                confirm(reply, topic.unsubscribed(), None, count);
            });
        }
    }
    let client = &turn.session.client;
    if client.subscriptions.borrow().is_empty() {
        client.subscriber.set(false);
    }
    Ok(Outcome::Done)
}

fn end_one(turn: &mut Turn<'_>, topic: Topic, name: &[u8]) {
    let client = &turn.session.client;
    turn.node.pubsub.unsubscribe(topic, client, name);
    let count = client.subscriptions.borrow().shown(topic);
    tell(turn, |reply| {
        confirm(reply, topic.unsubscribed(), Some(name), count);
    });
}

/// Writes a push where the client gets it, whether or not it wants replies.
fn tell(turn: &mut Turn<'_>, write: impl FnOnce(&mut ReplyWriter<'_>)) {
    match turn.session.reply_mode {
        ReplyMode::On => write(&mut turn.reply),
        ReplyMode::Off | ReplyMode::SkipNext => turn.session.client.post(write),
    }
}

pub fn publish(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let (channel, message) = (turn.request.arg(1), turn.request.arg(2));
    let count = turn.node.pubsub.publish(channel, message);
    turn.int(count as i64)
}

/// What a proxy has published at another node: its own kind hear of it there.
pub fn publish_beside(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let (channel, message) = (turn.request.arg(2), turn.request.arg(3));
    let count = turn.node.pubsub.publish_beside(channel, message);
    turn.int(count as i64)
}

pub fn spublish(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let (channel, message) = (turn.request.arg(1), turn.request.arg(2));
    let count = turn.node.pubsub.publish_shard(channel, message);
    turn.int(count as i64)
}

pub fn channels(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let pattern = pattern(turn)?;
    let names = turn.node.pubsub.channels();
    list(&mut turn.reply, pattern, &names);
    Ok(Outcome::Done)
}

pub fn shardchannels(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let pattern = pattern(turn)?;
    let names = turn.node.pubsub.shard_channels();
    list(&mut turn.reply, pattern, &names);
    Ok(Outcome::Done)
}

fn pattern<'a>(turn: &Turn<'a>) -> Result<Option<&'a [u8]>, Refusal> {
    if turn.request.len() > 3 {
        return Err(Refusal::new(format!(
            "ERR unknown subcommand or wrong number of arguments for '{}'. Try PUBSUB HELP.",
            String::from_utf8_lossy(turn.request.arg(1))
        )));
    }
    Ok(turn.request.get(2))
}

fn list(reply: &mut ReplyWriter<'_>, pattern: Option<&[u8]>, names: &[&[u8]]) {
    let listed = || {
        names
            .iter()
            .filter(|name| pattern.is_none_or(|pattern| glob::matches(pattern, name)))
    };
    reply.array(listed().count());
    for name in listed() {
        reply.bulk(name);
    }
}

pub fn numsub(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    count_each(turn, |turn, name| turn.node.pubsub.listeners(name))
}

pub fn shardnumsub(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    count_each(turn, |turn, name| turn.node.pubsub.shard_listeners(name))
}

fn count_each(
    turn: &mut Turn<'_>,
    count: impl Fn(&Turn<'_>, &[u8]) -> usize,
) -> Result<Outcome, Refusal> {
    let request = turn.request;
    turn.reply.array((request.len() - 2) * 2);
    for name in request.args_from(2) {
        let listeners = count(turn, name);
        turn.reply.bulk(name);
        turn.reply.int(listeners as i64);
    }
    Ok(Outcome::Done)
}

pub fn numpat(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let count = turn.node.pubsub.pattern_count();
    turn.int(count as i64)
}

pub fn help_(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    help(
        turn,
        "PUBSUB",
        &[
            "CHANNELS [<pattern>]",
            "    Return the currently active channels matching a <pattern> (default: '*').",
            "NUMPAT",
            "    Return number of subscriptions to patterns.",
            "NUMSUB [<channel> ...]",
            "    Return the number of subscribers for the specified channels, excluding",
            "    pattern subscriptions(default: no channels).",
            "SHARDCHANNELS [<pattern>]",
            "    Return the currently active shard level channels matching a <pattern> (default: '*').",
            "SHARDNUMSUB [<shardchannel> ...]",
            "    Return the number of subscribers for the specified shard level channel(s)",
        ],
    )
}
