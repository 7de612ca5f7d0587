//! One function a command, one file a family of commands.

mod element;
mod element_scan;
pub mod hash;
pub mod list;
pub mod list_move;
mod number_args;
mod sample;
pub mod set;
pub mod set_algebra;
