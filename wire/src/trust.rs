//! Who is trusted: the cluster's secret, and the opening of an internal connection.
//!
//! Pure, so that nodes, proxies and the topology give one answer. Where the secret comes from, and what
//! a connection then may do, is not known here.

use std::fmt;

use crate::Refusal;
use crate::control::{OPERATOR_USER, PROTOCOL_VERSION, PROTOCOL_VERSION_OLDEST, Peer, Welcome};
use crate::resp::Request;

/// The cluster's secret. Never printed: its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// White space at both ends is left out, so that a file may end in a line break. `None` when nothing is left.
    pub fn new(text: &[u8]) -> Option<Secret> {
        let text = text.trim_ascii();
        (!text.is_empty()).then(|| Secret(text.into()))
    }

    /// True when `shown` is the secret. Takes as long for a nearly right one as for a wrong one of the same length.
    pub fn matches(&self, shown: &[u8]) -> bool {
        let mut differs = u8::from(shown.len() != self.0.len());
        for (index, byte) in shown.iter().enumerate() {
            differs |= std::hint::black_box(byte ^ self.0[index % self.0.len()]);
        }
        std::hint::black_box(differs) == 0
    }

    /// For the opening of a connection to a neighbour, and for making keys of it; for nothing else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Who is on the other end of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// An ordinary client: control commands are refused.
    #[default]
    Stranger,
    /// Showed the secret with `AUTH larder <secret>`.
    Operator,
    /// Opened with `LARDER HELLO`; both sides speak `version`.
    Peer { peer: Peer, version: u32 },
}

impl Trust {
    /// Whether control commands are taken from this connection.
    pub fn has_control(self) -> bool {
        match self {
            Trust::Stranger => false,
            Trust::Operator | Trust::Peer { .. } => true,
        }
    }

    /// Whether this is a proxy, which may send commands whose keys lie in several slots of the node.
    pub fn is_proxy(self) -> bool {
        matches!(
            self,
            Trust::Peer {
                peer: Peer::Proxy,
                ..
            }
        )
    }
}

/// Who answers, for [`answer_hello`].
#[derive(Clone, Copy, Debug)]
pub struct Answerer<'a> {
    pub server: Peer,
    /// `env!("CARGO_PKG_VERSION")` of the server.
    pub release: &'a str,
    /// `None`: this server takes no control at all.
    pub secret: Option<&'a Secret>,
}

/// Judges `LARDER HELLO <version> <secret> <peer>`: the connection's trust from here on, and
/// the [`Welcome`] to send as JSON in a bulk string. A refused connection stays what it was.
pub fn answer_hello(
    request: &Request<'_>,
    answerer: Answerer<'_>,
) -> Result<(Trust, Welcome), Refusal> {
    let (Some(version), Some(shown), Some(peer)) = (request.get(2), request.get(3), request.get(4))
    else {
        return Err(Refusal::wrong_arity("larder|hello"));
    };
    // The secret is looked at first: a stranger learns nothing else.
    if !answerer.secret.is_some_and(|secret| secret.matches(shown)) {
        return Err(Refusal::WRONG_SECRET);
    }
    let peer = Peer::from_word(peer).ok_or_else(|| {
        Refusal::fixed("ERR LARDER HELLO is from a node, a proxy, a topology or an operator")
    })?;
    let theirs = std::str::from_utf8(version)
        .ok()
        .and_then(|text| text.parse::<u32>().ok())
        .ok_or_else(|| Refusal::fixed("ERR LARDER HELLO starts with a protocol version"))?;
    if theirs < PROTOCOL_VERSION_OLDEST {
        return Err(Refusal::new(format!(
            "VERSION this {} understands control protocol {PROTOCOL_VERSION_OLDEST} to {PROTOCOL_VERSION}, \
             the {} speaks {theirs} (upgrade the {})",
            answerer.server.word(),
            peer.word(),
            peer.word(),
        )));
    }
    let version = theirs.min(PROTOCOL_VERSION);
    let welcome = Welcome {
        version,
        server: answerer.server,
        release: answerer.release.to_string(),
        standby: None,
    };
    Ok((Trust::Peer { peer, version }, welcome))
}

