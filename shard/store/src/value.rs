//! What a key can hold: a string, or one of the collections.
//!
//! A collection's structure lives in a file of its own and implements [`Kind`]; one line in [`collections!`]
//! makes it known to the keyspace. The keyspace never looks inside one.

use larder_wire::UnixMillis;
use larder_wire::resp::write::decimal;

use crate::collection::{Hash, List, Packed, Set, Zset};

/// The type of a value, as TYPE answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ValueType {
    String,
    List,
    Set,
    ZSet,
    Hash,
    Stream,
}

impl ValueType {
    pub const ALL: [ValueType; 6] = [
        ValueType::String,
        ValueType::List,
        ValueType::Set,
        ValueType::ZSet,
        ValueType::Hash,
        ValueType::Stream,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            ValueType::String => "string",
            ValueType::List => "list",
            ValueType::Set => "set",
            ValueType::ZSet => "zset",
            ValueType::Hash => "hash",
            ValueType::Stream => "stream",
        }
    }
}

/// A structure that a key can hold. `Clone` is cheap for large ones (shared chunks, copied on write), because a
/// feed captures a value by cloning it.
pub trait Kind: Clone + Sized + 'static {
    const TYPE: ValueType;
    /// Elements may have an expiry of their own: [`Kind::next_due`] is worth asking.
    const ELEMENTS_EXPIRE: bool = false;

    fn from_ref(collection: &Collection) -> Option<&Self>;
    fn from_mut(collection: &mut Collection) -> Option<&mut Self>;
    fn into_collection(self) -> Collection;

    /// Bytes that it holds on the heap, the structure itself not counted. O(1): asked for after every write.
    fn heap_bytes(&self) -> usize;

    /// A collection that is empty after a write is removed with its key. A stream never is.
    fn is_empty(&self) -> bool;

    /// Elements (fields, members).
    fn len(&self) -> usize;

    /// What OBJECT ENCODING answers.
    fn encoding(&self) -> &'static str;

    /// Frees up to about `limit` elements of a value that nobody uses any more; true when nothing is left that would take long to
    /// drop.
    fn shed(&mut self, limit: usize) -> bool;

    /// Elements that are due by `now` are as if gone from here on.
    fn look(&self, _now: UnixMillis) {}

    /// When the first element expires.
    fn next_due(&self) -> Option<UnixMillis> {
        None
    }
}

/// A kind that never lies in the block of its entry: a look at it needs no [`crate::Tray`].
pub trait Apart: Kind {}

/// Declares [`Collection`]: one line a kind of collection.
macro_rules! collections {
    ($($name:ident($structure:ty),)*) => {
        /// A value that is not a string.
        #[derive(Clone)]
        pub enum Collection {
            $($name($structure),)*
        }

        impl Collection {
            pub fn value_type(&self) -> ValueType {
                match *self {
                    $(Collection::$name(_) => <$structure as Kind>::TYPE,)*
                }
            }

            pub fn heap_bytes(&self) -> usize {
                match *self {
                    $(Collection::$name(ref it) => it.heap_bytes(),)*
                }
            }

            pub fn is_empty(&self) -> bool {
                match *self {
                    $(Collection::$name(ref it) => it.is_empty(),)*
                }
            }

            pub fn len(&self) -> usize {
                match *self {
                    $(Collection::$name(ref it) => it.len(),)*
                }
            }

            pub fn encoding(&self) -> &'static str {
                match *self {
                    $(Collection::$name(ref it) => it.encoding(),)*
                }
            }

            /// When the first element expires.
            pub fn next_due(&self) -> Option<UnixMillis> {
                match *self {
                    $(Collection::$name(ref it) => Kind::next_due(it),)*
                }
            }

            pub fn shed(&mut self, _limit: usize) -> bool {
                match *self {
                    $(Collection::$name(ref mut it) => it.shed(_limit),)*
                }
            }
        }
    };
}

collections! {
    Hash(crate::collection::Hash),
    List(crate::collection::List),
    Set(crate::collection::Set),
    ZSet(crate::collection::Zset),
    Stream(crate::collection::Stream),
}

/// Which collection a packed buffer is, where it stands for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PackedForm {
    Hash,
    List,
    Set,
    ZSet,
}

impl PackedForm {
    pub(crate) const ALL: [PackedForm; 4] = [
        PackedForm::Hash,
        PackedForm::List,
        PackedForm::Set,
        PackedForm::ZSet,
    ];

    pub(crate) fn value_type(self) -> ValueType {
        match self {
            PackedForm::Hash => ValueType::Hash,
            PackedForm::List => ValueType::List,
            PackedForm::Set => ValueType::Set,
            PackedForm::ZSet => ValueType::ZSet,
        }
    }
}

