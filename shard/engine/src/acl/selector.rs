//! One set of permissions: commands, key patterns, channel patterns. A user has a root selector and any number of others.

use std::collections::BTreeMap;

use larder_wire::command::{self, Categories, CommandId};

use super::commands;

const WORDS: usize = CommandId::ALL.len().div_ceil(64);

/// A bit a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandBits {
    words: [u64; WORDS],
    /// Began with all commands: those that a later release brings are allowed too.
    pub future: bool,
}

impl CommandBits {
    pub const NONE: CommandBits = CommandBits {
        words: [0; WORDS],
        future: false,
    };
    pub const ALL: CommandBits = CommandBits {
        words: [u64::MAX; WORDS],
        future: true,
    };

    #[inline]
    pub fn has(&self, id: CommandId) -> bool {
        self.words[id as usize / 64] >> (id as usize % 64) & 1 == 1
    }

    pub fn set(&mut self, id: CommandId, allowed: bool) {
        let bit = 1 << (id as usize % 64);
        let word = &mut self.words[id as usize / 64];
        *word = if allowed { *word | bit } else { *word & !bit };
    }

    /// A container's subcommands go with it.
    pub fn set_with_subcommands(&mut self, id: CommandId, allowed: bool) {
        self.set(id, allowed);
        for sub in command::subcommands(id) {
            self.set(sub, allowed);
        }
    }

    /// Every command of the category, and the subcommands of its containers.
    pub fn set_category(&mut self, category: Categories, allowed: bool) {
        for id in commands_of(category) {
            self.set_with_subcommands(id, allowed);
        }
    }
}

pub(super) fn commands_of(category: Categories) -> impl Iterator<Item = CommandId> {
    commands().filter(move |id| command::spec(*id).categories.has(category))
}

/// A pattern of keys, and what may be done with those that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPattern {
    pub read: bool,
    pub write: bool,
    pub pattern: Box<[u8]>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Selector {
    pub all_keys: bool,
    pub all_channels: bool,
    /// Every command without a look at the bits. Lost with the first command that is taken away.
    pub all_commands: bool,
    pub commands: CommandBits,
    /// First arguments with which a command is allowed that is not allowed otherwise (`+select|0`).
    pub first_args: BTreeMap<CommandId, Vec<Box<[u8]>>>,
    /// In the order they were given.
    pub keys: Vec<KeyPattern>,
    pub channels: Vec<Box<[u8]>>,
}

impl Selector {
    /// Without any right but, if `all_channels`, to every channel (`acl-pubsub-default`).
    pub fn new(all_channels: bool) -> Selector {
        Selector {
            all_keys: false,
            all_channels,
            all_commands: false,
            commands: CommandBits::NONE,
            first_args: BTreeMap::new(),
            keys: Vec::new(),
            channels: Vec::new(),
        }
    }

    pub fn may_all(&self) -> bool {
        self.all_commands && self.all_keys && self.all_channels
    }

    pub(super) fn allow_all_commands(&mut self) {
        self.commands = CommandBits::ALL;
        self.all_commands = true;
        self.first_args.clear();
    }

    pub(super) fn allow_no_commands(&mut self) {
        self.commands = CommandBits::NONE;
        self.all_commands = false;
        self.first_args.clear();
    }

    pub(super) fn set_command(&mut self, id: CommandId, allowed: bool) {
        self.commands.set_with_subcommands(id, allowed);
        self.first_args.remove(&id);
        self.all_commands &= allowed;
    }

    pub(super) fn set_category(&mut self, category: Categories, allowed: bool) {
        self.commands.set_category(category, allowed);
        self.first_args
            .retain(|id, _| !command::spec(*id).categories.has(category));
        self.all_commands &= allowed;
    }

    pub(super) fn allow_first_arg(&mut self, id: CommandId, arg: &[u8]) {
        let args = self.first_args.entry(id).or_default();
        if !args.iter().any(|known| known.eq_ignore_ascii_case(arg)) {
            args.push(arg.into());
        }
    }
}
