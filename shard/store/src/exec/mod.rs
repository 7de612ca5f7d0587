//! One function a command, one file a family of commands.

mod element;
mod element_scan;
pub mod hash;
mod number_args;
mod sample;