impl Collection {
    #[inline]
    pub(crate) fn from_packed(form: PackedForm, packed: Packed) -> Collection {
        match form {
            PackedForm::Hash => Collection::Hash(Hash::Packed(packed)),
            PackedForm::List => Collection::List(List::Packed(packed)),
            PackedForm::Set => Collection::Set(Set::Packed(packed)),
            PackedForm::ZSet => Collection::ZSet(Zset::Packed(packed)),
        }
    }

    /// The buffer that the collection is, when it is packed.
    #[inline]
    pub(crate) fn as_packed(&self) -> Option<(PackedForm, &Packed)> {
        match self {
            Collection::Hash(Hash::Packed(packed)) => Some((PackedForm::Hash, packed)),
            Collection::List(List::Packed(packed)) => Some((PackedForm::List, packed)),
            Collection::Set(Set::Packed(packed)) => Some((PackedForm::Set, packed)),
            Collection::ZSet(Zset::Packed(packed)) => Some((PackedForm::ZSet, packed)),
            Collection::Hash(Hash::Table(_) | Hash::Expiring(_))
            | Collection::List(List::Chunks(_))
            | Collection::Set(Set::Ints(_) | Set::Table(_))
            | Collection::ZSet(Zset::Ranked(_))
            | Collection::Stream(_) => None,
        }
    }

    /// With a buffer of its own, if it has one.
    pub(crate) fn standing_alone(self) -> Collection {
        match self.into_packed() {
            Ok((form, packed)) => Collection::from_packed(form, packed.standing_alone()),
            Err(other) => other,
        }
    }

    /// As [`Collection::as_packed`]; any other collection is given back.
    #[inline]
    pub(crate) fn into_packed(self) -> Result<(PackedForm, Packed), Collection> {
        match self {
            Collection::Hash(Hash::Packed(packed)) => Ok((PackedForm::Hash, packed)),
            Collection::List(List::Packed(packed)) => Ok((PackedForm::List, packed)),
            Collection::Set(Set::Packed(packed)) => Ok((PackedForm::Set, packed)),
            Collection::ZSet(Zset::Packed(packed)) => Ok((PackedForm::ZSet, packed)),
            other => Err(other),
        }
    }
}

/// A string as it is stored: an integer where its text is exactly one, else bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringRef<'a> {
    Int(i64),
    Bytes(&'a [u8]),
}

impl<'a> StringRef<'a> {
    /// Bytes of its text.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            StringRef::Int(int) => decimal(&mut [0; 20], *int).len(),
            StringRef::Bytes(bytes) => bytes.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its text; an integer's digits are written to `digits`.
    #[inline]
    pub fn text(&self, digits: &'a mut [u8; 20]) -> &'a [u8] {
        match self {
            StringRef::Int(int) => decimal(digits, *int),
            StringRef::Bytes(bytes) => bytes,
        }
    }
}

/// A value that stands alone: taken out of the keyspace, or about to go in.
#[derive(Clone)]
pub enum Value {
    Int(i64),
    Bytes(Box<[u8]>),
    Collection(Collection),
}

impl Value {
    /// The string `bytes`, as an integer when its text is exactly one.
    pub fn string(bytes: &[u8]) -> Value {
        match crate::number::parse_i64(bytes) {
            Some(int) => Value::Int(int),
            None => Value::Bytes(bytes.into()),
        }
    }

    pub fn view(&self) -> ValueRef<'_> {
        match self {
            Value::Int(int) => ValueRef::String(StringRef::Int(*int)),
            Value::Bytes(bytes) => ValueRef::String(StringRef::Bytes(bytes)),
            Value::Collection(collection) => ValueRef::Collection(collection),
        }
    }

    pub fn value_type(&self) -> ValueType {
        match self {
            Value::Int(_) | Value::Bytes(_) => ValueType::String,
            Value::Collection(collection) => collection.value_type(),
        }
    }
}

/// A value where it lies in the keyspace.
#[derive(Clone, Copy)]
pub enum ValueRef<'a> {
    String(StringRef<'a>),
    Collection(&'a Collection),
}

impl ValueRef<'_> {
    pub fn value_type(&self) -> ValueType {
        match self {
            ValueRef::String(_) => ValueType::String,
            ValueRef::Collection(collection) => collection.value_type(),
        }
    }

    pub fn to_value(&self) -> Value {
        match *self {
            ValueRef::String(StringRef::Int(int)) => Value::Int(int),
            ValueRef::String(StringRef::Bytes(bytes)) => Value::Bytes(bytes.into()),
            ValueRef::Collection(collection) => Value::Collection(collection.clone()),
        }
    }
}
