//! All users of a node, the log of what was refused to them, and what a change of them brings about.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use larder_wire::Refusal;
use larder_wire::control::OPERATOR_USER;

use super::file::{self, AclHost};
use super::rules::join_selectors;
use super::user::{PasswordHash, Rules, User};
use super::{Log, has_space_or_zero};

const DEFAULT_USER: &[u8] = b"default";

/// Users that are gone: whoever is logged in as one is to be disconnected.
pub type Removed = Vec<Rc<User>>;

/// See the module.
pub struct Acl {
    /// By name, the default user among them.
    users: BTreeMap<Box<[u8]>, Rc<User>>,
    default: Rc<User>,
    /// Whoever has shown the cluster's secret. No rule touches it, and no list shows it.
    operator: Rc<User>,
    pub log: RefCell<Log>,
    /// The file and the randomness of the process; without one there is neither.
    pub host: Option<Box<dyn AclHost>>,
}

impl Default for Acl {
    fn default() -> Acl {
        let default = Rc::new(User::new(DEFAULT_USER, Rules::all()));
        Acl {
            users: BTreeMap::from([(DEFAULT_USER.into(), Rc::clone(&default))]),
            default,
            operator: Rc::new(User::new(OPERATOR_USER.as_bytes(), Rules::all())),
            log: RefCell::default(),
            host: None,
        }
    }
}

impl Acl {
    /// Whose every connection is at first.
    pub fn default_user(&self) -> &Rc<User> {
        &self.default
    }

    pub fn operator(&self) -> &Rc<User> {
        &self.operator
    }

    pub fn get(&self, name: &[u8]) -> Option<&Rc<User>> {
        self.users.get(name)
    }

    /// By name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Rc<User>> {
        self.users.values()
    }

    /// A connection that has not logged in may do nothing.
    pub fn needs_login(&self) -> bool {
        !self.default.rules().is_open()
    }

    /// The user that `password` opens.
    pub fn log_in(&self, name: &[u8], password: &[u8]) -> Option<&Rc<User>> {
        self.get(name).filter(|user| user.rules().opens(password))
    }

    /// `requirepass`: the default user's only password, or none.
    pub fn set_default_password(&mut self, password: &[u8]) {
        let mut rules = self.default.rules().clone();
        rules.passwords.clear();
        rules.nopass = password.is_empty();
        if !rules.nopass {
            rules.passwords.push(PasswordHash::of(password));
        }
        self.default.set_rules(rules);
    }

    /// `ACL SETUSER name rules`: all of them or none. Returns the user and what its rules were before.
    pub fn set_user<'a>(
        &mut self,
        name: &[u8],
        rules: impl IntoIterator<Item = &'a [u8]>,
        all_channels: bool,
    ) -> Result<(Rc<User>, Option<Rules>), Refusal> {
        if has_space_or_zero(name) {
            return Err(Refusal::fixed(
                "ERR Usernames can't contain spaces or null characters",
            ));
        }
        if name == OPERATOR_USER.as_bytes() {
            return Err(Refusal::fixed(
                "ERR The 'larder' user is who shows the cluster's secret and cannot be changed",
            ));
        }
        let joined = join_selectors(rules).map_err(|open| {
            Refusal::new(format!(
                "ERR Unmatched parenthesis in acl selector starting at '{}'.",
                text_of(open)
            ))
        })?;
        let known = self.users.get(name).cloned();
        let before = known.as_ref().map(|user| user.rules().clone());
        let mut after = before.clone().unwrap_or_else(|| Rules::new(all_channels));
        for rule in &joined {
            after.apply(rule, all_channels).map_err(|error| {
                Refusal::new(format!(
                    "ERR Error in ACL SETUSER modifier '{}': {}",
                    text_of(rule),
                    error.text()
                ))
            })?;
        }
        let user = match known {
            Some(user) => {
                user.set_rules(after);
                user
            }
            None => {
                let user = Rc::new(User::new(name, after));
                self.users.insert(name.into(), Rc::clone(&user));
                user
            }
        };
        Ok((user, before))
    }

    /// `ACL DELUSER`; names that are none are passed over.
    pub fn remove<'a>(
        &mut self,
        names: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<Removed, Refusal> {
        if names.clone().any(|name| name == DEFAULT_USER) {
            return Err(Refusal::fixed("ERR The 'default' user cannot be removed"));
        }
        Ok(names
            .filter_map(|name| self.users.remove(name))
            .inspect(|user| strip(user))
            .collect())
    }

    /// Takes the users of an ACL file: all of them, or none when a line of it is wrong. The default user, which connections hold,
    /// stays and gets the file's rules, or every right when the file does not name it.
    pub fn take_file(
        &mut self,
        text: &[u8],
        file_name: &str,
        all_channels: bool,
    ) -> Result<Removed, String> {
        let mut users = file::read(text, file_name, all_channels)?;
        let default = users.remove(DEFAULT_USER).unwrap_or_else(Rules::all);
        self.default.set_rules(default);
        let mut replaced: BTreeMap<Box<[u8]>, Rc<User>> = users
            .into_iter()
            .map(|(name, rules)| (name.clone(), Rc::new(User::new(&name, rules))))
            .collect();
        replaced.insert(DEFAULT_USER.into(), Rc::clone(&self.default));
        let before = std::mem::replace(&mut self.users, replaced);
        let removed = before.into_values();
        Ok(removed
            .filter(|user| !Rc::ptr_eq(user, &self.default))
            .inspect(|user| strip(user))
            .collect())
    }

    /// The text of the ACL file.
    pub fn file_text(&self) -> Vec<u8> {
        self.iter()
            .flat_map(|user| {
                let mut line = user.line();
                line.push(b'\n');
                line
            })
            .collect()
    }
}

