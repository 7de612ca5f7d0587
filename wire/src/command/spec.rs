//! What the columns of the command table mean.
//!
//! Names and meanings are those of Redis' `COMMAND` reply
//! (<https://redis.io/docs/latest/commands/command/>, <https://redis.io/docs/latest/develop/reference/key-specs/>).

use std::fmt;

macro_rules! bit_words {
    ($(#[$doc:meta])* $name:ident { $($flag:ident $bit:literal $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
        pub struct $name(u32);

        impl $name {
            pub const NONE: $name = $name(0);
            $(pub const $flag: $name = $name(1 << $bit);)*

            /// Every flag with the word that Redis' `COMMAND` reply has for it.
            pub const WORDS: &'static [($name, &'static str)] = &[$(($name::$flag, $word),)*];

            pub const fn with(self, other: $name) -> $name {
                $name(self.0 | other.0)
            }

            pub const fn has(self, other: $name) -> bool {
                self.0 & other.0 == other.0
            }

            pub const fn any_of(self, others: $name) -> bool {
                self.0 & others.0 != 0
            }

            /// The words of the flags that are set, in the order of the table.
            pub fn words(self) -> impl Iterator<Item = &'static str> {
                Self::WORDS.iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, word)| *word)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.words()).finish()
            }
        }
    };
}

bit_words! {
    /// Command flags.
    Flags {
        WRITE 0 "write",
        READONLY 1 "readonly",
        DENYOOM 2 "denyoom",
        ADMIN 3 "admin",
        PUBSUB 4 "pubsub",
        NOSCRIPT 5 "noscript",
        BLOCKING 6 "blocking",
        LOADING 7 "loading",
        STALE 8 "stale",
        SKIP_MONITOR 9 "skip_monitor",
        SKIP_SLOWLOG 10 "skip_slowlog",
        ASKING 11 "asking",
        FAST 12 "fast",
        NO_AUTH 13 "no_auth",
        MAY_REPLICATE 14 "may_replicate",
        NO_MANDATORY_KEYS 15 "no_mandatory_keys",
        PROTECTED 16 "protected",
        NO_ASYNC_LOADING 17 "no_async_loading",
        NO_MULTI 18 "no_multi",
        ALLOW_BUSY 19 "allow_busy",
        MOVABLEKEYS 20 "movablekeys",
    }
}

bit_words! {
    /// ACL categories, written `@read`.
    Categories {
        KEYSPACE 0 "@keyspace",
        READ 1 "@read",
        WRITE 2 "@write",
        SET 3 "@set",
        SORTEDSET 4 "@sortedset",
        LIST 5 "@list",
        HASH 6 "@hash",
        STRING 7 "@string",
        BITMAP 8 "@bitmap",
        HYPERLOGLOG 9 "@hyperloglog",
        GEO 10 "@geo",
        STREAM 11 "@stream",
        PUBSUB 12 "@pubsub",
        ADMIN 13 "@admin",
        FAST 14 "@fast",
        SLOW 15 "@slow",
        BLOCKING 16 "@blocking",
        DANGEROUS 17 "@dangerous",
        CONNECTION 18 "@connection",
        TRANSACTION 19 "@transaction",
        SCRIPTING 20 "@scripting",
    }
}

bit_words! {
    /// What a command does with the keys of one key specification.
    KeyFlags {
        RO 0 "RO",
        RW 1 "RW",
        OW 2 "OW",
        RM 3 "RM",
        ACCESS 4 "access",
        UPDATE 5 "update",
        INSERT 6 "insert",
        DELETE 7 "delete",
        NOT_KEY 8 "not_key",
        INCOMPLETE 9 "incomplete",
        VARIABLE_FLAGS 10 "variable_flags",
    }
}

/// Where the search for keys begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeginSearch {
    /// At this argument; the command's name is 0.
    Index(u16),
    /// After this word, looked for from argument `from` on (from the end when negative).
    Keyword { word: &'static str, from: i16 },
    /// Only the command itself knows.
    Unknown,
}

/// Which arguments from there on are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindKeys {
    /// Up to `last` arguments after the first (from the end when negative: -1 is the last argument), every `step`-th;
    /// with `last` -1 and `limit` of 2 or more only the first `1/limit` of what is left.
    Range { last: i16, step: u16, limit: u16 },
    /// The argument `at` places on holds the number of keys, of which the first is `first` places on.
    KeyNum { at: u16, first: u16, step: u16 },
    /// Only the command itself knows.
    Unknown,
}

/// One group of keys of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    pub flags: KeyFlags,
    pub begin: BeginSearch,
    pub find: FindKeys,
}

/// The keys that lie in one plain range: `first` 0 when there is none, `last` from the end when negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlainKeys {
    pub first: u16,
    pub last: i16,
    pub step: u16,
}

/// Where the proxy sends a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the node that owns the slot of its keys; CROSSSLOT when they have more than one; to some primary
    /// when this request has none.
    Key,
    /// Split by node, each node's share one request, gathered in order.
    Split(Merge),
    /// To every primary.
    EveryNode(Merge),
    /// To one primary after the other, by cursor.
    Scan,
    /// To some primary, another one when it has nothing.
    AnyNode,
    /// The proxy answers by itself.
    Local,
    /// To the topology.
    Topology,
    /// Not to be had through the proxy.
    Refused,
}

