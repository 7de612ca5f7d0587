//! Entries that lie in sparse places move to where they fit, so that what is resident stays near what is used.
//!
//! The entry module says which (entry/moving.rs), by key; whoever has it in a table asks it to move. What is in no table, such as the trash, stays.

use crate::databases::Databases;
use crate::entry::Batch;
use crate::keyspace::Keyspace;

impl Databases {
    /// Moves entries of about `bytes` bytes; true when there are more that should.
    pub fn defragment(&mut self, bytes: usize) -> bool {
        if self.has_trash() {
            return false;
        }
        let (mut batch, mut moved) = (Batch::default(), 0);
        while moved < bytes {
            if !batch.fill() {
                return false;
            }
            for (key, address) in batch.iter() {
                self.iter_mut().any(|space| space.relocate(key, address));
            }
            moved += batch.bytes();
        }
        true
    }
}

impl Keyspace {
    /// Moves the entry of `key` when it is the one that lies at `address`; else false.
    fn relocate(&mut self, key: &[u8], address: usize) -> bool {
        let place = self.place_of(key);
        let Some((at, entry)) = self.tables.find(place.slot, place.hash, key) else {
            return false;
        };
        let is_it = entry.address() == address;
        if is_it {
            self.tables.entry_mut(at).relocate();
        }
        is_it
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use larder_wire::UnixMillis;

    use super::*;
    use crate::db::Db;
    use crate::entry;
    use crate::random::Random;
    use crate::strings::{SetExpiry, Store};
    use crate::value::StringRef;

    const NOW: UnixMillis = UnixMillis(1_000);

    #[test]
    fn entries_of_all_databases_move_together_and_stay_what_they_are() {
        let seed = 9;
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let mut databases = Databases::default();
        let mut model: BTreeMap<(i64, String), Vec<u8>> = BTreeMap::new();
        for number in 0..60_000 {
            let (db, key) = (number % 3, format!("key:{number}"));
            let most = [
                60,
                60,
                250,
                700,
                if number % 100 == 4 { 30_000 } else { 250 },
            ];
            let len = 1 + random.below(most[number as usize % 5]);
            let value = vec![b'a' + number as u8 % 26; len];
            let space = databases.at(Db::new(db).expect("a database"));
            space.set_string(
                key.as_bytes(),
                &value,
                Store::Encoded,
                SetExpiry::Clear,
                NOW,
            );
            model.insert((db, key), value);
        }
        model.retain(|(db, key), _| {
            let stays = random.below(3) == 0;
            if !stays {
                let space = databases.at(Db::new(*db).expect("a database"));
                assert!(space.remove(key.as_bytes(), NOW));
            }
            stays
        });
        let (used, before) = (databases.used_memory(), entry::lost_bytes());
        while databases.defragment(10_000) {}
        let after = entry::lost_bytes();
        println!("lost between entries: {before} bytes, then {after}");
        assert!(before > 5 << 20 && after < before / 2, "{before} {after}");
        assert_eq!(databases.used_memory(), used);
        for ((db, key), value) in &model {
            let space = databases.get(Db::new(*db).expect("a database"));
            let found = space.and_then(|space| space.peek_string(key.as_bytes(), NOW).ok()?);
            let Some(StringRef::Bytes(bytes)) = found else {
                panic!("{key} is gone");
            };
            assert_eq!(bytes, &value[..]);
        }
    }
}
