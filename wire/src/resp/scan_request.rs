//! The request scanner: finds where one request ends and where its arguments lie, copying
//! nothing. Resumable: what was understood of a half-arrived request is not read again, and only
//! offsets are kept, so that the buffer may move between two scans.
//!
//! Headers are read more strictly than Redis reads them: where Redis skips two bytes after a
//! length or a bulk string, they must be CR LF here. So what a proxy passes on means the same to
//! every server behind it.

use super::inline;
use super::limits::{
    BULK_BYTES_MAX, INLINE_BYTES_MAX, MORE_BYTES_MAX, MULTIBULK_ITEMS_MAX, REQUEST_BYTES_MAX,
    UNAUTHENTICATED_BULK_BYTES_MAX, UNAUTHENTICATED_ITEMS_MAX,
};
use super::number;
use super::request::{ArgRange, Request};

/// Why a client's bytes are no request. The connection is closed after the reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("ERR Protocol error: invalid multibulk length")]
    MultibulkLength,
    /// Also a bulk string that does not end where its length says.
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
    /// Past [`REQUEST_BYTES_MAX`]. Redis closes such a connection without a word.
    #[error("ERR Protocol error: request exceeds the query buffer limit")]
    RequestTooLong,
}

/// What a scan found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// A request in the first `consumed` bytes; [`RequestScanner::request`] gives it.
    /// An empty line or `*0` is a request without arguments, to be passed over.
    Request { consumed: usize },
    /// More bytes are needed: at least `more` of them before another scan can get further, or
    /// [`MORE_BYTES_MAX`] where that many would still not do.
    Incomplete { more: usize },
}

/// How many entries of an argument list outlive their request, so that the next one finds them.
const ARGS_KEPT_MAX: usize = 4096;
/// How many bytes of a rewritten inline request outlive it.
const INLINE_BYTES_KEPT_MAX: usize = 4096;
/// Longest argument whose length has two digits.
const SHORT_ARG_BYTES_MAX: usize = 99;
/// In `bulk_len`: the next argument's header is yet to be read.
const NO_BULK: usize = usize::MAX;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// The request's first byte decides what it is.
    #[default]
    Start,
    /// `*n` has been read.
    Args,
    /// The line's end is yet to arrive.
    Inline,
    /// The request is complete; the next scan starts over.
    Done,
}

/// Serves one connection for life; keeps what it understood of the request at the start of the
/// buffer between two scans. Allocates only for what is larger than anything before.
///
/// ```
/// use larder_wire::resp::{RequestScanner, Scanned};
///
/// let mut scanner = RequestScanner::new();
/// let mut buf: &[u8] = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPI";
/// let Ok(Scanned::Request { consumed }) = scanner.scan(buf) else { panic!() };
/// assert_eq!(scanner.request(buf).arg(1), b"a");
/// buf = &buf[consumed..];
/// assert_eq!(scanner.scan(buf), Ok(Scanned::Incomplete { more: 4 }));
/// ```
#[derive(Debug)]
pub struct RequestScanner {
    phase: Phase,
    /// Bytes of the request that are understood.
    at: usize,
    /// Arguments that are still to come.
    missing: usize,
    /// Length of the argument that starts at `at`, or `NO_BULK`.
    bulk_len: usize,
    /// In an unfinished line: up to where no line end was found.
    searched: usize,
    args: Vec<ArgRange>,
    /// An inline request written as the array that it means; empty when the request was an array.
    array: Vec<u8>,
    authenticated: bool,
    bulk_bytes_max: usize,
}

impl Default for RequestScanner {
    fn default() -> RequestScanner {
        RequestScanner {
            phase: Phase::Start,
            at: 0,
            missing: 0,
            bulk_len: NO_BULK,
            searched: 0,
            args: Vec::new(),
            array: Vec::new(),
            authenticated: true,
            bulk_bytes_max: BULK_BYTES_MAX,
        }
    }
}

impl RequestScanner {
    pub fn new() -> RequestScanner {
        RequestScanner::default()
    }

    /// A client that has to authenticate and has not yet may send small requests only.
    pub fn set_authenticated(&mut self, authenticated: bool) {
        self.authenticated = authenticated;
    }

    /// The longest argument that is taken, in bytes; [`BULK_BYTES_MAX`] at first.
    #[inline]
    pub fn set_bulk_bytes_max(&mut self, max: usize) {
        self.bulk_bytes_max = max;
    }

    /// Looks for the end of the request that starts at `buf[0]`. While it says `Incomplete`, the
    /// next call is given the same bytes with more behind them; after `Request`, what follows
    /// the `consumed` bytes.
    #[inline]
    pub fn scan(&mut self, buf: &[u8]) -> Result<Scanned, ProtocolError> {
        match self.phase {
            Phase::Start | Phase::Done => {
                self.reset();
                match buf.first() {
                    None => Ok(Scanned::Incomplete { more: 1 }),
                    Some(b'*') => self.scan_array(buf),
                    Some(_) => self.scan_inline(buf),
                }
            }
            Phase::Args => self.scan_args(buf),
            Phase::Inline => self.scan_inline(buf),
        }
    }

