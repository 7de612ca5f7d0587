//! Where the cluster's secret comes from: a file that is named, the environment, or, when everything is on
//! loopback, a file of the user's own that the first process makes.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use larder_wire::Secret;

use crate::entropy;

/// The environment variable that holds the secret.
pub const SECRET_VARIABLE: &str = "LARDER_SECRET";

/// Why there is no secret. Each is one line that an operator can act on.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read the secret from {path}: {error} (name a readable file with --secret-file)", path = path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("the secret in {0} is empty (write at least one word into it)")]
    Empty(String),
    #[error(
        "a port is bound beyond loopback, so the cluster's secret must be given (--secret-file FILE or {SECRET_VARIABLE})"
    )]
    BeyondLoopback,
    #[error("{path} can be read by other users (mend it with: chmod 600 {path})", path = path.display())]
    Exposed { path: PathBuf },
    #[error("cannot keep a secret in {path}: {error} (give one with --secret-file FILE or {SECRET_VARIABLE})", path = path.display())]
    Unwritable { path: PathBuf, error: io::Error },
    #[error(
        "no home directory to keep a secret in (give one with --secret-file FILE or {SECRET_VARIABLE})"
    )]
    Homeless,
}

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct SecretSource {
    /// `--secret-file`.
    pub file: Option<PathBuf>,
    /// The value of [`SECRET_VARIABLE`].
    pub variable: Option<OsString>,
    /// Every port of the process, and every address that it connects to, is on loopback.
    pub loopback_only: bool,
    /// [`state_dir`].
    pub state_dir: Option<PathBuf>,
}

impl SecretSource {
    /// Reads the environment of this process.
    pub fn of_this_process(file: Option<PathBuf>, loopback_only: bool) -> SecretSource {
        SecretSource {
            file,
            variable: std::env::var_os(SECRET_VARIABLE),
            loopback_only,
            state_dir: state_dir(),
        }
    }

    /// The secret, from the first place of: the named file, the variable, the user's own file.
    pub fn load(&self) -> Result<Secret, SecretError> {
        if let Some(path) = &self.file {
            let text = fs::read(path).map_err(|error| SecretError::Unreadable {
                path: path.clone(),
                error,
            })?;
            return Secret::new(&text)
                .ok_or_else(|| SecretError::Empty(path.display().to_string()));
        }
        if let Some(value) = &self.variable {
            return Secret::new(value.as_encoded_bytes())
                .ok_or_else(|| SecretError::Empty(SECRET_VARIABLE.to_string()));
        }
        if !self.loopback_only {
            return Err(SecretError::BeyondLoopback);
        }
        let dir = self.state_dir.as_ref().ok_or(SecretError::Homeless)?;
        shared_by_processes_of_this_user(&dir.join("secret"))
    }
}

/// `$XDG_STATE_HOME/larder`, else `~/.local/state/larder`; `None` without a home directory.
pub fn state_dir() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join("larder"))
}

/// Makes the file when there is none. Two processes that start at once end up with one secret: each writes a
/// file of its own, and only the first can link it to the name.
fn shared_by_processes_of_this_user(path: &Path) -> Result<Secret, SecretError> {
    let unwritable = |error| SecretError::Unwritable {
        path: path.to_path_buf(),
        error,
    };
    match read_private(path) {
        Err(SecretError::Unreadable { error, .. }) if error.kind() == ErrorKind::NotFound => {}
        other => return other,
    }
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(unwritable)?;
    }
    let random: [u8; 32] = entropy::bytes().map_err(unwritable)?;
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    // The end of the name is random too, and the file is never opened when it exists.
    let draft = path.with_extension(&hex[..12]);
    let hex: String = hex.chars().skip(12).collect();
    write_private(&draft, hex.as_bytes()).map_err(unwritable)?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft).map_err(unwritable)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(unwritable(error)),
        Ok(()) | Err(_) => read_private(path),
    }
}

fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn read_private(path: &Path) -> Result<Secret, SecretError> {
    let unreadable = |error| SecretError::Unreadable {
        path: path.to_path_buf(),
        error,
    };
    let mode = fs::metadata(path).map_err(unreadable)?.mode();
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed {
            path: path.to_path_buf(),
        });
    }
    let text = fs::read(path).map_err(unreadable)?;
    Secret::new(&text).ok_or_else(|| SecretError::Empty(path.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn on_loopback(dir: &Path) -> SecretSource {
        SecretSource {
            loopback_only: true,
            state_dir: Some(dir.to_path_buf()),
            ..SecretSource::default()
        }
    }

    #[test]
    fn a_named_file_wins_over_the_variable_and_the_variable_over_the_users_own_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("named");
        fs::write(&file, "from the file\n").unwrap();
        let mut source = on_loopback(dir.path());
        let own = source.load().unwrap();
        source.variable = Some("from the variable".into());
        assert!(source.load().unwrap().matches(b"from the variable"));
        source.file = Some(file);
        assert!(source.load().unwrap().matches(b"from the file"));
        assert!(!own.matches(b"from the variable"));
    }

    #[test]
    fn the_users_own_file_is_made_once_private_and_random() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let nested = dir.path().join("state/larder");
        let first = on_loopback(&nested).load().unwrap();
        let again = on_loopback(&nested).load().unwrap();
        assert!(again.matches(first.expose()));
        assert!(
            !on_loopback(other.path())
                .load()
                .unwrap()
                .matches(first.expose())
        );
        assert_eq!(
            fs::metadata(nested.join("secret")).unwrap().mode() & 0o777,
            0o600
        );
        assert_eq!(
            fs::read_dir(&nested).unwrap().count(),
            1,
            "a draft was left behind"
        );
    }

    #[test]
    fn processes_that_start_at_once_end_up_with_one_secret() {
        let dir = tempfile::tempdir().unwrap();
        let source = on_loopback(dir.path());
        let secrets: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| source.load().unwrap()))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(
            secrets
                .iter()
                .all(|secret| secret.matches(secrets[0].expose()))
        );
    }

    #[test]
    fn beyond_loopback_a_secret_must_be_given() {
        let dir = tempfile::tempdir().unwrap();
        let source = SecretSource {
            loopback_only: false,
            ..on_loopback(dir.path())
        };
        assert!(matches!(source.load(), Err(SecretError::BeyondLoopback)));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_exposed_or_empty_or_missing_file_is_a_clear_error() {
        let dir = tempfile::tempdir().unwrap();
        let source = on_loopback(dir.path());
        source.load().unwrap();
        let path = dir.path().join("secret");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(source.load().unwrap_err().to_string().contains("chmod 600"));
        let named = |path: PathBuf| SecretSource {
            file: Some(path),
            ..SecretSource::default()
        };
        let empty = dir.path().join("empty");
        fs::write(&empty, "\n").unwrap();
        assert!(matches!(named(empty).load(), Err(SecretError::Empty(_))));
        assert!(matches!(
            named(dir.path().join("none")).load(),
            Err(SecretError::Unreadable { .. })
        ));
    }
}
