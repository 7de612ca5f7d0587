//! Hashes, lists, sets and sorted sets as values: a packed buffer while small, a tree of shared chunks
//! once large. A clone of a value is a cheap capture: writers copy only the chunks they touch.
//!
//! Knows no keys, commands, clock or randomness.

pub mod either;
pub mod hash;
pub mod intset;
pub mod mem;
pub mod number;
pub mod packed;
pub mod pieces;
pub mod set;
pub mod settings;
pub mod sorted;
pub mod table;
pub mod tree;

pub use hash::Hash;
pub use packed::{Item, Packed};
pub use pieces::Budget;
pub use set::Set;
pub use settings::CollectionSettings;
