//! The request scanner: finds where one request ends and where its arguments lie, copying
//! nothing. Resumable: what was understood of a half-arrived request is not read again.

use super::request::ArgRange;

/// Why a client's bytes are no request. The connection is closed after the reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("ERR Protocol error: invalid multibulk length")]
    MultibulkLength,
    #[error("ERR Protocol error: invalid bulk length")]
    BulkLength,
    #[error("ERR Protocol error: expected '$', got '{0}'")]
    ExpectedBulk(char),
    #[error("ERR Protocol error: too big mbulk count string")]
    MultibulkHeaderTooLong,
    #[error("ERR Protocol error: too big bulk count string")]
    BulkHeaderTooLong,
    #[error("ERR Protocol error: too big inline request")]
    InlineTooLong,
    #[error("ERR Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    #[error("ERR Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    #[error("ERR Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
}

/// What a scan found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// A request in the first `consumed` bytes; its arguments are in [`RequestScanner::args`].
    /// An empty line or `*0` is a request without arguments, to be passed over.
    Request { consumed: usize },
    /// More bytes are needed: at least `more` of them before another scan can get further.
    Incomplete { more: usize },
}

/// Keeps what it understood of the request at the start of the buffer between two scans.
#[derive(Debug, Default)]
pub struct RequestScanner {
    args: Vec<ArgRange>,
    /// Set when the request was inline with quotes or escapes: its unescaped arguments.
    unescaped: Vec<u8>,
}

impl RequestScanner {
    pub fn new() -> RequestScanner {
        RequestScanner::default()
    }
}
