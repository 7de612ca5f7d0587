//! The command line of backups: `larder backup`, its verbs, and `larder restore`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use larder_backup::SetName;
use larder_backup::schedule::Window;

use super::Ask;

/// Where backups are.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Address of an S3-compatible store that is not Amazon's, for example http://10.0.0.9:9000
    #[arg(long, value_name = "URL", env = "AWS_ENDPOINT_URL")]
    pub(crate) endpoint: Option<String>,
    /// The key file of encrypted backups (larder backup keygen makes one)
    #[arg(long, value_name = "FILE", env = "LARDER_BACKUP_KEY_FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Backup {
    #[command(subcommand)]
    pub(crate) verb: Option<BackupVerb>,
    #[command(flatten)]
    pub(crate) take: TakeBackup,
}

#[derive(Debug, Args)]
pub(crate) struct TakeBackup {
    /// A folder, or s3://bucket/prefix with AWS_… variables [default: backups/ in this user's state directory]
    #[arg(long, value_name = "URL", env = "LARDER_BACKUP_TO")]
    pub(crate) to: Option<String>,
    /// Keep running, and take one backup a day that begins between these times, in UTC; each is read back
    #[arg(long, value_name = "HH:MM-HH:MM")]
    pub(crate) window: Option<Window>,
    /// With --window: the newest whole backups that stay; older ones are deleted after a new one is verified [default: all]
    #[arg(long, value_name = "N", requires = "window", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep: Option<u32>,
    /// With --window: where metrics are served
    #[arg(long, value_name = "A:P", requires = "window")]
    pub(crate) http: Option<String>,
    /// Read the backup back when it is in place
    #[arg(long)]
    pub(crate) verify: bool,
    /// How long slots that are on their way, and nodes that are silent, are waited for, in seconds
    #[arg(long, value_name = "S", default_value_t = 3600)]
    pub(crate) wait: u64,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BackupVerb {
    /// List the backups of a place
    List(ListBackups),
    /// Read a backup through: sums, encryption, every key
    Verify(VerifyBackup),
    /// Make a key file for encrypted backups
    Keygen(Keygen),
}

#[derive(Debug, Args)]
pub(crate) struct ListBackups {
    /// A folder, or s3://bucket/prefix
    #[arg(value_name = "URL")]
    pub(crate) from: String,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyBackup {
    /// A folder, or s3://bucket/prefix
    #[arg(value_name = "URL")]
    pub(crate) from: String,
    /// Which one [default: the newest whole one]
    #[arg(long, value_name = "NAME")]
    pub(crate) set: Option<SetName>,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// The file, which must not exist
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// What a restore takes from a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Of {
    Keys,
    Functions,
    Users,
    Settings,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// A folder, or s3://bucket/prefix
    #[arg(long, value_name = "URL", env = "LARDER_BACKUP_TO")]
    pub(crate) from: String,
    /// Which one [default: the newest whole one]
    #[arg(long, value_name = "NAME")]
    pub(crate) set: Option<SetName>,
    /// Into a cluster that has keys: those of the backup replace their namesakes
    #[arg(long, conflicts_with = "flush")]
    pub(crate) replace: bool,
    /// Remove all keys and functions first
    #[arg(long)]
    pub(crate) flush: bool,
    /// Only these, for example keys,functions
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "keys,functions,users,settings",
        value_name = "WHAT"
    )]
    pub(crate) only: Vec<Of>,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) ask: Ask,
}
