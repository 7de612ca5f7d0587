//! The replica's side of PSYNC: the handshake, and the bytes that follow it.
//!
//! ```text
//! REPLCONF …, PSYNC ─▶ +FULLRESYNC id offset ─▶ $length or $EOF:mark ─▶ RDB ─▶ commands
//!                   └▶ +CONTINUE [id] ─▶ commands from the offset on
//! ```
//!
//! Source: <https://redis.io/docs/latest/operate/oss_and_stack/management/replication/>, and Redis' replication.c.

use std::time::Duration;

use larder_runtime::foreign::{Foreign, ForeignError, Login};
use larder_wire::resp::OwnedRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// Longest silence of a source, in milliseconds: it pings its replicas every 10 seconds by default.
pub(crate) const SILENCE_MS_MAX: u64 = 60_000;
/// The version of Valkey whose data is understood.
const VERSION: &str = "9.0.0";
const MARK_BYTES: usize = 40;
/// Longest line of the handshake, in bytes.
const LINE_BYTES_MAX: usize = 1024;
const READ_BYTES: usize = 64 * 1024;

/// A history of writes, and a place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) replid: String,
    /// Bytes of the stream before it.
    pub(crate) offset: u64,
}

/// What PSYNC was answered with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Full(Point),
    /// The stream goes on, perhaps under another id.
    Continue {
        replid: Option<String>,
    },
}

/// How the end of an RDB transfer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Bytes(u64),
    Mark([u8; MARK_BYTES]),
}

/// A connection on which the source takes us for a replica.
pub(crate) struct Stream {
    pub(crate) addr: String,
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    /// What was read and not yet used.
    pub(crate) input: Vec<u8>,
}

impl Stream {
    /// `from`: where to go on, when it was followed before. `port`: what it shows to its operators as the replica's port.
    pub(crate) async fn open(
        addr: &str,
        login: &Login,
        port: u16,
        from: Option<&Point>,
    ) -> Result<(Stream, Answer), ForeignError> {
        let mut foreign = Foreign::connect(addr, login).await?;
        let port = port.to_string();
        foreign.ask(["REPLCONF", "listening-port", &port]).await?;
        foreign
            .ask(["REPLCONF", "capa", "eof", "capa", "psync2"])
            .await?;
        // Valkey keeps what older versions cannot read from whoever does not say this; Redis does not know the word.
        match foreign.ask(["REPLCONF", "version", VERSION]).await {
            Ok(_) | Err(ForeignError::Refused { .. }) => {}
            Err(lost) => return Err(lost),
        }
        let (stream, input) = foreign.into_stream();
        let (read, write) = stream.into_split();
        let mut stream = Stream {
            addr: addr.to_string(),
            read,
            write,
            input,
        };
        let (replid, offset) = match from {
            Some(point) => (point.replid.as_str(), (point.offset + 1).to_string()),
            None => ("?", "-1".to_string()),
        };
        let psync = OwnedRequest::from_args(["PSYNC", replid, &offset]);
        stream.send(&psync.into_bytes()).await?;
        let line = stream.line().await?;
        match answer_of(&line) {
            Some(answer) => Ok((stream, answer)),
            None => Err(ForeignError::Refused {
                addr: addr.to_string(),
                text: line.trim_start_matches('-').to_string(),
            }),
        }
    }

    /// The line before an RDB.
    pub(crate) async fn extent(&mut self) -> Result<Extent, ForeignError> {
        let line = self.line().await?;
        extent_of(&line).ok_or_else(|| self.lost(format!("it sent {line:?} in place of an RDB")))
    }

    /// The next line that is not empty: empty ones only say that the source is alive.
    async fn line(&mut self) -> Result<String, ForeignError> {
        loop {
            while let Some(end) = self.input.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim_end().to_string();
                if !line.is_empty() {
                    return Ok(line);
                }
            }
            if self.input.len() > LINE_BYTES_MAX {
                return Err(self.lost("it sent a line without an end"));
            }
            self.more().await?;
        }
    }

    /// Appends to `input` what arrives next. May be dropped and called again without losing bytes.
    pub(crate) async fn more(&mut self) -> Result<(), ForeignError> {
        self.input.reserve(READ_BYTES);
        let limit = Duration::from_millis(SILENCE_MS_MAX);
        match timeout(limit, self.read.read_buf(&mut self.input)).await {
            Ok(Ok(0)) => Err(self.lost("it closed the connection")),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.lost(error)),
            Err(_) => Err(self.lost(format!("nothing came for {} s", SILENCE_MS_MAX / 1000))),
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), ForeignError> {
        let written = self.write.write_all(bytes).await;
        written.map_err(|error| self.lost(error))
    }

    /// Tells how far the stream was taken in.
    pub(crate) async fn acknowledge(&mut self, offset: u64) -> Result<(), ForeignError> {
        let request = OwnedRequest::from_args(["REPLCONF", "ACK", &offset.to_string()]);
        self.send(&request.into_bytes()).await
    }

    pub(crate) fn lost(&self, cause: impl std::fmt::Display) -> ForeignError {
        ForeignError::Lost {
            addr: self.addr.clone(),
            cause: cause.to_string(),
        }
    }
}

