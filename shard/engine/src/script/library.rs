//! Libraries of functions: what `FUNCTION LOAD` makes, `FUNCTION LIST` shows and `FCALL` calls.

use std::collections::BTreeMap;
use std::rc::Rc;

use larder_wire::Refusal;

use super::flags::{self, Flags};
use super::machine::{Done, Job, Kind};
use super::mail::Registered;
use super::scripts::Scripts;

/// How long the code of a library may run while it is loaded, in looks at the time: about half a second.
const LOAD_TICKS_MAX: u64 = 1000;
/// What each function and library takes besides its texts, in bytes.
const OVERHEAD_BYTES: usize = 128;

/// What `FUNCTION RESTORE` does with libraries that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Append,
    Replace,
    Flush,
}

/// One library. Its functions are kept by the machine, by their slots.
#[derive(Debug)]
pub(crate) struct Library {
    pub(crate) name: String,
    /// The whole source, its first line included.
    pub(crate) source: Vec<u8>,
    pub(crate) functions: Vec<Registered>,
}

/// One function, as FCALL needs it.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) name: Rc<str>,
    pub(crate) slot: usize,
    pub(crate) flags: Flags,
}

#[derive(Debug, Default)]
pub(crate) struct Libraries {
    by_name: BTreeMap<String, Library>,
    /// By name in small letters.
    functions: BTreeMap<String, Function>,
    next_slot: usize,
}

impl Libraries {
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// All functions of all libraries.
    pub(crate) fn functions(&self) -> usize {
        self.functions.len()
    }

    /// By name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Library> {
        self.by_name.values()
    }

    pub(crate) fn function(&self, name: &[u8]) -> Option<&Function> {
        let name = std::str::from_utf8(name).ok()?;
        self.functions.get(&name.to_ascii_lowercase())
    }

    pub(crate) fn bytes(&self) -> usize {
        let of = |library: &Library| {
            let functions: usize = library
                .functions
                .iter()
                .map(|function| OVERHEAD_BYTES + function.name.len())
                .sum();
            OVERHEAD_BYTES + library.source.len() + functions
        };
        self.by_name.values().map(of).sum()
    }

    fn remove(&mut self, name: &str) -> Option<Library> {
        let library = self.by_name.remove(name)?;
        for function in &library.functions {
            self.functions.remove(&key(&function.name));
        }
        Some(library)
    }

    fn add(&mut self, library: Library) {
        for function in &library.functions {
            let known = Function {
                name: function.name.as_str().into(),
                slot: function.slot,
                flags: function.flags,
            };
            self.functions.insert(key(&function.name), known);
        }
        self.by_name.insert(library.name.clone(), library);
    }

    /// A function of `library` that another library has.
    fn collision(&self, library: &Library) -> Option<Refusal> {
        let taken = |function: &&Registered| self.functions.contains_key(&key(&function.name));
        let function = library.functions.iter().find(taken)?;
        let name = &function.name;
        Some(Refusal::new(format!("ERR Function {name} already exists")))
    }
}

impl Scripts {
    /// `FUNCTION LOAD`: the library's name.
    pub(crate) fn load_library(&mut self, source: &[u8], replace: bool) -> Result<String, Refusal> {
        let (name, _) = library_name(source)?;
        if self.libraries.by_name.contains_key(&name) && !replace {
            return Err(Refusal::new(format!("ERR Library '{name}' already exists")));
        }
        let old = self.libraries.remove(&name);
        let made = self.make_library(source).and_then(|library| {
            match self.libraries.collision(&library) {
                None => Ok(library),
                Some(refusal) => {
                    self.forget(&library);
                    Err(refusal)
                }
            }
        });
        match made {
            Ok(library) => {
                self.libraries.add(library);
                if let Some(old) = old {
                    self.forget(&old);
                }
                Ok(name)
            }
            Err(refusal) => {
                if let Some(old) = old {
                    self.libraries.add(old);
                }
                Err(refusal)
            }
        }
    }

