//! CONFIG GET, SET, RESETSTAT, REWRITE.

use larder_store::collection::stream::NodeMax;
use larder_store::collection::{CollectionSettings, EncodingNames, ListPackedMax};
use larder_store::{EvictionPolicy, EvictionTuning};
use larder_wire::Refusal;

use crate::config::Parameter;
use crate::node::Node;
use crate::turn::{Outcome, Turn, help};

pub fn get(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let found = turn.node.config.matching(turn.request.args_from(2));
    turn.reply.map(found.len());
    for (name, value) in found {
        turn.reply.bulk(name.as_bytes());
        turn.reply.bulk(value.as_bytes());
    }
    Ok(Outcome::Done)
}

pub fn set(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let request = turn.request;
    if !request.len().is_multiple_of(2) {
        return Err(Refusal::SYNTAX);
    }
    let args: Vec<&[u8]> = request.args_from(2).collect();
    let pairs: Vec<(&[u8], &[u8])> = args.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    turn.node.set_config(&pairs)?;
    turn.ok()
}

pub fn resetstat(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    turn.node.stats.reset();
    turn.node.databases.reset_stats();
    turn.node.errors.clear();
    turn.node.timing.histograms.reset();
    turn.ok()
}

pub fn rewrite(_turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    Err(Refusal::fixed(
        "ERR The server is running without a config file",
    ))
}

pub fn help_(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    help(
        turn,
        "CONFIG",
        &[
            "GET <pattern>",
            "    Return parameters matching the glob-like <pattern> and their values.",
            "SET <directive> <value>",
            "    Set the configuration <directive> to <value>.",
            "RESETSTAT",
            "    Reset statistics reported by the INFO command.",
            "REWRITE",
            "    Rewrite the configuration file.",
        ],
    )
}

impl Node {
    /// Sets all parameters or none, and makes them take effect.
    pub fn set_config(&mut self, pairs: &[(&[u8], &[u8])]) -> Result<(), Refusal> {
        self.config.set(pairs)?;
        self.settle_config(pairs);
        Ok(())
    }

    /// What a node is started with: as [`Node::set_config`], and the names of its files besides.
    pub fn set_config_at_start(&mut self, pairs: &[(&[u8], &[u8])]) -> Result<(), Refusal> {
        self.config.set_at_start(pairs)?;
        self.settle_config(pairs);
        Ok(())
    }

    fn settle_config(&mut self, pairs: &[(&[u8], &[u8])]) {
        for (name, value) in pairs {
            if Parameter::find(name) == Some(Parameter::Requirepass) {
                self.acl.set_default_password(value);
            }
        }
        self.apply_config();
    }

    fn apply_config(&mut self) {
        self.databases
            .set_maxmemory(self.config.size(Parameter::Maxmemory));
        let word = self.config.get(Parameter::MaxmemoryPolicy);
        let policy = EvictionPolicy::from_word(word.as_bytes()).unwrap_or_else(|| {
            panic!("the table of parameters lets {word} pass, the store has no such policy")
        });
        let tuning = EvictionTuning {
            samples: self.config.int(Parameter::MaxmemorySamples) as usize,
            lfu_log_factor: self.config.int(Parameter::LfuLogFactor) as u64,
            lfu_decay_minutes: self.config.int(Parameter::LfuDecayTime) as u32,
        };
        self.databases.set_eviction(policy, tuning);
        self.databases.set_collections(self.collection_settings());
        self.settle_good_replicas();
        let reach = self.config.size(Parameter::ReplBacklogSize);
        self.journal
            .set_reach(usize::try_from(reach).unwrap_or(usize::MAX));
        self.settle_append();
        self.settle_write_refusal();
        self.apply_notify();
        self.apply_limits();
        self.apply_timing();
    }

    fn collection_settings(&self) -> CollectionSettings {
        let size = |parameter| self.config.size(parameter) as usize;
        let list_size = self.config.int(Parameter::ListMaxListpackSize);
        CollectionSettings {
            hasher: self.databases.collections().hasher.clone(),
            hash_entries_max: size(Parameter::HashMaxListpackEntries),
            hash_value_bytes_max: size(Parameter::HashMaxListpackValue),
            set_ints_max: size(Parameter::SetMaxIntsetEntries),
            set_entries_max: size(Parameter::SetMaxListpackEntries),
            set_value_bytes_max: size(Parameter::SetMaxListpackValue),
            zset_entries_max: size(Parameter::ZsetMaxListpackEntries),
            zset_value_bytes_max: size(Parameter::ZsetMaxListpackValue),
            list_packed_max: ListPackedMax::from_setting(list_size as i32),
            hll_sparse_bytes_max: size(Parameter::HllSparseMaxBytes),
            stream_node_max: NodeMax {
                entries: size(Parameter::StreamNodeMaxEntries),
                bytes: size(Parameter::StreamNodeMaxBytes),
            },
            names: match self.config.get(Parameter::EncodingNames) {
                "7.2" => EncodingNames::Redis72,
                _ => EncodingNames::Redis70,
            },
            compresses_dumps: self.config.flag(Parameter::Rdbcompression),
        }
    }
}