fn answer_of(line: &str) -> Option<Answer> {
    let mut words = line.split(' ');
    match (words.next(), words.next(), words.next()) {
        (Some("+FULLRESYNC"), Some(replid), Some(offset)) => Some(Answer::Full(Point {
            replid: replid.to_string(),
            offset: offset.parse().ok()?,
        })),
        (Some("+CONTINUE"), replid, None) => Some(Answer::Continue {
            replid: replid.map(str::to_string),
        }),
        _ => None,
    }
}

fn extent_of(line: &str) -> Option<Extent> {
    let told = line.strip_prefix('$')?;
    match told.strip_prefix("EOF:") {
        Some(mark) => Some(Extent::Mark(mark.as_bytes().try_into().ok()?)),
        None => told.parse().ok().map(Extent::Bytes),
    }
}

/// Cuts an RDB out of what arrives.
#[derive(Debug)]
pub(crate) struct Cutter {
    extent: Extent,
    /// Bytes of the RDB so far.
    pub(crate) taken: u64,
    ended: bool,
}

impl Cutter {
    pub(crate) fn new(extent: Extent) -> Cutter {
        Cutter {
            extent,
            taken: 0,
            ended: extent == Extent::Bytes(0),
        }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.ended
    }

    /// Takes out of `input` what is certainly of the RDB. A mark is the last that comes before the source has been told that
    /// the RDB has arrived, so it is looked for at the end alone.
    pub(crate) fn cut(&mut self, input: &mut Vec<u8>) -> Vec<u8> {
        if self.ended {
            return Vec::new();
        }
        let end = match self.extent {
            Extent::Bytes(total) => {
                let end = usize::try_from(total - self.taken)
                    .unwrap_or(usize::MAX)
                    .min(input.len());
                self.ended = self.taken + end as u64 == total;
                end
            }
            Extent::Mark(mark) => {
                self.ended = input.ends_with(&mark);
                let kept = MARK_BYTES.min(input.len());
                if self.ended {
                    input.truncate(input.len() - MARK_BYTES);
                    input.len()
                } else {
                    input.len() - kept
                }
            }
        };
        self.taken += end as u64;
        if end == input.len() {
            return std::mem::take(input);
        }
        input.drain(..end).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_s_lines_are_read_and_others_are_none() {
        let point = Point {
            replid: "ab".to_string(),
            offset: 7,
        };
        assert_eq!(answer_of("+FULLRESYNC ab 7"), Some(Answer::Full(point)));
        assert_eq!(
            answer_of("+CONTINUE"),
            Some(Answer::Continue { replid: None })
        );
        let replid = Some("cd".to_string());
        assert_eq!(answer_of("+CONTINUE cd"), Some(Answer::Continue { replid }));
        for line in ["-NOMASTERLINK x", "+OK", "+FULLRESYNC ab x", ""] {
            assert_eq!(answer_of(line), None, "{line}");
        }
        assert_eq!(extent_of("$12"), Some(Extent::Bytes(12)));
        let mark = "0123456789012345678901234567890123456789";
        let bytes = mark.as_bytes().try_into().unwrap();
        assert_eq!(
            extent_of(&format!("$EOF:{mark}")),
            Some(Extent::Mark(bytes))
        );
        assert_eq!(extent_of("$EOF:short"), None);
    }

    #[test]
    fn an_rdb_is_cut_out_wherever_the_reads_end() {
        let mark = *b"0123456789012345678901234567890123456789";
        let rdb = b"REDIS0011 some bytes of an RDB";
        for step in 1..90 {
            let mut with_mark = rdb.to_vec();
            with_mark.extend_from_slice(&mark);
            let mut counted = rdb.to_vec();
            counted.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
            for (extent, sent, left) in [
                (Extent::Mark(mark), &with_mark, &b""[..]),
                (
                    Extent::Bytes(rdb.len() as u64),
                    &counted,
                    b"*1\r\n$4\r\nPING\r\n",
                ),
            ] {
                let mut cutter = Cutter::new(extent);
                let (mut input, mut cut) = (Vec::new(), Vec::new());
                for chunk in sent.chunks(step) {
                    input.extend_from_slice(chunk);
                    cut.extend(cutter.cut(&mut input));
                    if cutter.is_at_end() {
                        assert!(cutter.cut(&mut input).is_empty());
                    }
                }
                assert!(cutter.is_at_end());
                assert_eq!(
                    (cut.as_slice(), input.as_slice()),
                    (&rdb[..], left),
                    "{step}"
                );
            }
        }
    }
}
