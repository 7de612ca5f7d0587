//! How large a request or reply may claim to be, as Redis has it.

/// Longest bulk string, in bytes (`proto-max-bulk-len`).
pub const BULK_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Most arguments of one request.
pub const MULTIBULK_ITEMS_MAX: usize = 1024 * 1024;
/// Longest inline request, and longest `*…`/`$…` header line, in bytes.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;
/// Deepest nesting of a reply that the scanner follows.
pub const REPLY_DEPTH_MAX: usize = 64;
/// Longest request in bytes, all arguments and headers together (`client-query-buffer-limit`).
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Most arguments of a request from a client that has yet to authenticate.
pub const UNAUTHENTICATED_ITEMS_MAX: usize = 10;
/// Longest argument from a client that has yet to authenticate, in bytes.
pub const UNAUTHENTICATED_BULK_BYTES_MAX: usize = 16 * 1024;
/// Most bytes that a scan asks for at once, whatever length the peer claims.
pub const MORE_BYTES_MAX: usize = 64 * 1024;
/// Longest line of a reply (simple string, error, number), in bytes.
pub const REPLY_LINE_BYTES_MAX: usize = 1024 * 1024;