    /// `FUNCTION DELETE`.
    pub(crate) fn delete_library(&mut self, name: &[u8]) -> Result<(), Refusal> {
        let library = std::str::from_utf8(name)
            .ok()
            .and_then(|name| self.libraries.remove(name))
            .ok_or(Refusal::fixed("ERR Library not found"))?;
        self.forget(&library);
        Ok(())
    }

    /// `FUNCTION RESTORE`: all of the libraries or none.
    pub(crate) fn restore_libraries(
        &mut self,
        sources: &[Vec<u8>],
        policy: Policy,
    ) -> Result<(), Refusal> {
        let mut fresh = Libraries::default();
        let result = self
            .make_libraries(sources, &mut fresh)
            .and_then(|()| self.join(&mut fresh, policy));
        // What was not taken over.
        for library in std::mem::take(&mut fresh.by_name).into_values() {
            self.forget(&library);
        }
        result
    }

    fn make_libraries(
        &mut self,
        sources: &[Vec<u8>],
        fresh: &mut Libraries,
    ) -> Result<(), Refusal> {
        for source in sources {
            let (name, _) = library_name(source)?;
            if fresh.by_name.contains_key(&name) {
                return Err(Refusal::new(format!("ERR Library '{name}' already exists")));
            }
            let library = self.make_library(source)?;
            if let Some(refusal) = fresh.collision(&library) {
                self.forget(&library);
                return Err(refusal);
            }
            fresh.add(library);
        }
        Ok(())
    }

    fn join(&mut self, fresh: &mut Libraries, policy: Policy) -> Result<(), Refusal> {
        let mut old = Vec::new();
        match policy {
            Policy::Append => {
                let known = |name: &&String| self.libraries.by_name.contains_key(*name);
                if let Some(name) = fresh.by_name.keys().find(known) {
                    return Err(Refusal::new(format!("ERR Library {name} already exists")));
                }
            }
            Policy::Replace => {
                for name in fresh.by_name.keys() {
                    old.extend(self.libraries.remove(name));
                }
            }
            Policy::Flush => {
                let names: Vec<String> = self.libraries.by_name.keys().cloned().collect();
                for name in names {
                    old.extend(self.libraries.remove(&name));
                }
            }
        }
        let collision = fresh
            .by_name
            .values()
            .find_map(|library| self.libraries.collision(library));
        if let Some(refusal) = collision {
            for library in old {
                self.libraries.add(library);
            }
            return Err(refusal);
        }
        for library in std::mem::take(&mut fresh.by_name).into_values() {
            self.libraries.add(library);
        }
        for library in &old {
            self.forget(library);
        }
        Ok(())
    }

    /// Runs the source, which registers its functions.
    fn make_library(&mut self, source: &[u8]) -> Result<Library, Refusal> {
        let (name, code) = library_name(source)?;
        let first_slot = self.libraries.next_slot;
        let machine = self.machine(Kind::Functions)?;
        machine.mail().borrow_mut().set_text(code);
        let done = machine.work(Job::Load { first_slot }, LOAD_TICKS_MAX);
        let (functions, text) = {
            let mut mail = machine.mail().borrow_mut();
            (mail.take_registered(), mail.take_text())
        };
        self.libraries.next_slot += functions.len();
        let library = Library {
            name,
            source: source.to_vec(),
            functions,
        };
        match done {
            Done::Good if library.functions.is_empty() => {
                Err(Refusal::fixed("ERR No functions registered"))
            }
            Done::Good => Ok(library),
            Done::Failed { .. } => {
                self.forget(&library);
                Err(Refusal::new(String::from_utf8_lossy(&text)))
            }
        }
    }

    fn forget(&mut self, library: &Library) {
        let Ok(machine) = self.machine(Kind::Functions) else {
            return;
        };
        for function in &library.functions {
            machine.work(
                Job::Forget {
                    slot: function.slot,
                },
                0,
            );
        }
    }
}

/// Functions are called by their names in whatever case.
fn key(name: &str) -> String {
    name.to_ascii_lowercase()
}

fn library_name(source: &[u8]) -> Result<(String, &[u8]), Refusal> {
    let (name, code) = flags::of_library(source)?;
    let name = String::from_utf8(name).map_err(|_| Refusal::fixed(flags::BAD_NAME))?;
    Ok((name, code))
}
