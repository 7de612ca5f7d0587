//! Hashes, lists, sets, sorted sets and streams as values: a packed buffer while small, a tree of shared chunks
//! once large. A clone of a value is a cheap capture: writers copy only the chunks they touch.
//!
//! Knows no keys, commands, clock or randomness.

pub mod either;
pub mod expiring;
pub mod hash;
pub mod intset;
pub mod item;
mod kind;
pub mod list;
mod listpack;
pub mod mem;
pub mod packed;
pub mod pieces;
pub mod ranked;
pub mod score;
pub mod score_index;
pub mod set;
pub mod settings;
pub mod sorted;
mod starts;
pub mod stream;
pub mod table;
pub mod tree;
pub mod zset;

pub use hash::Hash;
pub use item::{Item, Needle};
pub use list::{End, List};
pub use packed::Packed;
pub use pieces::Budget;
pub use score::packed_score;
pub use set::Set;
pub use settings::{CollectionSettings, EncodingNames, ListPackedMax};
pub use stream::Stream;
pub use zset::Zset;

#[cfg(test)]
mod tests;
