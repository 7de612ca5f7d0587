//! Metrics: each declared once, in a table beside what it counts; counted with plain single-writer
//! atomics; turned into Prometheus' text only when somebody scrapes.
//!
//! ```text
//! metrics! table  ──▶  Declared (name, kind, labels, help)  ──▶ dashboards and rules are tested against these
//! hot path: Count / Level / Latency  ──scrape──▶  Source::collect(Page)  ──▶  prometheus  ──▶  /metrics
//! ```

mod count;
mod latency;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus::Encoder;
use prometheus::core::{Collector, Desc};
use prometheus::proto;

pub use count::{Count, Level};
pub use latency::Latency;

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    Gauge,
    /// Durations in seconds; its name ends in `_seconds`.
    Histogram,
}

impl Kind {
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric's declaration; made by [`metrics!`](crate::metrics!) alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    /// One sentence, with the unit.
    pub help: &'static str,
}

/// Declares metrics, and a list of them all for tests and documentation:
///
/// ```
/// larder_runtime::metrics! {
///     /// All that this part counts.
///     pub DECLARED;
///     CLIENTS = gauge "redis_connected_clients" ["node"] "Client connections that are open.";
///     COMMANDS = counter "redis_commands_total" ["node", "cmd"] "Commands executed.";
/// }
/// assert_eq!(DECLARED.len(), 2);
/// assert_eq!(COMMANDS.labels, ["node", "cmd"]);
/// ```
#[macro_export]
macro_rules! metrics {
    (
        $(#[$doc:meta])* $vis:vis $list:ident;
        $($name:ident = $kind:ident $text:literal [$($label:literal),*] $help:literal;)*
    ) => {
        $(
            #[doc = $help]
            $vis const $name: $crate::metrics::Declared = $crate::metrics::Declared {
                name: $text,
                kind: $crate::metrics!(@kind $kind),
                labels: &[$($label),*],
                help: $help,
            };
        )*
        $(#[$doc])* $vis const $list: &[$crate::metrics::Declared] = &[$($name),*];
    };
    (@kind counter) => { $crate::metrics::Kind::Counter };
    (@kind gauge) => { $crate::metrics::Kind::Gauge };
    (@kind histogram) => { $crate::metrics::Kind::Histogram };
}

/// Whoever has numbers to show. Called on each scrape, on the thread of the HTTP server: it reads atomics and
/// never waits for a node's thread.
pub trait Source: Send + Sync {
    fn collect(&self, page: &mut Page);
}

/// All sources of one process.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<Vec<Weak<dyn Source>>>>);

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registry")
    }
}

impl Registry {
    pub fn new() -> Registry {
        Registry::default()
    }

    /// From here on `source` is on every page, until its last owner lets go of it: the registry is none, so that a
    /// node that ended takes its numbers with it.
    pub fn add<S: Source + 'static>(&self, source: &Arc<S>) {
        let weak = Arc::downgrade(source);
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(weak);
    }

    /// The page in Prometheus' text format 0.0.4.
    pub fn text(&self) -> String {
        let sources: Vec<Arc<dyn Source>> = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|source| source.strong_count() > 0);
            all.iter().filter_map(Weak::upgrade).collect()
        };
        let mut page = Page::default();
        for source in sources {
            source.collect(&mut page);
        }
        page.into_text()
    }
}

/// One scrape's numbers.
#[derive(Debug, Default)]
pub struct Page(BTreeMap<&'static str, proto::MetricFamily>);

impl Page {
    /// A counter's or gauge's value; `labels` in the order of the declaration.
    ///
    /// # Panics
    /// When there are not as many labels as were declared, or the metric is a histogram.
    pub fn value(&mut self, metric: &Declared, labels: &[&str], value: impl IntoValue) {
        let value = value.into_value();
        let mut sample = labelled(metric, labels);
        match metric.kind {
            Kind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                sample.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value);
                sample.set_gauge(gauge);
            }
            Kind::Histogram => panic!("{} is a histogram", metric.name),
        }
        self.family(metric).mut_metric().push(sample);
    }

    /// A histogram's buckets.
    ///
    /// # Panics
    /// As [`Page::value`].
    pub fn latency(&mut self, metric: &Declared, labels: &[&str], latency: &Latency) {
        assert_eq!(
            metric.kind,
            Kind::Histogram,
            "{} is no histogram",
            metric.name
        );
        let mut sample = labelled(metric, labels);
        sample.set_histogram(latency.to_proto());
        self.family(metric).mut_metric().push(sample);
    }

    fn family(&mut self, metric: &Declared) -> &mut proto::MetricFamily {
        self.0.entry(metric.name).or_insert_with(|| {
            let mut family = proto::MetricFamily::default();
            family.set_name(metric.name.to_string());
            family.set_help(metric.help.to_string());
            family.set_field_type(match metric.kind {
                Kind::Counter => proto::MetricType::COUNTER,
                Kind::Gauge => proto::MetricType::GAUGE,
                Kind::Histogram => proto::MetricType::HISTOGRAM,
            });
            family
        })
    }

    fn into_text(self) -> String {
        // Through a registry of the crate's, so that families are merged and put in order as it does it.
        let registry = prometheus::Registry::new();
        let mut bytes = Vec::new();
        let shown = registry
            .register(Box::new(Once(Mutex::new(self.0.into_values().collect()))))
            .and_then(|()| prometheus::TextEncoder::new().encode(&registry.gather(), &mut bytes));
        match shown {
            Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("# these metrics cannot be shown: {error}\n"),
        }
    }
}

