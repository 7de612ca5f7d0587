//! RESP2 and RESP3: requests as ranges of the bytes that arrived, replies written and skipped.
//!
//! Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

pub mod limits;
pub mod reply;
pub mod request;
pub mod scan_request;
pub mod write;

pub use reply::{ReplyError, ReplyScanner};
pub use request::{ArgRange, OwnedRequest, Request};
pub use scan_request::{ProtocolError, RequestScanner};
pub use write::{Protocol, ReplyWriter};
