//! The keyspace and its parts against plain models.

mod dump;
mod entry;
mod keyspace;
mod table;