/// Hands the families of one page to the crate's registry.
struct Once(Mutex<Vec<proto::MetricFamily>>);

impl Collector for Once {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn labelled(metric: &Declared, values: &[&str]) -> proto::Metric {
    assert_eq!(
        metric.labels.len(),
        values.len(),
        "labels of {}",
        metric.name
    );
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name(name.to_string());
        pair.set_value(value.to_string());
        pair
    };
    proto::Metric::from_label(metric.labels.iter().zip(values).map(pair).collect())
}

/// What a sample may be given as.
pub trait IntoValue {
    fn into_value(self) -> f64;
}

macro_rules! into_value {
    ($($int:ty),*) => {$(
        impl IntoValue for $int {
            fn into_value(self) -> f64 {
                self as f64
            }
        }
    )*};
}
into_value!(u64, i64, u32, i32, u16, usize, f64);

impl IntoValue for bool {
    fn into_value(self) -> f64 {
        f64::from(u8::from(self))
    }
}

impl IntoValue for &Count {
    fn into_value(self) -> f64 {
        self.get() as f64
    }
}

impl IntoValue for &Level {
    fn into_value(self) -> f64 {
        self.get() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    crate::metrics! {
        DECLARED;
        KEYS = gauge "test_keys" ["node"] "Keys.";
        HITS = counter "test_hits_total" [] "Hits.";
        WAIT = histogram "test_wait_seconds" ["family"] "Waits.";
    }

    struct Node(&'static str, Count, Latency);

    impl Source for Node {
        fn collect(&self, page: &mut Page) {
            page.value(&KEYS, &[self.0], 7_u64);
            page.value(&HITS, &[], &self.1);
            page.latency(&WAIT, &[self.0], &self.2);
        }
    }

    #[test]
    fn a_page_shows_every_source_under_one_heading_a_metric() {
        let registry = Registry::new();
        let (a, b) = (
            Arc::new(Node("a", Count::new(), Latency::new())),
            Arc::new(Node("b", Count::new(), Latency::new())),
        );
        a.1.add(3);
        a.2.record(Duration::from_millis(1));
        registry.add(&a);
        registry.add(&b);
        let text = registry.text();
        assert_eq!(text.matches("# TYPE test_keys gauge").count(), 1, "{text}");
        for line in [
            "test_keys{node=\"a\"} 7",
            "test_keys{node=\"b\"} 7",
            "test_hits_total 3",
            "test_wait_seconds_count{family=\"a\"} 1",
            "test_wait_seconds_bucket{family=\"a\",le=\"+Inf\"} 1",
        ] {
            assert!(text.contains(line), "no {line} in:\n{text}");
        }
    }

    #[test]
    fn a_source_that_ended_leaves_the_page() {
        let registry = Registry::new();
        let node = Arc::new(Node("a", Count::new(), Latency::new()));
        registry.add(&node);
        assert!(registry.text().contains("test_keys"));
        drop(node);
        assert_eq!(registry.text(), "");
    }

    #[test]
    #[should_panic(expected = "labels of test_keys")]
    fn a_label_too_few_is_our_own_mistake() {
        Page::default().value(&KEYS, &[], 1_u64);
    }

    #[test]
    fn the_list_holds_every_declaration() {
        let names: Vec<_> = DECLARED
            .iter()
            .map(|metric| (metric.name, metric.kind.word()))
            .collect();
        assert_eq!(
            names,
            [
                ("test_keys", "gauge"),
                ("test_hits_total", "counter"),
                ("test_wait_seconds", "histogram")
            ]
        );
    }
}
