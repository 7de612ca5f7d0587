//! The state of one connection: protocol, trust, transaction, watches.
//!
//! Owned by whoever serves the connection; what others may see of it is its [`Client`].

use std::rc::Rc;

use larder_wire::command::CommandId;
use larder_wire::control::Peer;
use larder_wire::resp::{OwnedRequest, Protocol};

use crate::client::Client;

/// What a connection has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// An ordinary client.
    #[default]
    None,
    /// An ordinary client that showed the cluster's secret.
    Operator,
    /// A part of the cluster.
    Peer(Peer),
}

impl Trust {
    /// May send control commands.
    pub fn controls(self) -> bool {
        self != Trust::None
    }

    /// May send one request for keys of many slots.
    pub fn spans_slots(self) -> bool {
        self == Trust::Peer(Peer::Proxy)
    }
}

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

/// One connection.
#[derive(Debug)]
pub struct Session {
    pub client: Rc<Client>,
    pub protocol: Protocol,
    pub trust: Trust,
    /// Has shown the password of the default user (or there is none).
    pub authenticated: bool,
    /// Came from beyond loopback: protected mode looks at it.
    pub stranger: bool,
    /// READONLY was sent: reads at a replica.
    pub readonly: bool,
    pub reply_mode: ReplyMode,
    pub multi: Option<Multi>,
    /// Watched keys, and whether each existed when WATCH came.
    pub watches: Vec<(Box<[u8]>, bool)>,
    /// When the request at hand was first held, in monotonic milliseconds.
    pub held_since: Option<u64>,
}

impl Session {
    pub(crate) fn new(client: Rc<Client>, authenticated: bool, stranger: bool) -> Session {
        Session {
            client,
            protocol: Protocol::Resp2,
            trust: Trust::None,
            authenticated,
            stranger,
            readonly: false,
            reply_mode: ReplyMode::On,
            multi: None,
            watches: Vec::new(),
            held_since: None,
        }
    }

    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.client.resp3.set(protocol == Protocol::Resp3);
    }

    pub fn set_trust(&mut self, trust: Trust) {
        self.trust = trust;
        self.client.trust.set(trust);
    }

    pub fn set_readonly(&mut self, readonly: bool) {
        self.readonly = readonly;
        self.client.readonly.set(readonly);
    }

    pub fn in_multi(&self) -> bool {
        self.multi.is_some()
    }
}
