//! From a command to the function that executes it, by the last column of the command table.

use larder_wire::command::CommandId;

use crate::call::Exec;

/// The store's function for `id`; `None` when the engine, or nobody, executes it.
#[inline]
pub fn dispatch(id: CommandId) -> Option<Exec> {
    RUNS[id as usize]
}

macro_rules! run {
    (store($($path:ident)::+)) => { Some(super::$($path)::+ as Exec) };
    (engine($($path:ident)::+)) => { None };
    (container) => { None };
    (nobody) => { None };
}

macro_rules! runs {
    ($($id:ident $name:literal $arity:literal $flags:tt $categories:tt $keys:tt
       $route:ident $(($merge:ident))? $home:ident $(($($path:ident)::+))?;)*) => {
        /// In the order of the table, which is that of the ids.
        const RUNS: &[Option<Exec>] = &[$(run!($home $(($($path)::+))?),)*];
    };
}

larder_wire::command_table!(runs);

#[cfg(test)]
mod tests {
    use larder_wire::command::{self, CommandId, Home};

    use super::dispatch;

    #[test]
    fn exactly_the_rows_of_the_store_have_a_function() {
        let mut with_function = 0;
        for &id in CommandId::ALL {
            let home = command::spec(id).home;
            assert_eq!(dispatch(id).is_some(), home == Home::Store, "{id:?}");
            with_function += usize::from(home == Home::Store);
        }
        assert!(with_function > 50);
    }
}
