//! The keyspace and its parts against plain models.

mod entry;
mod keyspace;
mod table;
