//! The parameters of `CONFIG GET` and `CONFIG SET`: one table, one row a parameter.
//!
//! Parameters that mean something here act; those of Redis that clients ask for and that have one
//! possible answer here (`save`, `appendonly`, …) are fixed. What a value brings about is not known here: the node reads it.

use larder_wire::Refusal;

/// What texts a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Text,
    /// Bytes, with units `k kb m mb g gb`; shown as a plain number.
    Memory,
    Int {
        min: i64,
        max: i64,
    },
    Bool,
    OneOf(&'static [&'static str]),
}

/// Whether `CONFIG SET` may change a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Live,
    /// Set at the start, or by what this server is.
    Fixed,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub change: Change,
}

macro_rules! parameters {
    ($($id:ident $name:literal $kind:expr, $default:literal $change:ident;)*) => {
        /// One variant a row.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Parameter { $($id,)* }

        impl Parameter {
            pub const ALL: &'static [Parameter] = &[$(Parameter::$id,)*];
        }

        const ROWS: &[Row] = &[$(Row { name: $name, kind: $kind, default: $default, change: Change::$change },)*];
    };
}

const ANY_INT: Kind = Kind::Int {
    min: i64::MIN,
    max: i64::MAX,
};
const COUNT: Kind = Kind::Int {
    min: 0,
    max: i64::MAX,
};

pub const POLICIES: &[&str] = &[
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "noeviction",
];

#[rustfmt::skip]
parameters! {
    Maxmemory               "maxmemory"                 Kind::Memory,                                "0"           Live;
    MaxmemoryPolicy         "maxmemory-policy"          Kind::OneOf(POLICIES),                       "noeviction"  Live;
    MaxmemorySamples        "maxmemory-samples"         Kind::Int { min: 1, max: 64 },               "5"           Live;
    MaxmemoryClients        "maxmemory-clients"         Kind::Memory,                                "0"           Fixed;
    Maxclients              "maxclients"                Kind::Int { min: 1, max: 4_294_967_295 },    "10000"       Live;
    Requirepass             "requirepass"               Kind::Text,                                  ""            Live;
    Masterauth              "masterauth"                Kind::Text,                                  ""            Fixed;
    Timeout                 "timeout"                   Kind::Int { min: 0, max: i32::MAX as i64 },  "0"           Live;
    TcpKeepalive            "tcp-keepalive"             Kind::Int { min: 0, max: i32::MAX as i64 },  "300"         Fixed;
    Databases               "databases"                 Kind::Int { min: 1, max: i32::MAX as i64 },  "1"           Fixed;
    Bind                    "bind"                      Kind::Text,                                  ""            Fixed;
    Port                    "port"                      Kind::Int { min: 0, max: 65535 },            "0"           Fixed;
    ProtectedMode           "protected-mode"            Kind::Bool,                                  "yes"         Live;
    ClusterEnabled          "cluster-enabled"           Kind::Bool,                                  "no"          Fixed;
    ClusterRequireFull      "cluster-require-full-coverage" Kind::Bool,                              "no"          Fixed;
    Save                    "save"                      Kind::Text,                                  ""            Fixed;
    Appendonly              "appendonly"                Kind::Bool,                                  "no"          Fixed;
    Appendfsync             "appendfsync"               Kind::OneOf(&["everysec", "always", "no"]),  "everysec"    Fixed;
    Dir                     "dir"                       Kind::Text,                                  ""            Fixed;
    Dbfilename              "dbfilename"                Kind::Text,                                  ""            Fixed;
    Hz                      "hz"                        Kind::Int { min: 1, max: 500 },              "10"          Fixed;
    DynamicHz               "dynamic-hz"                Kind::Bool,                                  "no"          Fixed;
    Loglevel                "loglevel"                  Kind::OneOf(&["debug", "verbose", "notice", "warning", "nothing"]), "notice" Fixed;
    ProtoMaxBulkLen         "proto-max-bulk-len"        Kind::Memory,                                "536870912"   Fixed;
    LazyfreeLazyEviction    "lazyfree-lazy-eviction"    Kind::Bool,                                  "yes"         Fixed;
    LazyfreeLazyExpire      "lazyfree-lazy-expire"      Kind::Bool,                                  "yes"         Fixed;
    LazyfreeLazyServerDel   "lazyfree-lazy-server-del"  Kind::Bool,                                  "yes"         Fixed;
    LazyfreeLazyUserDel     "lazyfree-lazy-user-del"    Kind::Bool,                                  "yes"         Fixed;
    LazyfreeLazyUserFlush   "lazyfree-lazy-user-flush"  Kind::Bool,                                  "yes"         Fixed;
    Activedefrag            "activedefrag"              Kind::Bool,                                  "no"          Fixed;
    LfuLogFactor            "lfu-log-factor"            Kind::Int { min: 0, max: i32::MAX as i64 },  "10"          Fixed;
    LfuDecayTime            "lfu-decay-time"            Kind::Int { min: 0, max: i32::MAX as i64 },  "1"           Fixed;
    NotifyKeyspaceEvents    "notify-keyspace-events"    Kind::Text,                                  ""            Fixed;
    SlowlogLogSlowerThan    "slowlog-log-slower-than"   ANY_INT,                                     "-1"          Fixed;
    SlowlogMaxLen           "slowlog-max-len"           COUNT,                                       "128"         Fixed;
    LatencyMonitor          "latency-monitor-threshold" COUNT,                                       "0"           Fixed;
    LatencyTracking         "latency-tracking"          Kind::Bool,                                  "no"          Fixed;
    ReplicaReadOnly         "replica-read-only"         Kind::Bool,                                  "yes"         Fixed;
    OutputBufferLimit       "client-output-buffer-limit" Kind::Text, "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60" Fixed;
    QueryBufferLimit        "client-query-buffer-limit" Kind::Memory,                                "1073741824"  Fixed;
    ActiveExpire            "active-expire"             Kind::Bool,                                  "yes"         Live;
}

