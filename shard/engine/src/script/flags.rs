//! What a script says about itself: the flags of functions, and the first line of scripts and libraries (`#!lua name=… flags=…`).

use larder_wire::Refusal;

macro_rules! flags {
    ($($name:ident $bit:literal $text:literal,)*) => {
        impl Flags {
            $(pub(crate) const $name: Flags = Flags(1 << $bit);)*
            /// In the order in which they are listed.
            const ALL: &'static [(Flags, &'static str)] = &[$((Flags::$name, $text),)*];
        }
    };
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u8);

flags! {
    NO_WRITES 0 "no-writes",
    ALLOW_OOM 1 "allow-oom",
    ALLOW_STALE 2 "allow-stale",
    NO_CLUSTER 3 "no-cluster",
    ALLOW_CROSS_SLOT 4 "allow-cross-slot-keys",
}

impl Flags {
    /// A script without a first line that says otherwise: it may do what its commands may.
    pub(crate) const COMPATIBLE: Flags = Flags(1 << 7);

    pub(crate) fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 != 0
    }

    pub(crate) fn named(text: &[u8]) -> Option<Flags> {
        let found = Flags::ALL.iter().find(|(_, name)| name.as_bytes() == text);
        found.map(|(flag, _)| *flag)
    }

    #[must_use]
    pub(crate) fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> + Clone {
        let set = move |&&(flag, _): &&(Flags, &str)| self.has(flag);
        Flags::ALL.iter().filter(set).map(|(_, name)| *name)
    }

    /// It is known that the script writes nothing.
    pub(crate) fn only_reads(self) -> bool {
        !self.has(Flags::COMPATIBLE) && self.has(Flags::NO_WRITES)
    }

    /// It may not start when memory is full.
    pub(crate) fn denies_oom(self) -> bool {
        !self.has(Flags::COMPATIBLE) && !self.has(Flags::ALLOW_OOM) && !self.has(Flags::NO_WRITES)
    }
}

/// The flags of a script's first line, and what is to be compiled: the rest, its line break kept for the numbers of lines.
pub(crate) fn of_script(body: &[u8]) -> Result<(Flags, &[u8]), Refusal> {
    if !body.starts_with(b"#!") {
        return Ok((Flags::COMPATIBLE, body));
    }
    let Some((line, code)) = first_line(body) else {
        return Err(Refusal::fixed("ERR Invalid script shebang"));
    };
    let words = split_words(line).unwrap_or_default();
    let Some((engine, options)) = words.split_first() else {
        return Err(Refusal::fixed("ERR Invalid engine in script shebang"));
    };
    if engine != b"#!lua" {
        let engine = String::from_utf8_lossy(engine);
        return Err(Refusal::new(format!(
            "ERR Unexpected engine in script shebang: {engine}"
        )));
    }
    let mut flags = Flags::default();
    for option in options {
        let Some(list) = option.strip_prefix(b"flags=") else {
            let option = String::from_utf8_lossy(option);
            return Err(Refusal::new(format!(
                "ERR Unknown lua shebang option: {option}"
            )));
        };
        if list.is_empty() {
            continue;
        }
        for name in list.split(|byte| *byte == b',') {
            let Some(flag) = Flags::named(name) else {
                let name = String::from_utf8_lossy(name);
                return Err(Refusal::new(format!(
                    "ERR Unexpected flag in script shebang: {name}"
                )));
            };
            flags = flags.with(flag);
        }
    }
    Ok((flags, code))
}

