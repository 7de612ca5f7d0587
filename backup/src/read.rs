//! Reads parts of a set: sums, seal, RDB, in one pass of bounded memory; what is wrong is told with the part and the place.
//!
//! ```text
//! place ──chunks──▶ sums ──▶ seal ──a few at most──▶ a thread: RDB ──records──▶ whoever asked
//! ```

use std::sync::Arc;

use futures_util::StreamExt;
use larder_store::collection::CollectionSettings;
use larder_store::rdb::{Loader, Record};
use larder_wire::slot_of;
use tokio::sync::mpsc;

use crate::manifest::{ClusterFile, Manifest, Part, SetName, ShardPart};
use crate::seal::Opener;
use crate::sums::Sums;
use crate::{Key, Place, Tally};

/// Chunks that wait for the thread that understands them.
const CHUNKS_AHEAD_MAX: usize = 8;
/// Seeds the tables of large collections: any will do.
const HASH_SEED: u64 = 0x6C61_7264_6572_0001;
/// Longest `cluster.json`, in bytes.
const CLUSTER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A set that is read.
#[derive(Clone)]
pub struct Reader {
    pub place: Place,
    pub set: SetName,
    pub manifest: Arc<Manifest>,
    pub key: Option<Key>,
    pub tally: Arc<Tally>,
}

/// What a part was found to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub keys: u64,
    pub libraries: u64,
}

impl Reader {
    pub async fn open(
        place: &Place,
        set: SetName,
        key: Option<&Key>,
        tally: &Arc<Tally>,
    ) -> Result<Reader, String> {
        let manifest = place.manifest(set, key).await?;
        tally.reset(manifest.keys());
        Ok(Reader {
            place: place.clone(),
            set,
            manifest: Arc::new(manifest),
            key: key.cloned(),
            tally: Arc::clone(tally),
        })
    }

    /// All of it: every byte is what it was, every key in a slot of its part.
    pub async fn verify(&self) -> Result<Counted, String> {
        let mut all = Counted::default();
        self.cluster_file().await?;
        for shard in &self.manifest.shards {
            self.tally.set_stage(format!("reads {}", shard.part.name));
            let counted = self.read_shard(shard, |_| Ok(())).await?;
            all.keys += counted.keys;
            all.libraries = all.libraries.max(counted.libraries);
        }
        Ok(all)
    }

    /// Users and settings.
    pub async fn cluster_file(&self) -> Result<ClusterFile, String> {
        let part = &self.manifest.cluster_file;
        if part.bytes > CLUSTER_BYTES_MAX {
            return Err(self.told(part, "is too large"));
        }
        let mut json = Vec::new();
        self.read_bytes(part, |bytes| {
            json.extend_from_slice(&bytes);
            std::future::ready(())
        })
        .await?;
        serde_json::from_slice(&json)
            .map_err(|error| self.told(part, &format!("is damaged: {error}")))
    }

    /// Hands every record of a part to `on_record`, on a thread of its own, and `None` after the last; its error ends the reading.
    pub async fn read_shard(
        &self,
        shard: &ShardPart,
        mut on_record: impl FnMut(Option<Record>) -> Result<(), String> + Send + 'static,
    ) -> Result<Counted, String> {
        let (sender, mut chunks) = mpsc::channel::<Vec<u8>>(CHUNKS_AHEAD_MAX);
        let (tally, slots) = (Arc::clone(&self.tally), shard.slots.clone());
        let thread = tokio::task::spawn_blocking(move || {
            let more = move |buffer: &mut Vec<u8>| {
                if let Some(chunk) = chunks.blocking_recv() {
                    buffer.extend_from_slice(&chunk);
                }
                Ok(())
            };
            let settings = CollectionSettings::new(HASH_SEED);
            let mut loader = Loader::open(more).map_err(|error| error.to_string())?;
            let mut counted = Counted::default();
            loop {
                let record = loader.next_record(&settings);
                match record.map_err(|error| error.to_string())? {
                    None => {
                        on_record(None)?;
                        return Ok::<_, String>(counted);
                    }
                    Some(record) => {
                        match &record {
                            Record::Aux { .. } => {}
                            Record::Library(_) => counted.libraries += 1,
                            Record::Key { key, .. } => {
                                let slot = slot_of(key);
                                if !slots.contains(slot) {
                                    return Err(format!(
                                        "at byte {}: a key of slot {slot}, which is not the part's",
                                        loader.offset()
                                    ));
                                }
                                counted.keys += 1;
                                tally.add(1, 0);
                            }
                        }
                        on_record(Some(record))?;
                    }
                }
            }
        });
        let passed = self
            .read_bytes(&shard.part, |bytes| {
                let sender = sender.clone();
                async move {
                    // Nothing would be understood as the end. And the thread may be through with it: the sums are not.
                    if !bytes.is_empty() {
                        let _ = sender.send(bytes).await;
                    }
                }
            })
            .await;
        drop(sender);
        let understood = thread.await.map_err(|error| error.to_string())?;
        // A sum that is wrong explains what was not understood.
        passed?;
        let counted =
            understood.map_err(|why| self.told(&shard.part, &format!("is damaged {why}")))?;
        if counted.keys != shard.keys {
            return Err(self.told(
                &shard.part,
                &format!(
                    "has {} keys and not {}, as the manifest says",
                    counted.keys, shard.keys
                ),
            ));
        }
        Ok(counted)
    }

