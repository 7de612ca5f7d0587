//! What sessions see of the service: the core while this topology leads, else who does.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use larder_runtime::Secret;
use larder_wire::Refusal;
use larder_wire::control::{Standby, not_leader};

use crate::core::Core;

/// Shared by all sessions of the topology's thread. Its cells are never borrowed across an await.
pub(crate) struct Door {
    leading: RefCell<Option<Rc<Core>>>,
    /// `host:port` of another that leads.
    leader: RefCell<Option<String>>,
    pub(crate) cluster: String,
    pub(crate) secret: Secret,
    pub(crate) protected: bool,
    pub(crate) addr: SocketAddr,
}

impl Door {
    pub(crate) fn new(cluster: &str, secret: &Secret, protected: bool, addr: SocketAddr) -> Door {
        Door {
            leading: RefCell::new(None),
            leader: RefCell::new(None),
            cluster: cluster.to_string(),
            secret: secret.clone(),
            protected,
            addr,
        }
    }

    pub(crate) fn open(&self, core: &Rc<Core>) {
        *self.leading.borrow_mut() = Some(core.clone());
        *self.leader.borrow_mut() = None;
    }

    /// Gives up the core, if there is one.
    pub(crate) fn close(&self, leader: Option<String>) {
        *self.leading.borrow_mut() = None;
        *self.leader.borrow_mut() = leader;
    }

    /// `None` while this topology stands by: from the moment on when another may lead.
    pub(crate) fn core(&self) -> Option<Rc<Core>> {
        let leading = self.leading.borrow();
        leading.as_ref().filter(|core| core.leads()).cloned()
    }

    /// `None` while it leads.
    pub(crate) fn standby(&self) -> Option<Standby> {
        match self.core() {
            Some(_) => None,
            None => Some(Standby {
                leader: self.leader.borrow().clone(),
            }),
        }
    }

    pub(crate) fn not_leader(&self) -> Refusal {
        not_leader(self.leader.borrow().as_deref())
    }
}
