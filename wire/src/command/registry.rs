//! The rows of the table as data: an id and a specification each.

use super::columns::*;
use super::spec::{Categories, CommandSpec, Flags, Home, Merge, Route};

macro_rules! registry {
    ($($id:ident $name:literal $arity:literal [$($flag:ident)*] [$($category:ident)*] [$($key:expr),*]
       $route:ident $(($merge:ident))? $home:ident $(($($path:ident)::+))?;)*) => {
        /// One variant a row, in the order of the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum CommandId {
            $($id,)*
        }

        impl CommandId {
            /// Every command and subcommand, in the order of the table.
            pub const ALL: &'static [CommandId] = &[$(CommandId::$id,)*];
        }

        pub(super) static SPECS: [CommandSpec; CommandId::ALL.len()] = [
            $(CommandSpec::from_row(
                $name,
                $arity,
                Flags::NONE$(.with(Flags::$flag))*,
                Categories::NONE$(.with(Categories::$category))*,
                &[$($key),*],
                Route::$route $((Merge::$merge))?,
                home!($home),
            ),)*
        ];

        /// The names once more, for tables that are built at compile time.
        pub(super) const NAMES: [&str; CommandId::ALL.len()] = [$($name,)*];
    };
}

macro_rules! home {
    (store) => {
        Home::Store
    };
    (engine) => {
        Home::Engine
    };
    (container) => {
        Home::Container
    };
    (nobody) => {
        Home::Nobody
    };
}

command_table!(registry);

/// The facts of a command.
#[inline]
pub fn spec(id: CommandId) -> &'static CommandSpec {
    &SPECS[id as usize]
}

/// The subcommands of a container; none of any other command.
pub fn subcommands(container: CommandId) -> impl Iterator<Item = CommandId> {
    let name = spec(container).name;
    CommandId::ALL[container as usize + 1..]
        .iter()
        .copied()
        .take_while(move |id| {
            spec(*id)
                .name
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('|'))
        })
}

/// Commands that have a row and that nothing executes yet.
pub fn missing() -> impl Iterator<Item = CommandId> {
    CommandId::ALL
        .iter()
        .copied()
        .filter(|id| spec(*id).home == Home::Nobody)
}
