//! The parameters of `CONFIG GET` and `CONFIG SET`: `table` has one row a parameter, `kind` reads the values.
//!
//! What a value brings about is not known here: the node reads it.

mod kind;
mod table;

pub use kind::{Kind, Signed, Unsigned, memory_bytes};
pub use table::{Change, POLICIES, Parameter, Row};

use larder_wire::{Refusal, glob};

/// The values of one node.
#[derive(Clone, Debug)]
pub struct Config {
    values: Vec<String>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            values: table::ROWS
                .iter()
                .map(|row| row.default.to_string())
                .collect(),
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

    /// A number that is never negative: a size in bytes, or a count.
    pub fn size(&self, parameter: Parameter) -> u64 {
        let text = self.get(parameter);
        text.parse()
            .unwrap_or_else(|_| panic!("{} is no size: {text}", parameter.row().name))
    }

    pub fn flag(&self, parameter: Parameter) -> bool {
        self.get(parameter) == "yes"
    }

    /// What `CONFIG GET` with these patterns answers: each name once, an older name only where it was asked for.
    pub fn matching<'p>(
        &self,
        patterns: impl Iterator<Item = &'p [u8]>,
    ) -> Vec<(&'static str, &str)> {
        let mut found: Vec<(&'static str, &str)> = Vec::new();
        for pattern in patterns {
            let globs = pattern.iter().any(|byte| b"[*?".contains(byte));
            for &parameter in Parameter::ALL {
                for name in parameter.names() {
                    let matches = if globs {
                        !parameter.is_hidden()
                            && glob::matches_ignore_case(pattern, name.as_bytes())
                    } else {
                        pattern.eq_ignore_ascii_case(name.as_bytes())
                    };
                    if matches && !found.iter().any(|(other, _)| *other == name) {
                        found.push((name, self.get(parameter)));
                    }
                }
            }
        }
        found
    }

    /// Names and values of what differs from the default and may be set while a server runs, without what belongs to its machine or to its users.
    pub fn changed(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let of_the_cluster = |parameter: &Parameter| match parameter {
            Parameter::Maxmemory
            | Parameter::ProtectedMode
            | Parameter::BindSourceAddr
            | Parameter::Requirepass => false,
            other => matches!(other.row().change, Change::Live | Change::Kept),
        };
        let all = Parameter::ALL.iter().copied().filter(of_the_cluster);
        all.filter(|parameter| self.get(*parameter) != parameter.row().default)
            .map(|parameter| (parameter.row().name, self.get(parameter)))
    }

    /// `CONFIG SET` of several parameters: all or none.
    pub fn set(&mut self, pairs: &[(&[u8], &[u8])]) -> Result<(), Refusal> {
        self.set_allowing(pairs, |_| false)
    }

    /// What a node is started with: as [`Config::set`], and the names of its files besides.
    pub fn set_at_start(&mut self, pairs: &[(&[u8], &[u8])]) -> Result<(), Refusal> {
        self.set_allowing(pairs, Parameter::names_files)
    }

    fn set_allowing(
        &mut self,
        pairs: &[(&[u8], &[u8])],
        allowed: impl Fn(Parameter) -> bool,
    ) -> Result<(), Refusal> {
        let mut changes: Vec<(&[u8], Parameter, &[u8])> = Vec::with_capacity(pairs.len());
        for &(name, value) in pairs {
            let parameter = Parameter::find(name).ok_or_else(|| {
                Refusal::new(format!(
                    "ERR Unknown option or number of arguments for CONFIG SET - '{}'",
                    String::from_utf8_lossy(name)
                ))
            })?;
            match parameter.row().change {
                _ if allowed(parameter) => {}
                Change::Immutable => return Err(failed(name, "can't set immutable config")),
                Change::Protected => return Err(failed(name, "can't set protected config")),
                Change::Live | Change::Kept | Change::Fixed => {}
            }
            if changes.iter().any(|(_, other, _)| *other == parameter) {
                return Err(failed(name, "duplicate parameter"));
            }
            changes.push((name, parameter, value));
        }
        let mut values = Vec::with_capacity(changes.len());
        for (name, parameter, value) in changes {
            let (row, before) = (parameter.row(), self.get(parameter));
            if parameter.names_files() && (value.is_empty() || value.contains(&b'/')) {
                let why = format!("{} can't be a path, just a filename", row.name);
                return Err(failed(name, &why));
            }
            let value = row
                .kind
                .normal_form(value, before)
                .map_err(|why| failed(&name.to_ascii_lowercase(), &why))?;
            if row.change == Change::Fixed && value != before {
                let why = match parameter {
                    Parameter::Port => "Unable to listen on this port. Check server logs.",
                    _ => "can't set immutable config",
                };
                return Err(failed(name, why));
            }
            values.push((parameter, value));
        }
        for (parameter, value) in values {
            self.values[parameter as usize] = value;
        }
        Ok(())
    }
}

