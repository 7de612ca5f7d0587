//! The reply scanner: finds where a reply ends, at any nesting, without building it. And what a
//! proxy asks of a reply's first bytes: its kind, an error's code, where a redirect points.
//!
//! Iterative, resumable, and bounded: a claimed count costs one number on a stack of at most
//! [`REPLY_DEPTH_MAX`] entries, whatever it claims. Streamed strings and aggregates (`$?`, `*?`),
//! which no server sends, are malformed.

use super::limits::{BULK_BYTES_MAX, REPLY_DEPTH_MAX, REPLY_LINE_BYTES_MAX};
use super::number;
use crate::Slot;

/// Why a peer's bytes are no reply: the peer's fault, the connection is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    #[error("reply starts with byte {0:#04x}, which is no RESP type")]
    UnknownType(u8),
    #[error("reply has a malformed length or number")]
    Malformed,
    #[error("reply has an endless line")]
    LineTooLong,
    #[error("reply nests deeper than {max}", max = super::limits::REPLY_DEPTH_MAX)]
    TooDeep,
    #[error("reply claims more than {max} bytes in one string", max = super::limits::BULK_BYTES_MAX)]
    TooLong,
}

/// Most elements that an aggregate may claim.
const AGGREGATE_ITEMS_MAX: i64 = u32::MAX as i64;
/// Longest number of a header, in bytes: more than any `i64` has.
const HEADER_BYTES_MAX: usize = 32;

/// Keeps its place in a half-arrived reply between two scans; serves one connection for life.
///
/// ```
/// use larder_wire::resp::ReplyScanner;
///
/// let mut scanner = ReplyScanner::new();
/// assert_eq!(scanner.scan(b"*2\r\n:1\r\n$3\r\nab"), Ok(None));
/// assert_eq!(scanner.scan(b"*2\r\n:1\r\n$3\r\nabc\r\n+OK\r\n"), Ok(Some(17)));
/// assert_eq!(scanner.scan(b"+OK\r\n"), Ok(Some(5)));
/// ```
#[derive(Debug, Default)]
pub struct ReplyScanner {
    /// Bytes that are understood.
    at: usize,
    /// In an unfinished line: up to where no line end was found.
    searched: usize,
    /// End of the string that is being skipped, its CR LF included; 0 when there is none.
    string_end: usize,
    /// Elements still to come of the aggregates that are open around `at`.
    open: Vec<u64>,
}

/// What one step over the bytes did.
enum Step {
    /// One whole scalar lies behind; or an aggregate without elements.
    Element,
    /// An aggregate with so many elements opens.
    Aggregate(u64),
    /// An attribute opens, with so many elements; the reply that it belongs to comes behind it.
    Attribute(u64),
    NotYet,
}

impl ReplyScanner {
    pub fn new() -> ReplyScanner {
        ReplyScanner::default()
    }

    /// Bytes held besides the caller's buffer, for budgets.
    pub fn size(&self) -> usize {
        self.open.capacity() * size_of::<u64>()
    }

    /// Forgets a half-read reply.
    #[inline]
    pub fn reset(&mut self) {
        self.at = 0;
        self.searched = 0;
        self.string_end = 0;
        self.open.clear();
    }

    /// Where the reply that starts at `buf[0]` ends; `None` until all of it has arrived. While
    /// it says `None`, the next call is given the same bytes with more behind them; after an
    /// end, what follows it.
    #[inline]
    pub fn scan(&mut self, buf: &[u8]) -> Result<Option<usize>, ReplyError> {
        if self.at == 0
            && self.string_end == 0
            && let Some(end) = common(buf)
        {
            self.searched = 0;
            self.open.clear();
            return Ok(Some(end));
        }
        self.scan_on(buf)
    }

    fn scan_on(&mut self, buf: &[u8]) -> Result<Option<usize>, ReplyError> {
        if self.open.is_empty() {
            self.open.push(1);
        }
        loop {
            match self.step(buf)? {
                Step::NotYet => return Ok(None),
                Step::Element => self.count_one(),
                Step::Aggregate(count) => {
                    self.count_one();
                    self.enter(count)?;
                }
                // Stands before an element without being one.
                Step::Attribute(count) => self.enter(count)?,
            }
            while self.open.last() == Some(&0) {
                self.open.pop();
            }
            if self.open.is_empty() {
                let end = self.at;
                self.reset();
                return Ok(Some(end));
            }
        }
    }

    fn count_one(&mut self) {
        let innermost = self.open.last_mut().expect("the reply itself is open");
        *innermost -= 1;
    }

    fn enter(&mut self, count: u64) -> Result<(), ReplyError> {
        if self.open.len() > REPLY_DEPTH_MAX {
            return Err(ReplyError::TooDeep);
        }
        self.open.push(count);
        Ok(())
    }

