//! One function a command, one file a family of commands.

mod args;
pub mod bitfield;
pub mod bits;
pub mod dispatch;
pub mod dump;
mod element;
mod element_scan;
pub mod expire;
pub mod generic;
pub mod geo;
pub mod geo_search;
pub mod hash;
pub mod hll;
pub mod lcs;
pub mod list;
pub mod list_move;
mod number_args;
pub mod object;
mod partial_sort;
mod sample;
pub mod scan;
pub mod set;
pub mod set_algebra;
pub mod sort;
pub mod stream;
pub mod stream_add;
mod stream_args;
pub mod stream_info;
pub mod string;
pub mod zset;
pub mod zset_algebra;
pub mod zset_pop;
pub mod zset_range;

pub use dispatch::dispatch;
