//! An operator's connection: where the question goes, with which secret, and errors as one line.

use std::path::PathBuf;

use larder_runtime::secret::SecretSource;
use larder_runtime::{ControlClient, ControlError, Secret};
use larder_wire::control::Peer;

/// Whether `host:port` (or a host alone) is certainly of this machine.
pub(crate) fn is_loopback(addr: &str) -> bool {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// The secret for a process with these addresses: those it binds and those it connects to.
pub(crate) fn secret(file: Option<PathBuf>, addresses: &[&str]) -> Result<Secret, String> {
    let loopback_only = addresses.iter().all(|addr| is_loopback(addr));
    SecretSource::of_this_process(file, loopback_only)
        .load()
        .map_err(|error| error.to_string())
}

pub(crate) async fn connect(topology: &str, secret: &Secret) -> Result<ControlClient, String> {
    ControlClient::connect(topology, secret, Peer::Operator)
        .await
        .map_err(|error| explain(topology, &error))
}

/// Thing, cause, mend.
pub(crate) fn explain(topology: &str, error: &ControlError) -> String {
    match error {
        ControlError::Unreachable { cause, .. } => {
            format!(
                "no topology answers at {topology}: {cause} (is it running? name another with --topology)"
            )
        }
        ControlError::Refused { code, .. } if code == "WRONGPASS" || code == "NOAUTH" => {
            format!(
                "{topology} has another secret (give its own with --secret-file or LARDER_SECRET)"
            )
        }
        ControlError::Refused { code, text } if code != "ERR" => format!("{code} {text}"),
        ControlError::Refused { text, .. } => text.clone(),
        ControlError::Version(text) => text.clone(),
        ControlError::Garbled { .. } => {
            format!("{error} (is {topology} a topology? name another with --topology)")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_certainly_of_this_machine_counts_as_loopback() {
        for here in ["127.0.0.1:7000", "127.0.0.1", "localhost:1", "[::1]:7000"] {
            assert!(is_loopback(here), "{here}");
        }
        for elsewhere in [
            "0.0.0.0:7000",
            "10.0.0.1:7000",
            "cache.example.org:7000",
            "[::]:1",
            "",
        ] {
            assert!(!is_loopback(elsewhere), "{elsewhere}");
        }
    }
}
