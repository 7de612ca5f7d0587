//! What an import counts, for Prometheus: its latest report.

use std::sync::{Mutex, PoisonError};

use larder_runtime::metrics::{Page, Source};

use crate::report::Report;

larder_runtime::metrics! {
    /// All metrics of an import.
    pub DECLARED;
    STATE = gauge "larder_import_state" ["state"] "1 for the state that the import is in.";
    KEYS_TOTAL = gauge "larder_import_source_keys" ["source"] "Keys that the source held when the copy of one moment began.";
    KEYS = counter "larder_import_keys_total" ["source"] "Keys of the copy of one moment that were taken in.";
    BYTES = counter "larder_import_bytes_total" ["source"] "Bytes of the copy of one moment that were taken in.";
    COMMANDS = counter "larder_import_commands_total" ["source"] "Commands of the source's stream that were carried out.";
    LAG_BYTES = gauge "larder_import_lag_bytes" ["source"] "Bytes of the source's stream that are not taken in yet.";
    LAG_SECONDS = gauge "larder_import_lag_seconds" ["source"] "How long ago the source was where the import is, in seconds.";
    REFETCHED = counter "larder_import_refetched_keys_total" ["source"] "Keys that were in doubt and fetched from the source anew.";
    REFUSED = counter "larder_import_refused_total" ["source"] "Requests that a node refused, or that were lost with their connection.";
    CHECKED = gauge "larder_import_verified_keys" [] "Keys that the last comparison has looked at.";
    DIFFERENT = gauge "larder_import_different_keys" [] "Keys that the last comparison has found different, and fetched anew.";
}

/// The report that is shown last.
#[derive(Debug, Default)]
pub struct Shown(Mutex<Option<Report>>);

impl Shown {
    pub fn set(&self, report: &Report) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(report.clone());
    }
}

impl Source for Shown {
    fn collect(&self, page: &mut Page) {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(report) = shown.as_ref() else {
            return;
        };
        page.value(&STATE, &[report.state.word()], 1_u64);
        for source in &report.sources {
            let labels = [source.addr.as_str()];
            page.value(&KEYS_TOTAL, &labels, source.keys_total);
            page.value(&KEYS, &labels, source.keys_copied);
            page.value(&BYTES, &labels, source.bytes_copied);
            page.value(&COMMANDS, &labels, source.commands);
            page.value(&LAG_BYTES, &labels, source.lag_bytes);
            page.value(&LAG_SECONDS, &labels, source.lag_seconds);
            page.value(&REFETCHED, &labels, source.counts.refetched);
            page.value(&REFUSED, &labels, source.counts.refused);
        }
        if let Some(verified) = &report.verified {
            page.value(&CHECKED, &[], verified.checked);
            page.value(&DIFFERENT, &[], verified.different);
        }
    }
}
