//! Who runs a command: built from the last column of the command table.
//!
//! A row that names a function which does not exist does not compile; no arm hides one.

use larder_store::Exec;
use larder_wire::command::CommandId;

use crate::turn::EngineExec;

/// Who runs a command on this node.
#[derive(Clone, Copy)]
pub enum Run {
    Store(Exec),
    Engine(EngineExec),
    /// It only has subcommands.
    Container,
    /// Answered as an unknown command.
    Nobody,
}

macro_rules! run {
    (store $($path:ident)::+) => { Run::Store(larder_store::exec::$($path)::+) };
    (engine $($path:ident)::+) => { Run::Engine(crate::exec::$($path)::+) };
    (container) => { Run::Container };
    (nobody) => { Run::Nobody };
}

macro_rules! dispatch {
    ($($id:ident $name:literal $arity:literal $flags:tt $categories:tt $keys:tt
       $route:ident $(($merge:ident))? $home:ident $(($($path:ident)::+))?;)*) => {
        static DISPATCH: [Run; CommandId::ALL.len()] = [$(run!($home $($($path)::+)?),)*];
    };
}

larder_wire::command_table!(dispatch);

#[inline]
pub fn run_of(id: CommandId) -> Run {
    DISPATCH[id as usize]
}
