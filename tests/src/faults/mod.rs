//! Real processes on hosts of their own, broken on purpose while clients write down what they see.
//!
//! [`netns`] is the machine room: hosts with addresses, and cuts between them. [`record`] has the clients.

pub mod netns;
pub mod record;