/// Takes every right from a user whose connections are about to end.
fn strip(user: &User) {
    user.set_rules(Rules::new(false));
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(super::until_zero(bytes)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(acl: &mut Acl, name: &str, rules: &[&str]) -> Result<(), String> {
        let rules = rules.iter().map(|rule| rule.as_bytes());
        let done = acl.set_user(name.as_bytes(), rules, false);
        done.map(|_| ())
            .map_err(|refusal| refusal.text().to_owned())
    }

    #[test]
    fn a_change_with_one_wrong_rule_changes_nothing() {
        let mut acl = Acl::default();
        set(&mut acl, "alice", &["on", ">pw"]).unwrap();
        assert_eq!(
            set(&mut acl, "alice", &["off", "+nosuch"]),
            Err("ERR Error in ACL SETUSER modifier '+nosuch': Unknown command or category name in ACL".into())
        );
        assert!(acl.log_in(b"alice", b"pw").is_some());
        assert!(set(&mut acl, "bob", &["(", "x"]).is_err());
        assert!(acl.get(b"bob").is_none());
        assert!(set(&mut acl, "a b", &[]).is_err());
        assert!(set(&mut acl, "larder", &[]).is_err());
    }

    #[test]
    fn a_removed_user_has_no_rights_left_where_it_is_still_held() {
        let mut acl = Acl::default();
        set(&mut acl, "alice", &["on", "nopass", "+@all", "~*", "&*"]).unwrap();
        let held = Rc::clone(acl.get(b"alice").unwrap());
        assert!(held.may_all());
        let names: [&[u8]; 2] = [b"alice", b"nobody"];
        assert_eq!(acl.remove(names.into_iter()).unwrap().len(), 1);
        assert!(!held.may_all());
        let names: [&[u8]; 1] = [b"default"];
        assert!(acl.remove(names.into_iter()).is_err());
    }

    #[test]
    fn the_password_of_requirepass_is_the_default_user_s_only_one() {
        let mut acl = Acl::default();
        assert!(!acl.needs_login());
        acl.set_default_password(b"a");
        acl.set_default_password(b"b");
        assert!(acl.needs_login());
        assert!(acl.log_in(b"default", b"a").is_none());
        assert!(acl.log_in(b"default", b"b").is_some());
        acl.set_default_password(b"");
        assert!(!acl.needs_login());
    }

    #[test]
    fn a_file_replaces_all_users_or_none_and_the_default_user_stays_itself() {
        let mut acl = Acl::default();
        set(&mut acl, "alice", &["on", "nopass"]).unwrap();
        let default = Rc::clone(acl.default_user());
        let wrong = acl.take_file(b"user bob on\nuser carol +nosuch", "users.acl", false);
        assert!(
            wrong
                .unwrap_err()
                .starts_with("users.acl:2: Error in applying operation '+nosuch'")
        );
        assert!(acl.get(b"alice").is_some());
        let removed = acl
            .take_file(
                b"user default on >x ~* +@all\n\nuser bob on nopass +get ~b",
                "users.acl",
                false,
            )
            .unwrap();
        assert_eq!(removed.len(), 1);
        assert!(Rc::ptr_eq(&default, acl.default_user()) && acl.needs_login());
        let text = String::from_utf8(acl.file_text()).unwrap();
        let mut again = Acl::default();
        let _ = again
            .take_file(text.as_bytes(), "users.acl", false)
            .unwrap();
        assert_eq!(again.file_text(), text.as_bytes());
        assert!(
            text.starts_with("user bob on nopass ~b resetchannels -@all +get\nuser default on #")
        );
    }
}
