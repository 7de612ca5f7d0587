//! Where etcd is, as `--store` has it: `etcd://[user:password@]host:port[,host:port…][/prefix]`.

use std::fmt;
use std::str::FromStr;

/// What all keys begin with, where no prefix is given.
const PREFIX: &str = "/larder";
/// Members of one etcd at most.
const ENDPOINTS_MAX: usize = 16;

/// Its `Debug` and `Display` show no password.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdAddress {
    /// `host:port`.
    endpoints: Vec<String>,
    prefix: String,
    user: Option<(String, String)>,
}

impl EtcdAddress {
    pub(crate) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Begins with a slash and ends without one.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Name and password.
    pub(crate) fn user(&self) -> Option<(&str, &str)> {
        let (name, password) = self.user.as_ref()?;
        Some((name, password))
    }
}

impl FromStr for EtcdAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<EtcdAddress, String> {
        const FORM: &str = "write etcd://host:2379,host:2379/prefix";
        let Some(rest) = text.strip_prefix("etcd://") else {
            return Err(format!("only etcd:// is known ({FORM})"));
        };
        let (user, rest) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((user, rest)) => match user.split_once(':') {
                Some((name, password)) if !name.is_empty() => {
                    (Some((name.to_string(), password.to_string())), rest)
                }
                Some(_) | None => return Err("a user is written name:password@".to_string()),
            },
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let endpoints: Vec<String> = hosts.split(',').map(str::to_string).collect();
        for endpoint in &endpoints {
            let port = endpoint
                .rsplit_once(':')
                .filter(|(host, _)| !host.is_empty())
                .and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none() {
                return Err(format!("'{endpoint}' is no host:port ({FORM})"));
            }
        }
        if endpoints.len() > ENDPOINTS_MAX {
            return Err(format!("more than {ENDPOINTS_MAX} members of one etcd"));
        }
        let path = path.trim_matches('/');
        let prefix = match path {
            "" => PREFIX.to_string(),
            path => format!("/{path}"),
        };
        Ok(EtcdAddress {
            endpoints,
            prefix,
            user,
        })
    }
}

impl fmt::Display for EtcdAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd://{}{}", self.endpoints.join(","), self.prefix)
    }
}

impl fmt::Debug for EtcdAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_prefix_and_user_are_read_and_the_password_is_not_shown() {
        let plain: EtcdAddress = "etcd://10.0.0.1:2379".parse().unwrap();
        assert_eq!(plain.to_string(), "etcd://10.0.0.1:2379/larder");
        assert_eq!(plain.user(), None);
        let full: EtcdAddress = "etcd://root:p@ss:w@a:1,[::1]:2/caches/one/"
            .parse()
            .unwrap();
        assert_eq!(full.endpoints(), ["a:1", "[::1]:2"]);
        assert_eq!(full.prefix(), "/caches/one");
        assert_eq!(full.user(), Some(("root", "p@ss:w")));
        assert!(!format!("{full:?} {full}").contains("p@ss"));
    }

    #[test]
    fn what_is_no_address_is_told_how_to_write_one() {
        for (wrong, named) in [
            ("http://a:1", "etcd://"),
            ("etcd://", "host:port"),
            ("etcd://a", "'a'"),
            ("etcd://a:1,", "''"),
            ("etcd://a:x", "'a:x'"),
            ("etcd://me@a:1", "name:password@"),
        ] {
            let error = wrong.parse::<EtcdAddress>().unwrap_err();
            assert!(error.contains(named), "{wrong}: {error}");
        }
    }
}
