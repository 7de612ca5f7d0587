//! The keyspace of a node: one table a slot.

/// All keys of a node.
#[derive(Default)]
pub struct Keyspace {}