    /// Moves over one scalar or one header.
    fn step(&mut self, buf: &[u8]) -> Result<Step, ReplyError> {
        if self.string_end != 0 {
            return self.skip_string(buf);
        }
        let Some(&kind) = buf.get(self.at) else {
            return Ok(Step::NotYet);
        };
        match kind {
            b'+' | b'-' | b',' | b'(' => Ok(match self.line(buf, REPLY_LINE_BYTES_MAX)? {
                Some(_) => Step::Element,
                None => Step::NotYet,
            }),
            b':' | b'_' | b'#' => match self.line(buf, HEADER_BYTES_MAX)? {
                Some(text) if is_scalar(kind, text) => Ok(Step::Element),
                Some(_) => Err(ReplyError::Malformed),
                None => Ok(Step::NotYet),
            },
            b'$' | b'=' | b'!' => match self.length(buf)? {
                None => Ok(Step::NotYet),
                Some(-1) if kind == b'$' => Ok(Step::Element),
                // Its three-letter format and colon are missing.
                Some(0..4) if kind == b'=' => Err(ReplyError::Malformed),
                Some(len @ 0..) if len <= BULK_BYTES_MAX as i64 => {
                    self.string_end = self.at + len as usize + 2;
                    self.skip_string(buf)
                }
                Some(0..) => Err(ReplyError::TooLong),
                Some(_) => Err(ReplyError::Malformed),
            },
            b'*' | b'~' | b'>' | b'%' | b'|' => match self.length(buf)? {
                None => Ok(Step::NotYet),
                Some(-1) if kind == b'*' => Ok(Step::Element),
                Some(count @ 0..=AGGREGATE_ITEMS_MAX) => Ok(match kind {
                    b'|' => Step::Attribute(count as u64 * 2),
                    b'%' => Step::Aggregate(count as u64 * 2),
                    _ => Step::Aggregate(count as u64),
                }),
                Some(_) => Err(ReplyError::Malformed),
            },
            unknown => Err(ReplyError::UnknownType(unknown)),
        }
    }

    fn skip_string(&mut self, buf: &[u8]) -> Result<Step, ReplyError> {
        match buf.get(self.string_end - 2..self.string_end) {
            None => Ok(Step::NotYet),
            Some(b"\r\n") => {
                self.at = self.string_end;
                self.string_end = 0;
                Ok(Step::Element)
            }
            Some(_) => Err(ReplyError::Malformed),
        }
    }

    /// The number of the header at `self.at`, which is moved behind it.
    #[inline]
    fn length(&mut self, buf: &[u8]) -> Result<Option<i64>, ReplyError> {
        if let Some((value, next)) = number::short(buf, self.at + 1) {
            self.at = next;
            self.searched = 0;
            return Ok(Some(i64::from(value)));
        }
        match self.line(buf, HEADER_BYTES_MAX)? {
            None => Ok(None),
            Some(text) => number::strict(text).map(Some).ok_or(ReplyError::Malformed),
        }
    }

    /// The text of the line at `self.at`, without its type and its end; `self.at` is moved
    /// behind it.
    fn line<'b>(&mut self, buf: &'b [u8], max: usize) -> Result<Option<&'b [u8]>, ReplyError> {
        let start = self.at + 1;
        let from = self.searched.max(start);
        let upto = buf.len().min(start + max + 1);
        let Some(found) = buf[from..upto].iter().position(|&byte| byte == b'\r') else {
            self.searched = upto;
            return if upto == start + max + 1 {
                Err(ReplyError::LineTooLong)
            } else {
                Ok(None)
            };
        };
        let end = from + found;
        self.searched = end;
        match buf.get(end + 1) {
            None => Ok(None),
            Some(b'\n') => {
                self.at = end + 2;
                self.searched = 0;
                Ok(Some(&buf[start..end]))
            }
            Some(_) => Err(ReplyError::Malformed),
        }
    }
}

/// The end of a reply such as most commands have, in one look.
#[inline]
fn common(buf: &[u8]) -> Option<usize> {
    match buf {
        [b'+', b'O', b'K', b'\r', b'\n', ..] => Some(5),
        [b'$', ..] => {
            let (len, start) = number::short(buf, 1)?;
            let end = start + len as usize;
            (len as usize <= BULK_BYTES_MAX && buf.get(end..end + 2)? == b"\r\n").then_some(end + 2)
        }
        [b':', ..] => number::short(buf, 1).map(|(_, end)| end),
        _ => None,
    }
}

fn is_scalar(kind: u8, text: &[u8]) -> bool {
    match kind {
        b':' => number::strict(text.strip_prefix(b"+").unwrap_or(text)).is_some(),
        b'#' => matches!(text, b"t" | b"f"),
        _ => text.is_empty(),
    }
}

