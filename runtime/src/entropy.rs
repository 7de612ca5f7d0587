//! Random bytes of the operating system, for those shells that hand a seed or an id to a heart.

use std::fs::File;
use std::io::{self, Read};

use larder_wire::NodeId;

/// Fails only where the system has no `/dev/urandom`.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A seed for a generator that need not be secret.
pub fn seed() -> io::Result<u64> {
    Ok(u64::from_le_bytes(bytes()?))
}

/// A name that no other node has.
pub fn node_id() -> io::Result<NodeId> {
    Ok(NodeId::from_bytes(bytes()?))
}

/// `0.0..1.0`, for [`crate::Backoff::next`]. Without randomness, the middle.
pub fn jitter() -> f64 {
    seed().map_or(0.5, |seed| (seed >> 11) as f64 / (1_u64 << 53) as f64)
}
