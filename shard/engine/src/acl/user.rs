//! A user: whether it may log in, its passwords' hashes, its selectors.

use std::cell::{Cell, Ref, RefCell};
use std::fmt;

use sha2::{Digest, Sha256};

use super::selector::Selector;

/// Bytes of a SHA-256.
const HASH_BYTES: usize = 32;

/// SHA-256 of a password. Compared in constant time; its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct PasswordHash([u8; HASH_BYTES]);

impl PasswordHash {
    pub fn of(password: &[u8]) -> PasswordHash {
        PasswordHash(Sha256::digest(password).into())
    }

    /// Exactly 64 hexadecimal digits in lower case.
    pub fn from_hex(hex: &[u8]) -> Option<PasswordHash> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        if hex.len() != 2 * HASH_BYTES {
            return None;
        }
        let mut bytes = [0; HASH_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(PasswordHash(bytes))
    }

    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Takes as long for hashes that nearly agree as for others.
impl PartialEq for PasswordHash {
    fn eq(&self, other: &PasswordHash) -> bool {
        let differs = self
            .0
            .iter()
            .zip(&other.0)
            .fold(0, |differs, (a, b)| differs | std::hint::black_box(a ^ b));
        std::hint::black_box(differs) == 0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

/// Whether RESTORE is to look at the payload, as the rules say it. Here it always does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sanitize {
    #[default]
    Unsaid,
    Yes,
    Skip,
}

/// All that rules say of a user.
#[derive(Clone, Debug)]
pub struct Rules {
    pub enabled: bool,
    /// Any password will do.
    pub nopass: bool,
    pub sanitize: Sanitize,
    /// In the order they were given.
    pub passwords: Vec<PasswordHash>,
    pub root: Selector,
    pub others: Vec<Selector>,
}

impl Rules {
    /// Of a user that was just made: it may do nothing and cannot log in.
    pub fn new(all_channels: bool) -> Rules {
        Rules {
            enabled: false,
            nopass: false,
            sanitize: Sanitize::Unsaid,
            passwords: Vec::new(),
            root: Selector::new(all_channels),
            others: Vec::new(),
        }
    }

    /// Every right, and no password.
    pub fn all() -> Rules {
        let mut rules = Rules::new(true);
        rules.root.all_keys = true;
        rules.root.allow_all_commands();
        rules.enabled = true;
        rules.nopass = true;
        rules
    }

    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.root).chain(&self.others)
    }

    pub fn may_all(&self) -> bool {
        self.selectors().any(Selector::may_all)
    }

    /// Whether `password` lets this user in.
    pub fn opens(&self, password: &[u8]) -> bool {
        let shown = PasswordHash::of(password);
        // All are looked at, whichever is the right one.
        let matched = self
            .passwords
            .iter()
            .fold(false, |matched, hash| matched | (*hash == shown));
        self.enabled && (self.nopass || matched)
    }

    /// A connection is this user's from the start, if it is the default one.
    pub fn is_open(&self) -> bool {
        self.enabled && self.nopass
    }
}

/// One user, shared by its connections.
#[derive(Debug)]
pub struct User {
    name: Box<[u8]>,
    all: Cell<bool>,
    rules: RefCell<Rules>,
}

impl User {
    pub fn new(name: &[u8], rules: Rules) -> User {
        User {
            name: name.into(),
            all: Cell::new(rules.may_all()),
            rules: RefCell::new(rules),
        }
    }

    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// No command needs a further look.
    #[inline]
    pub fn may_all(&self) -> bool {
        self.all.get()
    }

    pub fn rules(&self) -> Ref<'_, Rules> {
        self.rules.borrow()
    }

    /// Holds for all connections of the user from here on.
    pub fn set_rules(&self, rules: Rules) {
        self.all.set(rules.may_all());
        self.rules.replace(rules);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_reads_what_it_writes_and_nothing_else() {
        let hash = PasswordHash::of(b"foo");
        let hex = hash.to_hex();
        assert_eq!(
            hex,
            "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
        );
        assert_eq!(PasswordHash::from_hex(hex.as_bytes()), Some(hash));
        assert_eq!(PasswordHash::from_hex(&hex.as_bytes()[1..]), None);
        assert_eq!(PasswordHash::from_hex(hex.to_uppercase().as_bytes()), None);
    }

    #[test]
    fn a_hash_is_never_printed() {
        let mut rules = Rules::new(false);
        rules.passwords.push(PasswordHash::of(b"foo"));
        assert!(!format!("{rules:?}").contains("2c26"));
    }

    #[test]
    fn a_user_is_let_in_when_on_with_a_password_of_its_own_or_without_one() {
        let mut rules = Rules::new(false);
        rules.passwords.push(PasswordHash::of(b"a"));
        rules.passwords.push(PasswordHash::of(b"b"));
        assert!(!rules.opens(b"a"), "off");
        rules.enabled = true;
        assert!(rules.opens(b"a") && rules.opens(b"b") && !rules.opens(b"c"));
        rules.nopass = true;
        assert!(rules.opens(b"c"));
        assert!(rules.is_open());
    }
}