/// What a proxy has to tell apart before it hands a reply on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyKind {
    /// Answers a request.
    Value,
    /// Answers a request with a refusal.
    Error,
    /// Answers nothing: an out-of-band message.
    Push,
}

/// The kind of a whole reply.
#[inline]
pub fn kind(reply: &[u8]) -> ReplyKind {
    match reply.first() {
        Some(b'-' | b'!') => ReplyKind::Error,
        Some(b'>') => ReplyKind::Push,
        Some(b'|') => kind(without_attributes(reply)),
        Some(_) | None => ReplyKind::Value,
    }
}

/// The text of an error reply, its code included.
pub fn error_text(reply: &[u8]) -> Option<&[u8]> {
    let reply = without_attributes(reply);
    match reply.first()? {
        b'-' => reply.get(1..)?.strip_suffix(b"\r\n"),
        b'!' => {
            let (len, start) = number::short(reply, 1)?;
            reply.get(start..start + len as usize)
        }
        _ => None,
    }
}

/// The first word of an error reply: `ERR`, `MOVED`, …
pub fn error_code(reply: &[u8]) -> Option<&[u8]> {
    error_text(reply)?.split(|&byte| byte == b' ').next()
}

/// Where a refusal points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirect<'a> {
    /// The slot belongs to the node at `addr`.
    Moved { slot: Slot, addr: &'a str },
    /// This one request belongs to the node at `addr`, after `ASKING`.
    Ask { slot: Slot, addr: &'a str },
}

/// The redirect that an error reply is, if it is one. The address is `host:port`, where an empty
/// host stands for the one that answered.
pub fn redirect(reply: &[u8]) -> Option<Redirect<'_>> {
    let text = std::str::from_utf8(error_text(reply)?).ok()?;
    let mut words = text.split(' ');
    let code = words.next()?;
    let slot = Slot::new(words.next()?.parse().ok()?)?;
    let addr = words.next()?;
    match code {
        "MOVED" => Some(Redirect::Moved { slot, addr }),
        "ASK" => Some(Redirect::Ask { slot, addr }),
        _ => None,
    }
}

/// The value of an integer reply.
pub fn integer(reply: &[u8]) -> Option<i64> {
    let text = reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    number::strict(text)
}

/// Of an array reply (or set, or push) the number of elements, and where the first one starts.
pub fn array_header(reply: &[u8]) -> Option<(usize, usize)> {
    match reply.first()? {
        b'*' | b'~' | b'>' => {
            let (count, start) = number::short(reply, 1)?;
            Some((count as usize, start))
        }
        _ => None,
    }
}