fn failed(name: &[u8], why: &str) -> Refusal {
    Refusal::new(format!(
        "ERR CONFIG SET failed (possibly related to argument '{}') - {why}",
        String::from_utf8_lossy(name)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_that_its_row_takes() {
        for &parameter in Parameter::ALL {
            let row = parameter.row();
            assert_eq!(
                row.kind.normal_form(row.default.as_bytes(), row.default),
                Ok(row.default.to_string()),
                "{}",
                row.name
            );
        }
    }

    #[test]
    fn every_name_is_one_parameters() {
        let mut names: Vec<&str> = Parameter::ALL.iter().flat_map(|it| it.names()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
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
        assert_eq!(
            config
                .set(&[(b"maxmemory", b"1"), (b"maxmemory", b"2")])
                .unwrap_err()
                .text(),
            "ERR CONFIG SET failed (possibly related to argument 'maxmemory') - duplicate parameter"
        );
    }

    #[test]
    fn what_is_set_at_the_start_stays() {
        let mut config = Config::default();
        let set = |config: &mut Config, name: &str, value: &str| {
            let set = config.set(&[(name.as_bytes(), value.as_bytes())]);
            set.map_err(|refusal| refusal.text().to_owned())
        };
        let failed = |name: &str, why: &str| {
            Err(format!(
                "ERR CONFIG SET failed (possibly related to argument '{name}') - can't set {why} config"
            ))
        };
        assert_eq!(
            set(&mut config, "databases", "16"),
            failed("databases", "immutable")
        );
        assert_eq!(set(&mut config, "dir", "/tmp"), failed("dir", "protected"));
        assert_eq!(set(&mut config, "port", "0"), Ok(()));
        assert_eq!(
            set(&mut config, "cluster-require-full-coverage", "yes"),
            failed("cluster-require-full-coverage", "immutable")
        );
        assert_eq!(
            set(&mut config, "nonsense", "1"),
            Err("ERR Unknown option or number of arguments for CONFIG SET - 'nonsense'".to_owned())
        );
    }

    #[test]
    fn an_older_name_is_answered_where_it_is_asked_for() {
        let mut config = Config::default();
        config.set(&[(b"hash-max-ziplist-entries", b"7")]).unwrap();
        let get = |patterns: &[&str]| -> Vec<(&str, String)> {
            let found = config.matching(patterns.iter().map(|pattern| pattern.as_bytes()));
            found
                .into_iter()
                .map(|(name, value)| (name, value.to_owned()))
                .collect()
        };
        assert_eq!(
            get(&["hash-max-*-entries"]),
            [
                ("hash-max-listpack-entries", "7".to_owned()),
                ("hash-max-ziplist-entries", "7".to_owned())
            ]
        );
        assert_eq!(
            get(&["HASH-MAX-ZIPLIST-ENTRIES", "hash-max-ziplist-entries"]),
            [("hash-max-ziplist-entries", "7".to_owned())]
        );
        assert_eq!(
            get(&["maxmemory", "nothing"]),
            [("maxmemory", "0".to_owned())]
        );
    }
}