/// The side that opened judges the answer: fails with the reason when the server is too old for it.
pub fn judge_welcome(welcome: &Welcome) -> Result<u32, String> {
    if (PROTOCOL_VERSION_OLDEST..=PROTOCOL_VERSION).contains(&welcome.version) {
        return Ok(welcome.version);
    }
    Err(format!(
        "the {} (release {}) speaks control protocol {}, this side understands {PROTOCOL_VERSION_OLDEST} to {PROTOCOL_VERSION}",
        welcome.server.word(),
        welcome.release,
        welcome.version,
    ))
}

/// Judges the arguments of `AUTH larder <secret>`. `None`: another user, the secret has no say in it.
pub fn answer_auth(
    user: &[u8],
    password: &[u8],
    secret: Option<&Secret>,
) -> Option<Result<Trust, Refusal>> {
    if user != OPERATOR_USER.as_bytes() {
        return None;
    }
    Some(match secret {
        Some(secret) if secret.matches(password) => Ok(Trust::Operator),
        _ => Err(Refusal::WRONG_PASS),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedRequest;

    fn hello(args: &[&str]) -> OwnedRequest {
        OwnedRequest::from_args([&["LARDER", "HELLO"], args].concat())
    }

    fn judge(args: &[&str], secret: Option<&Secret>) -> Result<(Trust, Welcome), Refusal> {
        let answerer = Answerer {
            server: Peer::Topology,
            release: "0.1.0",
            secret,
        };
        answer_hello(&hello(args).view(), answerer)
    }

    #[test]
    fn only_the_exact_secret_matches() {
        let secret = Secret::new(b" open sesame\n").unwrap();
        assert!(secret.matches(b"open sesame"));
        for wrong in [
            "",
            "open sesamf",
            "open sesam",
            "open sesameopen sesame",
            "open sesame\n",
        ] {
            assert!(!secret.matches(wrong.as_bytes()), "{wrong:?} opened");
        }
        assert!(Secret::new(b" \n").is_none());
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new(b"open sesame").unwrap();
        assert!(!format!("{secret:?}").contains("sesame"));
    }

    #[test]
    fn a_peer_with_the_secret_is_welcomed_at_the_older_of_both_versions() {
        let secret = Secret::new(b"s").unwrap();
        let (trust, welcome) = judge(&["1", "s", "proxy"], Some(&secret)).unwrap();
        assert_eq!(
            trust,
            Trust::Peer {
                peer: Peer::Proxy,
                version: 1
            }
        );
        assert!(trust.is_proxy() && trust.has_control());
        let (_, from_later) = judge(&["99", "s", "NODE"], Some(&secret)).unwrap();
        assert_eq!(from_later.version, PROTOCOL_VERSION);
        assert_eq!(judge_welcome(&welcome), Ok(1));
    }

    #[test]
    fn a_stranger_is_refused_whatever_else_it_says() {
        let secret = Secret::new(b"s").unwrap();
        for args in [["1", "x", "node"], ["0", "x", "nobody"], ["x", "", "node"]] {
            assert_eq!(
                judge(&args, Some(&secret)).unwrap_err(),
                Refusal::WRONG_SECRET
            );
        }
        assert_eq!(
            judge(&["1", "s", "node"], None).unwrap_err(),
            Refusal::WRONG_SECRET
        );
        assert!(!Trust::Stranger.has_control());
    }

    #[test]
    fn versions_out_of_reach_are_refused_on_both_sides() {
        let secret = Secret::new(b"s").unwrap();
        assert_eq!(
            judge(&["0", "s", "node"], Some(&secret))
                .unwrap_err()
                .code(),
            "VERSION"
        );
        let later = Welcome {
            version: PROTOCOL_VERSION + 1,
            server: Peer::Node,
            release: "9.0.0".into(),
            standby: None,
        };
        assert!(judge_welcome(&later).unwrap_err().contains("9.0.0"));
    }

    #[test]
    fn auth_is_judged_for_the_operator_alone() {
        let secret = Secret::new(b"s").unwrap();
        assert_eq!(
            answer_auth(b"larder", b"s", Some(&secret)),
            Some(Ok(Trust::Operator))
        );
        assert_eq!(
            answer_auth(b"larder", b"x", Some(&secret)),
            Some(Err(Refusal::WRONG_PASS))
        );
        assert_eq!(
            answer_auth(b"larder", b"s", None),
            Some(Err(Refusal::WRONG_PASS))
        );
        assert_eq!(answer_auth(b"default", b"s", Some(&secret)), None);
    }
}
