//! What the proxy answers by itself: one function a command, chosen by the command's id.
//!
//! A command whose row says `Local` and that has no function here is unknown: nothing executes it.

mod client;
mod cluster;
mod connection;
mod server;

use larder_wire::command::{CommandId, describe};
use larder_wire::resp::{ReplyWriter, Request};
use larder_wire::{Refusal, Slot};

use crate::shared::Shared;
use crate::switch::{Client, ClientKey, Flow, Kind, Switch, Topic, unknown_command};

pub(crate) use client::check_name;

/// What a plain local command is given.
pub(crate) struct Local<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) request: &'a Request<'a>,
    pub(crate) epoch: u64,
}

impl Local<'_> {
    fn is_word(&self, at: usize, word: &str) -> bool {
        let arg = self.request.get(at);
        arg.is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }
}

type Answer = fn(&Local<'_>, &mut Client, &mut ReplyWriter<'_>) -> Result<(), Refusal>;

/// Commands that need nothing but the client and what all threads share.
fn plain(id: CommandId) -> Option<Answer> {
    Some(match id {
        CommandId::Ping => connection::ping,
        CommandId::Echo => connection::echo,
        CommandId::Select => connection::select,
        CommandId::Auth => connection::auth,
        CommandId::Hello => connection::hello,
        CommandId::LarderHello => connection::larder_hello,
        CommandId::Readonly | CommandId::Readwrite | CommandId::Asking => connection::ok,
        CommandId::ClientId => client::id,
        CommandId::ClientGetname => client::getname,
        CommandId::ClientSetname => client::setname,
        CommandId::ClientSetinfo => client::setinfo,
        CommandId::ClientInfo => client::info,
        CommandId::ClientList => client::list,
        CommandId::ClientKill => client::kill,
        CommandId::ClientNoEvict | CommandId::ClientNoTouch => client::on_off,
        CommandId::ClientReply => client::reply_mode,
        CommandId::ClientGetredir => client::getredir,
        CommandId::ClientTrackinginfo => client::trackinginfo,
        CommandId::ClientUnblock => client::unblock,
        CommandId::ClientHelp => client::help,
        CommandId::ClusterSlots => cluster::slots,
        CommandId::ClusterShards => cluster::shards,
        CommandId::ClusterNodes => cluster::nodes,
        CommandId::ClusterInfo => cluster::info,
        CommandId::ClusterMyid => cluster::myid,
        CommandId::ClusterMyshardid => cluster::myid,
        CommandId::ClusterKeyslot => cluster::keyslot,
        CommandId::ClusterLinks => cluster::links,
        CommandId::ClusterCountFailureReports => cluster::no_failures,
        CommandId::ClusterHelp => cluster::help,
        CommandId::Time => server::time,
        CommandId::Info => server::info,
        CommandId::ConfigGet => server::config_get,
        CommandId::Lolwut => server::lolwut,
        CommandId::Role => server::role,
        CommandId::Command => |_, _, reply| {
            describe::all(reply);
            Ok(())
        },
        CommandId::CommandCount => |_, _, reply| {
            describe::count(reply);
            Ok(())
        },
        CommandId::CommandInfo => |local, _, reply| {
            describe::info(local.request, reply);
            Ok(())
        },
        CommandId::CommandDocs => |local, _, reply| {
            describe::docs(local.request, reply);
            Ok(())
        },
        CommandId::CommandList => |local, _, reply| describe::list(local.request, reply),
        CommandId::CommandGetkeys => |local, _, reply| describe::getkeys(local.request, reply),
        CommandId::CommandGetkeysandflags => {
            |local, _, reply| describe::getkeysandflags(local.request, reply)
        }
        CommandId::CommandHelp => |_, _, reply| {
            describe::help(reply);
            Ok(())
        },
        _ => return None,
    })
}

