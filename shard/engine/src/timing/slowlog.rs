//! The slow log: the latest commands that took longer than a limit, with what they asked.

use std::collections::VecDeque;

use larder_wire::command::CommandId;
use larder_wire::resp::Request;

use crate::acl::is_secret;
use crate::client::Client;

/// Most arguments and bytes of an argument that an entry keeps, as Redis does.
const ARGS_MAX: usize = 32;
const ARG_BYTES_MAX: usize = 128;

/// One slow command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowEntry {
    pub id: u64,
    /// Seconds since 1970.
    pub at: i64,
    pub took_us: u64,
    pub args: Vec<Vec<u8>>,
    pub addr: String,
    pub name: Vec<u8>,
}

/// Newest first.
#[derive(Debug, Default)]
pub struct SlowLog {
    /// Commands that took at least so long are kept; `None`: none are.
    pub slower_than_us: Option<u64>,
    entries: VecDeque<SlowEntry>,
    len_max: usize,
    next_id: u64,
}

impl SlowEntry {
    pub(super) fn new(
        command: CommandId,
        request: &Request<'_>,
        took_us: u64,
        at: i64,
        client: &Client,
    ) -> SlowEntry {
        SlowEntry {
            id: 0,
            at,
            took_us,
            args: kept_args(command, request),
            addr: client.addr.clone(),
            name: client.name.borrow().clone(),
        }
    }
}

fn kept_args(command: CommandId, request: &Request<'_>) -> Vec<Vec<u8>> {
    let len = request.len();
    let kept = if len > ARGS_MAX { ARGS_MAX - 1 } else { len };
    let mut args: Vec<Vec<u8>> = (0..kept)
        .map(|index| {
            let arg = request.arg(index);
            if is_secret(command, request, index) {
                b"(redacted)".to_vec()
            } else if arg.len() > ARG_BYTES_MAX {
                let more = arg.len() - ARG_BYTES_MAX;
                let more = format!("... ({more} more bytes)");
                [&arg[..ARG_BYTES_MAX], more.as_bytes()].concat()
            } else {
                arg.to_vec()
            }
        })
        .collect();
    if kept < len {
        args.push(format!("... ({} more arguments)", len - kept).into_bytes());
    }
    args
}

impl SlowLog {
    pub(super) fn add(&mut self, mut entry: SlowEntry) {
        entry.id = self.next_id;
        self.next_id += 1;
        self.entries.push_front(entry);
        self.entries.truncate(self.len_max);
    }

    pub(super) fn limit(&mut self, len_max: usize) {
        // Redis shortens a log when the next entry is added.
        self.len_max = len_max;
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &SlowEntry> {
        self.entries.iter()
    }

    pub fn reset(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use larder_wire::resp::OwnedRequest;

    use super::*;

    #[test]
    fn long_requests_and_arguments_are_cut_as_redis_cuts_them() {
        let many: Vec<String> = (0..40).map(|index| index.to_string()).collect();
        let args = kept_args(CommandId::Sadd, &OwnedRequest::from_args(&many).view());
        assert_eq!(args.len(), ARGS_MAX);
        assert_eq!(args[31], b"... (9 more arguments)");
        let long = ["SET".to_string(), "x".repeat(130)];
        let args = kept_args(CommandId::Set, &OwnedRequest::from_args(&long).view());
        assert_eq!(&args[1][ARG_BYTES_MAX..], b"... (2 more bytes)");
    }

    #[test]
    fn secrets_are_not_kept() {
        let request = OwnedRequest::from_args(["AUTH", "hunter2"]);
        let args = kept_args(CommandId::Auth, &request.view());
        assert_eq!(args, [b"AUTH".to_vec(), b"(redacted)".to_vec()]);
    }
}
