//! The keyspace and its parts against plain models.

mod databases;
mod dump;
mod effects;
mod entry;
mod field_expiry;
mod keyspace;
mod lent;
mod replica;
mod streams;
mod table;
