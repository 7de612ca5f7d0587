//! The node's side of users: whether a session may run a request, what is noted when it may not, and who is sent away.

use std::rc::Rc;

use larder_wire::command::{self, CommandId};
use larder_wire::resp::Request;
use larder_wire::trust;
use larder_wire::{Refusal, glob};

use crate::acl::{Context, Denied, Entry, Reason, Rules, User};
use crate::call::is_control;
use crate::clock::Clock;
use crate::config::Parameter;
use crate::node::Node;
use crate::pubsub::Topic;
use crate::session::Session;
use crate::turn::Outcome;

impl Node {
    /// Whether `user` may run `request`, which is for `id` and has as many arguments as it takes. Control commands go by the
    /// cluster's secret instead.
    #[inline]
    pub fn check_acl(
        &self,
        user: &User,
        id: CommandId,
        request: &Request<'_>,
    ) -> Result<(), Denied> {
        if is_control(id) {
            return Ok(());
        }
        user.check(id, request)
    }

    /// As [`Node::check_acl`] for the session's own user; what is denied is noted and told.
    #[inline]
    pub(crate) fn admit_user(
        &self,
        session: &Session,
        id: CommandId,
        request: &Request<'_>,
        clock: Clock,
    ) -> Result<(), Refusal> {
        if session.user.may_all() {
            return Ok(());
        }
        self.admit_restricted(session, id, request, clock)
    }

    #[cold]
    fn admit_restricted(
        &self,
        session: &Session,
        id: CommandId,
        request: &Request<'_>,
        clock: Clock,
    ) -> Result<(), Refusal> {
        if let Err(denied) = self.check_acl(&session.user, id, request) {
            let context = context_of(session);
            self.note_denied(session, denied, context, id, request, clock);
            return Err(denied.refusal(id));
        }
        if session.multi.is_none() {
            check_sort(&session.user, id, request)?;
        }
        Ok(())
    }

    /// The check of a command that was queued: rights may have gone since.
    pub(crate) fn admit_queued(
        &self,
        session: &Session,
        id: CommandId,
        request: &Request<'_>,
        clock: Clock,
    ) -> Result<(), Refusal> {
        if session.user.may_all() {
            return Ok(());
        }
        match self.check_acl(&session.user, id, request) {
            Ok(()) => check_sort(&session.user, id, request),
            Err(denied) => {
                self.note_denied(session, denied, Context::Multi, id, request, clock);
                let reason = match denied {
                    Denied::Command => "no permission to execute the command or subcommand",
                    Denied::Key(_) => "no permission to touch the specified keys",
                    Denied::Channel(_) => {
                        "no permission to access one of the channels used as arguments"
                    }
                };
                Err(Refusal::new(format!(
                    "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is no longer allowed for the following reason: {reason}"
                )))
            }
        }
    }

    /// The check of a command that a script calls.
    pub(crate) fn admit_scripted(
        &self,
        session: &Session,
        id: CommandId,
        request: &Request<'_>,
        clock: Clock,
    ) -> Result<(), Refusal> {
        if session.user.may_all() {
            return Ok(());
        }
        match self.check_acl(&session.user, id, request) {
            Ok(()) => check_sort(&session.user, id, request),
            Err(denied) => {
                self.note_denied(session, denied, Context::Lua, id, request, clock);
                let reason = match denied {
                    Denied::Command => "can't run this command or subcommand",
                    Denied::Key(_) => {
                        "can't access at least one of the keys mentioned in the command arguments"
                    }
                    Denied::Channel(_) => "can't publish to the channel mentioned in the command",
                };
                Err(Refusal::new(format!(
                    "ERR The user executing the script {reason}"
                )))
            }
        }
    }

    /// Adds a refusal to `ACL LOG`.
    pub fn note_denied(
        &self,
        session: &Session,
        denied: Denied,
        context: Context,
        id: CommandId,
        request: &Request<'_>,
        clock: Clock,
    ) {
        let (reason, object) = match denied {
            Denied::Command => (Reason::Command, command::spec(id).name.as_bytes()),
            Denied::Key(at) => (Reason::Key, request.arg(at)),
            Denied::Channel(at) => (Reason::Channel, request.arg(at)),
        };
        let name = session.user.name();
        self.note(session, reason, context, object, name, clock);
    }