impl Parameter {
    pub fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    pub fn find(name: &[u8]) -> Option<Parameter> {
        Parameter::ALL
            .iter()
            .copied()
            .find(|it| name.eq_ignore_ascii_case(it.row().name.as_bytes()))
    }
}

/// The values of one node.
#[derive(Clone, Debug)]
pub struct Config {
    values: Vec<String>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            values: ROWS.iter().map(|row| row.default.to_string()).collect(),
        }
    }
}

impl Config {
    pub fn get(&self, parameter: Parameter) -> &str {
        &self.values[parameter as usize]
    }

    /// For what the start decides: no check of whether it may change.
    pub fn fix(&mut self, parameter: Parameter, value: impl Into<String>) {
        self.values[parameter as usize] = value.into();
    }

    pub fn int(&self, parameter: Parameter) -> i64 {
        let text = self.get(parameter);
        text.parse()
            .unwrap_or_else(|_| panic!("{} is no number: {text}", parameter.row().name))
    }

    pub fn flag(&self, parameter: Parameter) -> bool {
        self.get(parameter) == "yes"
    }

    /// `CONFIG SET` of several parameters: all or none.
    pub fn set(&mut self, pairs: &[(&[u8], &[u8])]) -> Result<(), Refusal> {
        let mut changes: Vec<(Parameter, String)> = Vec::with_capacity(pairs.len());
        for &(name, value) in pairs {
            let parameter = Parameter::find(name).ok_or_else(|| {
                Refusal::new(format!(
                    "ERR Unknown option or number of arguments for CONFIG SET - '{}'",
                    String::from_utf8_lossy(name)
                ))
            })?;
            let row = parameter.row();
            let failed = |why: &str| {
                Refusal::new(format!(
                    "ERR CONFIG SET failed (possibly related to argument '{}') - {why}",
                    row.name
                ))
            };
            if changes.iter().any(|(other, _)| *other == parameter) {
                return Err(failed("duplicate parameter"));
            }
            let value = normal_form(row.kind, value).map_err(|why| failed(&why))?;
            if row.change == Change::Fixed && value != self.get(parameter) {
                return Err(failed("can't set immutable config"));
            }
            changes.push((parameter, value));
        }
        for (parameter, value) in changes {
            self.values[parameter as usize] = value;
        }
        Ok(())
    }
}

