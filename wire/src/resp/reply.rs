//! The reply scanner: finds where a reply ends, at any nesting, without building it.

/// Why a peer's bytes are no reply: the peer's fault, the connection is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    #[error("reply starts with byte {0:#04x}, which is no RESP type")]
    UnknownType(u8),
    #[error("reply has a malformed length or number")]
    Malformed,
    #[error("reply nests deeper than {max}", max = super::limits::REPLY_DEPTH_MAX)]
    TooDeep,
    #[error("reply claims more than {max} bytes in one string", max = super::limits::BULK_BYTES_MAX)]
    TooLong,
}

/// Keeps its place in a half-arrived reply between two scans.
#[derive(Debug, Default)]
pub struct ReplyScanner {}