    fn note(
        &self,
        session: &Session,
        reason: Reason,
        context: Context,
        object: &[u8],
        username: &[u8],
        clock: Clock,
    ) {
        let mut client = String::new();
        session.client.describe(clock.mono_ms, &mut client);
        let entry = Entry {
            count: 1,
            reason,
            context,
            object: object.to_vec(),
            username: username.to_vec(),
            at: clock.now(),
            client,
        };
        let entries_max = self.config.int(Parameter::AcllogMaxLen) as usize;
        self.acl.log.borrow_mut().add(entry, entries_max);
    }

    /// A connection that has not logged in may do nothing.
    #[inline]
    pub fn needs_login(&self, session: &Session) -> bool {
        !session.authenticated && self.acl.needs_login()
    }

    /// AUTH and HELLO AUTH: the operator by the cluster's secret, everybody else by a password. `command` is as the client wrote it.
    pub(crate) fn log_in(
        &self,
        session: &mut Session,
        command: &[u8],
        name: &[u8],
        password: &[u8],
        clock: Clock,
    ) -> Result<(), Refusal> {
        let judged = match trust::answer_auth(name, password, self.settings.secret.as_ref()) {
            Some(judged) => judged.map(|trust| session.set_trust(trust, self.acl.operator())),
            None => match self.acl.log_in(name, password) {
                Some(user) => {
                    session.log_in_as(user);
                    Ok(())
                }
                None => Err(Refusal::WRONG_PASS),
            },
        };
        judged.inspect_err(|_| {
            let context = context_of(session);
            self.note(session, Reason::Auth, context, command, name, clock);
        })
    }

    /// A new session, or one that is reset, is the default user's, logged in when that needs no password.
    pub(crate) fn log_out(&self, session: &mut Session) {
        session.log_in_as(self.acl.default_user());
        session.authenticated = !self.acl.needs_login();
    }

    /// Ends the connections of users that are gone. True when the session at hand is among them: it is closed by its own reply.
    #[must_use]
    pub(crate) fn send_away(&self, removed: &[Rc<User>], me: &Session) -> bool {
        let is_gone = |user: &Rc<User>| removed.iter().any(|gone| Rc::ptr_eq(gone, user));
        for client in self.clients.iter() {
            if client.id != me.client.id && is_gone(&client.user()) {
                client.kill();
            }
        }
        is_gone(&me.user)
    }

    /// Ends the connections of `user` that listen to channels which it may not hear any more. `before`: its rules till now.
    pub(crate) fn silence(&self, user: &Rc<User>, before: &Rules, me: &Session) -> Outcome {
        let Some(left) = channels_left(before, &user.rules()) else {
            return Outcome::Done;
        };
        let mut outcome = Outcome::Done;
        for client in self.clients.iter() {
            let hears_more = || {
                let subscriptions = client.subscriptions.borrow();
                Topic::ALL.into_iter().any(|topic| {
                    let is_pattern = topic == Topic::Pattern;
                    let names = subscriptions.names(topic);
                    names
                        .iter()
                        .any(|name| !may_still_hear(&left, name, is_pattern))
                })
            };
            if !client.subscriber.get() || !Rc::ptr_eq(&client.user(), user) || !hears_more() {
                continue;
            }
            if client.id == me.client.id {
                outcome = Outcome::Close;
            } else {
                client.kill();
            }
        }
        outcome
    }
}

fn context_of(session: &Session) -> Context {
    if session.multi.is_some() || session.in_exec {
        Context::Multi
    } else {
        Context::TopLevel
    }
}

impl Denied {
    fn refusal(self, id: CommandId) -> Refusal {
        match self {
            Denied::Command => Refusal::new(format!(
                "NOPERM this user has no permissions to run the '{}' command",
                command::spec(id).name
            )),
            Denied::Key(_) => Refusal::fixed(
                "NOPERM this user has no permissions to access one of the keys used as arguments",
            ),
            Denied::Channel(_) => Refusal::fixed(
                "NOPERM this user has no permissions to access one of the channels used as arguments",
            ),
        }
    }
}

