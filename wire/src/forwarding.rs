//! Forwarding: while keys are copied in from an old server, all proxies pass their clients' requests on to it; at the cutover all turn to
//! Larder at one moment.
//!
//! The topology records it, so that a proxy that starts, or that heard nothing for a while, knows where it stands:
//!
//! ```text
//! importer → topology   FORWARD BEGIN <id> <url>  proxies forward from their next sign of life on
//! anybody  → topology   FORWARD GET               JSON of a Forwarding, or null
//! importer → topology   FORWARD PREPARE <attempt> a cutover begins; an earlier attempt is void
//! importer → proxies    FORWARD HOLD <attempt> <ms>   +OK once nothing is under way to the old server and everything new waits
//! importer → topology   FORWARD TURN <attempt>    the decision: from here on the cutover has happened
//! importer → proxies    FORWARD TURN <attempt>    what waits goes to Larder
//! anybody  → topology   FORWARD VOID <attempt>    unless it was turned before: this attempt can no longer be
//! importer → proxies    FORWARD RELEASE <attempt> what waits goes to the old server
//! importer → topology   FORWARD END               nothing is forwarded any more
//! ```
//!
//! A proxy whose hold is over does not guess: it says VOID, and the answer tells it where to turn. So some proxies never write here while
//! others write there.

use serde::{Deserialize, Serialize};

/// How a URL begins whose login is sealed under the cluster's secret.
pub const SEALED_SCHEME: &str = "redis+sealed://";

/// What the topology has recorded.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarding {
    pub id: u64,
    /// The old server's URL; until it is turned with its login, which is sealed.
    pub from: String,
    /// The cutover has happened: Larder serves.
    #[serde(default)]
    pub turned: bool,
    /// The cutover under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
}

impl std::fmt::Debug for Forwarding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarding")
            .field("id", &self.id)
            .field("turned", &self.turned)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// What is asked of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardVerb {
    Get,
    Begin { id: u64, from: String },
    Prepare(u64),
    Void(u64),
    Turn(u64),
    End,
}

/// The record after the verb; an error is one line for whoever asked.
pub fn step(record: Option<Forwarding>, verb: ForwardVerb) -> Result<Option<Forwarding>, String> {
    match (record, verb) {
        (record, ForwardVerb::Get) => Ok(record),
        (Some(known), ForwardVerb::Begin { from, .. }) if !known.turned && known.from == from => {
            Ok(Some(known))
        }
        (Some(known), ForwardVerb::Begin { .. }) if !known.turned => {
            Err("another import is under way (end it first: larder import abort)".to_string())
        }
        (Some(_) | None, ForwardVerb::Begin { id, from }) => Ok(Some(Forwarding {
            id,
            from,
            turned: false,
            attempt: None,
        })),
        (Some(known), ForwardVerb::Prepare(attempt)) if !known.turned => Ok(Some(Forwarding {
            attempt: Some(attempt),
            ..known
        })),
        (Some(known), ForwardVerb::Turn(attempt)) if known.attempt == Some(attempt) => {
            Ok(Some(Forwarding {
                turned: true,
                attempt: None,
                // Nobody goes to the old server any more.
                from: without_login(&known.from),
                ..known
            }))
        }
        (Some(known), ForwardVerb::Void(attempt)) if known.attempt == Some(attempt) => {
            Ok(Some(Forwarding {
                attempt: None,
                ..known
            }))
        }
        (record, ForwardVerb::Void(_)) => Ok(record),
        (Some(_), ForwardVerb::End) | (None, ForwardVerb::End) => Ok(None),
        (Some(_), ForwardVerb::Prepare(_)) | (None, ForwardVerb::Prepare(_)) => {
            Err("nothing is forwarded".to_string())
        }
        (Some(_), ForwardVerb::Turn(_)) | (None, ForwardVerb::Turn(_)) => {
            Err("this cutover is void: a proxy has not waited for it".to_string())
        }
    }
}

/// `redis+sealed://login@host` becomes `redis://host`.
fn without_login(url: &str) -> String {
    let url = url.replacen(SEALED_SCHEME, "redis://", 1);
    let url = url.as_str();
    let (scheme, rest) = match url.find("://") {
        Some(at) => url.split_at(at + "://".len()),
        None => ("", url),
    };
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    format!("{scheme}{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(verbs: impl IntoIterator<Item = ForwardVerb>) -> Result<Option<Forwarding>, String> {
        verbs.into_iter().try_fold(None, step)
    }

    fn begin(from: &str) -> ForwardVerb {
        let from = from.to_string();
        ForwardVerb::Begin { id: 1, from }
    }

    #[test]
    fn a_cutover_is_turned_once_and_what_was_voided_never_is() {
        use ForwardVerb::{Prepare, Turn, Void};
        let turned = after([begin("a"), Prepare(7), Turn(7)]).unwrap().unwrap();
        assert!(turned.turned);
        assert!(after([begin("a"), Prepare(7), Void(7), Turn(7)]).is_err());
        assert!(after([begin("a"), Prepare(7), Prepare(8), Turn(7)]).is_err());
        assert!(after([begin("a"), Prepare(7), Turn(7), Turn(7)]).is_err());
        let late = after([begin("a"), Prepare(7), Turn(7), Void(7)])
            .unwrap()
            .unwrap();
        assert!(late.turned, "too late");
        assert!(after([begin("a"), Turn(7)]).is_err());
        assert!(after([Prepare(7)]).is_err());
    }

    #[test]
    fn the_old_server_s_password_is_not_kept_beyond_the_cutover() {
        use ForwardVerb::{Prepare, Turn};
        for (from, kept) in [
            ("redis://ann:p@ss@old:6379", "redis://old:6379"),
            (":pass@old", "old"),
            ("redis+sealed://c2VhbGVk@old:6379", "redis://old:6379"),
            ("redis://[::1]:6379", "redis://[::1]:6379"),
        ] {
            let before = after([begin(from), Prepare(7)]).unwrap().unwrap();
            assert_eq!(before.from, from, "proxies forward with it");
            let turned = after([begin(from), Prepare(7), Turn(7)]).unwrap().unwrap();
            assert_eq!(turned.from, kept);
        }
    }

    #[test]
    fn one_import_at_a_time_and_another_after_its_end() {
        assert!(after([begin("a"), begin("b")]).is_err());
        assert!(after([begin("a"), begin("a")]).unwrap().is_some());
        assert_eq!(after([begin("a"), ForwardVerb::End]), Ok(None));
        let again = [
            begin("a"),
            ForwardVerb::Prepare(7),
            ForwardVerb::Turn(7),
            begin("b"),
        ];
        assert_eq!(after(again).unwrap().unwrap().from, "b");
    }
}
