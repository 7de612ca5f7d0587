//! What the commands about fields that expire have in common: `FIELDS numfields field …` behind the options, and times.
//!
//! Texts and the order of checks are Valkey's.

use larder_wire::resp::Request;
use larder_wire::{Refusal, UnixMillis};

use super::args::{TimeUnit, invalid_expire};
use super::number_args::{int, is};
use crate::collection::expiring::FIELD_EXPIRY_MAX;

/// The arguments behind `FIELDS numfields`, and where the options before it end.
pub(super) struct Fields {
    /// Where the options end: the argument `FIELDS`.
    pub(super) at: usize,
    /// The first field.
    pub(super) first: usize,
}

const NOT_THAT_MANY: Refusal = Refusal::fixed(
    "ERR numfields should be greater than 0 and match the provided number of fields",
);

impl Fields {
    /// Finds the word after options of any number, which start at argument `from`.
    pub(super) fn find(request: Request<'_>, from: usize) -> Result<Fields, Refusal> {
        let at = (from..request.len().saturating_sub(1)).find(|at| is(request.arg(*at), "FIELDS"));
        let at = at.ok_or(NOT_THAT_MANY)?;
        Ok(Fields { at, first: at + 2 })
    }

    /// Argument 2 is the word.
    pub(super) fn at_once(request: Request<'_>) -> Result<Fields, Refusal> {
        if is(request.arg(2), "FIELDS") {
            Ok(Fields { at: 2, first: 4 })
        } else {
            Err(Refusal::SYNTAX)
        }
    }

    /// Holds the number against what follows: a field, or a field with its value, is `width` arguments.
    pub(super) fn check(&self, request: Request<'_>, width: usize) -> Result<(), Refusal> {
        self.check_or(request, width, NOT_THAT_MANY)
    }

    pub(super) fn check_or(
        &self,
        request: Request<'_>,
        width: usize,
        refusal: Refusal,
    ) -> Result<(), Refusal> {
        let claimed = usize::try_from(int(request.arg(self.at + 1))?).unwrap_or(0);
        let there = request.len() - self.first;
        let fits = claimed > 0 && claimed.checked_mul(width) == Some(there);
        fits.then_some(()).ok_or(refusal)
    }
}

/// When fields expire, as the argument says it counted from `base`.
pub(super) fn field_expiry(
    text: &[u8],
    unit: TimeUnit,
    base: UnixMillis,
    command: &str,
) -> Result<UnixMillis, Refusal> {
    let time = int(text)?;
    let millis = match unit {
        TimeUnit::Seconds => time.checked_mul(1000),
        TimeUnit::Millis => Some(time),
    };
    millis
        .filter(|millis| *millis >= 0)
        .and_then(|millis| millis.checked_add(base.0))
        .map(UnixMillis)
        .filter(|at| *at <= FIELD_EXPIRY_MAX)
        .ok_or_else(|| invalid_expire(command))
}

/// EX, PX, EXAT and PXAT: the unit, and whether it is counted from now.
pub(super) fn time_option(word: &[u8]) -> Option<(TimeUnit, bool)> {
    if is(word, "EX") {
        Some((TimeUnit::Seconds, true))
    } else if is(word, "PX") {
        Some((TimeUnit::Millis, true))
    } else if is(word, "EXAT") {
        Some((TimeUnit::Seconds, false))
    } else if is(word, "PXAT") {
        Some((TimeUnit::Millis, false))
    } else {
        None
    }
}