    /// The request that the last scan found; `buf` as that scan was given it (moved or not).
    /// Its bytes are always a RESP array: exactly those that came, or, when the request was
    /// inline, the array that it means.
    #[inline]
    pub fn request<'a>(&'a self, buf: &'a [u8]) -> Request<'a> {
        debug_assert_eq!(self.phase, Phase::Done, "no request has been found");
        if self.array.is_empty() {
            Request::new(&buf[..self.at], &self.args)
        } else {
            Request::new(&self.array, &self.args)
        }
    }

    /// Where the arguments of the last request lie, for callers that collect several requests
    /// before they use them: in the buffer, unless [`RequestScanner::is_inline`].
    #[inline]
    pub fn args(&self) -> &[ArgRange] {
        &self.args
    }

    /// Whether the last request lies in the scanner rather than in the buffer.
    #[inline]
    pub fn is_inline(&self) -> bool {
        !self.array.is_empty()
    }

    /// Bytes held besides the caller's buffer, for budgets.
    pub fn size(&self) -> usize {
        self.args.capacity() * size_of::<ArgRange>() + self.array.capacity()
    }

    /// Forgets a half-read request. A scan after a found request does so by itself.
    #[inline]
    pub fn reset(&mut self) {
        self.phase = Phase::Start;
        self.at = 0;
        self.missing = 0;
        self.bulk_len = NO_BULK;
        self.searched = 0;
        self.args.clear();
        self.array.clear();
        if self.args.capacity() > ARGS_KEPT_MAX {
            self.args.shrink_to(ARGS_KEPT_MAX);
        }
        if self.array.capacity() > INLINE_BYTES_KEPT_MAX {
            self.array.shrink_to(INLINE_BYTES_KEPT_MAX);
        }
    }

