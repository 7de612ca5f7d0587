//! What an import says of itself, to its own terminal and to `larder import status`.

use serde::{Deserialize, Serialize};

use crate::ledger::Counts;

/// Where an import is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    Connecting,
    /// The data of one moment is being copied.
    FullSync,
    /// What is written at the source is written here.
    Streaming,
    Verifying {
        checked: u64,
        of: u64,
    },
    /// The clients are being handed over.
    CuttingOver,
    CutOver,
    Aborted,
    Failed {
        cause: String,
    },
}

impl State {
    pub fn word(&self) -> &'static str {
        match self {
            State::Connecting => "connecting",
            State::FullSync => "full sync",
            State::Streaming => "streaming",
            State::Verifying { .. } => "verifying",
            State::CuttingOver => "cutting over",
            State::CutOver => "cut over",
            State::Aborted => "aborted",
            State::Failed { .. } => "failed",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    #[default]
    Connecting,
    FullSync,
    Streaming,
}

/// One server that is copied from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceReport {
    pub addr: String,
    pub phase: Phase,
    pub keys_total: u64,
    pub keys_copied: u64,
    /// Of the RDB.
    pub bytes_copied: u64,
    /// Commands of the stream that were carried out.
    pub commands: u64,
    /// How far the stream was read, was taken in whole, and how far the source is.
    pub offset: u64,
    pub applied: u64,
    pub source_offset: u64,
    pub lag_bytes: u64,
    pub lag_seconds: f64,
    /// Keys that wait to be fetched anew.
    pub in_doubt: u64,
    #[serde(flatten)]
    pub counts: Counts,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// What a verification has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    pub checked: u64,
    /// Keys that were not the same, and were fetched anew.
    pub different: u64,
    /// The first few of them.
    pub named: Vec<String>,
    /// Why it did not come to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

/// All of an import.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub from: String,
    #[serde(flatten)]
    pub state: State,
    pub sources: Vec<SourceReport>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    /// What of Larder is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}