/// Answers a command whose row says that the proxy does.
pub(crate) fn answer(
    switch: &mut Switch,
    key: ClientKey,
    id: CommandId,
    request: &Request<'_>,
) -> Flow {
    match id {
        CommandId::Multi => return switch.multi(key),
        CommandId::Exec => {
            return switch.refuse(key, &Refusal::EXEC_WITHOUT_MULTI);
        }
        CommandId::Discard => {
            return switch.refuse(key, &Refusal::DISCARD_WITHOUT_MULTI);
        }
        CommandId::Watch => return switch.watch(key, request),
        CommandId::Unwatch => {
            // What it watched is let go of only when all before has been answered.
            if let Flow::Wait = switch.alone_if_watching(key) {
                return Flow::Wait;
            }
            switch.end_multi(key);
            return switch.answer_ok(key);
        }
        CommandId::Subscribe => return switch.subscribe(key, Topic::Channel, request),
        CommandId::Psubscribe => return switch.subscribe(key, Topic::Pattern, request),
        CommandId::Unsubscribe => return switch.unsubscribe(key, Topic::Channel, request),
        CommandId::Punsubscribe => return switch.unsubscribe(key, Topic::Pattern, request),
        CommandId::Quit => {
            let flow = switch.answer_ok(key);
            switch.close(key);
            return flow;
        }
        CommandId::Reset => return connection::reset(switch, key),
        CommandId::LarderForward => return switch.forward_order(key, request),
        // Its reply is in the new protocol, those before it in the old one.
        CommandId::Hello if request.len() > 1 => {
            if let Flow::Wait = switch.alone(key) {
                return Flow::Wait;
            }
        }
        // The text is the nodes'.
        CommandId::ObjectHelp | CommandId::XgroupHelp | CommandId::XinfoHelp => {
            return switch.send_to_slot(key, id, Slot::FIRST, Kind::Plain, request.bytes());
        }
        CommandId::ClusterCountkeysinslot | CommandId::ClusterGetkeysinslot => {
            let slot = connection::integer(request.arg(2)).and_then(|n| u16::try_from(n).ok());
            return match slot.and_then(Slot::new) {
                Some(slot) => switch.send_to_slot(key, id, slot, Kind::Plain, request.bytes()),
                None => switch.refuse(key, &Refusal::fixed("ERR Invalid or out of range slot")),
            };
        }
        _ => {}
    }
    let Some(function) = plain(id) else {
        return switch.refuse(key, &unknown_command(request));
    };
    switch.answer_plain(key, id, request, function)
}

impl Switch {
    fn answer_plain(
        &mut self,
        key: ClientKey,
        id: CommandId,
        request: &Request<'_>,
        function: Answer,
    ) -> Flow {
        let shared = self.shared.clone();
        let local = Local {
            shared: &shared,
            request,
            epoch: self.epoch().0,
        };
        let mut failed = None;
        let Some(client) = self.client(key) else {
            return Flow::Taken;
        };
        let mut out = Vec::new();
        let mut reply = ReplyWriter::new(&mut out, client.protocol);
        if let Err(refusal) = function(&local, client, &mut reply) {
            out.clear();
            ReplyWriter::new(&mut out, client.protocol).error(&refusal);
            failed = Some(refusal);
        }
        // The reply of CLIENT REPLY SKIP itself is none, and the next one is skipped.
        let silent = id == CommandId::ClientReply && out.is_empty();
        if !silent {
            client.reply(|reply| reply.buffer().extend_from_slice(&out));
        }
        if let Some(refusal) = failed {
            self.counts.error(refusal.code().as_bytes());
        }
        Flow::Taken
    }

    fn answer_ok(&mut self, key: ClientKey) -> Flow {
        if let Some(client) = self.client(key) {
            client.reply(|reply| reply.ok());
        }
        Flow::Taken
    }

    fn close(&mut self, key: ClientKey) {
        if let Some(client) = self.client(key) {
            client.closing = true;
        }
    }

    fn alone_if_watching(&mut self, key: ClientKey) -> Flow {
        match self.client(key) {
            Some(client) if client.watch.is_some() && !client.is_idle() => {
                client.waiting = true;
                Flow::Wait
            }
            Some(_) | None => Flow::Taken,
        }
    }
}

/// Lines of a HELP reply.
fn help_lines(reply: &mut ReplyWriter<'_>, command: &str, lines: &[&str]) {
    reply.array(lines.len() + 3);
    reply.simple(&format!(
        "{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    for line in lines {
        reply.simple(line);
    }
    reply.simple("HELP");
    reply.simple("    Print this help.");
}
