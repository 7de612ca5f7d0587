//! One connection for questions: sends a request, reads its reply.

use std::net::SocketAddr;
use std::time::Duration;

use larder_wire::resp::{OwnedRequest, ReplyScanner, reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failure;

/// How long a reply may take.
const REPLY_SECONDS_MAX: u64 = 60;

pub(crate) struct Connection {
    stream: TcpStream,
    buf: Vec<u8>,
    scanner: ReplyScanner,
}

impl Connection {
    pub(crate) async fn open(addr: SocketAddr) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            buf: Vec::new(),
            scanner: ReplyScanner::new(),
        })
    }

    /// The reply's bytes, whatever it says.
    pub(crate) async fn ask_any(&mut self, args: &[&str]) -> Result<Vec<u8>, Failure> {
        let request = OwnedRequest::from_args(args.iter()).into_bytes();
        self.stream.write_all(&request).await?;
        let deadline = Duration::from_secs(REPLY_SECONDS_MAX);
        tokio::time::timeout(deadline, self.read_reply())
            .await
            .map_err(|_| format!("no reply to {} in {REPLY_SECONDS_MAX} s", args.join(" ")))?
    }

    /// The reply's bytes; an error reply is a failure.
    pub(crate) async fn ask(&mut self, args: &[&str]) -> Result<Vec<u8>, Failure> {
        let bytes = self.ask_any(args).await?;
        match reply::error_text(&bytes) {
            Some(text) => {
                let text = String::from_utf8_lossy(text);
                Err(format!("{}: {text}", args.join(" ")).into())
            }
            None => Ok(bytes),
        }
    }

    async fn read_reply(&mut self) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(end) = self.scanner.scan(&self.buf)? {
                return Ok(self.buf.drain(..end).collect());
            }
            if self.stream.read_buf(&mut self.buf).await? == 0 {
                return Err("the server closed the connection".into());
            }
        }
    }
}
