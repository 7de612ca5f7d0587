//! The words that the rows' key column is written in: short names for key specifications and for the
//! sets of key flags that occur.

use super::spec::{BeginSearch, FindKeys, KeyFlags, KeySpec};

pub(super) const RO: KeyFlags = KeyFlags::RO;
pub(super) const RO_ACCESS: KeyFlags = RO.with(KeyFlags::ACCESS);
pub(super) const RW_ACCESS: KeyFlags = KeyFlags::RW.with(KeyFlags::ACCESS);
pub(super) const RW_UPDATE: KeyFlags = KeyFlags::RW.with(KeyFlags::UPDATE);
pub(super) const RW_INSERT: KeyFlags = KeyFlags::RW.with(KeyFlags::INSERT);
pub(super) const RW_DELETE: KeyFlags = KeyFlags::RW.with(KeyFlags::DELETE);
pub(super) const RW_ACCESS_UPDATE: KeyFlags = RW_ACCESS.with(KeyFlags::UPDATE);
pub(super) const RW_ACCESS_INSERT: KeyFlags = RW_ACCESS.with(KeyFlags::INSERT);
pub(super) const RW_ACCESS_DELETE: KeyFlags = RW_ACCESS.with(KeyFlags::DELETE);
pub(super) const RW_ACCESS_UPDATE_VARIABLE_FLAGS: KeyFlags =
    RW_ACCESS_UPDATE.with(KeyFlags::VARIABLE_FLAGS);
pub(super) const RW_ACCESS_DELETE_INCOMPLETE: KeyFlags =
    RW_ACCESS_DELETE.with(KeyFlags::INCOMPLETE);
pub(super) const OW_UPDATE: KeyFlags = KeyFlags::OW.with(KeyFlags::UPDATE);
pub(super) const OW_INSERT: KeyFlags = KeyFlags::OW.with(KeyFlags::INSERT);
pub(super) const RM_DELETE: KeyFlags = KeyFlags::RM.with(KeyFlags::DELETE);
pub(super) const NOT_KEY: KeyFlags = KeyFlags::NOT_KEY;

/// Argument `at` is a key.
pub(super) const fn one(at: u16, flags: KeyFlags) -> KeySpec {
    range(at, 0, 1, flags)
}

/// Every `step`-th argument is a key, from `at` to `last` (counted from `at`, or from the end when negative).
pub(super) const fn range(at: u16, last: i16, step: u16, flags: KeyFlags) -> KeySpec {
    KeySpec {
        flags,
        begin: BeginSearch::Index(at),
        find: FindKeys::Range {
            last,
            step,
            limit: 0,
        },
    }
}

/// Argument `at` says how many keys follow it.
pub(super) const fn counted(at: u16, flags: KeyFlags) -> KeySpec {
    KeySpec {
        flags,
        begin: BeginSearch::Index(at),
        find: FindKeys::KeyNum {
            at: 0,
            first: 1,
            step: 1,
        },
    }
}

/// Argument `at` says how many keys follow it, each with a value behind it.
pub(super) const fn counted_pairs(at: u16, flags: KeyFlags) -> KeySpec {
    KeySpec {
        flags,
        begin: BeginSearch::Index(at),
        find: FindKeys::KeyNum {
            at: 0,
            first: 1,
            step: 2,
        },
    }
}

/// Keys follow this word.
pub(super) const fn after(
    word: &'static str,
    from: i16,
    last: i16,
    limit: u16,
    flags: KeyFlags,
) -> KeySpec {
    KeySpec {
        flags,
        begin: BeginSearch::Keyword { word, from },
        find: FindKeys::Range {
            last,
            step: 1,
            limit,
        },
    }
}

/// Keys that no rule finds.
pub(super) const fn hidden(flags: KeyFlags) -> KeySpec {
    KeySpec {
        flags,
        begin: BeginSearch::Unknown,
        find: FindKeys::Unknown,
    }
}
