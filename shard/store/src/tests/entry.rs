use larder_wire::UnixMillis;
use proptest::prelude::*;

use crate::entry::{Content, Entry};
use crate::value::StringRef;

#[derive(Clone, Debug)]
enum Change {
    Int(i64),
    Bytes(usize, u8),
    Replace(usize, u8, Option<i64>),
    Expiry(Option<i64>),
    Resize(usize),
    Access(u32),
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![
        0usize..80,
        200usize..300,
        65_500usize..65_600,
        120_000usize..140_000
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any::<i64>().prop_map(Change::Int),
        (len(), any::<u8>()).prop_map(|(len, fill)| Change::Bytes(len, fill)),
        (len(), any::<u8>(), any::<Option<i64>>())
            .prop_map(|(len, fill, at)| Change::Replace(len, fill, at)),
        any::<Option<i64>>().prop_map(Change::Expiry),
        len().prop_map(Change::Resize),
        (0u32..1 << 24).prop_map(Change::Access),
    ]
}

fn text(entry: &Entry) -> Vec<u8> {
    match entry.look().string() {
        Some(StringRef::Int(int)) => int.to_string().into_bytes(),
        Some(StringRef::Bytes(bytes)) => bytes.to_vec(),
        None => panic!("a string became a collection"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

    #[test]
    fn an_entry_holds_what_a_plain_model_of_it_holds(
        key in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            proptest::collection::vec(any::<u8>(), 250..300),
        ],
        start in proptest::collection::vec(any::<u8>(), 0..100),
        changes in proptest::collection::vec(change(), 0..20),
    ) {
        let mut entry = Entry::new(&key, Content::Bytes(&start), None, 7);
        let (mut value, mut expires, mut access) = (start, None, 7);
        for change in changes {
            match change {
                Change::Int(int) => {
                    entry.replace(Content::Int(int), expires.map(UnixMillis));
                    value = int.to_string().into_bytes();
                }
                Change::Bytes(len, fill) => {
                    value = vec![fill; len];
                    entry.replace(Content::Bytes(&value), expires.map(UnixMillis));
                }
                Change::Replace(len, fill, at) => {
                    value = vec![fill; len];
                    expires = at;
                    entry.replace(Content::Bytes(&value), at.map(UnixMillis));
                }
                Change::Expiry(at) => {
                    expires = at;
                    entry.set_expiry(at.map(UnixMillis));
                }
                Change::Resize(len) => {
                    value.resize(len, 0);
                    let bytes = entry.resize(len).expect("a string");
                    assert_eq!(bytes, &value[..]);
                    if let Some(last) = bytes.last_mut() {
                        *last = 9;
                        value[len - 1] = 9;
                    }
                }
                Change::Access(bits) => {
                    access = bits;
                    entry.set_access(bits);
                }
            }
            prop_assert_eq!(entry.key(), &key[..]);
            prop_assert_eq!(text(&entry), &value[..]);
            prop_assert_eq!(entry.expires(), expires.map(UnixMillis));
            prop_assert_eq!(entry.access(), access);
            prop_assert!(entry.allocated() >= key.len() + value.len().min(8));
        }
    }
}

#[test]
fn a_collection_moves_with_its_entry_and_is_dropped_once() {
    use crate::collection::{CollectionSettings, Set};
    use crate::value::Kind;
    let mut set = Set::default();
    set.insert(b"member", &CollectionSettings::new(1));
    let before = set.clone();
    let mut entry = Entry::new(b"k", Content::Collection(set.into_collection()), None, 0);
    entry.set_expiry(Some(UnixMillis(5)));
    let added = entry.edit(|collection| {
        let set = Set::from_mut(collection).expect("a set");
        set.insert(b"another", &CollectionSettings::new(1))
    });
    assert!(added.is_some_and(|edited| edited.result));
    entry.set_expiry(None);
    assert!(entry.resize(3).is_none());
    let Ok(collection) = entry.into_collection() else {
        panic!("a collection")
    };
    assert_eq!(collection.len(), 2);
    assert_eq!(before.len(), 1);
    let mut entry = Entry::new(b"k", Content::Collection(collection), None, 0);
    entry.replace(Content::Bytes(b"now a string"), None);
    assert_eq!(text(&entry), b"now a string");
}
