//! The reply writer: one method a RESP type, which writes what the client's protocol version
//! has for it (a map is a flat array to a RESP2 client, a double is a bulk string, …).

use crate::float::{self, DOUBLE_TEXT_BYTES_MAX};
use crate::refusal::Refusal;

/// The protocol version that a client asked for with HELLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// Appends replies to an output buffer.
pub struct ReplyWriter<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

impl<'a> ReplyWriter<'a> {
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> ReplyWriter<'a> {
        ReplyWriter { out, protocol }
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// HELLO answers in the protocol that it has just switched to.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// The buffer that replies are appended to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.out
    }

    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A simple string; `text` holds no line break.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    pub fn error(&mut self, refusal: &Refusal) {
        self.line(b'-', refusal.text().as_bytes());
    }

    /// An error that came as text, code first; line breaks become spaces.
    pub fn error_text(&mut self, text: &str) {
        self.out.push(b'-');
        let clean = |byte| {
            if matches!(byte, b'\r' | b'\n') {
                b' '
            } else {
                byte
            }
        };
        self.out.extend(text.bytes().map(clean));
        self.out.extend_from_slice(b"\r\n");
    }

    pub fn int(&mut self, value: i64) {
        int_line(self.out, b':', value);
    }

    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        bulk_header(self.out, bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// An integer as a bulk string, as GET has it for a counter.
    pub fn bulk_int(&mut self, value: i64) {
        let mut digits = [0; 20];
        let text = decimal(&mut digits, value);
        self.bulk(text);
    }

    /// Nothing: `_` in RESP3, the null bulk string in RESP2.
    pub fn null(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// No array: `_` in RESP3, the null array in RESP2.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// `len` replies follow.
    pub fn array(&mut self, len: usize) {
        array_header(self.out, len);
    }

    /// `len` pairs follow.
    pub fn map(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => array_header(self.out, len * 2),
            Protocol::Resp3 => int_line(self.out, b'%', len as i64),
        }
    }

    /// `len` distinct replies follow.
    pub fn set(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => array_header(self.out, len),
            Protocol::Resp3 => int_line(self.out, b'~', len as i64),
        }
    }

    /// An out-of-band message of `len` parts; an array to a RESP2 client.
    pub fn push(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => array_header(self.out, len),
            Protocol::Resp3 => int_line(self.out, b'>', len as i64),
        }
    }

    pub fn bool(&mut self, value: bool) {
        self.out.extend_from_slice(match (self.protocol, value) {
            (Protocol::Resp2, true) => b":1\r\n",
            (Protocol::Resp2, false) => b":0\r\n",
            (Protocol::Resp3, true) => b"#t\r\n",
            (Protocol::Resp3, false) => b"#f\r\n",
        });
    }

    /// A floating-point number; a bulk string to a RESP2 client.
    pub fn double(&mut self, value: f64) {
        let mut room = [0; DOUBLE_TEXT_BYTES_MAX];
        self.double_text(float::format_double(&mut room, value));
    }

    /// A double whose text is not the shortest; a bulk string to a RESP2 client.
    pub fn double_text(&mut self, text: &[u8]) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => self.line(b',', text),
        }
    }

    /// A whole number of any size, in decimal digits; a bulk string to a RESP2 client.
    pub fn big_number(&mut self, digits: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(digits.as_bytes()),
            Protocol::Resp3 => self.line(b'(', digits.as_bytes()),
        }
    }

    /// `len` pairs follow that say something about the reply behind them. Only RESP3 has these.
    pub fn attribute(&mut self, len: usize) {
        debug_assert_eq!(self.protocol, Protocol::Resp3, "RESP2 has no attributes");
        int_line(self.out, b'|', len as i64);
    }

    /// Text with a three-letter format, `txt` or `mkd`; a bulk string to a RESP2 client.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        debug_assert_eq!(
            format.len(),
            3,
            "a verbatim string's format has three letters"
        );
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                int_line(self.out, b'=', text.len() as i64 + 4);
                self.out.extend_from_slice(format.as_bytes());
                self.out.push(b':');
                self.out.extend_from_slice(text);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.push(kind);
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }
}

/// `*<len>\r\n`.
pub fn array_header(out: &mut Vec<u8>, len: usize) {
    int_line(out, b'*', len as i64);
}

