//! An operator's connection: where the question goes, with which secret, and errors as one line.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use larder_runtime::secret::SecretSource;
use larder_runtime::{ControlClient, ControlError, Secret, Topologies};
use larder_wire::control::Peer;
use serde::de::DeserializeOwned;

use crate::args::Ask;

/// How long a topology that went away is waited for, in milliseconds.
const GONE_MS_MAX: u64 = 60_000;
/// How often it is looked for meanwhile, in milliseconds.
const LOOK_MS: u64 = 100;

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

/// An order, and the questions how far it is: over as many connections, and to as many topologies, as that takes.
pub(crate) struct Watch<'a> {
    topologies: &'a Topologies,
    secret: &'a Secret,
    client: ControlClient,
    /// What was ordered, for sentences: `reshard`.
    name: &'static str,
}

impl<'a> Watch<'a> {
    pub(crate) async fn begin(
        ask: &'a Ask,
        secret: &'a Secret,
        name: &'static str,
    ) -> Result<Watch<'a>, String> {
        Ok(Watch {
            topologies: &ask.topology,
            secret,
            client: connect(&ask.topology, secret).await?,
            name,
        })
    }

    /// Says the order, once: one that was not answered may have been taken.
    pub(crate) async fn order<T: DeserializeOwned>(&mut self, words: &[&str]) -> Result<T, String> {
        let answer = self.client.request_json(words).await;
        answer.map_err(|error| match passes(&error) {
            false => explain(self.topologies, &error),
            true => format!(
                "{}; whether the {} was ordered is not known (see with: larder status --topology {})",
                explain(self.topologies, &error),
                self.name,
                self.topologies
            ),
        })
    }

    /// Asks until a topology answers; `gone` is told each time that none does.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &mut self,
        words: &[&str],
        mut gone: impl FnMut(),
    ) -> Result<T, String> {
        let began = Instant::now();
        loop {
            let error = match self.client.request_json(words).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if !passes(&error) || began.elapsed() >= Duration::from_millis(GONE_MS_MAX) {
                return Err(format!(
                    "{}; {}",
                    explain(self.topologies, &error),
                    self.goes_on()
                ));
            }
            gone();
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
            if let Ok(again) = connect(self.topologies, self.secret).await {
                self.client = again;
            }
        }
    }

    /// What becomes of the order when nobody watches it.
    pub(crate) fn goes_on(&self) -> String {
        format!(
            "the {} goes on without this command; watch it with: larder status --topology {}",
            self.name, self.topologies
        )
    }
}

/// The topology went away: it, or another, may answer soon.
fn passes(error: &ControlError) -> bool {
    match error {
        ControlError::Unreachable { .. }
        | ControlError::PortClosed { .. }
        | ControlError::Garbled { .. } => true,
        ControlError::Refused { .. } | ControlError::Version(_) => false,
    }
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