/// SORT's patterns reach keys that no argument names: only who may read every key may give one. What is malformed before the
/// pattern is SORT's own to refuse.
pub fn check_sort(user: &User, id: CommandId, request: &Request<'_>) -> Result<(), Refusal> {
    if !matches!(id, CommandId::Sort | CommandId::SortRo) {
        return Ok(());
    }
    let is_word = |at: usize, word: &str| {
        request
            .get(at)
            .is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    };
    let is_number = |at: usize| larder_store::number::parse_i64(request.arg(at)).is_some();
    let mut at = 2;
    while at < request.len() {
        let left = request.len() - at - 1;
        let denied = if ["asc", "desc", "alpha"]
            .iter()
            .any(|word| is_word(at, word))
        {
            at += 1;
            continue;
        } else if is_word(at, "limit") && left >= 2 && is_number(at + 1) && is_number(at + 2) {
            at += 3;
            continue;
        } else if is_word(at, "store") && id == CommandId::Sort && left >= 1 {
            at += 2;
            continue;
        } else if is_word(at, "by") && left >= 1 {
            if !request.arg(at + 1).contains(&b'*') {
                at += 2;
                continue;
            }
            "ERR BY option of SORT denied due to insufficient ACL permissions."
        } else if is_word(at, "get") && left >= 1 {
            "ERR GET option of SORT denied due to insufficient ACL permissions."
        } else {
            return Ok(());
        };
        return if user.may_run_and_read_all(id, request) {
            Ok(())
        } else {
            Err(Refusal::fixed(denied))
        };
    }
    Ok(())
}

/// Channels that `after` allows, when it takes any away that `before` allowed: subscribers of the others are to go.
pub(crate) fn channels_left(before: &Rules, after: &Rules) -> Option<Vec<Box<[u8]>>> {
    if after.selectors().any(|selector| selector.all_channels) {
        return None;
    }
    let left: Vec<Box<[u8]>> = after
        .selectors()
        .flat_map(|selector| selector.channels.iter().cloned())
        .collect();
    let loses = before.selectors().any(|selector| {
        selector.all_channels || selector.channels.iter().any(|known| !left.contains(known))
    });
    loses.then_some(left)
}

/// Whether a subscription is still allowed by `left`: a pattern word for word, a channel by any pattern.
pub(crate) fn may_still_hear(left: &[Box<[u8]>], channel: &[u8], is_pattern: bool) -> bool {
    left.iter().any(|allowed| {
        if is_pattern {
            **allowed == *channel
        } else {
            glob::matches(allowed, channel)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Rules {
        let mut rules = Rules::new(false);
        for rule in text.split_whitespace() {
            rules.apply(rule.as_bytes(), false).unwrap();
        }
        rules
    }

    #[test]
    fn subscribers_are_looked_at_only_when_channels_were_taken_away() {
        for (before, after, loses) in [
            ("&a", "&a &b", false),
            ("&a", "&*", false),
            ("&*", "&a", true),
            ("&a &b", "&b", true),
            ("", "", false),
        ] {
            let left = channels_left(&rules(before), &rules(after));
            assert_eq!(left.is_some(), loses, "{before} → {after}");
        }
        let left = channels_left(&rules("&*"), &rules("&a* &b")).unwrap();
        assert!(may_still_hear(&left, b"abc", false) && !may_still_hear(&left, b"abc", true));
        assert!(may_still_hear(&left, b"a*", true) && !may_still_hear(&left, b"c", false));
    }

    #[test]
    fn sort_by_a_pattern_needs_the_right_to_read_every_key() {
        let check = |text: &str, line: &str| {
            let user = User::new(b"u", rules(text));
            let request =
                larder_wire::resp::OwnedRequest::from_args(line.split(' ').collect::<Vec<_>>());
            check_sort(&user, CommandId::Sort, &request.view()).is_ok()
        };
        assert!(check("+sort ~a", "sort a by nosort limit 0 1 asc"));
        assert!(!check("+sort ~a", "sort a by w_*"));
        assert!(!check("+sort ~a", "sort a limit 0 1 get #"));
        assert!(
            check("+sort ~a", "sort a limit x 1 get #"),
            "SORT's own to refuse"
        );
        assert!(check("+sort %R~*", "sort a by w_* get #"));
        assert!(!check("+sort %R~* %W~b", "sort a by w_* store c"));
    }
}
