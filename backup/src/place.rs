//! Where sets are kept: a folder, or a bucket of an S3-compatible store, by `object_store`. What is in a set is not known here.
//!
//! A set is a folder (or a prefix) named by [`SetName`]. Its manifest is written last and deleted first: whatever has one is whole. What has none and
//! shows no sign of life is left over from an interrupted backup.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::aws::AmazonS3Builder;
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};
use tokio::io::AsyncWriteExt;

use crate::manifest::{MANIFEST, MANIFEST_SEAL, MARKER, Manifest, SetName};
use crate::{Key, sums};

/// A backup that has not renewed its marker for so long is dead, in seconds.
pub const MARKER_STALE_S: i64 = 120;
/// Uploads of pieces of one part at the same time.
const UPLOADS_MAX: usize = 2;
/// A request that fails is tried again so often, and for so many seconds, at most.
const RETRIES_MAX: usize = 6;
const RETRY_S_MAX: u64 = 60;
/// Bytes of an upload's piece, at least and at most. A store takes 10,000 of them a part.
const PIECE_BYTES_MIN: usize = 8 * 1024 * 1024;
const PIECE_BYTES_MAX: usize = 512 * 1024 * 1024;
const PIECES_MEANT: usize = 5_000;

/// One place for sets.
#[derive(Clone)]
pub struct Place {
    store: Arc<dyn ObjectStore>,
    /// Where the store is a folder.
    folder: Option<PathBuf>,
    prefix: Path,
    shown: String,
}

/// One set, as a listing finds it.
pub struct Found {
    pub name: SetName,
    /// Or why there is none: `None` where it is not written yet.
    pub manifest: Result<Option<Manifest>, String>,
}

impl Found {
    pub fn whole(&self) -> Option<&Manifest> {
        self.manifest.as_ref().ok().and_then(Option::as_ref)
    }
}

impl Place {
    /// `url`: a path, `file:///path`, or `s3://bucket/prefix`, whose keys, region and so on come from the environment (`AWS_…`). `endpoint`: of a
    /// store that is not Amazon's. `make`: a folder that is not there is made.
    pub fn open(url: &str, endpoint: Option<&str>, make: bool) -> Result<Place, String> {
        match url.split_once("://") {
            Some(("s3", rest)) => Place::open_s3(url, rest, endpoint),
            Some(("file", path)) => Place::open_folder(FilePath::new(path), make),
            Some((scheme, _)) => Err(format!(
                "'{url}': no store is known by '{scheme}' (write a folder, or s3://bucket/prefix)"
            )),
            None if url.is_empty() => Err("where to? write a folder, or s3://bucket/prefix".into()),
            None => Place::open_folder(FilePath::new(url), make),
        }
    }

    fn open_folder(path: &FilePath, make: bool) -> Result<Place, String> {
        let told =
            |error: &dyn std::fmt::Display| format!("cannot use {}: {error}", path.display());
        if make {
            let mut builder = std::fs::DirBuilder::new();
            // Whoever reads it has all the data.
            let made = builder.recursive(true).mode(0o700).create(path);
            made.map_err(|error| told(&error))?;
        }
        let folder = path.canonicalize().map_err(|error| told(&error))?;
        let store = LocalFileSystem::new_with_prefix(&folder).map_err(|error| told(&error))?;
        Ok(Place {
            store: Arc::new(store.with_fsync(true)),
            shown: folder.display().to_string(),
            folder: Some(folder),
            prefix: Path::default(),
        })
    }

