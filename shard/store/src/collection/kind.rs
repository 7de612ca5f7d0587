//! What the keyspace asks of every collection.

use larder_wire::UnixMillis;

use super::{Hash, List, Set, Stream, Zset};
use crate::value::{Apart, Collection, Kind, ValueType};

macro_rules! kinds {
    ($($structure:ident $variant:ident $({ $($own:item)* })?;)*) => {
        $(impl Kind for $structure {
            const TYPE: ValueType = ValueType::$variant;

            #[allow(irrefutable_let_patterns)]
            fn from_ref(collection: &Collection) -> Option<&Self> {
                if let Collection::$variant(it) = collection { Some(it) } else { None }
            }

            #[allow(irrefutable_let_patterns)]
            fn from_mut(collection: &mut Collection) -> Option<&mut Self> {
                if let Collection::$variant(it) = collection { Some(it) } else { None }
            }

            fn into_collection(self) -> Collection {
                Collection::$variant(self)
            }

            fn heap_bytes(&self) -> usize {
                $structure::heap_bytes(self)
            }

            fn is_empty(&self) -> bool {
                $structure::is_empty(self)
            }

            fn len(&self) -> usize {
                $structure::len(self)
            }

            fn encoding(&self) -> &'static str {
                $structure::encoding(self)
            }

            fn shed(&mut self, limit: usize) -> bool {
                self.free_some(limit)
            }

            $($($own)*)?
        })*
    };
}

kinds! {
    Hash Hash {
        const ELEMENTS_EXPIRE: bool = true;

        fn look(&self, now: UnixMillis) {
            Hash::look(self, now);
        }

        fn next_due(&self) -> Option<UnixMillis> {
            Hash::next_due(self)
        }
    };
    List List;
    Set Set;
    Stream Stream;
    Zset ZSet;
}

impl Apart for Stream {}
