//! The control client: one internal connection to a node, a proxy or the topology.
//!
//! Connects, shows the secret, agrees on a version, then sends requests and reads replies in order. Replies are read
//! by the `redis-protocol` crate, not by the hot path's scanners. What a verb means is not known here
//! (`larder_wire::control`).

use std::io::ErrorKind;
use std::time::Duration;

use larder_wire::Secret;
use larder_wire::control::{NOT_LEADER, PROTOCOL_VERSION, Peer, Welcome};
use larder_wire::resp::OwnedRequest;
use larder_wire::trust;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for a connection and its welcome, in milliseconds.
pub const CONNECT_MS_MAX: u64 = 2000;
/// Longest wait for a reply where the caller names none, in milliseconds.
pub const REPLY_MS_MAX: u64 = 5000;
/// Longest reply that is taken in, in bytes.
pub const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a request has no good answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No connection, a lost one, no answer in time, or a topology that does not lead. Whether the request was carried out is
    /// not known.
    #[error("cannot reach {addr}: {cause}")]
    Unreachable { addr: String, cause: String },
    /// Nobody listens there: the machine answers, the process is gone (or not there yet).
    #[error("cannot reach {addr}: connection refused")]
    PortClosed { addr: String },
    /// The other side answered with an error reply: `code` is its first word, `text` the rest.
    #[error("{text}")]
    Refused { code: String, text: String },
    /// The two sides have no version of the protocol in common.
    #[error("{0}")]
    Version(String),
    /// The answer is not what the protocol has in this place.
    #[error("{addr} does not answer as a larder process would: {cause}")]
    Garbled { addr: String, cause: String },
}

impl ControlError {
    pub fn is_refusal(&self, with_code: &str) -> bool {
        matches!(self, ControlError::Refused { code, .. } if code == with_code)
    }
}

/// A reply that is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Simple(Vec<u8>),
    Int(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Reply>),
    /// An error within an array.
    Error(String),
}

impl Reply {
    /// Reads the one reply that `bytes` hold, whole.
    pub fn parse(bytes: &[u8]) -> Result<Reply, String> {
        match decode(bytes).map_err(|error| error.to_string())? {
            Some((frame, _)) => Ok(frame.into()),
            None => Err("half a reply".to_string()),
        }
    }

    /// The bytes of a simple or bulk string.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Reply::Simple(bytes) | Reply::Bulk(bytes) => Some(bytes),
            Reply::Int(_) | Reply::Null | Reply::Array(_) | Reply::Error(_) => None,
        }
    }
}