    /// Hands the plain bytes to `take`, and holds the part against its sums.
    async fn read_bytes<F: Future<Output = ()>>(
        &self,
        part: &Part,
        mut take: impl FnMut(Vec<u8>) -> F,
    ) -> Result<(), String> {
        let (stored, mut stream) = self.place.stream(self.set, &part.name).await?;
        if stored != part.bytes {
            return Err(self.told(
                part,
                &format!(
                    "has {stored} bytes and not {}, as the manifest says",
                    part.bytes
                ),
            ));
        }
        let mut sums = Sums::new(self.manifest.block_bytes);
        let mut opener = match (&self.manifest.encryption, &self.key) {
            (Some(_), Some(key)) => Some(Opener::new(key, &self.set.to_string(), &part.name)),
            (_, _) => None,
        };
        let mut unsealed = Ok(());
        let mut checked = 0;
        while let Some(bytes) = stream.next().await {
            let bytes =
                bytes.map_err(|error| self.told(part, &format!("cannot be read: {error}")))?;
            self.tally.add(0, bytes.len() as u64);
            sums.pass(&bytes);
            while checked < sums.blocks().len() {
                self.check_block(part, checked, &sums.blocks()[checked], &unsealed)?;
                checked += 1;
            }
            match &mut opener {
                None => take(bytes.to_vec()).await,
                Some(opener) if unsealed.is_ok() => {
                    let mut plain = Vec::with_capacity(bytes.len());
                    unsealed = opener.pass(&bytes, &mut plain);
                    take(plain).await;
                }
                Some(_) => {}
            }
        }
        let summed = sums.end();
        for (index, sum) in summed.blocks.iter().enumerate().skip(checked) {
            self.check_block(part, index, sum, &unsealed)?;
        }
        if let Some(opener) = opener
            && unsealed.is_ok()
        {
            let mut plain = Vec::new();
            unsealed = opener.end(&mut plain);
            take(plain).await;
        }
        unsealed.map_err(|fault| self.told(part, &format!("does not open {fault}")))?;
        if summed.sha256 != part.sha256 {
            return Err(self.told(
                part,
                &format!(
                    "has the SHA-256 {} and not {}, as the manifest says",
                    summed.sha256, part.sha256
                ),
            ));
        }
        Ok(())
    }

    fn check_block(
        &self,
        part: &Part,
        index: usize,
        sum: &str,
        unsealed: &Result<(), crate::seal::NotSealed>,
    ) -> Result<(), String> {
        if part.blocks.get(index).is_some_and(|meant| meant == sum) {
            return Ok(());
        }
        let from = index as u64 * self.manifest.block_bytes;
        let to = (from + self.manifest.block_bytes).min(part.bytes);
        let nearer = match unsealed {
            Ok(()) => String::new(),
            Err(fault) => format!(" (its seal breaks at byte {})", fault.offset),
        };
        Err(self.told(
            part,
            &format!("is damaged between byte {from} and byte {to}{nearer}"),
        ))
    }

    fn told(&self, part: &Part, what: &str) -> String {
        format!(
            "{}/{} at {} {what}",
            self.set,
            part.name,
            self.place.shown()
        )
    }
}

/// The set that is meant: the one of that name, or the newest whole one.
pub async fn choose(place: &Place, named: Option<SetName>) -> Result<SetName, String> {
    if let Some(name) = named {
        return Ok(name);
    }
    let sets = place.sets().await?;
    let whole = sets.iter().rev().find(|found| found.whole().is_some());
    whole
        .map(|found| found.name)
        .ok_or_else(|| format!("there is no whole set at {}", place.shown()))
}

