//! MONITOR: every command, shown to who asked for it.
//!
//! A command is shown after it ran (a script before, so that what it calls comes behind it), with what is secret left out. Commands
//! for administrators and the cluster's own verbs are not shown.

use std::fmt::Write;
use std::rc::Rc;

use larder_wire::command::{self, CommandId, Flags};
use larder_wire::resp::Request;

use crate::acl::is_secret;
use crate::call::is_control;
use crate::client::Client;
use crate::clock::Clock;
use crate::node::Node;
use crate::session::Session;

/// Those who watch, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Monitors(Vec<Rc<Client>>);

impl Monitors {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(&mut self, client: &Rc<Client>) {
        if !client.monitor.replace(true) {
            self.0.push(Rc::clone(client));
        }
    }

    pub(crate) fn remove(&mut self, client: &Client) {
        if client.monitor.replace(false) {
            self.0.retain(|monitor| monitor.id != client.id);
        }
    }
}

/// Commands that are not shown by the choke point.
pub(crate) fn is_hidden(id: CommandId) -> bool {
    let flags = command::spec(id).flags;
    flags.any_of(Flags::ADMIN.with(Flags::SKIP_MONITOR)) || is_control(id)
}

impl Node {
    /// Shows a command of this session to all monitors.
    pub(crate) fn show_to_monitors(
        &self,
        session: &Session,
        id: CommandId,
        request: &Request<'_>,
        clock: Clock,
    ) {
        if self.monitors.is_empty() {
            return;
        }
        let line = line_of(session, id, request, clock);
        for monitor in &self.monitors.0 {
            monitor.post_bytes(line.as_bytes());
        }
    }
}

fn line_of(session: &Session, id: CommandId, request: &Request<'_>, clock: Clock) -> String {
    let (seconds, micros) = (clock.unix_seconds(), clock.unix_us.rem_euclid(1_000_000));
    let source = if session.in_script {
        "lua"
    } else {
        &session.client.addr
    };
    let mut line = format!("+{seconds}.{micros:06} [{} {}]", session.db, source);
    for (at, arg) in request.args_from(0).enumerate() {
        line.push(' ');
        if is_secret(id, request, at) {
            line.push_str("\"(redacted)\"");
        } else {
            quote(arg, &mut line);
        }
    }
    line.push_str("\r\n");
    line
}

/// In quotes, with what cannot be printed escaped as in C.
fn quote(bytes: &[u8], line: &mut String) {
    line.push('"');
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => {
                line.push('\\');
                line.push(byte.into());
            }
            b'\n' => line.push_str("\\n"),
            b'\r' => line.push_str("\\r"),
            b'\t' => line.push_str("\\t"),
            0x07 => line.push_str("\\a"),
            0x08 => line.push_str("\\b"),
            b' '..=b'~' => line.push(byte.into()),
            // Writing to a String cannot fail.
            _ => drop(write!(line, "\\x{byte:02x}")),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_printed_is_escaped() {
        let mut line = String::new();
        quote(b"a\"\\\n\r\t\x07\x08\x00\xff~", &mut line);
        assert_eq!(line, r#""a\"\\\n\r\t\a\b\x00\xff~""#);
    }
}
