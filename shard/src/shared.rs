//! What all tasks of one node's thread share. Borrowed for the length of one synchronous step, never across an await.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use larder_engine::Node;
use tokio::sync::Notify;

use crate::append::Stream;
use crate::clocks::Clocks;
use crate::config::ShardConfig;
use crate::metrics::NodeMetrics;
use crate::thread::NodeEnd;

/// Bytes read from a socket at once.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// Buffers that every connection uses in turn: an idle connection holds none.
pub(crate) struct Scratch {
    pub(crate) input: Box<[u8]>,
    pub(crate) output: Vec<u8>,
}

pub(crate) struct Shared {
    pub(crate) node: RefCell<Node>,
    pub(crate) scratch: RefCell<Scratch>,
    pub(crate) clocks: Clocks,
    pub(crate) config: Rc<ShardConfig>,
    pub(crate) metrics: Arc<NodeMetrics>,
    /// Rung when held requests may get further.
    pub(crate) released: Notify,
    seen_releases: Cell<u64>,
    /// When the task of deadlines wakes next, in milliseconds of the node's monotonic clock.
    pub(crate) deadline_ms: Cell<u64>,
    /// Rung when a deadline is due before that.
    pub(crate) deadline_set: Notify,
    /// Rung when the node has come to its end.
    pub(crate) ended: Notify,
    end: RefCell<Option<NodeEnd>>,
    /// The append-only file, while it is written.
    pub(crate) append: RefCell<Option<Stream>>,
    /// Rung when it has something to do.
    pub(crate) append_bell: Arc<Notify>,
}

impl Shared {
    pub(crate) fn new(node: Node, config: Rc<ShardConfig>, metrics: Arc<NodeMetrics>) -> Shared {
        Shared {
            node: RefCell::new(node),
            scratch: RefCell::new(Scratch {
                input: vec![0; READ_BYTES].into_boxed_slice(),
                output: Vec::new(),
            }),
            clocks: Clocks::start(),
            config,
            metrics,
            released: Notify::new(),
            seen_releases: Cell::new(0),
            deadline_ms: Cell::new(u64::MAX),
            deadline_set: Notify::new(),
            ended: Notify::new(),
            end: RefCell::new(None),
            append: RefCell::new(None),
            append_bell: Arc::default(),
        }
    }

    /// After every step that may have changed what requests wait for, or until when.
    pub(crate) fn pass_releases_on(&self, node: &Node) {
        if self.seen_releases.replace(node.releases()) != node.releases() {
            self.released.notify_waiters();
        }
        if let Some(deadline_ms) = node.next_deadline_ms()
            && deadline_ms < self.deadline_ms.get()
        {
            self.deadline_ms.set(deadline_ms);
            self.deadline_set.notify_one();
        }
    }

    /// The first reason counts.
    pub(crate) fn end_with(&self, end: NodeEnd) {
        self.end.borrow_mut().get_or_insert(end);
        self.ended.notify_waiters();
        self.ended.notify_one();
    }

    pub(crate) fn take_end(&self) -> Option<NodeEnd> {
        self.end.borrow_mut().take()
    }
}

/// Ends the node when the task that holds it panics: its state may be half-changed.
pub(crate) struct EndOnPanic(pub(crate) Rc<Shared>);

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end_with(NodeEnd::Panicked);
        }
    }
}
