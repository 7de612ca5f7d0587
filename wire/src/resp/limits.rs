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