    fn open_s3(url: &str, rest: &str, endpoint: Option<&str>) -> Result<Place, String> {
        // Said twice it stays as it was.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = Path::parse(prefix.trim_end_matches('/'));
        let told = |error: &dyn std::fmt::Display| format!("cannot use {url}: {error}");
        // A part of a large backup takes as long as it takes.
        let options = ClientOptions::new().with_timeout_disabled();
        let retry = RetryConfig {
            max_retries: RETRIES_MAX,
            retry_timeout: std::time::Duration::from_secs(RETRY_S_MAX),
            ..RetryConfig::default()
        };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_retry(retry)
            .with_client_options(options);
        if let Some(endpoint) = endpoint {
            builder = builder
                .with_endpoint(endpoint)
                .with_allow_http(endpoint.starts_with("http://"));
        }
        Ok(Place {
            store: Arc::new(builder.build().map_err(|error| told(&error))?),
            folder: None,
            prefix: prefix.map_err(|error| told(&error))?,
            shown: url.trim_end_matches('/').to_string(),
        })
    }

    /// For people.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    fn set_path(&self, set: SetName) -> Path {
        self.prefix.clone().join(set.to_string())
    }

    fn path(&self, set: SetName, name: &str) -> Path {
        self.set_path(set).join(name)
    }

    fn fault(&self, doing: &str, what: &str, error: &object_store::Error) -> String {
        format!("cannot {doing} {what} at {}: {}", self.shown, causes(error))
    }

    pub async fn write(&self, set: SetName, name: &str, bytes: Vec<u8>) -> Result<(), String> {
        let payload = PutPayload::from(Bytes::from(bytes));
        let put = self.store.put(&self.path(set, name), payload).await;
        put.map(|_| ())
            .map_err(|error| self.fault("write", name, &error))
    }

    /// A part that comes bit by bit and is there when it is finished; `expected`: about its bytes.
    pub fn writer(&self, set: SetName, name: &str, expected: u64) -> PartWriter {
        let meant = usize::try_from(expected).unwrap_or(usize::MAX) / PIECES_MEANT;
        let piece = meant.clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX);
        let writer = BufWriter::with_capacity(Arc::clone(&self.store), self.path(set, name), piece);
        PartWriter {
            writer: writer.with_max_concurrency(UPLOADS_MAX),
            told: format!("cannot write {name} at {}", self.shown),
        }
    }

    /// All of a small object; `None`: there is none.
    pub async fn read(&self, set: SetName, name: &str) -> Result<Option<Vec<u8>>, String> {
        let fault = |error| self.fault("read", &format!("{set}/{name}"), &error);
        match self.store.get(&self.path(set, name)).await {
            Ok(found) => Ok(Some(found.bytes().await.map_err(fault)?.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(fault(error)),
        }
    }

    /// The bytes of a part as they come, and how many they are.
    pub async fn stream(
        &self,
        set: SetName,
        name: &str,
    ) -> Result<(u64, BoxStream<'static, object_store::Result<Bytes>>), String> {
        let got = self.store.get(&self.path(set, name)).await;
        let got = got.map_err(|error| self.fault("read", &format!("{set}/{name}"), &error))?;
        Ok((got.meta.size, got.into_stream()))
    }

    /// Bytes of a part that is there.
    pub async fn size(&self, set: SetName, name: &str) -> Result<u64, String> {
        let head = self.store.head(&self.path(set, name)).await;
        head.map(|meta| meta.size)
            .map_err(|error| self.fault("find", &format!("{set}/{name}"), &error))
    }

    /// All sets, the oldest first.
    pub async fn sets(&self) -> Result<Vec<Found>, String> {
        let prefix = (!self.prefix.as_ref().is_empty()).then_some(&self.prefix);
        let listed = self.store.list_with_delimiter(prefix).await;
        let listed = listed.map_err(|error| self.fault("list", "what is", &error))?;
        let names = listed.common_prefixes.iter();
        let mut names: Vec<SetName> = names
            .filter_map(|path| path.filename()?.parse().ok())
            .collect();
        names.sort_unstable();
        let mut sets = Vec::new();
        for name in names {
            let manifest = match self.read(name, MANIFEST).await? {
                Some(json) => Manifest::parse(&json).map(Some),
                None => Ok(None),
            };
            sets.push(Found { name, manifest });
        }
        Ok(sets)
    }

    /// The manifest of a set that is to be read, its seal checked when there is a key.
    pub async fn manifest(&self, set: SetName, key: Option<&Key>) -> Result<Manifest, String> {
        let at = format!("{set} at {}", self.shown);
        let Some(json) = self.read(set, MANIFEST).await? else {
            return Err(format!(
                "{at} is no whole set: it has no manifest (it was interrupted, or is under way)"
            ));
        };
        let manifest = Manifest::parse(&json).map_err(|why| format!("{at}: {why}"))?;
        let seal = self.read(set, MANIFEST_SEAL).await?.unwrap_or_default();
        let seal = String::from_utf8_lossy(&seal);
        let sealed = match (&manifest.encryption, key) {
            (None, _) => seal.trim() == sums::sha256(&json),
            (Some(encryption), None) => {
                return Err(format!(
                    "{at} is encrypted with key {} (give its file with --key-file)",
                    encryption.key
                ));
            }
            (Some(encryption), Some(key)) if encryption.key != key.id() => {
                return Err(format!(
                    "{at} is encrypted with key {}, and --key-file holds key {}",
                    encryption.key,
                    key.id()
                ));
            }
            (Some(_), Some(key)) => key.manifest_is_sealed(&set.to_string(), &json, &seal),
        };
        if !sealed {
            return Err(format!(
                "{at}: its manifest was changed after it was made ({MANIFEST} and {MANIFEST_SEAL} do not belong together)"
            ));
        }
        Ok(manifest)
    }

    /// Says that the set is under way.
    pub async fn mark(&self, set: SetName) -> Result<(), String> {
        let text = format!("{{\"process\":{}}}\n", std::process::id());
        self.write(set, MARKER, text.into_bytes()).await
    }

    pub async fn unmark(&self, set: SetName) -> Result<(), String> {
        match self.store.delete(&self.path(set, MARKER)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.fault("delete", MARKER, &error)),
        }
    }

    /// Sets without a manifest whose makers are gone. By the store's own clock: `own` is a set that was marked just now.
    pub async fn left_over(&self, own: SetName) -> Result<Vec<SetName>, String> {
        let marked = |set| self.path(set, MARKER);
        let now = self.store.head(&marked(own)).await;
        let now = now.map_err(|error| self.fault("find", MARKER, &error))?;
        let mut left = Vec::new();
        for found in self.sets().await? {
            if found.name == own || !matches!(found.manifest, Ok(None)) {
                continue;
            }
            let alive = match self.store.head(&marked(found.name)).await {
                Ok(mark) => (now.last_modified - mark.last_modified).num_seconds() < MARKER_STALE_S,
                Err(object_store::Error::NotFound { .. }) => false,
                Err(error) => return Err(self.fault("find", MARKER, &error)),
            };
            if !alive {
                left.push(found.name);
            }
        }
        Ok(left)
    }

    /// Deletes a set: what it was whole by goes first.
    pub async fn delete(&self, set: SetName) -> Result<(), String> {
        let fault = |error| self.fault("delete", &set.to_string(), &error);
        match self.store.delete(&self.path(set, MANIFEST)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(fault(error)),
        }
        if let Some(folder) = &self.folder {
            // What was half written is under names that the store does not list.
            return match std::fs::remove_dir_all(folder.join(set.to_string())) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(format!("cannot delete {set} at {}: {error}", self.shown))
                }
                Ok(()) | Err(_) => Ok(()),
            };
        }
        let path = self.set_path(set);
        let mut listed = self.store.list(Some(&path));
        while let Some(object) = listed.next().await {
            let location = object.map_err(fault)?.location;
            match self.store.delete(&location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(fault(error)),
            }
        }
        Ok(())
    }
}

