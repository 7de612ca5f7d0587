//! Questions to etcd, over its JSON gateway (`/v3/…` on the client port): one at a time, each with its limit.
//!
//! Keys and values go as base64, numbers of 64 bits as strings
//! (<https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/>). After a failure the next question goes to the next
//! member. It refuses to know what the questions are for, and repeats none: whether one that got no
//! answer was carried out is not known.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::EtcdAddress;

/// Longest answer that is taken in, in bytes: above etcd's own limit of a value.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// gRPC's code for what does not exist: here a lease.
const CODE_NOT_FOUND: i64 = 5;
/// gRPC's code for a token that has run out or was never shown.
const CODE_UNAUTHENTICATED: i64 = 16;

/// No answer, or one that is an error. Whether the question was carried out is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Trouble {
    pub(crate) text: String,
    /// The lease that was named does not exist (any more).
    pub(crate) lease_gone: bool,
}

impl Trouble {
    fn new(text: String) -> Trouble {
        Trouble {
            text,
            lease_gone: false,
        }
    }
}

pub(crate) struct Api {
    agent: ureq::Agent,
    address: EtcdAddress,
    /// The member that is asked.
    at: usize,
    token: Option<String>,
}

#[derive(Deserialize)]
struct Fault {
    /// Beside it stands the same text as `message`.
    #[serde(default)]
    error: Value,
    #[serde(default)]
    code: i64,
}

#[derive(Deserialize)]
struct Authenticated {
    token: String,
}

impl Api {
    pub(crate) fn new(address: EtcdAddress) -> Api {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .build();
        Api {
            agent: config.into(),
            address,
            at: 0,
            token: None,
        }
    }

    /// One question to one member, waited for at most `limit`.
    pub(crate) fn ask<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &Value,
        limit: Duration,
    ) -> Result<T, Trouble> {
        if self.token.is_none() && self.address.user().is_some() {
            self.authenticate(limit)?;
        }
        let (status, answer) = self.post(path, body, limit)?;
        if status == 200 {
            return serde_json::from_str(&answer)
                .map_err(|error| self.trouble(format!("its answer cannot be read: {error}")));
        }
        let fault: Fault = serde_json::from_str(&answer).unwrap_or(Fault {
            error: Value::Null,
            code: 0,
        });
        match fault.code {
            CODE_NOT_FOUND => {
                let mut trouble = self.trouble("it does not know the lease".to_string());
                trouble.lease_gone = true;
                Err(trouble)
            }
            code => {
                if code == CODE_UNAUTHENTICATED {
                    self.token = None;
                }
                let trouble = self.trouble(match fault.error.as_str() {
                    Some(text) => text.to_string(),
                    None => format!("HTTP status {status} (is it etcd 3.4 or later?)"),
                });
                self.turn();
                Err(trouble)
            }
        }
    }

    fn authenticate(&mut self, limit: Duration) -> Result<(), Trouble> {
        let Some((name, password)) = self.address.user() else {
            return Ok(());
        };
        let body = json!({ "name": name, "password": password });
        let (status, answer) = self.post("/v3/auth/authenticate", &body, limit)?;
        match serde_json::from_str::<Authenticated>(&answer) {
            Ok(Authenticated { token }) if status == 200 => {
                self.token = Some(token);
                Ok(())
            }
            Ok(_) | Err(_) => Err(self.trouble("it does not accept the user of --store".into())),
        }
    }

    fn post(
        &mut self,
        path: &str,
        body: &Value,
        limit: Duration,
    ) -> Result<(u16, String), Trouble> {
        let url = format!("http://{}{path}", self.address.endpoints()[self.at]);
        let mut request = self
            .agent
            .post(&url)
            .content_type("application/json")
            .config()
            .timeout_global(Some(limit))
            .build();
        if let Some(token) = &self.token {
            request = request.header("Authorization", token);
        }
        let answered = request.send(body.to_string()).and_then(|mut answer| {
            let text = answer
                .body_mut()
                .with_config()
                .limit(ANSWER_BYTES_MAX)
                .read_to_string()?;
            Ok((answer.status().as_u16(), text))
        });
        answered.map_err(|error| {
            let trouble = self.trouble(error.to_string());
            self.turn();
            trouble
        })
    }

    fn trouble(&self, cause: String) -> Trouble {
        Trouble::new(format!(
            "etcd at {}: {cause}",
            self.address.endpoints()[self.at]
        ))
    }

    fn turn(&mut self) {
        self.at = (self.at + 1) % self.address.endpoints().len();
    }
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A number of 64 bits, which the gateway writes as a string.
pub(crate) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(serde::de::Error::custom)
}

pub(crate) fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}
