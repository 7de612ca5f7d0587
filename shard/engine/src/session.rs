//! The state of one connection: protocol, trust, transaction, watches.
//!
//! Owned by whoever serves the connection; what others may see of it is its [`Client`].

use std::rc::Rc;

use larder_store::Db;
use larder_wire::command::CommandId;
use larder_wire::resp::{OwnedRequest, Protocol};
use larder_wire::trust::Trust;

use crate::acl::User;
use crate::client::Client;

/// Which replies a client wants (`CLIENT REPLY`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    #[default]
    On,
    Off,
    /// The next command's reply is left out.
    SkipNext,
}

/// A transaction being queued.
#[derive(Debug, Default)]
pub struct Multi {
    pub queue: Vec<(CommandId, OwnedRequest)>,
    /// A queued command was refused: EXEC will abort.
    pub spoilt: bool,
    /// Bytes held by the queue.
    pub bytes: usize,
}

/// Commands of a transaction, from `next` on, that are still to be executed.
#[derive(Debug)]
pub(crate) struct MultiRest {
    pub(crate) queue: Vec<(CommandId, OwnedRequest)>,
    pub(crate) next: usize,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    pub client: Rc<Client>,
    pub protocol: Protocol,
    /// The database that its commands are about; [`Session::set_db`] changes it.
    pub db: Db,
    pub trust: Trust,
    /// Whose rights its commands have.
    pub user: Rc<User>,
    /// Has logged in, or did not need to when it came.
    pub authenticated: bool,
    /// Set by protected mode: what the client is told, unless it authenticates.
    pub denied: Option<&'static str>,
    /// READONLY was sent: reads at a replica.
    pub readonly: bool,
    pub reply_mode: ReplyMode,
    pub multi: Option<Multi>,
    /// EXEC is running what was queued.
    pub in_exec: bool,
    /// Its commands are those of a script.
    pub in_script: bool,
    /// What is left of a transaction one command of which is a script that goes on.
    pub(crate) multi_rest: Option<MultiRest>,
    /// Watched keys, and whether each existed when WATCH came.
    pub watches: Vec<(Db, Box<[u8]>, bool)>,
    /// Their names, in bytes.
    pub(crate) watched_key_bytes: usize,
    /// When the request at hand was first held, in monotonic milliseconds.
    pub held_since: Option<u64>,
}

impl Session {
    pub(crate) fn new(client: Rc<Client>, authenticated: bool) -> Session {
        let user = Rc::clone(&client.user());
        Session {
            client,
            user,
            protocol: Protocol::Resp2,
            db: Db::ZERO,
            trust: Trust::Stranger,
            authenticated,
            denied: None,
            readonly: false,
            reply_mode: ReplyMode::On,
            multi: None,
            in_exec: false,
            in_script: false,
            multi_rest: None,
            watches: Vec::new(),
            watched_key_bytes: 0,
            held_since: None,
        }
    }

    /// False in a transaction and in a script: what would wait answers as if its time were up.
    pub(crate) fn may_wait(&self) -> bool {
        !self.in_exec && !self.in_script
    }

    /// SELECT.
    pub fn set_db(&mut self, db: Db) {
        self.db = db;
        self.client.db.set(db);
    }

    /// What the commands of a script run with that this session calls.
    pub(crate) fn for_script(&self) -> Session {
        Session {
            db: self.db,
            trust: self.trust,
            readonly: self.readonly,
            user: Rc::clone(&self.user),
            in_script: true,
            ..Session::new(Rc::clone(&self.client), self.authenticated)
        }
    }

    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.client.resp3.set(protocol == Protocol::Resp3);
    }

    /// The secret was shown: the connection needs no other password and has every right.
    pub(crate) fn set_trust(&mut self, trust: Trust, operator: &Rc<User>) {
        self.log_in_as(operator);
        self.trust = trust;
        self.client.trust.set(trust);
        self.denied = None;
    }

    /// Its replies could be taken for messages: only commands about subscriptions are allowed.
    pub fn is_listening(&self) -> bool {
        self.client.subscriber.get() && self.protocol == Protocol::Resp2
    }

    /// From here on it is this user's; what it could do by the secret is over.
    pub(crate) fn log_in_as(&mut self, user: &Rc<User>) {
        self.user = Rc::clone(user);
        self.client.set_user(user);
        self.trust = Trust::Stranger;
        self.client.trust.set(Trust::Stranger);
        self.authenticated = true;
    }

    pub fn set_readonly(&mut self, readonly: bool) {
        self.readonly = readonly;
        self.client.readonly.set(readonly);
    }

    /// What watched keys take, in bytes.
    pub(crate) fn watched_bytes(&self) -> usize {
        let each = size_of::<(Db, Box<[u8]>, bool)>();
        self.watched_key_bytes + self.watches.len() * 2 * each
    }

    /// A command was refused before it ran or was queued: its transaction will not run.
    pub(crate) fn spoil(&mut self) {
        if let Some(multi) = &mut self.multi {
            multi.spoilt = true;
        }
    }
}
