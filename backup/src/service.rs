//! `larder backup --window`: one backup a day, verified; then the oldest ones go. When, and which, is `schedule`'s to say.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use larder_runtime::{clock, entropy};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::manifest::SetName;
use crate::metrics::BackupMetrics;
use crate::read::Reader;
use crate::schedule::{self, Past, Window};
use crate::take::{Take, take};

/// Longest sleep before the clock is read again, in seconds: it may be set meanwhile.
const SLEEP_S_MAX: i64 = 30;

pub struct Service {
    pub take: Take,
    pub window: Window,
    /// Whole sets of this cluster that stay; `None`: all.
    pub keep: Option<usize>,
    pub metrics: Arc<BackupMetrics>,
}

impl Service {
    /// Runs until `stop` turns true. The error: it cannot begin.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) -> Result<(), String> {
        let mut past = Past {
            whole: self.look().await?.last().map(|set| set.seconds()),
            failed: None,
        };
        let mut chance = entropy::jitter();
        let mut told = None;
        loop {
            let now = clock::unix_millis().0 / 1000;
            let due = schedule::next_begin(self.window, past, now, chance);
            if due > now {
                if told.replace(due) != Some(due) {
                    info!("the next backup begins at {}", SetName::at(due));
                }
                let wait = Duration::from_secs((due - now).min(SLEEP_S_MAX).unsigned_abs());
                tokio::select! {
                    () = tokio::time::sleep(wait) => continue,
                    _ = stop.wait_for(|stop| *stop) => return Ok(()),
                }
            }
            let ended = self.once(stop.clone()).await;
            self.tell_warnings();
            if *stop.borrow() || stop.has_changed().is_err() {
                return Ok(());
            }
            match ended {
                Ok(name) => {
                    self.metrics.ok.fetch_add(1, Ordering::Relaxed);
                    past = Past {
                        whole: Some(name.seconds()),
                        failed: None,
                    };
                    chance = entropy::jitter();
                }
                Err(why) => {
                    error!("the backup failed: {why}");
                    self.metrics.failed.fetch_add(1, Ordering::Relaxed);
                    past.failed = Some(clock::unix_millis().0 / 1000);
                }
            }
        }
    }

    /// Takes one, reads it back, and only then removes what is surplus.
    async fn once(&self, stop: watch::Receiver<bool>) -> Result<SetName, String> {
        let began = Instant::now();
        let taken = take(&self.take, stop).await?;
        info!("{} is in place, and is read back", taken.name);
        let what = &self.take;
        let reader = Reader::open(&what.place, taken.name, what.key.as_ref(), &what.tally).await?;
        let mut read_back = reader.verify().await;
        if read_back.is_err() {
            // It may have been the network's fault.
            read_back = reader.verify().await;
        }
        if let Err(why) = read_back {
            // What cannot be read back must not be taken for a backup.
            what.place.delete(taken.name).await?;
            return Err(format!("{why} (the set was removed)"));
        }
        let manifest = &taken.manifest;
        info!(
            "{} is whole: {} keys, {} bytes, {:.1} s",
            taken.name,
            manifest.keys(),
            manifest.bytes(),
            began.elapsed().as_secs_f64()
        );
        let metrics = &self.metrics;
        let took_ms = began.elapsed().as_millis() as u64;
        metrics.duration_ms.store(took_ms, Ordering::Relaxed);
        metrics.bytes.store(manifest.bytes(), Ordering::Relaxed);
        metrics.keys.store(manifest.keys(), Ordering::Relaxed);
        self.retain().await;
        Ok(taken.name)
    }

    /// A set that cannot be removed is tried again after the next backup.
    async fn retain(&self) {
        let removed = async {
            let whole = self.look().await?;
            for set in self
                .keep
                .map_or(Vec::new(), |keep| schedule::surplus(&whole, keep))
            {
                self.take.place.delete(set).await?;
                info!("removed {set}");
            }
            self.look().await.map(|_| ())
        };
        if let Err(why) = removed.await {
            warn!("{why}");
        }
    }

    /// Whole sets of this cluster, the oldest first.
    async fn look(&self) -> Result<Vec<SetName>, String> {
        let cluster = self.take.access.view().await?.cluster;
        let sets = self.take.place.sets().await?;
        let own = sets
            .iter()
            .filter(|found| found.whole().is_some_and(|it| it.cluster == cluster));
        let own: Vec<SetName> = own.map(|found| found.name).collect();
        self.metrics.sets.store(own.len() as u64, Ordering::Relaxed);
        if let Some(last) = own.last() {
            let at = last.seconds().unsigned_abs();
            self.metrics.last_success_s.store(at, Ordering::Relaxed);
        }
        Ok(own)
    }

    fn tell_warnings(&self) {
        for line in self.take.tally.take_warnings() {
            warn!("{line}");
        }
    }
}
