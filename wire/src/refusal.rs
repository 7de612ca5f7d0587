//! Refusals: what a client is told when its command is not carried out. One table of texts.
//!
//! A refusal is the client's business only. Peer faults and our own mistakes have other types.

use std::borrow::Cow;

/// An error reply without its leading `-` and trailing CRLF, e.g. `ERR syntax error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(Cow<'static, str>);

impl Refusal {
    pub const fn fixed(text: &'static str) -> Refusal {
        Refusal(Cow::Borrowed(text))
    }

    /// `text` starts with the error's code (`ERR`, `WRONGTYPE`, …). Line breaks become spaces.
    pub fn new(text: impl Into<String>) -> Refusal {
        let text: String = text.into();
        let clean = if text.contains(['\r', '\n']) {
            text.replace(['\r', '\n'], " ")
        } else {
            text
        };
        Refusal(Cow::Owned(clean))
    }

    pub fn text(&self) -> &str {
        &self.0
    }

    /// The first word: `ERR`, `MOVED`, …
    pub fn code(&self) -> &str {
        self.0.split(' ').next().unwrap_or("")
    }
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        impl Refusal {
            $($(#[$doc])* pub const $name: Refusal = Refusal::fixed($text);)*
        }
    };
}

refusals! {
    WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value";
    SYNTAX = "ERR syntax error";
    NOT_AN_INTEGER = "ERR value is not an integer or out of range";
    NOT_A_FLOAT = "ERR value is not a valid float";
    NO_SUCH_KEY = "ERR no such key";
    OUT_OF_RANGE = "ERR index out of range";
    INCREMENT_OVERFLOW = "ERR increment or decrement would overflow";
    INCREMENT_NAN_OR_INF = "ERR increment would produce NaN or Infinity";
    TOO_LONG = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    BUSY_KEY = "BUSYKEY Target key name already exists.";
    INVALID_CURSOR = "ERR invalid cursor";
    OUT_OF_MEMORY = "OOM command not allowed when used memory > 'maxmemory'.";
    CROSS_SLOT = "CROSSSLOT Keys in request don't hash to the same slot";
    TOO_FEW_REPLICAS = "NOREPLICAS Not enough good replicas to write.";
    CANNOT_SAVE = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may modify the data set are disabled, because this instance is configured to report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error.";
    LOADING = "LOADING Redis is loading the dataset in memory";
    CLUSTER_DOWN = "CLUSTERDOWN Hash slot not served";
    TRY_AGAIN = "TRYAGAIN Multiple keys request during rehashing of slot";
    NO_AUTH = "NOAUTH Authentication required.";
    WRONG_PASS = "WRONGPASS invalid username-password pair or user is disabled.";
    READ_ONLY = "READONLY You can't write against a read only replica.";
    EXEC_ABORT = "EXECABORT Transaction discarded because of previous errors.";
    NESTED_MULTI = "ERR MULTI calls can not be nested";
    WATCH_IN_MULTI = "ERR WATCH inside MULTI is not allowed";
    EXEC_WITHOUT_MULTI = "ERR EXEC without MULTI";
    DISCARD_WITHOUT_MULTI = "ERR DISCARD without MULTI";
    /// `LARDER HELLO` with another secret than the cluster's.
    WRONG_SECRET = "WRONGPASS this is not the cluster's secret";
    /// A control command from a connection that has not shown the cluster's secret.
    CONTROL_REFUSED = "NOAUTH control commands need the cluster's secret (AUTH larder <secret>)";
}

impl Refusal {
    /// The command arrived with too few or too many arguments. `name` in lower case.
    pub fn wrong_arity(name: &str) -> Refusal {
        Refusal::new(format!(
            "ERR wrong number of arguments for '{name}' command"
        ))
    }

    /// The slot belongs to the node at `addr`.
    pub fn moved(slot: crate::Slot, addr: &str) -> Refusal {
        Refusal::new(format!("MOVED {slot} {addr}"))
    }
}
