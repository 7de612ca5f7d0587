//! What a node knows of scripts and functions, and the machines that run them.
//!
//! A machine is made when it is first needed; it is taken out while a script runs. Scripts are found by their digest, and by their text
//! so that a text that was seen before costs no digest.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use larder_wire::Refusal;

use super::flags::{self, Flags};
use super::library::Libraries;
use super::machine::{Done, Job, Kind, Machine};
use super::run::Run;
use super::sha1::{HexDigest, sha1_hex};

/// Lines of `redis.log` that wait to be written; the newest are dropped beyond.
const LOG_LINES_MAX: usize = 1024;
/// What each cached script takes besides its text, in bytes.
const SCRIPT_OVERHEAD_BYTES: usize = 160;

/// One script of the cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    /// Where the machine keeps it.
    pub(crate) slot: usize,
    pub(crate) flags: Flags,
    pub(crate) digest: HexDigest,
}

#[derive(Default)]
pub(crate) struct Scripts {
    scripts: Option<Machine>,
    functions: Option<Machine>,
    by_digest: HashMap<HexDigest, Script>,
    by_text: HashMap<Box<[u8]>, Script>,
    text_bytes: usize,
    pub(crate) libraries: Libraries,
    /// The script that runs and was left aside, or one command of which is carried out.
    pub(crate) run: Option<Box<Run>>,
    log: VecDeque<(u8, String)>,
}

/// Figures of `INFO memory`, in bytes and counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) scripts: usize,
    pub(crate) scripts_bytes: usize,
    pub(crate) scripts_lua_bytes: usize,
    pub(crate) libraries: usize,
    pub(crate) functions: usize,
    pub(crate) functions_bytes: usize,
    pub(crate) functions_lua_bytes: usize,
}

impl Scripts {
    /// A script ran for longer than clients are to wait for.
    #[inline]
    pub(crate) fn is_busy(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.busy)
    }

    /// A machine to run something on; it is to be put back.
    pub(crate) fn take_machine(&mut self, kind: Kind) -> Result<Machine, Refusal> {
        match self.place(kind).take() {
            Some(machine) => Ok(machine),
            None => new_machine(kind),
        }
    }

    pub(crate) fn put_machine(&mut self, kind: Kind, machine: Machine) {
        *self.place(kind) = Some(machine);
    }

    pub(crate) fn machine(&mut self, kind: Kind) -> Result<&mut Machine, Refusal> {
        let place = self.place(kind);
        if place.is_none() {
            *place = Some(new_machine(kind)?);
        }
        place
            .as_mut()
            .ok_or(Refusal::fixed("ERR no machine for scripts"))
    }

    fn place(&mut self, kind: Kind) -> &mut Option<Machine> {
        match kind {
            Kind::Scripts => &mut self.scripts,
            Kind::Functions => &mut self.functions,
        }
    }

    /// The script with this text, compiled if it is seen for the first time.
    pub(crate) fn load(&mut self, text: &[u8]) -> Result<Script, Refusal> {
        if let Some(script) = self.by_text.get(text) {
            return Ok(*script);
        }
        let (flags, code) = flags::of_script(text)?;
        let slot = self.by_digest.len();
        let machine = self.machine(Kind::Scripts)?;
        machine.mail().borrow_mut().set_text(code);
        match machine.work(Job::Compile { slot }, 0) {
            Done::Good => {}
            Done::Failed { .. } => {
                let text = machine.mail().borrow_mut().take_text();
                return Err(Refusal::new(String::from_utf8_lossy(&text)));
            }
        }
        let script = Script {
            slot,
            flags,
            digest: sha1_hex(text),
        };
        self.by_digest.insert(script.digest, script);
        self.by_text.insert(text.into(), script);
        self.text_bytes += text.len();
        Ok(script)
    }

    /// The script with this digest, in whatever case.
    pub(crate) fn find(&self, digest: &[u8]) -> Option<Script> {
        let mut key: HexDigest = digest.try_into().ok()?;
        key.make_ascii_lowercase();
        self.by_digest.get(&key).copied()
    }

    /// The script with this text, if it was seen before.
    pub(crate) fn seen(&self, text: &[u8]) -> Option<Script> {
        self.by_text.get(text).copied()
    }

    /// `SCRIPT FLUSH`: no script is known any more, and Lua's memory is given back.
    pub(crate) fn flush(&mut self) {
        self.by_digest.clear();
        self.by_text.clear();
        self.text_bytes = 0;
        self.scripts = None;
    }

    /// `FUNCTION FLUSH`.
    pub(crate) fn flush_functions(&mut self) {
        self.libraries = Libraries::default();
        self.functions = None;
    }

    pub(crate) fn log(&mut self, level: u8, line: &[u8]) {
        if self.log.len() < LOG_LINES_MAX {
            let line = String::from_utf8_lossy(line).into_owned();
            self.log.push_back((level, line));
        }
    }

    /// Lines of `redis.log` with their level (2 is a notice, 3 a warning), oldest first.
    pub(crate) fn take_log(&mut self) -> Option<(u8, String)> {
        self.log.pop_front()
    }

    pub(crate) fn figures(&self) -> Figures {
        let of = |kind: Kind, machine: &Option<Machine>| {
            let running = self.run.as_ref().filter(|run| run.kind == kind);
            let machine = machine.as_ref().or(running.map(|run| &run.machine));
            machine.map_or(0, |machine| machine.mail().borrow().lua_bytes())
        };
        Figures {
            scripts: self.by_digest.len(),
            scripts_bytes: self.text_bytes + self.by_digest.len() * SCRIPT_OVERHEAD_BYTES,
            scripts_lua_bytes: of(Kind::Scripts, &self.scripts),
            libraries: self.libraries.len(),
            functions: self.libraries.functions(),
            functions_bytes: self.libraries.bytes(),
            functions_lua_bytes: of(Kind::Functions, &self.functions),
        }
    }
}

fn new_machine(kind: Kind) -> Result<Machine, Refusal> {
    Machine::new(kind)
        .map_err(|error| Refusal::new(format!("ERR no memory for the stack of scripts: {error}")))
}

/// A digest as text.
pub(crate) fn digest_text(digest: &HexDigest) -> Rc<str> {
    String::from_utf8_lossy(digest).into()
}
