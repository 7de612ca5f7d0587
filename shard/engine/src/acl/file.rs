//! The ACL file: a line a user, `user NAME RULES`. Empty lines are allowed, comments are not: a save would lose them.
//!
//! Reading collects what is wrong in all lines and tells it in one.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use larder_wire::control::OPERATOR_USER;

use super::rules::{RuleError, join_selectors};
use super::user::Rules;
use super::{has_space_or_zero, until_zero};

/// What users need of the process: the engine itself has no files and no randomness.
pub trait AclHost: fmt::Debug {
    /// The file's bytes, or what the system said.
    fn read(&self) -> Result<Vec<u8>, String>;
    /// Replaces the file whole; a failure is logged and leaves it as it was.
    fn write(&self, text: &[u8]) -> Result<(), String>;
    /// Fills `bytes` with what nobody can guess.
    fn fill_random(&self, bytes: &mut [u8]) -> Result<(), String>;
}

/// The users of a file by name; an error when any line is wrong.
pub(super) fn read(
    text: &[u8],
    file_name: &str,
    all_channels: bool,
) -> Result<BTreeMap<Box<[u8]>, Rules>, String> {
    let mut users = BTreeMap::new();
    let mut errors = String::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let place = format!("{file_name}:{}", index + 1);
        read_line(
            line,
            index + 1,
            &place,
            all_channels,
            &mut users,
            &mut errors,
        );
    }
    if errors.is_empty() {
        return Ok(users);
    }
    errors.push_str(
        "WARNING: ACL errors detected, no change to the previously active ACL rules was performed",
    );
    Err(errors)
}

fn read_line(
    line: &[u8],
    number: usize,
    place: &str,
    all_channels: bool,
    users: &mut BTreeMap<Box<[u8]>, Rules>,
    errors: &mut String,
) {
    // Writing to a String cannot fail.
    let mut tell = |text: fmt::Arguments<'_>| {
        let _ = errors.write_fmt(text);
    };
    let line = trim(line, b" \t\r");
    if line.is_empty() {
        return;
    }
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(b"user"), Some(name)) = (words.next(), words.next()) else {
        return tell(format_args!(
            "{place} should start with user keyword followed by the username. "
        ));
    };
    let name_text = text_of(name);
    if has_space_or_zero(name) || name == OPERATOR_USER.as_bytes() {
        return tell(format_args!(
            "'{place}: username '{name_text}' contains invalid characters. "
        ));
    }
    if users.contains_key(name) {
        return tell(format_args!(
            "WARNING: Duplicate user '{name_text}' found on line {number}. "
        ));
    }
    let mut rules = Rules::new(all_channels);
    match join_selectors(words) {
        Err(_) => tell(format_args!(
            "{place}: Unmatched parenthesis in selector definition."
        )),
        Ok(joined) => {
            let mut told = false;
            for rule in &joined {
                let rule = trim(rule, b"\t\r\n");
                match rules.apply(rule, all_channels) {
                    Ok(()) => {}
                    // A name that is none is no secret; other rules may hold a password.
                    Err(RuleError::Unknown) => tell(format_args!(
                        "{place}: Error in applying operation '{}': {}. ",
                        text_of(rule),
                        RuleError::Unknown.text()
                    )),
                    Err(error) if !told => {
                        tell(format_args!("{place}: {}. ", error.text()));
                        told = true;
                    }
                    Err(_) => {}
                }
            }
        }
    }
    users.insert(name.into(), rules);
}

fn trim<'a>(mut text: &'a [u8], what: &[u8]) -> &'a [u8] {
    while let [first, rest @ ..] = text
        && what.contains(first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && what.contains(last)
    {
        text = rest;
    }
    text
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(until_zero(bytes)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_that_is_wrong_is_told_of() {
        let text = b"user a on\nnonsense\nuser\n\nuser a on\nuser b +nosuch +@none bad worse\nuser c (+get\nuser x\ty";
        assert_eq!(
            read(text, "f", false).unwrap_err(),
            "f:2 should start with user keyword followed by the username. \
             f:3 should start with user keyword followed by the username. \
             WARNING: Duplicate user 'a' found on line 5. \
             f:6: Error in applying operation '+nosuch': Unknown command or category name in ACL. \
             f:6: Error in applying operation '+@none': Unknown command or category name in ACL. \
             f:6: Syntax error. \
             f:7: Unmatched parenthesis in selector definition.\
             'f:8: username 'x\ty' contains invalid characters. \
             WARNING: ACL errors detected, no change to the previously active ACL rules was performed"
        );
    }
}
