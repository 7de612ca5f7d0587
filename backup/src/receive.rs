//! One stream into its part: summed, sealed, and held against what the node says to have sent.

use std::time::Duration;

use larder_runtime::{Reply, entropy};
use larder_store::rdb::crc64::crc64;
use larder_wire::backup::SnapshotEnd;

use crate::cluster::Shard;
use crate::manifest::{Part, SetName, ShardPart};
use crate::place::PartWriter;
use crate::seal::Sealer;
use crate::sums::{BLOCK_BYTES, Sums};
use crate::take::{Begun, Fault, Take};

/// How long a node may send nothing before its stream counts as lost, in milliseconds.
const SILENT_MS_MAX: u64 = 60_000;
/// What is gathered before it is sent to the store, in bytes.
const GATHER_BYTES: usize = 256 * 1024;
/// The sum at the end of an RDB file, in bytes.
const CRC_BYTES: usize = 8;

/// A stream on its way into its part.
pub(crate) struct Receiving {
    what: Take,
    set: SetName,
    name: String,
    expected: u64,
    writer: Option<PartWriter>,
    sealer: Option<Sealer>,
    sums: Sums,
    gathered: Vec<u8>,
    /// What has come of the RDB file, and its sum but for the last bytes, which are to be that sum.
    rdb_bytes: u64,
    crc: u64,
    tail: Vec<u8>,
    keys: u64,
}

impl Receiving {
    pub(crate) fn begin(what: &Take, set: SetName, one: &Begun) -> Result<Receiving, Fault> {
        let ending = if what.key.is_some() { ".sealed" } else { "" };
        let mut receiving = Receiving {
            what: what.clone(),
            set,
            name: format!("shard-{}.rdb{ending}", one.shard.id),
            expected: one.begun.used_memory,
            writer: None,
            sealer: None,
            sums: Sums::new(BLOCK_BYTES),
            gathered: Vec::new(),
            rdb_bytes: 0,
            crc: 0,
            tail: Vec::new(),
            keys: 0,
        };
        receiving.begin_file()?;
        Ok(receiving)
    }

    fn begin_file(&mut self) -> Result<(), Fault> {
        self.writer = Some(self.what.place.writer(self.set, &self.name, self.expected));
        self.sums = Sums::new(BLOCK_BYTES);
        self.gathered.clear();
        (self.rdb_bytes, self.crc) = (0, 0);
        self.tail.clear();
        self.sealer = match &self.what.key {
            Some(key) => {
                let salt = entropy::bytes().map_err(|error| Fault::Final(error.to_string()))?;
                let (set, out) = (self.set.to_string(), &mut self.gathered);
                Some(Sealer::begin(key, &set, &self.name, salt, out))
            }
            None => None,
        };
        Ok(())
    }

    pub(crate) async fn receive(&mut self, one: Begun) -> Result<ShardPart, Fault> {
        let Begun {
            shard, mut client, ..
        } = one;
        let limit = Duration::from_millis(SILENT_MS_MAX);
        loop {
            let reply = tokio::time::timeout(limit, client.read_reply()).await;
            let reply = reply.map_err(|_| {
                Fault::Again(format!(
                    "{} sent nothing for {SILENT_MS_MAX} ms",
                    shard.node.addr
                ))
            })??;
            match reply {
                Reply::Bulk(bytes) => self.take_bytes(&bytes).await?,
                Reply::Int(keys) => self.count_keys(keys.unsigned_abs()),
                Reply::Simple(word) if word == b"ANEW" => {
                    self.abort().await;
                    self.count_keys(0);
                    self.begin_file()?;
                }
                Reply::Array(words) => {
                    let end = match words.as_slice() {
                        [word, json] if word.bytes() == Some(b"END") => client.parse_json(json)?,
                        _ => {
                            return Err(Fault::Final(format!(
                                "{} sent {words:?}",
                                shard.node.addr
                            )));
                        }
                    };
                    return self.finish(shard, &end).await;
                }
                other @ (Reply::Simple(_) | Reply::Null | Reply::Error(_)) => {
                    return Err(Fault::Final(format!("{} sent {other:?}", shard.node.addr)));
                }
            }
        }
    }

    /// `keys`: in the file so far. All keys of the cluster are counted together.
    fn count_keys(&mut self, keys: u64) {
        let counted = &self.what.tally.keys;
        counted.fetch_add(
            keys.wrapping_sub(self.keys),
            std::sync::atomic::Ordering::Relaxed,
        );
        self.keys = keys;
    }

    async fn take_bytes(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.rdb_bytes += bytes.len() as u64;
        self.what.tally.add(0, bytes.len() as u64);
        self.tail.extend_from_slice(bytes);
        let summed = self.tail.len().saturating_sub(CRC_BYTES);
        self.crc = crc64(self.crc, &self.tail[..summed]);
        self.tail.drain(..summed);
        match &mut self.sealer {
            Some(sealer) => sealer.pass(bytes, &mut self.gathered),
            None => self.gathered.extend_from_slice(bytes),
        }
        if self.gathered.len() >= GATHER_BYTES {
            self.send().await?;
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), Fault> {
        let bytes = std::mem::replace(&mut self.gathered, Vec::with_capacity(GATHER_BYTES * 2));
        self.sums.pass(&bytes);
        match &mut self.writer {
            Some(writer) => writer.write(bytes).await.map_err(Fault::Final),
            None => Err(Fault::Final("the part was given up".into())),
        }
    }

    async fn finish(&mut self, shard: Shard, end: &SnapshotEnd) -> Result<ShardPart, Fault> {
        let whole = self.rdb_bytes == end.bytes && self.tail == self.crc.to_le_bytes();
        if !whole {
            return Err(Fault::Again(format!(
                "what {} sent is not what it says to have sent",
                shard.node.addr
            )));
        }
        if let Some(sealer) = self.sealer.take() {
            sealer.end(&mut self.gathered);
        }
        self.send().await?;
        if let Some(writer) = self.writer.take() {
            writer.finish().await.map_err(Fault::Final)?;
        }
        self.count_keys(end.keys);
        let summed = std::mem::replace(&mut self.sums, Sums::new(BLOCK_BYTES)).end();
        Ok(ShardPart {
            part: Part {
                name: self.name.clone(),
                bytes: summed.bytes,
                sha256: summed.sha256,
                blocks: summed.blocks,
            },
            shard: shard.id,
            addr: shard.node.addr,
            slots: shard.slots,
            keys: end.keys,
            rdb_bytes: end.bytes,
            at: end.at,
        })
    }

    pub(crate) async fn abort(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.abort().await;
        }
    }
}