impl From<OwnedFrame> for Reply {
    fn from(frame: OwnedFrame) -> Reply {
        match frame {
            OwnedFrame::SimpleString(bytes) => Reply::Simple(bytes),
            OwnedFrame::Error(text) => Reply::Error(text),
            OwnedFrame::Integer(value) => Reply::Int(value),
            OwnedFrame::BulkString(bytes) => Reply::Bulk(bytes),
            OwnedFrame::Array(items) => Reply::Array(items.into_iter().map(Reply::from).collect()),
            OwnedFrame::Null => Reply::Null,
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct ControlClient {
    addr: String,
    stream: TcpStream,
    input: Vec<u8>,
    welcome: Welcome,
    /// A reply was not waited for: replies would be taken for those of other requests.
    out_of_step: bool,
}

impl ControlClient {
    /// Connects to `addr` (`host:port`) as `me` and opens with `LARDER HELLO`.
    pub async fn connect(
        addr: &str,
        secret: &Secret,
        me: Peer,
    ) -> Result<ControlClient, ControlError> {
        let limit = Duration::from_millis(CONNECT_MS_MAX);
        match timeout(limit, ControlClient::open(addr, secret, me)).await {
            Ok(opened) => opened,
            Err(_) => Err(unreachable_at(
                addr,
                format!("no answer within {CONNECT_MS_MAX} ms"),
            )),
        }
    }

    async fn open(addr: &str, secret: &Secret, me: Peer) -> Result<ControlClient, ControlError> {
        let stream = TcpStream::connect(addr)
            .await
            .map_err(|error| match error.kind() {
                ErrorKind::ConnectionRefused => ControlError::PortClosed {
                    addr: addr.to_string(),
                },
                _ => unreachable_at(addr, error.to_string()),
            })?;
        crate::listen::tune(&stream).map_err(|error| unreachable_at(addr, error.to_string()))?;
        let mut client = ControlClient {
            addr: addr.to_string(),
            stream,
            input: Vec::new(),
            welcome: Welcome {
                version: 0,
                server: me,
                release: String::new(),
                standby: None,
            },
            out_of_step: false,
        };
        let version = PROTOCOL_VERSION.to_string();
        let hello: [&[u8]; 5] = [
            b"LARDER",
            b"HELLO",
            version.as_bytes(),
            secret.expose(),
            me.word().as_bytes(),
        ];
        client.send(hello).await?;
        let reply = client.read_reply().await.map_err(|error| match error {
            ControlError::Refused { code, text } if code == "VERSION" => {
                ControlError::Version(text)
            }
            other => other,
        })?;
        client.welcome = client.parse_json(&reply)?;
        trust::judge_welcome(&client.welcome).map_err(ControlError::Version)?;
        Ok(client)
    }

    /// Where this goes to, as it was given.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Who answered, and the version that both sides speak.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Sends `args` and waits for the reply, at most [`REPLY_MS_MAX`].
    pub async fn request<A: AsRef<[u8]>>(
        &mut self,
        args: impl IntoIterator<Item = A, IntoIter: ExactSizeIterator>,
    ) -> Result<Reply, ControlError> {
        self.request_within(Duration::from_millis(REPLY_MS_MAX), args)
            .await
    }

    /// [`ControlClient::request`] with another limit. After a reply that was not waited for, the connection is of no more use.
    pub async fn request_within<A: AsRef<[u8]>>(
        &mut self,
        limit: Duration,
        args: impl IntoIterator<Item = A, IntoIter: ExactSizeIterator>,
    ) -> Result<Reply, ControlError> {
        if self.out_of_step {
            return Err(unreachable_at(
                &self.addr,
                "an earlier request was not answered in time".to_string(),
            ));
        }
        // Stays set when this future is dropped half-way.
        self.out_of_step = true;
        let answered = timeout(limit, async {
            self.send(args).await?;
            self.read_reply().await
        });
        match answered.await {
            Ok(answer) => {
                self.out_of_step = matches!(
                    answer,
                    Err(ControlError::Unreachable { .. }
                        | ControlError::PortClosed { .. }
                        | ControlError::Garbled { .. })
                );
                answer
            }
            Err(_) => Err(unreachable_at(
                &self.addr,
                format!("no answer within {} ms", limit.as_millis()),
            )),
        }
    }

    /// [`ControlClient::request`] for an answer in JSON.
    pub async fn request_json<T: DeserializeOwned>(
        &mut self,
        args: impl IntoIterator<Item = impl AsRef<[u8]>, IntoIter: ExactSizeIterator>,
    ) -> Result<T, ControlError> {
        let reply = self.request(args).await?;
        self.parse_json(&reply)
    }

    /// A reply's string as JSON.
    pub fn parse_json<T: DeserializeOwned>(&self, reply: &Reply) -> Result<T, ControlError> {
        let garbled = |cause: String| ControlError::Garbled {
            addr: self.addr.clone(),
            cause,
        };
        let bytes = reply
            .bytes()
            .ok_or_else(|| garbled("expected a string of JSON".to_string()))?;
        serde_json::from_slice(bytes).map_err(|error| garbled(error.to_string()))
    }

    /// Sends without waiting: for streams such as `WATCH`, read with [`ControlClient::read_reply`].
    pub async fn send<A: AsRef<[u8]>>(
        &mut self,
        args: impl IntoIterator<Item = A, IntoIter: ExactSizeIterator>,
    ) -> Result<(), ControlError> {
        let bytes = OwnedRequest::from_args(args).into_bytes();
        self.stream
            .write_all(&bytes)
            .await
            .map_err(|error| unreachable_at(&self.addr, error.to_string()))
    }

    /// [`ControlClient::send`] of requests that are RESP already.
    pub async fn send_bytes(&mut self, requests: &[u8]) -> Result<(), ControlError> {
        let written = self.stream.write_all(requests).await;
        written.map_err(|error| unreachable_at(&self.addr, error.to_string()))
    }

    /// The next reply, whenever it comes. May be dropped and called again without losing bytes.
    pub async fn read_reply(&mut self) -> Result<Reply, ControlError> {
        loop {
            if let Some(reply) = self.take_reply()? {
                return match reply {
                    Reply::Error(text) => Err(self.refused(&text)),
                    reply => Ok(reply),
                };
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => {
                    return Err(unreachable_at(
                        &self.addr,
                        "the connection was closed".to_string(),
                    ));
                }
                Ok(_) => {}
                Err(error) => return Err(unreachable_at(&self.addr, error.to_string())),
            }
        }
    }

    /// The connection and what was already read of it: it becomes a feed.
    pub fn into_stream(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.input)
    }

    /// A topology that stands by is no topology to talk to: whoever asked looks for the leader, as after a lost
    /// connection.
    fn refused(&self, text: &str) -> ControlError {
        let (code, rest) = text.split_once(' ').unwrap_or((text, ""));
        match code {
            NOT_LEADER => unreachable_at(&self.addr, rest.to_string()),
            _ => ControlError::Refused {
                code: code.to_string(),
                text: rest.to_string(),
            },
        }
    }

    fn take_reply(&mut self) -> Result<Option<Reply>, ControlError> {
        let garbled = |cause: String| ControlError::Garbled {
            addr: self.addr.clone(),
            cause,
        };
        if self.input.len() > REPLY_BYTES_MAX {
            return Err(garbled(format!(
                "a reply of more than {REPLY_BYTES_MAX} bytes"
            )));
        }
        match decode(&self.input).map_err(|error| garbled(error.to_string()))? {
            Some((frame, consumed)) => {
                self.input.drain(..consumed);
                Ok(Some(frame.into()))
            }
            None => Ok(None),
        }
    }
}

fn unreachable_at(addr: &str, cause: String) -> ControlError {
    ControlError::Unreachable {
        addr: addr.to_string(),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_wire::control::PROTOCOL_VERSION_OLDEST;
    use tokio::net::TcpListener;

    /// A server that answers each request with the next of `replies`, whatever it is asked.
    async fn server(replies: Vec<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for reply in replies {
                let mut buffer = [0; 4096];
                if stream.read(&mut buffer).await.unwrap() == 0 {
                    return;
                }
                // In two pieces, so that a half-arrived reply is met.
                let (head, tail) = reply.split_at(reply.len() / 2);
                stream.write_all(head.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
                stream.write_all(tail.as_bytes()).await.unwrap();
            }
            // Stays open, silent, until the client leaves.
            let _ = stream.read(&mut [0; 1]).await;
        });
        addr
    }

    fn welcome(version: u32) -> &'static str {
        let json =
            format!(r#"{{"version":{version},"server":"topology","release":"0.1.0","later":1}}"#);
        format!("${}\r\n{json}\r\n", json.len()).leak()
    }

    fn secret() -> Secret {
        Secret::new(b"s").unwrap()
    }

    #[tokio::test]
    async fn requests_are_answered_in_order_and_refusals_are_typed() {
        let addr = server(vec![welcome(1), "+OK\r\n", "-STALE 7\r\n", "$2\r\n42\r\n"]).await;
        let mut client = ControlClient::connect(&addr, &secret(), Peer::Node)
            .await
            .unwrap();
        assert_eq!(client.welcome().server, Peer::Topology);
        assert_eq!(
            client.request(["LARDER", "JOIN"]).await,
            Ok(Reply::Simple(b"OK".to_vec()))
        );
        let error = client.request(["LARDER", "MAP"]).await.unwrap_err();
        assert!(error.is_refusal("STALE"), "{error:?}");
        assert_eq!(
            client.request_json::<u32>(["LARDER", "STATE"]).await,
            Ok(42)
        );
    }

    #[tokio::test]
    async fn a_server_of_another_age_is_a_version_error() {
        let addr = server(vec![welcome(PROTOCOL_VERSION + 1)]).await;
        let error = ControlClient::connect(&addr, &secret(), Peer::Proxy)
            .await
            .unwrap_err();
        assert!(matches!(error, ControlError::Version(_)), "{error:?}");
        let addr = server(vec![welcome(PROTOCOL_VERSION_OLDEST - 1)]).await;
        let error = ControlClient::connect(&addr, &secret(), Peer::Proxy)
            .await
            .unwrap_err();
        assert!(matches!(error, ControlError::Version(_)), "{error:?}");
        let addr = server(vec!["-VERSION too old\r\n"]).await;
        let error = ControlClient::connect(&addr, &secret(), Peer::Proxy)
            .await
            .unwrap_err();
        assert_eq!(error, ControlError::Version("too old".to_string()));
    }

    #[tokio::test]
    async fn what_is_no_larder_is_garbled_and_a_closed_port_is_told_as_such() {
        let addr = server(vec!["HTTP/1.1 400 Bad Request\r\n\r\n"]).await;
        let error = ControlClient::connect(&addr, &secret(), Peer::Operator)
            .await
            .unwrap_err();
        assert!(matches!(error, ControlError::Garbled { .. }), "{error:?}");
        let free = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string();
        let error = ControlClient::connect(&free, &secret(), Peer::Operator)
            .await
            .unwrap_err();
        assert!(
            matches!(error, ControlError::PortClosed { .. }),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn a_reply_that_came_too_late_is_never_taken_for_the_next_ones() {
        let addr = server(vec![welcome(1)]).await;
        let mut client = ControlClient::connect(&addr, &secret(), Peer::Node)
            .await
            .unwrap();
        let late = client
            .request_within(Duration::from_millis(5), ["LARDER", "STATE"])
            .await;
        assert!(matches!(late, Err(ControlError::Unreachable { .. })));
        let next = client.request(["LARDER", "STATE"]).await.unwrap_err();
        assert!(next.to_string().contains("earlier"), "{next}");
    }
}
