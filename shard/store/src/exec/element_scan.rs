//! HSCAN, SSCAN, ZSCAN: what they share.

use larder_wire::Refusal;
use larder_wire::glob;
use larder_wire::resp::{ReplyWriter, Request};

use super::element::put;
use super::number_args::{int, is};
use crate::collection::Item;

/// Elements shown at a time when the client does not say.
const COUNT_DEFAULT: usize = 10;

const ONLY_HSCAN: Refusal = Refusal::fixed("ERR NOVALUES option can only be used in HSCAN");
const ONLY_ZSCAN: Refusal = Refusal::fixed("ERR NOSCORES option can only be used in ZSCAN");

/// What a scan walks, as far as its options differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walked {
    Hash,
    Set,
    Zset,
}

/// MATCH and COUNT, and NOVALUES or NOSCORES.
pub(super) struct ScanOptions<'a> {
    pattern: Option<&'a [u8]>,
    pub(super) count: usize,
    /// Values or scores are left out.
    pub(super) only_names: bool,
}

/// The cursor in argument 2.
pub(super) fn cursor(request: Request<'_>) -> Result<u64, Refusal> {
    std::str::from_utf8(request.arg(2))
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Refusal::INVALID_CURSOR)
}

impl<'a> ScanOptions<'a> {
    /// From argument 3 on.
    pub(super) fn parse(request: Request<'a>, walked: Walked) -> Result<ScanOptions<'a>, Refusal> {
        let mut options = ScanOptions {
            pattern: None,
            count: COUNT_DEFAULT,
            only_names: false,
        };
        let mut args = request.args_from(3);
        while let Some(option) = args.next() {
            if is(option, "NOVALUES") {
                options.leave_out(walked == Walked::Hash, ONLY_HSCAN)?;
                continue;
            }
            if is(option, "NOSCORES") {
                options.leave_out(walked == Walked::Zset, ONLY_ZSCAN)?;
                continue;
            }
            let value = args.next().ok_or(Refusal::SYNTAX)?;
            if is(option, "COUNT") {
                options.count = usize::try_from(int(value)?).unwrap_or(0);
                if options.count == 0 {
                    return Err(Refusal::SYNTAX);
                }
            } else if is(option, "MATCH") {
                options.pattern = (value != b"*").then_some(value);
            } else {
                return Err(Refusal::SYNTAX);
            }
        }
        Ok(options)
    }

    fn leave_out(&mut self, has_any: bool, otherwise: Refusal) -> Result<(), Refusal> {
        self.only_names = true;
        if has_any { Ok(()) } else { Err(otherwise) }
    }

    pub(super) fn shows(&self, element: Item<'_>) -> bool {
        self.pattern
            .is_none_or(|pattern| glob::matches(pattern, element.text(&mut [0; 20])))
    }
}

/// The answer of a scan: where to go on, and what was found.
pub(super) fn reply_found(reply: &mut ReplyWriter<'_>, next: u64, found: &[Item<'_>]) {
    reply_next(reply, next);
    reply.array(found.len());
    found.iter().for_each(|item| put(reply, *item));
}

/// The first half of a scan's answer; the array of what was found follows.
pub(super) fn reply_next(reply: &mut ReplyWriter<'_>, next: u64) {
    reply.array(2);
    reply.bulk(next.to_string().as_bytes());
}