/// An error and what caused it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text.replace('\n', " ")
}

/// A part on its way.
pub struct PartWriter {
    writer: BufWriter,
    told: String,
}

impl PartWriter {
    pub async fn write(&mut self, bytes: Vec<u8>) -> Result<(), String> {
        let put = self.writer.put(Bytes::from(bytes)).await;
        put.map_err(|error| format!("{}: {}", self.told, causes(&error)))
    }

    /// It is in place when this returns.
    pub async fn finish(mut self) -> Result<(), String> {
        let ended = self.writer.shutdown().await;
        ended.map_err(|error| format!("{}: {}", self.told, causes(&error)))
    }

    /// Takes back what was sent.
    pub async fn abort(mut self) {
        // What cannot be taken back is removed with its set.
        let _ = self.writer.abort().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::manifest;

    fn place() -> (tempfile::TempDir, Place) {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::open(folder.path().to_str().unwrap(), None, true).unwrap();
        (folder, place)
    }

    #[tokio::test]
    async fn sets_are_found_in_order_and_what_has_no_manifest_is_not_whole() {
        let (folder, place) = place();
        let (old, new, half) = (SetName::at(1000), SetName::at(2000), SetName::at(1500));
        for set in [new, old] {
            let json = manifest(set.seconds(), "larder").to_json();
            place.write(set, MANIFEST, json).await.unwrap();
        }
        place.mark(half).await.unwrap();
        std::fs::create_dir(folder.path().join("something else")).unwrap();
        let found = place.sets().await.unwrap();
        let names: Vec<(SetName, bool)> = found
            .iter()
            .map(|set| (set.name, set.whole().is_some()))
            .collect();
        assert_eq!(names, [(old, true), (half, false), (new, true)]);
        let told = place.manifest(half, None).await.unwrap_err();
        assert!(told.contains("no whole set"), "{told}");
    }

    #[tokio::test]
    async fn only_what_shows_no_sign_of_life_is_left_over() {
        let (folder, place) = place();
        let (own, alive, dead, bare) = (
            SetName::at(4000),
            SetName::at(1000),
            SetName::at(2000),
            SetName::at(3000),
        );
        for set in [own, alive, dead] {
            place.mark(set).await.unwrap();
        }
        place.write(bare, "shard-1.rdb", vec![1]).await.unwrap();
        let marker = folder.path().join(dead.to_string()).join(MARKER);
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(600);
        let file = std::fs::File::options().write(true).open(marker).unwrap();
        file.set_modified(long_ago).unwrap();
        assert_eq!(place.left_over(own).await.unwrap(), [dead, bare]);
        place.delete(dead).await.unwrap();
        assert!(!folder.path().join(dead.to_string()).exists());
        place.delete(dead).await.expect("gone is gone");
    }

    #[tokio::test]
    async fn a_part_is_there_once_it_is_finished_and_not_when_it_is_given_up() {
        let (folder, place) = place();
        let set = SetName::at(1000);
        for (name, finished) in [("a.rdb", true), ("b.rdb", false)] {
            let mut writer = place.writer(set, name, 0);
            for _ in 0..3 {
                writer.write(vec![7; PIECE_BYTES_MIN]).await.unwrap();
            }
            match finished {
                true => writer.finish().await.unwrap(),
                false => writer.abort().await,
            }
        }
        let bytes = 3 * PIECE_BYTES_MIN as u64;
        assert_eq!(place.size(set, "a.rdb").await, Ok(bytes));
        assert!(place.size(set, "b.rdb").await.is_err());
        let files = std::fs::read_dir(folder.path().join(set.to_string())).unwrap();
        assert_eq!(files.count(), 1, "nothing half written stays");
    }

    #[test]
    fn places_that_mean_nothing_are_told() {
        for (url, told) in [
            ("ftp://x/y", "no store is known by 'ftp'"),
            ("", "where to?"),
            ("/nowhere/at/all", "cannot use /nowhere/at/all"),
        ] {
            let error = Place::open(url, None, false).err().unwrap();
            assert!(error.contains(told), "{error}");
        }
    }
}