/// The name of a library and its code, by its first line.
pub(crate) fn of_library(payload: &[u8]) -> Result<(Vec<u8>, &[u8]), Refusal> {
    if !payload.starts_with(b"#!") {
        return Err(Refusal::fixed("ERR Missing library metadata"));
    }
    let invalid = || Refusal::fixed("ERR Invalid library metadata");
    let (line, code) = first_line(payload).ok_or_else(invalid)?;
    let words = split_words(line).ok_or_else(invalid)?;
    let (engine, options) = words.split_first().ok_or_else(invalid)?;
    let mut name = None;
    for option in options {
        let is_name = option
            .get(..5)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"name="));
        if !is_name {
            let option = String::from_utf8_lossy(option);
            return Err(Refusal::new(format!(
                "ERR Invalid metadata value given: {option}"
            )));
        }
        if name.replace(option[5..].to_vec()).is_some() {
            return Err(Refusal::fixed(
                "ERR Invalid metadata value, name argument was given multiple times",
            ));
        }
    }
    let name = name.ok_or_else(|| Refusal::fixed("ERR Library name was not given"))?;
    if !is_name(&name) {
        return Err(Refusal::fixed(BAD_NAME));
    }
    let engine = &engine[2..];
    if !engine.eq_ignore_ascii_case(b"lua") {
        let engine = String::from_utf8_lossy(engine);
        return Err(Refusal::new(format!("ERR Engine '{engine}' not found")));
    }
    Ok((name, code))
}

/// What a name of a library or function that is none is told.
pub(crate) const BAD_NAME: &str = "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";

/// Of a library or a function.
pub(crate) fn is_name(name: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    !name.is_empty() && name.iter().all(is_letter)
}

/// The line without its break, and the rest with it.
fn first_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    Some(text.split_at(end))
}

/// Words between spaces, quoted as in inline commands; `None` with an open quote.
fn split_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        if at == line.len() {
            return Some(words);
        }
        let mut word = Vec::new();
        loop {
            match line.get(at) {
                None => break,
                Some(byte) if byte.is_ascii_whitespace() => break,
                Some(quote @ (b'"' | b'\'')) => {
                    let rest = &line[at + 1..];
                    let end = rest.iter().position(|byte| byte == quote)?;
                    word.extend_from_slice(&rest[..end]);
                    at += end + 2;
                    let closed = line.get(at).is_none_or(u8::is_ascii_whitespace);
                    if !closed {
                        return None;
                    }
                }
                Some(byte) => {
                    word.push(*byte);
                    at += 1;
                }
            }
        }
        words.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> String {
        result.unwrap_err().text().to_string()
    }

    #[test]
    fn a_first_line_gives_the_flags_and_keeps_the_numbers_of_lines() {
        let (flags, code) = of_script(b"#!lua flags=no-writes,allow-oom\nreturn 1").unwrap();
        assert_eq!(
            flags.names().collect::<Vec<_>>(),
            ["no-writes", "allow-oom"]
        );
        assert_eq!(code, b"\nreturn 1");
        let (flags, code) = of_script(b"return 1").unwrap();
        assert!(flags.has(Flags::COMPATIBLE));
        assert_eq!(code, b"return 1");
        for (body, text) in [
            ("#!lua", "ERR Invalid script shebang"),
            (
                "#!not-lua\n",
                "ERR Unexpected engine in script shebang: #!not-lua",
            ),
            (
                "#!lua badger=data\n",
                "ERR Unknown lua shebang option: badger=data",
            ),
            (
                "#!lua flags=hello\n",
                "ERR Unexpected flag in script shebang: hello",
            ),
        ] {
            assert_eq!(refused(of_script(body.as_bytes())), text);
        }
    }

    #[test]
    fn a_library_has_one_name() {
        let (name, code) = of_library(b"#!lua name=lib\ncode").unwrap();
        assert_eq!(
            (name.as_slice(), code),
            (b"lib".as_slice(), b"\ncode".as_slice())
        );
        for (payload, text) in [
            ("code", "ERR Missing library metadata"),
            ("#!lua name=lib", "ERR Invalid library metadata"),
            ("#!lua\n", "ERR Library name was not given"),
            (
                "#!lua foo=bar name=lib\n",
                "ERR Invalid metadata value given: foo=bar",
            ),
            ("#!lua name=a-b\n", BAD_NAME),
            ("#!bad name=lib\n", "ERR Engine 'bad' not found"),
            (
                "#!lua name=a name=b\n",
                "ERR Invalid metadata value, name argument was given multiple times",
            ),
        ] {
            assert_eq!(refused(of_library(payload.as_bytes())), text);
        }
    }
}
