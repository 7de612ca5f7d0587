//! Real processes on hosts of their own, broken on purpose while clients write down what they see.
//!
//! [`netns`] is the machine room: hosts with addresses, and cuts between them. [`broken`] runs a cluster in it, [`record`] the clients, [`scenarios`] says
//! what breaks and what that may cost, and [`row`] what it did cost.

pub mod broken;
pub mod netns;
pub mod record;
pub mod row;
pub mod scenarios;