/// A whole reply without the attributes that stand before it.
fn without_attributes(mut reply: &[u8]) -> &[u8] {
    while reply.first() == Some(&b'|') {
        let Some((pairs, start)) = number::short(reply, 1) else {
            return b"";
        };
        reply = &reply[start..];
        let mut scanner = ReplyScanner::new();
        for _ in 0..u64::from(pairs) * 2 {
            match scanner.scan(reply) {
                Ok(Some(end)) => reply = &reply[end..],
                Ok(None) | Err(_) => return b"",
            }
        }
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(bytes: &[u8]) -> Result<Option<usize>, ReplyError> {
        ReplyScanner::new().scan(bytes)
    }

    #[test]
    fn every_type_is_measured_at_once_and_byte_by_byte() {
        let replies: &[&[u8]] = &[
            b"+OK\r\n",
            b"+\r\n",
            b"+a longer line\r\n",
            b"-ERR no\r\n",
            b":0\r\n",
            b":-12\r\n",
            b":+12\r\n",
            b":9223372036854775807\r\n",
            b"$0\r\n\r\n",
            b"$-1\r\n",
            b"$3\r\n\r\n\r\r\n",
            b"*0\r\n",
            b"*-1\r\n",
            b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
            b"_\r\n",
            b"#t\r\n",
            b"#f\r\n",
            b",3.14\r\n",
            b",inf\r\n",
            b"(3492890328409238509324850943850943825024385\r\n",
            b"!5\r\nERR x\r\n",
            b"=7\r\ntxt:abc\r\n",
            b"%2\r\n+a\r\n:1\r\n+b\r\n*0\r\n",
            b"%0\r\n",
            b"~3\r\n:1\r\n:2\r\n:3\r\n",
            b">2\r\n+message\r\n$1\r\nx\r\n",
            b"|1\r\n+ttl\r\n:3600\r\n+OK\r\n",
            b"*2\r\n|1\r\n+a\r\n:1\r\n:1\r\n:2\r\n",
            b"|0\r\n:1\r\n",
            b"*1\r\n*1\r\n*1\r\n*0\r\n",
        ];
        for reply in replies {
            let mut scanner = ReplyScanner::new();
            for have in 0..reply.len() {
                assert_eq!(
                    scanner.scan(&reply[..have]),
                    Ok(None),
                    "{have} of {reply:?}"
                );
            }
            let more = [reply, &b"+next\r\n"[..]].concat();
            assert_eq!(scanner.scan(&more), Ok(Some(reply.len())), "{reply:?}");
            assert_eq!(
                scanner.scan(&more),
                Ok(Some(reply.len())),
                "{reply:?} again"
            );
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for (bytes, error) in [
            (&b"x"[..], ReplyError::UnknownType(b'x')),
            (b"\r\n", ReplyError::UnknownType(b'\r')),
            (b":\r\n", ReplyError::Malformed),
            (b":1x\r\n", ReplyError::Malformed),
            (b"$-2\r\n", ReplyError::Malformed),
            (b"$1\r\nabc", ReplyError::Malformed),
            (b"$?\r\n", ReplyError::Malformed),
            (b"*?\r\n", ReplyError::Malformed),
            (b"*-2\r\n", ReplyError::Malformed),
            (b"%-1\r\n", ReplyError::Malformed),
            (b"=-1\r\n", ReplyError::Malformed),
            (b"=0\r\n\r\n", ReplyError::Malformed),
            (b"*9223372036854775807\r\n", ReplyError::Malformed),
            (b"#x\r\n", ReplyError::Malformed),
            (b"_x\r\n", ReplyError::Malformed),
            (b"+a\rb", ReplyError::Malformed),
            (b"$536870913\r\n", ReplyError::TooLong),
            (
                b"$11111111111111111111111111111111111111",
                ReplyError::LineTooLong,
            ),
        ] {
            assert_eq!(scan(bytes), Err(error), "{bytes:?}");
        }
        assert_eq!(
            scan(&vec![b'+'; REPLY_LINE_BYTES_MAX + 2]),
            Err(ReplyError::LineTooLong)
        );
    }

    #[test]
    fn a_reply_that_came_in_two_parts_leaves_nothing_to_the_next() {
        let mut scanner = ReplyScanner::new();
        assert_eq!(scanner.scan(b"+OK"), Ok(None));
        assert_eq!(scanner.scan(b"+OK\r\n"), Ok(Some(5)));
        assert_eq!(scanner.scan(b"+"), Ok(None));
        assert_eq!(scanner.scan(b"+QUEUED\r\n"), Ok(Some(9)));
    }

    #[test]
    fn nesting_is_followed_to_its_limit_and_no_further() {
        let deepest = b"*1\r\n".repeat(REPLY_DEPTH_MAX);
        assert_eq!(scan(&deepest), Ok(None));
        let closed = [&deepest[..], b":1\r\n"].concat();
        assert_eq!(scan(&closed), Ok(Some(closed.len())));
        assert_eq!(
            scan(&b"*1\r\n".repeat(REPLY_DEPTH_MAX + 1)),
            Err(ReplyError::TooDeep)
        );
        assert_eq!(scan(&b"|1\r\n".repeat(1_000_000)), Err(ReplyError::TooDeep));
    }

    #[test]
    fn errors_and_redirects_are_read_from_a_reply() {
        assert_eq!(kind(b"+OK\r\n"), ReplyKind::Value);
        assert_eq!(kind(b"-ERR x\r\n"), ReplyKind::Error);
        assert_eq!(kind(b">1\r\n+x\r\n"), ReplyKind::Push);
        assert_eq!(kind(b"|1\r\n+a\r\n+b\r\n-ERR x\r\n"), ReplyKind::Error);
        assert_eq!(error_code(b"-TRYAGAIN later\r\n"), Some(&b"TRYAGAIN"[..]));
        assert_eq!(error_code(b"!9\r\nOOM large\r\n"), Some(&b"OOM"[..]));
        assert_eq!(error_code(b"+OK\r\n"), None);
        let slot = Slot::new(3999).unwrap();
        assert_eq!(
            redirect(b"-MOVED 3999 127.0.0.1:6381\r\n"),
            Some(Redirect::Moved {
                slot,
                addr: "127.0.0.1:6381"
            })
        );
        assert_eq!(
            redirect(b"-ASK 3999 ::1:6381\r\n"),
            Some(Redirect::Ask {
                slot,
                addr: "::1:6381"
            })
        );
        assert_eq!(redirect(b"-MOVED 16384 x:1\r\n"), None);
        assert_eq!(redirect(b"-ERR MOVED 1 x:1\r\n"), None);
        assert_eq!(integer(b":-5\r\n"), Some(-5));
        assert_eq!(integer(b"+5\r\n"), None);
        assert_eq!(array_header(b"*12\r\n"), Some((12, 5)));
        assert_eq!(array_header(b"*-1\r\n"), None);
    }
}
