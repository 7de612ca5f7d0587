//! The reply writer: one method a RESP type, which writes what the client's protocol version
//! has for it (a map is a flat array to a RESP2 client, a double is a bulk string, …).

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

    pub fn int(&mut self, value: i64) {
        int_line(self.out, b':', value);
    }

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

fn int_line(out: &mut Vec<u8>, kind: u8, value: i64) {
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
