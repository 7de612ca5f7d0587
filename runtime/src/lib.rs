//! What every larder process needs around its heart: listeners, the control client, the secret,
//! metrics and their HTTP server, shutdown, back-off, logs.
//!
//! Knows the words of the wire and nothing of stores, engines or plans.
#![forbid(unsafe_code)]

pub mod backoff;
pub mod clock;
pub mod control;
pub mod entropy;
pub mod foreign;
pub mod http;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod process;
pub mod protect;
pub mod sealed;
pub mod secret;
pub mod shutdown;
pub mod size;
pub mod topologies;

pub use backoff::Backoff;
pub use control::{ControlClient, ControlError, Reply};
pub use http::Readiness;
pub use larder_wire::trust::{Secret, Trust};
pub use listen::ListenError;
pub use metrics::Registry;
pub use shutdown::{Shutdown, ShutdownTrigger};
pub use topologies::Topologies;
