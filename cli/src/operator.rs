//! An operator's connection: where the question goes, with which secret, and errors as one line.

use std::path::PathBuf;

use larder_runtime::secret::SecretSource;
use larder_runtime::{ControlClient, ControlError, Secret, Topologies};
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

/// The addresses of all topologies, for [`secret`].
pub(crate) fn all(topologies: &Topologies) -> Vec<&str> {
    topologies.addrs().iter().map(String::as_str).collect()
}

/// Those, and one more.
pub(crate) fn also<'a>(topologies: &'a Topologies, addr: &'a str) -> Vec<&'a str> {
    let mut addresses = all(topologies);
    addresses.push(addr);
    addresses
}

/// A connection to the topology that leads.
pub(crate) async fn connect(
    topologies: &Topologies,
    secret: &Secret,
) -> Result<ControlClient, String> {
    topologies
        .connect(secret, Peer::Operator)
        .await
        .map_err(|error| explain(topologies, &error))
}

/// Thing, cause, mend.
pub(crate) fn explain(topologies: &Topologies, error: &ControlError) -> String {
    match error {
        ControlError::Unreachable { addr, cause } => {
            format!(
                "no topology answers at {addr}: {cause} (is it running? name another with --topology)"
            )
        }
        ControlError::PortClosed { addr } => {
            format!(
                "no topology answers at {addr}: connection refused (is it running? name another with --topology)"
            )
        }
        ControlError::Refused { code, .. } if code == "WRONGPASS" || code == "NOAUTH" => {
            format!(
                "{topologies} has another secret (give its own with --secret-file or LARDER_SECRET)"
            )
        }
        ControlError::Refused { code, text } if code != "ERR" => format!("{code} {text}"),
        ControlError::Refused { text, .. } => text.clone(),
        ControlError::Version(text) => text.clone(),
        ControlError::Garbled { .. } => {
            format!("{error} (is {topologies} a topology? name another with --topology)")
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
