//! A blocking RESP client: one connection, requests as arrays of bulk strings.

use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use larder_wire::resp::OwnedRequest;

use crate::reply::Reply;

/// Longest wait for a reply before a test gives up, in seconds.
pub const REPLY_WAIT_S_MAX: u64 = 30;

pub struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(REPLY_WAIT_S_MAX)))?;
        let reader = BufReader::new(stream.try_clone()?);
        Ok(Client { stream, reader })
    }

    /// A connection to a server of this test.
    ///
    /// # Panics
    /// When there is none.
    pub fn to(addr: SocketAddr) -> Client {
        Client::connect(addr).unwrap_or_else(|error| panic!("connect to {addr}: {error}"))
    }

    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<()> {
        self.send_raw(&OwnedRequest::from_args(args.iter()).into_bytes())
    }

    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn read(&mut self) -> io::Result<Reply> {
        Reply::read(&mut self.reader)
    }

    /// Sends and waits for the reply.
    pub fn ask<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Reply> {
        self.send(args)?;
        self.read()
    }

    /// Sends the words of a line and waits for the reply.
    ///
    /// # Panics
    /// When the connection breaks.
    pub fn run(&mut self, line: &str) -> Reply {
        let args: Vec<&str> = line.split_whitespace().collect();
        self.ask(&args)
            .unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Sends all at once.
    pub fn send_all<A: AsRef<[u8]>>(&mut self, requests: &[Vec<A>]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for args in requests {
            bytes.extend(OwnedRequest::from_args(args.iter()).into_bytes());
        }
        self.send_raw(&bytes)
    }

    /// Sends all, then reads all replies.
    pub fn pipeline<A: AsRef<[u8]>>(&mut self, requests: &[Vec<A>]) -> io::Result<Vec<Reply>> {
        self.send_all(requests)?;
        requests.iter().map(|_| self.read()).collect()
    }

    /// Goes away with a reset: what is on its way to this client finds nobody.
    pub fn leave_by_reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        // Refused where the connection has ended already.
        let _ = socket.set_linger(Some(Duration::ZERO));
    }

    pub fn set_read_timeout(&self, wait: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(wait)
    }
}