/// How the replies of several nodes become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// One element a key, in the order of the request's keys.
    Ordered,
    /// The sum of integers.
    Sum,
    /// One of the replies when none is an error (they are all `OK`, or all the same), else the first error.
    AllOk,
    /// All elements of all arrays.
    Concat,
    /// All elements of all arrays, each once.
    Union,
    /// Names, each with the sum of its counts.
    Counts,
    /// The least integer, or of arrays the least at each place.
    Least,
}

/// Who executes a command on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// A function of the store's `exec/`.
    Store,
    /// A function of the engine: connection, server, cluster and transaction commands.
    Engine,
    /// A container of subcommands, which have rows of their own.
    Container,
    /// Nothing yet: answered as an unknown command, listed by `larder commands --missing`.
    Nobody,
}

/// All facts of one command or subcommand.
#[derive(Clone, Copy, Debug)]
pub struct CommandSpec {
    /// In lower case; a subcommand with its container, `config|get`.
    pub name: &'static str,
    /// Arguments with the name; at least so many when negative.
    pub arity: i16,
    pub flags: Flags,
    pub categories: Categories,
    pub keys: &'static [KeySpec],
    /// First key, last key and step where a plain range tells them, as the `COMMAND` reply has them.
    pub plain_keys: PlainKeys,
    /// The command has exactly one key, whatever its arguments, at `plain_keys.first`.
    pub one_key: bool,
    pub route: Route,
    pub home: Home,
}

impl CommandSpec {
    /// Derives what follows from a row's columns: categories from flags, `movablekeys` and the plain range from
    /// keys, as Redis does when it starts.
    pub(super) const fn from_row(
        name: &'static str,
        arity: i16,
        flags: Flags,
        categories: Categories,
        keys: &'static [KeySpec],
        route: Route,
        home: Home,
    ) -> CommandSpec {
        let (plain_keys, movable) = plain_keys(keys);
        let flags = if movable {
            flags.with(Flags::MOVABLEKEYS)
        } else {
            flags
        };
        CommandSpec {
            name,
            arity,
            flags,
            categories: implied_categories(flags, categories),
            keys,
            plain_keys,
            one_key: one_key(keys),
            route,
            home,
        }
    }

    /// The name that a client sends: of a subcommand `get` for `config|get`.
    pub fn last_name(&self) -> &'static str {
        self.name.rsplit('|').next().unwrap_or(self.name)
    }

    /// True when a request of `len` arguments, the name included, has enough and not too many.
    pub const fn takes(&self, len: usize) -> bool {
        if self.arity >= 0 {
            len == self.arity as usize
        } else {
            len >= self.arity.unsigned_abs() as usize
        }
    }

    pub const fn is_write(&self) -> bool {
        self.flags.has(Flags::WRITE)
    }
}

const fn implied_categories(flags: Flags, listed: Categories) -> Categories {
    let mut categories = listed;
    if flags.has(Flags::WRITE) {
        categories = categories.with(Categories::WRITE);
    }
    if flags.has(Flags::READONLY) && !listed.has(Categories::SCRIPTING) {
        categories = categories.with(Categories::READ);
    }
    if flags.has(Flags::ADMIN) {
        categories = categories
            .with(Categories::ADMIN)
            .with(Categories::DANGEROUS);
    }
    if flags.has(Flags::PUBSUB) {
        categories = categories.with(Categories::PUBSUB);
    }
    if flags.has(Flags::BLOCKING) {
        categories = categories.with(Categories::BLOCKING);
    }
    categories.with(if flags.has(Flags::FAST) {
        Categories::FAST
    } else {
        Categories::SLOW
    })
}

/// Whether the keys are one argument at a fixed place.
const fn one_key(keys: &[KeySpec]) -> bool {
    match keys {
        [only] => {
            matches!(
                (&only.begin, &only.find),
                (BeginSearch::Index(_), FindKeys::Range { last: 0, .. })
            ) && !only.flags.has(KeyFlags::NOT_KEY)
        }
        _ => false,
    }
}

/// The plain range of a command's keys, and whether it leaves keys out. Ranges with a step of 1 that
/// lie side by side join into one.
const fn plain_keys(keys: &[KeySpec]) -> (PlainKeys, bool) {
    let mut plain = PlainKeys {
        first: 0,
        last: 0,
        step: 0,
    };
    let mut movable = false;
    let mut at = 0;
    while at < keys.len() {
        let (BeginSearch::Index(first), FindKeys::Range { last, step, .. }) =
            (keys[at].begin, keys[at].find)
        else {
            movable = true;
            at += 1;
            continue;
        };
        let last = if last < 0 { last } else { first as i16 + last };
        if keys[at].flags.has(KeyFlags::INCOMPLETE) {
            movable = true;
        }
        if keys.len() == 1 || plain.first == 0 && step == 1 {
            plain = PlainKeys { first, last, step };
        } else if step == 1 && plain.last == first as i16 - 1 {
            plain.last = last;
        } else {
            movable = true;
        }
        at += 1;
    }
    (plain, movable)
}