/// `$<len>\r\n`.
pub fn bulk_header(out: &mut Vec<u8>, len: usize) {
    int_line(out, b'$', len as i64);
}

#[inline]
fn int_line(out: &mut Vec<u8>, kind: u8, value: i64) {
    let digit = |value: i64| b'0' + value as u8;
    match value {
        // Most lengths and counts: copies of a known size.
        0..10 => out.extend_from_slice(&[kind, digit(value), b'\r', b'\n']),
        10..100 => {
            let (tens, ones) = (digit(value / 10), digit(value % 10));
            out.extend_from_slice(&[kind, tens, ones, b'\r', b'\n']);
        }
        i64::MIN..0 | 100.. => long_int_line(out, kind, value),
    }
}

fn long_int_line(out: &mut Vec<u8>, kind: u8, value: i64) {
    let mut digits = [0; 20];
    out.push(kind);
    out.extend_from_slice(decimal(&mut digits, value));
    out.extend_from_slice(b"\r\n");
}

/// `value` in decimal, written to the end of `digits`.
pub fn decimal(digits: &mut [u8; 20], value: i64) -> &[u8] {
    let mut rest = value.unsigned_abs();
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    &digits[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, write: impl FnOnce(&mut ReplyWriter<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut ReplyWriter::new(&mut out, protocol));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_version_of_the_protocol_gets_what_it_has() {
        type Write = fn(&mut ReplyWriter<'_>);
        let cases: &[(Write, &str, &str)] = &[
            (|w| w.ok(), "+OK\r\n", "+OK\r\n"),
            (|w| w.simple("PONG"), "+PONG\r\n", "+PONG\r\n"),
            (
                |w| w.error(&Refusal::SYNTAX),
                "-ERR syntax error\r\n",
                "-ERR syntax error\r\n",
            ),
            (
                |w| w.error_text("ERR a\r\nb"),
                "-ERR a  b\r\n",
                "-ERR a  b\r\n",
            ),
            (|w| w.int(-5), ":-5\r\n", ":-5\r\n"),
            (|w| w.int(9), ":9\r\n", ":9\r\n"),
            (|w| w.int(10), ":10\r\n", ":10\r\n"),
            (|w| w.int(99), ":99\r\n", ":99\r\n"),
            (|w| w.int(100), ":100\r\n", ":100\r\n"),
            (
                |w| w.int(i64::MIN),
                ":-9223372036854775808\r\n",
                ":-9223372036854775808\r\n",
            ),
            (|w| w.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (|w| w.bulk_int(120), "$3\r\n120\r\n", "$3\r\n120\r\n"),
            (|w| w.null(), "$-1\r\n", "_\r\n"),
            (|w| w.null_array(), "*-1\r\n", "_\r\n"),
            (|w| w.array(2), "*2\r\n", "*2\r\n"),
            (|w| w.map(2), "*4\r\n", "%2\r\n"),
            (|w| w.set(2), "*2\r\n", "~2\r\n"),
            (|w| w.push(2), "*2\r\n", ">2\r\n"),
            (|w| w.bool(true), ":1\r\n", "#t\r\n"),
            (|w| w.bool(false), ":0\r\n", "#f\r\n"),
            (|w| w.double(3.0), "$1\r\n3\r\n", ",3\r\n"),
            (
                |w| w.double(f64::NEG_INFINITY),
                "$4\r\n-inf\r\n",
                ",-inf\r\n",
            ),
            (
                |w| w.double(0.1 + 0.2),
                "$19\r\n0.30000000000000004\r\n",
                ",0.30000000000000004\r\n",
            ),
            (|w| w.big_number("-123"), "$4\r\n-123\r\n", "(-123\r\n"),
            (
                |w| w.verbatim("txt", b"ab"),
                "$2\r\nab\r\n",
                "=6\r\ntxt:ab\r\n",
            ),
        ];
        for (write, resp2, resp3) in cases {
            assert_eq!(written(Protocol::Resp2, write), *resp2);
            assert_eq!(written(Protocol::Resp3, write), *resp3);
        }
        assert_eq!(written(Protocol::Resp3, |w| w.attribute(1)), "|1\r\n");
    }
}