fn normal_form(kind: Kind, value: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(value).into_owned();
    match kind {
        Kind::Text => Ok(text),
        Kind::Memory => memory_bytes(&text)
            .map(|bytes| bytes.to_string())
            .ok_or_else(|| "argument must be a memory value".to_string()),
        Kind::Int { min, max } => {
            let number: i64 = text
                .parse()
                .map_err(|_| "argument couldn't be parsed into an integer".to_string())?;
            if (min..=max).contains(&number) {
                Ok(number.to_string())
            } else {
                Err(format!(
                    "argument must be between {min} and {max} inclusive"
                ))
            }
        }
        Kind::Bool => match text.to_ascii_lowercase().as_str() {
            "yes" => Ok("yes".to_string()),
            "no" => Ok("no".to_string()),
            _ => Err("argument must be 'yes' or 'no'".to_string()),
        },
        Kind::OneOf(words) => words
            .iter()
            .find(|word| word.eq_ignore_ascii_case(&text))
            .map(|word| word.to_string())
            .ok_or_else(|| {
                format!(
                    "argument(s) must be one of the following: {}",
                    words.join(", ")
                )
            }),
    }
}

/// `100mb` and the like, as Redis reads them: `k` is 1000, `kb` is 1024.
pub fn memory_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_that_its_row_takes() {
        for &parameter in Parameter::ALL {
            let row = parameter.row();
            assert_eq!(
                normal_form(row.kind, row.default.as_bytes()),
                Ok(row.default.to_string()),
                "{}",
                row.name
            );
        }
    }

    #[test]
    fn a_set_of_several_parameters_changes_all_or_none() {
        let mut config = Config::default();
        let refused = config.set(&[(b"maxmemory", b"1gb"), (b"maxmemory-policy", b"best")]);
        assert!(refused.unwrap_err().text().starts_with(
            "ERR CONFIG SET failed (possibly related to argument 'maxmemory-policy') - argument(s) must be one of the following: volatile-lru"
        ));
        assert_eq!(config.get(Parameter::Maxmemory), "0");
        config
            .set(&[
                (b"MAXMEMORY", b"1gb"),
                (b"maxmemory-policy", b"ALLKEYS-LRU"),
            ])
            .unwrap();
        assert_eq!(config.get(Parameter::Maxmemory), "1073741824");
        assert_eq!(config.get(Parameter::MaxmemoryPolicy), "allkeys-lru");
    }

    #[test]
    fn a_fixed_parameter_takes_its_own_value_alone() {
        let mut config = Config::default();
        config.set(&[(b"appendonly", b"no")]).unwrap();
        assert_eq!(
            config.set(&[(b"appendonly", b"yes")]).unwrap_err().text(),
            "ERR CONFIG SET failed (possibly related to argument 'appendonly') - can't set immutable config"
        );
        assert_eq!(
            config.set(&[(b"nonsense", b"1")]).unwrap_err().text(),
            "ERR Unknown option or number of arguments for CONFIG SET - 'nonsense'"
        );
    }

    #[test]
    fn memory_values_have_units() {
        assert_eq!(memory_bytes("100"), Some(100));
        assert_eq!(memory_bytes("2K"), Some(2000));
        assert_eq!(memory_bytes("2Mb"), Some(2 << 20));
        assert_eq!(memory_bytes("x"), None);
        assert_eq!(memory_bytes("-1"), None);
        assert_eq!(memory_bytes("99999999999gb"), None);
    }
}