#[cfg(test)]
mod tests {
    use larder_store::ValueRef;
    use larder_store::rdb::FileWriter;

    use super::*;
    use crate::manifest::tests::manifest;
    use crate::manifest::{CLUSTER, Encryption, MANIFEST, MANIFEST_SEAL};
    use crate::seal::{CIPHER, SALT_BYTES, Sealer};
    use crate::sums;

    const SET: i64 = 1_795_230_000;

    fn rdb(keys: usize) -> Vec<u8> {
        let (mut file, mut out) = (FileWriter::new(false), Vec::new());
        file.write_beginning(false, &[], &[], &mut out);
        for n in 0..keys {
            let (key, value) = (format!("{{a}}{n}"), "v".repeat(1000));
            let value = ValueRef::String(larder_store::StringRef::Bytes(value.as_bytes()));
            file.write_record(key.as_bytes(), value, None, &mut out);
        }
        file.pass(&out);
        file.write_end(&mut out);
        out
    }

    /// A set of two parts, of which one has keys; sealed when there is a key.
    async fn write_set(place: &Place, key: Option<&Key>, keys: usize) -> SetName {
        let set = SetName::at(SET);
        let slot = slot_of(b"a");
        let mut made = manifest(SET, "larder");
        made.block_bytes = 4096;
        let mut contents = vec![rdb(0), rdb(0), b"{\"nodes\":[]}".to_vec()];
        let with_keys = made.shards.iter().position(|it| it.slots.contains(slot));
        let with_keys = with_keys.expect("a part of each slot");
        contents[with_keys] = rdb(keys);
        for (index, plain) in contents.into_iter().enumerate() {
            let part = match made.shards.get_mut(index) {
                Some(shard) => {
                    shard.keys = if index == with_keys { keys as u64 } else { 0 };
                    &mut shard.part
                }
                None => &mut made.cluster_file,
            };
            let mut bytes = Vec::new();
            match key {
                None => bytes = plain,
                Some(key) => {
                    let salt = [5; SALT_BYTES];
                    let name = set.to_string();
                    let mut sealer = Sealer::begin(key, &name, &part.name, salt, &mut bytes);
                    sealer.pass(&plain, &mut bytes);
                    sealer.end(&mut bytes);
                }
            }
            let mut sums = Sums::new(4096);
            sums.pass(&bytes);
            let summed = sums.end();
            part.bytes = summed.bytes;
            part.sha256 = summed.sha256;
            part.blocks = summed.blocks;
            place.write(set, &part.name, bytes).await.unwrap();
        }
        made.encryption = key.map(|key| Encryption {
            cipher: CIPHER.into(),
            key: key.id(),
        });
        assert_eq!(made.cluster_file.name, CLUSTER);
        let json = made.to_json();
        let seal = match key {
            Some(key) => key.seal_manifest(&set.to_string(), &json),
            None => sums::sha256(&json),
        };
        let seal = seal.into_bytes();
        place.write(set, MANIFEST_SEAL, seal).await.unwrap();
        place.write(set, MANIFEST, json).await.unwrap();
        set
    }

    #[tokio::test]
    async fn a_set_is_read_back_sealed_or_not_and_what_was_changed_is_found() {
        let key = Key::from_random([3; 32]);
        for key in [None, Some(&key)] {
            let folder = tempfile::tempdir().unwrap();
            let place = Place::open(folder.path().to_str().unwrap(), None, true).unwrap();
            let set = write_set(&place, key, 300).await;
            let tally = Arc::new(Tally::default());
            let reader = Reader::open(&place, set, key, &tally).await.unwrap();
            let counted = reader.verify().await;
            assert_eq!(counted.map(|counted| counted.keys), Ok(300));
            let parts: Vec<Part> = reader.manifest.parts().cloned().collect();
            for part in parts {
                let path = folder.path().join(set.to_string()).join(&part.name);
                let mut bytes = std::fs::read(&path).unwrap();
                let place_of_it = bytes.len() / 2;
                bytes[place_of_it] ^= 1;
                std::fs::write(&path, &bytes).unwrap();
                let told = reader.verify().await.unwrap_err();
                let from = place_of_it / 4096 * 4096;
                assert!(
                    told.contains(&part.name) && told.contains(&format!("between byte {from} and")),
                    "{told}"
                );
                bytes[place_of_it] ^= 1;
                std::fs::write(&path, &bytes).unwrap();
            }
            assert!(reader.verify().await.is_ok());
        }
    }
}
