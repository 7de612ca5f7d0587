//! Listeners: TCP ports and Unix sockets, bound early and with errors that a person can act on.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// Connections that wait to be accepted, as Redis' `tcp-backlog`; the kernel may keep fewer.
pub const BACKLOG_CONNECTIONS_MAX: i32 = 511;

/// Why a port or socket could not be had: one line that names it and the flag that moves it.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("port {port} is taken (choose another with {flag})")]
    Taken { port: u16, flag: String },
    #[error("port {port} may not be opened by this user (choose one above 1023 with {flag})")]
    Forbidden { port: u16, flag: String },
    #[error(
        "'{text}' is no address to listen at: {cause} (write host:port, for example 127.0.0.1:6379, with {flag})"
    )]
    BadAddress {
        text: String,
        cause: String,
        flag: String,
    },
    #[error("address {addr} is not one of this machine (choose another with {flag})")]
    NotHere { addr: SocketAddr, flag: String },
    #[error("socket {path} is in use by another process (choose another with {flag})", path = path.display())]
    SocketTaken { path: PathBuf, flag: String },
    #[error("{path} exists and is no socket (choose another with {flag})", path = path.display())]
    NotASocket { path: PathBuf, flag: String },
    #[error("cannot listen at {place}: {error} (choose another with {flag})")]
    Other {
        place: String,
        error: io::Error,
        flag: String,
    },
}

/// Binds `text` (`host:port`; port 0 takes a free one). `flag` is what the operator would change, for errors.
///
/// The listener is non-blocking: hand it to [`tokio::net::TcpListener::from_std`] on the thread that accepts.
pub fn tcp(text: &str, flag: &str) -> Result<std::net::TcpListener, ListenError> {
    tcp_at(resolve(text, flag)?, flag)
}

/// [`tcp`] for an address that is already one.
pub fn tcp_at(addr: SocketAddr, flag: &str) -> Result<std::net::TcpListener, ListenError> {
    let flag = flag.to_string();
    try_tcp(addr).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => ListenError::Taken {
            port: addr.port(),
            flag,
        },
        ErrorKind::PermissionDenied => ListenError::Forbidden {
            port: addr.port(),
            flag,
        },
        ErrorKind::AddrNotAvailable => ListenError::NotHere { addr, flag },
        _ => ListenError::Other {
            place: addr.to_string(),
            error,
            flag,
        },
    })
}

fn try_tcp(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A server that restarts takes its port back while old connections are in TIME_WAIT. SO_REUSEPORT is never
    // set: with it, a second server would share the port in silence.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG_CONNECTIONS_MAX)?;
    Ok(socket.into())
}

/// The first address of `host:port`; a name is looked up.
pub fn resolve(text: &str, flag: &str) -> Result<SocketAddr, ListenError> {
    let bad = |cause: String| ListenError::BadAddress {
        text: text.to_string(),
        cause,
        flag: flag.to_string(),
    };
    let mut found = text
        .to_socket_addrs()
        .map_err(|error| bad(error.to_string()))?;
    found.next().ok_or_else(|| bad("no such host".to_string()))
}

/// What every accepted TCP connection gets: requests are small, so nothing waits to be coalesced by the kernel.
pub fn tune(stream: &tokio::net::TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)
}

/// How soon a connection to a host that has vanished is lost. The kernel alone would take a quarter of an hour.
#[derive(Clone, Copy, Debug)]
pub struct Unheard {
    /// What was sent and is not acknowledged.
    pub unacknowledged: Duration,
    /// Between questions to an end that is silent.
    pub ask_every: Duration,
    /// Questions without an answer.
    pub asks_max: u32,
}

/// For connections on which a vanished host must not be waited for.
pub fn limit_silence(stream: &tokio::net::TcpStream, unheard: &Unheard) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(unheard.unacknowledged))?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(unheard.ask_every)
            .with_interval(unheard.ask_every)
            .with_retries(unheard.asks_max),
    )
}

/// A Unix socket whose file goes away with it.
#[derive(Debug)]
pub struct UnixSocket {
    pub listener: std::os::unix::net::UnixListener,
    _file: SocketFile,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already, or in a folder that is: nothing is left to clean up.
        let _ = fs::remove_file(&self.0);
    }
}

/// Binds `path`. A socket file that no process listens at any more is taken over; another file is left alone.
pub fn unix(path: &Path, flag: &str) -> Result<UnixSocket, ListenError> {
    let other = |error| ListenError::Other {
        place: path.display().to_string(),
        error,
        flag: flag.to_string(),
    };
    let owned = || (path.to_path_buf(), flag.to_string());
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let (path, flag) = owned();
            return Err(ListenError::NotASocket { path, flag });
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(other)?;
            }
            Ok(_) | Err(_) => {
                let (path, flag) = owned();
                return Err(ListenError::SocketTaken { path, flag });
            }
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(other(error)),
    }
    let listener = std::os::unix::net::UnixListener::bind(path).map_err(other)?;
    listener.set_nonblocking(true).map_err(other)?;
    Ok(UnixSocket {
        listener,
        _file: SocketFile(path.to_path_buf()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_the_flag_that_moves_it() {
        let first = tcp("127.0.0.1:0", "--port").unwrap();
        let addr = first.local_addr().unwrap();
        let error = tcp(&addr.to_string(), "--port").unwrap_err().to_string();
        assert_eq!(
            error,
            format!("port {} is taken (choose another with --port)", addr.port())
        );
    }

    #[test]
    fn an_address_that_is_none_or_is_elsewhere_is_named() {
        let error = tcp("127.0.0.1", "--listen").unwrap_err();
        assert!(matches!(error, ListenError::BadAddress { .. }), "{error}");
        let error = tcp("192.0.2.1:0", "--listen").unwrap_err();
        assert!(matches!(error, ListenError::NotHere { .. }), "{error}");
    }

    #[test]
    fn a_port_is_free_again_as_soon_as_its_listener_is_gone() {
        let addr = tcp("127.0.0.1:0", "--port").unwrap().local_addr().unwrap();
        tcp_at(addr, "--port").unwrap();
    }

    #[test]
    fn a_stale_socket_is_taken_over_a_live_one_and_another_file_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("larder.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a plain listener leaves its file");
        let live = unix(&path, "--unix").unwrap();
        assert!(matches!(
            unix(&path, "--unix"),
            Err(ListenError::SocketTaken { .. })
        ));
        drop(live);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert!(matches!(
            unix(&path, "--unix"),
            Err(ListenError::NotASocket { .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