    #[inline]
    fn scan_array(&mut self, buf: &[u8]) -> Result<Scanned, ProtocolError> {
        if let Some(&[_, digit @ b'1'..=b'9', b'\r', b'\n']) = buf.first_chunk() {
            self.at = 4;
            self.missing = usize::from(digit - b'0');
            self.phase = Phase::Args;
            return self.scan_args(buf);
        }
        let (count, next) = match number::short(buf, 1) {
            Some((count, next)) => (count as i64, next),
            None => match self.header_line(buf, 0) {
                Line::At { end } => (
                    number::strict(&buf[1..end]).ok_or(ProtocolError::MultibulkLength)?,
                    end + 2,
                ),
                Line::NotYet => return Ok(Scanned::Incomplete { more: 1 }),
                Line::TooLong => return Err(ProtocolError::MultibulkHeaderTooLong),
                Line::Broken => return Err(ProtocolError::MultibulkLength),
            },
        };
        if count > MULTIBULK_ITEMS_MAX as i64 {
            return Err(ProtocolError::MultibulkLength);
        }
        if !self.authenticated && count > UNAUTHENTICATED_ITEMS_MAX as i64 {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        self.at = next;
        self.searched = 0;
        self.missing = count.max(0) as usize;
        self.phase = Phase::Args;
        self.scan_args(buf)
    }

    #[inline]
    fn scan_args(&mut self, buf: &[u8]) -> Result<Scanned, ProtocolError> {
        while self.missing > 0 {
            if self.bulk_len == NO_BULK {
                self.scan_short_args(buf);
                if self.missing == 0 {
                    break;
                }
                match self.scan_bulk_header(buf)? {
                    Some(len) => self.bulk_len = len,
                    None => return Ok(Scanned::Incomplete { more: 1 }),
                }
            }
            let end = self.at + self.bulk_len;
            let Some(tail) = buf.get(end..end + 2) else {
                let more = (end + 2 - buf.len()).min(MORE_BYTES_MAX);
                return Ok(Scanned::Incomplete { more });
            };
            if tail != b"\r\n" {
                return Err(ProtocolError::BulkLength);
            }
            self.args.push(ArgRange {
                start: self.at as u32,
                end: end as u32,
            });
            self.at = end + 2;
            self.bulk_len = NO_BULK;
            self.missing -= 1;
        }
        self.phase = Phase::Done;
        Ok(Scanned::Request { consumed: self.at })
    }

    /// Takes in arguments as most are: short, and here from end to end. Stops at the first that is not.
    #[inline]
    fn scan_short_args(&mut self, buf: &[u8]) {
        if self.bulk_bytes_max < SHORT_ARG_BYTES_MAX {
            return;
        }
        // What lies beyond is refused where it is read with more care.
        let buf = &buf[..buf.len().min(REQUEST_BYTES_MAX)];
        let value = |digit: u8| usize::from(digit - b'0');
        let (mut at, mut missing) = (self.at, self.missing);
        while missing > 0 {
            let Some(header) = buf.get(at..).and_then(|rest| rest.first_chunk()) else {
                break;
            };
            let (len, start) = match *header {
                [b'$', ones @ b'0'..=b'9', b'\r', b'\n', _] => (value(ones), at + 4),
                [b'$', tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'\r', b'\n'] => {
                    (value(tens) * 10 + value(ones), at + 5)
                }
                _ => break,
            };
            let end = start + len;
            let Some(b"\r\n") = buf.get(end..end + 2) else {
                break;
            };
            self.args.push(ArgRange {
                start: start as u32,
                end: end as u32,
            });
            at = end + 2;
            missing -= 1;
        }
        self.at = at;
        self.missing = missing;
    }

    /// Reads `$<len>\r\n` at `self.at` and moves behind it; `None` when it has not all arrived.
    #[inline]
    fn scan_bulk_header(&mut self, buf: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let (len, next) = match number::short(buf, self.at + 1) {
            Some((len, next)) if buf[self.at] == b'$' => (len as usize, next),
            _ => match self.long_bulk_header(buf)? {
                Some(header) => header,
                None => return Ok(None),
            },
        };
        if len > self.bulk_bytes_max {
            return Err(ProtocolError::BulkLength);
        }
        if !self.authenticated && len > UNAUTHENTICATED_BULK_BYTES_MAX {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        if next + len + 2 > REQUEST_BYTES_MAX {
            return Err(ProtocolError::RequestTooLong);
        }
        self.at = next;
        self.searched = 0;
        Ok(Some(len))
    }

    /// A header that is cut off, long or wrong. As in Redis, nothing is said about it before its
    /// line has arrived.
    #[cold]
    fn long_bulk_header(&mut self, buf: &[u8]) -> Result<Option<(usize, usize)>, ProtocolError> {
        let end = match self.header_line(buf, self.at) {
            Line::At { end } => end,
            Line::NotYet => return Ok(None),
            Line::TooLong => return Err(ProtocolError::BulkHeaderTooLong),
            Line::Broken => return Err(ProtocolError::BulkLength),
        };
        match buf[self.at] {
            b'$' => {}
            // A line break would break the error's own line.
            b'\r' | b'\n' => return Err(ProtocolError::ExpectedBulk(' ')),
            other => return Err(ProtocolError::ExpectedBulk(char::from(other))),
        }
        let len = number::strict(&buf[self.at + 1..end])
            .and_then(|len| usize::try_from(len).ok())
            .ok_or(ProtocolError::BulkLength)?;
        Ok(Some((len, end + 2)))
    }

    /// The header line that starts at `start`, searched on from where the last search ended.
    #[cold]
    fn header_line(&mut self, buf: &[u8], start: usize) -> Line {
        let from = self.searched.max(start);
        let upto = buf.len().min(start + INLINE_BYTES_MAX);
        let found = buf
            .get(from..upto)
            .and_then(|rest| rest.iter().position(|&byte| byte == b'\r'));
        let Some(found) = found else {
            self.searched = upto;
            return if buf.len() > start + INLINE_BYTES_MAX {
                Line::TooLong
            } else {
                Line::NotYet
            };
        };
        let end = from + found;
        self.searched = end;
        match buf.get(end + 1) {
            Some(b'\n') => Line::At { end },
            Some(_) => Line::Broken,
            None => Line::NotYet,
        }
    }

    #[cold]
    fn scan_inline(&mut self, buf: &[u8]) -> Result<Scanned, ProtocolError> {
        self.phase = Phase::Inline;
        let upto = buf.len().min(INLINE_BYTES_MAX + 1);
        let found = buf[self.searched..upto]
            .iter()
            .position(|&byte| byte == b'\n');
        let Some(found) = found else {
            self.searched = upto;
            return if upto > INLINE_BYTES_MAX {
                Err(ProtocolError::InlineTooLong)
            } else {
                Ok(Scanned::Incomplete { more: 1 })
            };
        };
        let end = self.searched + found;
        let line = buf[..end].strip_suffix(b"\r").unwrap_or(&buf[..end]);
        inline::to_array(line, &mut self.array, &mut self.args)
            .map_err(|inline::Unbalanced| ProtocolError::UnbalancedQuotes)?;
        self.at = end + 1;
        self.phase = Phase::Done;
        Ok(Scanned::Request { consumed: self.at })
    }
}

/// A header line.
enum Line {
    /// Its CR is at `end`, its LF behind.
    At {
        end: usize,
    },
    NotYet,
    TooLong,
    /// A CR without LF.
    Broken,
}
