//! A connection that has many requests in flight, for a thread of its own: sends what was gathered, then reads reply by reply.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use larder_wire::resp::{ReplyScanner, reply};

use crate::Failure;

const READ_BYTES: usize = 64 * 1024;

/// Appends a request.
pub(crate) fn request(out: &mut Vec<u8>, args: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// What a reply says, as far as anybody here asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replied {
    pub(crate) is_null: bool,
    pub(crate) is_error: bool,
}

pub(crate) struct Pipeline {
    stream: TcpStream,
    buf: Vec<u8>,
    from: usize,
    scanner: ReplyScanner,
}

impl Pipeline {
    pub(crate) fn open(addr: SocketAddr) -> Result<Pipeline, Failure> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        Ok(Pipeline {
            stream,
            buf: Vec::new(),
            from: 0,
            scanner: ReplyScanner::new(),
        })
    }

    /// Sends the requests in `out`, and empties it.
    pub(crate) fn send(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        self.stream.write_all(out)?;
        out.clear();
        Ok(())
    }

    pub(crate) fn reply(&mut self) -> Result<Replied, Failure> {
        loop {
            if let Some(len) = self.scanner.scan(&self.buf[self.from..])? {
                let bytes = &self.buf[self.from..self.from + len];
                let replied = Replied {
                    is_null: bytes.starts_with(b"$-1") || bytes.starts_with(b"_"),
                    is_error: reply::error_text(bytes).is_some(),
                };
                self.from += len;
                return Ok(replied);
            }
            self.buf.drain(..self.from);
            self.from = 0;
            let filled = self.buf.len();
            self.buf.resize(filled + READ_BYTES, 0);
            let read = self.stream.read(&mut self.buf[filled..])?;
            self.buf.truncate(filled + read);
            if read == 0 {
                return Err("the server closed the connection".into());
            }
        }
    }
}
