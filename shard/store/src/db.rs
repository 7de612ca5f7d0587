//! Numbered databases: keyspaces of one node that SELECT chooses among.

use std::fmt;

/// How many databases a node has, as Redis is configured by default.
pub const DB_COUNT: u8 = 16;

/// The number of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Db(u8);

impl Db {
    pub const ZERO: Db = Db(0);

    /// `None` for a number that no database has.
    #[inline]
    pub fn new(number: i64) -> Option<Db> {
        u8::try_from(number)
            .ok()
            .filter(|number| *number < DB_COUNT)
            .map(Db)
    }

    #[inline]
    pub fn number(self) -> u8 {
        self.0
    }

    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The one after, after the last the first.
    pub fn next(self) -> Db {
        Db((self.0 + 1) % DB_COUNT)
    }

    pub fn all() -> impl Iterator<Item = Db> {
        (0..DB_COUNT).map(Db)
    }
}

impl fmt::Display for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
