//! RESP2 and RESP3: requests as ranges of the bytes that arrived, replies written and skipped.
//!
//! Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

mod inline;
pub mod limits;
pub mod number;
pub mod reply;
pub mod request;
pub mod scan_request;
pub mod write;

pub use inline::split_args;
pub use reply::{Redirect, ReplyError, ReplyKind, ReplyScanner};
pub use request::{ArgRange, OwnedRequest, Request};
pub use scan_request::{ProtocolError, RequestScanner, Scanned};
pub use write::{Protocol, ReplyWriter};
