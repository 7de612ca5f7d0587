//! Where a cluster's topologies listen, and how the one that leads is found among them.
//!
//! All are dialled at once: the first that leads is taken, so that one whose host has vanished holds nobody up.
//! Who leads is the topologies' own affair; a connection to one that has stopped leading answers with errors,
//! and its holder comes here again.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use larder_wire::control::Peer;
use tokio::task::JoinSet;

use crate::{ControlClient, ControlError, Secret};

/// Topologies of one cluster at most.
pub const TOPOLOGIES_MAX: usize = 16;

/// One or more addresses (`host:port`), written `a:7000,b:7000`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topologies(Vec<String>);

impl Topologies {
    pub fn one(addr: impl Into<String>) -> Topologies {
        Topologies(vec![addr.into()])
    }

    /// `host:port` each, at least one.
    pub fn addrs(&self) -> &[String] {
        &self.0
    }

    /// Connects as `me` to the one that leads, over one round of tries.
    ///
    /// Fails with what another try may mend, when there is such a cause at any of them; with a wrong secret or
    /// version only where nothing else stands in the way.
    pub async fn connect(&self, secret: &Secret, me: Peer) -> Result<ControlClient, ControlError> {
        let mut round = Round {
            dials: JoinSet::new(),
            dialled: Vec::new(),
            error: None,
        };
        for addr in &self.0 {
            round.dial(addr, secret, me);
        }
        while let Some(dialled) = round.dials.join_next().await {
            let client = match dialled {
                Ok(Ok(client)) => client,
                Ok(Err(error)) => {
                    round.failed(error);
                    continue;
                }
                // Aborted, as the runtime is ending.
                Err(_) => continue,
            };
            let Some(standby) = client.welcome().standby.clone() else {
                return Ok(client);
            };
            // A leader that nobody was told of: an address has changed, or the list is short.
            if let Some(leader) = &standby.leader {
                round.dial(leader, secret, me);
            }
            round.failed(ControlError::Unreachable {
                addr: client.addr().to_string(),
                cause: match standby.leader {
                    Some(leader) => format!("it stands by, {leader} leads"),
                    None => "it stands by, and no topology leads at the moment".to_string(),
                },
            });
        }
        Err(round.error.unwrap_or_else(|| ControlError::Unreachable {
            addr: self.to_string(),
            cause: "this process is ending".to_string(),
        }))
    }
}

/// One dial to each address.
struct Round {
    dials: JoinSet<Result<ControlClient, ControlError>>,
    dialled: Vec<String>,
    error: Option<ControlError>,
}

impl Round {
    fn dial(&mut self, addr: &str, secret: &Secret, me: Peer) {
        if self.dialled.iter().any(|dialled| dialled == addr) || self.dialled.len() > TOPOLOGIES_MAX
        {
            return;
        }
        self.dialled.push(addr.to_string());
        let (addr, secret) = (addr.to_string(), secret.clone());
        self.dials
            .spawn(async move { ControlClient::connect(&addr, &secret, me).await });
    }

    fn failed(&mut self, error: ControlError) {
        let passes = |error: &ControlError| match error {
            ControlError::Unreachable { .. }
            | ControlError::PortClosed { .. }
            | ControlError::Garbled { .. } => true,
            ControlError::Refused { .. } | ControlError::Version(_) => false,
        };
        if !self.error.as_ref().is_some_and(passes) {
            self.error = Some(error);
        }
    }
}

impl From<SocketAddr> for Topologies {
    fn from(addr: SocketAddr) -> Topologies {
        Topologies::one(addr.to_string())
    }
}

impl FromStr for Topologies {
    type Err = String;

    fn from_str(text: &str) -> Result<Topologies, String> {
        let addrs: Vec<String> = text
            .split(',')
            .map(|addr| addr.trim().to_string())
            .collect();
        if addrs.len() > TOPOLOGIES_MAX {
            return Err(format!("more than {TOPOLOGIES_MAX} topologies"));
        }
        for addr in &addrs {
            let port = addr
                .rsplit_once(':')
                .filter(|(host, _)| !host.is_empty())
                .and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none() {
                return Err(format!(
                    "'{addr}' is no address (write host:port, several as a:7000,b:7000)"
                ));
            }
        }
        Ok(Topologies(addrs))
    }
}

impl fmt::Display for Topologies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn secret() -> Secret {
        Secret::new(b"s").unwrap()
    }

    /// A topology that answers every opening with `reply`.
    async fn topology(reply: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                if stream.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {
                    stream.write_all(reply.as_bytes()).await.unwrap();
                }
            }
        });
        addr
    }

    fn welcome(rest: &str) -> String {
        let json = format!(r#"{{"version":1,"server":"topology","release":"0.1.0"{rest}}}"#);
        format!("${}\r\n{json}\r\n", json.len())
    }

    fn standing_by(leader: &str) -> String {
        welcome(&format!(r#","standby":{{"leader":"{leader}"}}"#))
    }

    async fn found(addrs: &[&str]) -> Result<String, ControlError> {
        let all: Topologies = addrs.join(",").parse().unwrap();
        let client = all.connect(&secret(), Peer::Node).await?;
        Ok(client.addr().to_string())
    }

    #[tokio::test]
    async fn the_leader_is_found_wherever_it_stands_in_the_list_and_beyond() {
        let leader = topology(welcome("")).await;
        let standby = topology(standing_by(&leader)).await;
        // Nothing listens at port 1.
        let gone = "127.0.0.1:1";
        for addrs in [
            vec![leader.as_str()],
            vec![gone, &standby, &leader],
            vec![&leader, &standby, gone],
            vec![gone, &standby],
        ] {
            assert_eq!(found(&addrs).await, Ok(leader.clone()), "{addrs:?}");
        }
    }

    #[tokio::test]
    async fn while_none_leads_it_is_said_so_and_a_wrong_secret_is_final_only_where_all_refuse_it() {
        let standby = topology(welcome(r#","standby":{}"#)).await;
        let strict = topology("-WRONGPASS no\r\n".to_string()).await;
        let error = found(&[&strict, &standby]).await.unwrap_err();
        assert!(error.to_string().contains("no topology leads"), "{error}");
        let error = found(&[&strict]).await.unwrap_err();
        assert!(error.is_refusal("WRONGPASS"), "{error}");
        // Two that each believe that the other leads end the round.
        let lost = topology(standing_by("127.0.0.1:1")).await;
        let error = found(&[&lost]).await.unwrap_err();
        assert!(matches!(error, ControlError::Unreachable { .. }), "{error}");
    }

    #[test]
    fn addresses_are_written_as_a_list() {
        let three: Topologies = "a:1, b.c:2,[::1]:3".parse().unwrap();
        assert_eq!(three.to_string(), "a:1,b.c:2,[::1]:3");
        for wrong in ["", "a", "a:1,", ":7000", "a:x", "a:1,,b:2"] {
            assert!(wrong.parse::<Topologies>().is_err(), "{wrong}");
        }
    }
}
