//! Copying in from a live Redis or Valkey, while it is written to: what is here at the end is what is there.
//!
//! `LARDER_SEED=7` runs one seed of the random writing. Digests of values are compared, as Redis computes them.

mod cluster;
mod cutover;
mod faults;
mod flushes;
mod lag;
mod one;
mod source;
