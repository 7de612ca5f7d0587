//! The keyspace and its parts against plain models.

mod dump;
mod effects;
mod entry;
mod keyspace;
mod replica;
mod streams;
mod table;
