//! CONFIG GET, SET, RESETSTAT, REWRITE.

use larder_store::EvictionPolicy;
use larder_wire::{Refusal, glob};

use crate::config::Parameter;
use crate::node::Node;
use crate::turn::{Outcome, Turn, help};

pub fn get(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let request = turn.request;
    let wanted: Vec<Parameter> = Parameter::ALL
        .iter()
        .copied()
        .filter(|parameter| {
            let name = parameter.row().name.as_bytes();
            request
                .args_from(2)
                .any(|pattern| glob::matches_ignore_case(pattern, name))
        })
        .collect();
    turn.reply.map(wanted.len());
    for parameter in wanted {
        turn.reply.bulk(parameter.row().name.as_bytes());
        turn.reply.bulk(turn.node.config.get(parameter).as_bytes());
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
    turn.node.keyspace.reset_stats();
    turn.node.errors.clear();
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
        self.apply_config();
        Ok(())
    }

    fn apply_config(&mut self) {
        self.keyspace
            .set_maxmemory(self.config.int(Parameter::Maxmemory) as u64);
        let word = self.config.get(Parameter::MaxmemoryPolicy);
        let policy = EvictionPolicy::from_word(word.as_bytes()).unwrap_or_else(|| {
            panic!("the table of parameters lets {word} pass, the store has no such policy")
        });
        self.keyspace.set_eviction(policy);
    }
}
