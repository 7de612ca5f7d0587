//! Reads a node's refusals: which of them say "not here" or "not yet", so that the proxy tries
//! elsewhere or later, and which are the client's answer.

use larder_wire::Slot;
use larder_wire::resp::reply::{self, Redirect};

/// What an error reply means to the proxy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused<'a> {
    /// The slot has another owner.
    Moved { slot: Slot, addr: &'a str },
    /// This one request has to go elsewhere, after ASKING.
    Ask { addr: &'a str },
    /// Not yet: nothing was carried out, a later try may be.
    Later,
    /// The client's answer.
    Final,
}

/// Codes of refusals that pass by themselves. None of them is given by a command that did anything.
const LATER: [&[u8]; 5] = [
    b"TRYAGAIN",
    b"CLUSTERDOWN",
    b"LOADING",
    b"MASTERDOWN",
    b"READONLY",
];

pub(crate) fn classify(error: &[u8]) -> Refused<'_> {
    match reply::redirect(error) {
        Some(Redirect::Moved { slot, addr }) => return Refused::Moved { slot, addr },
        Some(Redirect::Ask { addr, .. }) => return Refused::Ask { addr },
        None => {}
    }
    match reply::error_code(error) {
        Some(code) if LATER.contains(&code) => Refused::Later,
        Some(_) | None => Refused::Final,
    }
}

/// The address of a redirect; an empty host stands for the one that answered.
pub(crate) fn resolve(addr: &str, answered_by: &str) -> String {
    match addr.strip_prefix(':') {
        None => addr.to_string(),
        Some(port) => {
            let host = answered_by.rsplit_once(':').map_or("", |(host, _)| host);
            format!("{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_that_pass_by_themselves_are_tried_again() {
        let slot = Slot::new(3999).unwrap();
        let addr = "127.0.0.1:6381";
        assert_eq!(
            classify(b"-MOVED 3999 127.0.0.1:6381\r\n"),
            Refused::Moved { slot, addr }
        );
        assert_eq!(
            classify(b"-ASK 3999 127.0.0.1:6381\r\n"),
            Refused::Ask { addr }
        );
        for later in [
            "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
            "-CLUSTERDOWN Hash slot not served\r\n",
            "-LOADING Redis is loading the dataset in memory\r\n",
            "-MASTERDOWN Link with MASTER is down\r\n",
            "-READONLY You can't write against a read only replica.\r\n",
        ] {
            assert_eq!(classify(later.as_bytes()), Refused::Later, "{later}");
        }
        for last in [
            "-ERR x\r\n",
            "-WRONGTYPE x\r\n",
            "-MOVED\r\n",
            "-OOM x\r\n",
            "-\r\n",
        ] {
            assert_eq!(classify(last.as_bytes()), Refused::Final, "{last}");
        }
    }

    #[test]
    fn an_empty_host_is_the_one_that_answered() {
        assert_eq!(resolve(":7002", "10.0.0.1:7001"), "10.0.0.1:7002");
        assert_eq!(resolve("10.0.0.2:7002", "10.0.0.1:7001"), "10.0.0.2:7002");
    }
}
