//! Every client of every thread: what CLIENT LIST shows and CLIENT KILL ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use larder_wire::command::{self, CommandId};

/// What a client says of itself, and what was said of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    pub(crate) name: Vec<u8>,
    pub(crate) lib_name: Vec<u8>,
    pub(crate) lib_ver: Vec<u8>,
    pub(crate) user: &'static str,
    pub(crate) resp: u8,
    pub(crate) multi: Option<usize>,
    pub(crate) watching: usize,
    /// Channels, patterns and channels of slots that it listens to.
    pub(crate) subscriptions: [usize; 3],
}

/// One client. Its thread writes, any thread reads.
#[derive(Debug)]
pub(crate) struct ClientInfo {
    pub(crate) id: u64,
    pub(crate) addr: String,
    pub(crate) laddr: String,
    pub(crate) unix: bool,
    /// When the proxy started, and when this client came, in milliseconds after that.
    started: Instant,
    came_ms: u64,
    words: Mutex<Words>,
    /// Milliseconds after the start.
    last_active: AtomicU64,
    last_command: AtomicU16,
    killed: AtomicBool,
    /// It waits in a command that blocks.
    blocked: AtomicBool,
    /// What CLIENT UNBLOCK has asked for and its thread has not seen yet.
    unblock: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

const NO_COMMAND: u16 = u16::MAX;

const UNBLOCK_NOT: u8 = 0;
const UNBLOCK_AS_TIMED_OUT: u8 = 1;
const UNBLOCK_WITH_ERROR: u8 = 2;

impl ClientInfo {
    #[cfg(test)]
    pub(crate) fn for_tests(id: u64) -> Arc<ClientInfo> {
        let clients = Clients::new(Instant::now());
        clients.next.store(id - 1, Relaxed);
        clients.add("127.0.0.1:1".into(), "127.0.0.1:2".into(), false)
    }

    pub(crate) fn words(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `now_ms` is in milliseconds since the proxy started.
    #[inline]
    pub(crate) fn used(&self, command: CommandId, now_ms: u64) {
        self.last_command.store(command as u16, Relaxed);
        self.last_active.store(now_ms, Relaxed);
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Relaxed)
    }

    pub(crate) fn kill(&self) {
        self.killed.store(true, Relaxed);
        self.wake();
    }

    pub(crate) fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Relaxed);
        if !blocked {
            self.unblock.store(UNBLOCK_NOT, Relaxed);
        }
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Relaxed)
    }

    /// Asks its thread to end its wait. False when it does not wait, or has been asked for already.
    pub(crate) fn ask_to_unblock(&self, with_error: bool) -> bool {
        let how = if with_error {
            UNBLOCK_WITH_ERROR
        } else {
            UNBLOCK_AS_TIMED_OUT
        };
        if !self.is_blocked() || self.unblock.swap(how, Relaxed) != UNBLOCK_NOT {
            return false;
        }
        self.wake();
        true
    }

    /// Whether its wait is to end, and if so, whether with an error. Told once.
    pub(crate) fn is_to_unblock(&self) -> Option<bool> {
        match self.unblock.swap(UNBLOCK_NOT, Relaxed) {
            UNBLOCK_AS_TIMED_OUT => Some(false),
            UNBLOCK_WITH_ERROR => Some(true),
            _ => None,
        }
    }

    fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = waker.as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Who is to be woken when the client is killed.
    pub(crate) fn set_waker(&self, waker: &Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    /// Seconds since it came, and since its last command.
    pub(crate) fn age_and_idle(&self) -> (u64, u64) {
        let now = self.started.elapsed().as_millis() as u64;
        let idle = now.saturating_sub(self.last_active.load(Relaxed).max(self.came_ms));
        (now.saturating_sub(self.came_ms) / 1000, idle / 1000)
    }

    /// One line of CLIENT LIST, without its end.
    pub(crate) fn line(&self) -> String {
        let (age, idle) = self.age_and_idle();
        let words = self.words();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let last = self.last_command.load(Relaxed);
        let last = match CommandId::ALL.get(last as usize) {
            Some(id) if last != NO_COMMAND => command::spec(*id).name,
            Some(_) | None => "NULL",
        };
        format!(
            "id={} addr={} laddr={} fd=0 name={} age={age} idle={idle} flags={} db=0 sub={} psub={} ssub={} multi={} watch={} \
             qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd={last} \
             user={} redir=-1 resp={} lib-name={} lib-ver={}",
            self.id,
            self.addr,
            self.laddr,
            text(&words.name),
            match (self.unix, words.multi.is_some(), self.is_blocked()) {
                (true, _, _) => "U",
                (false, _, true) => "b",
                (false, true, false) => "x",
                (false, false, false) if words.subscriptions != [0; 3] => "P",
                (false, false, false) => "N",
            },
            words.subscriptions[0],
            words.subscriptions[1],
            words.subscriptions[2],
            words.multi.map_or(-1, |queued| queued as i64),
            words.watching,
            words.user,
            words.resp,
            text(&words.lib_name),
            text(&words.lib_ver),
        )
    }
}

/// All clients, by id.
#[derive(Debug)]
pub(crate) struct Clients {
    started: Instant,
    next: AtomicU64,
    clients: Mutex<BTreeMap<u64, Arc<ClientInfo>>>,
}

impl Clients {
    pub(crate) fn new(started: Instant) -> Clients {
        Clients {
            started,
            next: AtomicU64::new(0),
            clients: Mutex::new(BTreeMap::new()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<ClientInfo>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, addr: String, laddr: String, unix: bool) -> Arc<ClientInfo> {
        let id = self.next.fetch_add(1, Relaxed) + 1;
        let info = Arc::new(ClientInfo {
            id,
            addr,
            laddr,
            unix,
            started: self.started,
            came_ms: self.started.elapsed().as_millis() as u64,
            words: Mutex::new(Words {
                user: "default",
                resp: 2,
                ..Words::default()
            }),
            last_active: AtomicU64::new(0),
            last_command: AtomicU16::new(NO_COMMAND),
            killed: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            unblock: AtomicU8::new(UNBLOCK_NOT),
            waker: Mutex::new(None),
        });
        self.lock().insert(id, info.clone());
        info
    }

    pub(crate) fn remove(&self, id: u64) {
        self.lock().remove(&id);
    }

    pub(crate) fn all(&self) -> Vec<Arc<ClientInfo>> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }
}
