//! Protected mode: what a port that was bound beyond loopback does with strangers.
//!
//! A pure decision; the session asks it once a connection.

use std::net::IpAddr;

/// What is known of a connection when it has been accepted.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// `None`: a Unix socket.
    pub peer: Option<IpAddr>,
    /// Clients must authenticate before they may do anything.
    pub needs_auth: bool,
    /// The server has a secret, so that operators and neighbours can show it.
    pub has_secret: bool,
    /// `--protected-mode no`: the operator vouches for the network.
    pub unprotected: bool,
}

/// What a connection may do before it has authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// What the server's own rules allow.
    Open,
    /// `AUTH`, `HELLO`, `LARDER HELLO`, `RESET` and `QUIT`; anything else is answered with [`DENIED`].
    AuthOnly,
    /// Answered with [`DENIED`] and closed.
    Closed,
}

/// The error reply, without `-` and line break. Its code is the one Redis uses.
pub const DENIED: &str = "DENIED this port is reachable from other machines and asks for no password, so it serves \
only its own machine. Mend it in one of these ways: authenticate with AUTH larder <secret>; bind it to 127.0.0.1; or, \
if everyone on the network is trusted, start larder with --protected-mode no";

pub fn admit(arrival: Arrival) -> Admission {
    let local = arrival
        .peer
        .is_none_or(|ip| ip.to_canonical().is_loopback());
    match (
        local || arrival.needs_auth || arrival.unprotected,
        arrival.has_secret,
    ) {
        (true, _) => Admission::Open,
        (false, true) => Admission::AuthOnly,
        (false, false) => Admission::Closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_arrival_is_decided() {
        let from = |peer: Option<&str>, needs_auth, has_secret, unprotected| {
            let peer = peer.map(|ip| ip.parse().unwrap());
            admit(Arrival {
                peer,
                needs_auth,
                has_secret,
                unprotected,
            })
        };
        for needs_auth in [false, true] {
            for has_secret in [false, true] {
                for unprotected in [false, true] {
                    for local in [
                        None,
                        Some("127.0.0.1"),
                        Some("127.8.8.8"),
                        Some("::1"),
                        Some("::ffff:127.0.0.1"),
                    ] {
                        assert_eq!(
                            from(local, needs_auth, has_secret, unprotected),
                            Admission::Open
                        );
                    }
                    for stranger in [
                        Some("10.0.0.7"),
                        Some("2001:db8::1"),
                        Some("::ffff:10.0.0.7"),
                    ] {
                        let expected = match (needs_auth || unprotected, has_secret) {
                            (true, _) => Admission::Open,
                            (false, true) => Admission::AuthOnly,
                            (false, false) => Admission::Closed,
                        };
                        assert_eq!(
                            from(stranger, needs_auth, has_secret, unprotected),
                            expected
                        );
                    }
                }
            }
        }
    }
}
