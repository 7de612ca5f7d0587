//! The manifest of an append-only file: which files it is made of, as Redis 7 writes it down.
//!
//! ```text
//! file appendonly.aof.2.base.rdb seq 2 type b      one at most: the data of a moment
//! file appendonly.aof.5.incr.aof seq 5 type i      what was written since, in order
//! file appendonly.aof.4.incr.aof seq 4 type h      not needed any more, and not yet deleted
//! ```
//! What is wrong with one is told in Redis' words, which its tools and handbooks know. Reads and writes text; knows no folder.

use larder_wire::resp::split_args;

/// A line of a manifest may be as long, in bytes.
const LINE_BYTES_MAX: usize = 1024;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub seq: u64,
}

/// The files, in the order in which they are loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub base: Option<Part>,
    pub increments: Vec<Part>,
    pub history: Vec<Part>,
}

/// What is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ManifestError {
    pub line: usize,
    pub what: String,
}

impl Manifest {
    pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
        let mut manifest = Manifest::default();
        let mut lines = 0;
        for (index, line) in text.lines().enumerate() {
            let fault = |what: &str| ManifestError {
                line: index + 1,
                what: what.to_string(),
            };
            if line.len() > LINE_BYTES_MAX {
                return Err(fault("The AOF manifest file contains too long line"));
            }
            lines += 1;
            if line.starts_with('#') {
                continue;
            }
            if line.trim().is_empty() {
                return Err(fault("Invalid AOF manifest file format: the line is empty"));
            }
            let (part, kind) = part(line).map_err(|what| fault(&what))?;
            match kind.as_str() {
                "b" if manifest.base.is_some() => {
                    return Err(fault("Found duplicate base file information"));
                }
                "b" => manifest.base = Some(part),
                "h" => manifest.history.push(part),
                "i" => {
                    let last = manifest.increments.last().map_or(0, |last| last.seq);
                    if part.seq <= last {
                        return Err(fault("Found a non-monotonic sequence number"));
                    }
                    manifest.increments.push(part);
                }
                other => return Err(fault(&format!("Unknown AOF file type {other}"))),
            }
        }
        if lines == 0 {
            return Err(ManifestError {
                line: 1,
                what: "Found an empty AOF manifest".to_string(),
            });
        }
        Ok(manifest)
    }

    pub fn text(&self) -> String {
        let kinds = [
            ('b', self.base.iter().collect::<Vec<_>>()),
            ('h', self.history.iter().collect()),
            ('i', self.increments.iter().collect()),
        ];
        let mut text = String::new();
        for (kind, parts) in kinds {
            for part in parts {
                let name = quoted(&part.name);
                text += &format!("file {name} seq {} type {kind}\n", part.seq);
            }
        }
        text
    }

    /// In the order of loading.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.base.iter().chain(&self.increments)
    }

    pub fn next_base(&self) -> u64 {
        self.base.as_ref().map_or(1, |base| base.seq + 1)
    }

    pub fn next_increment(&self) -> u64 {
        self.increments.last().map_or(1, |last| last.seq + 1)
    }

    /// A new base takes the place of the old one and of all increments before `first`.
    pub fn rebase(&mut self, base: Part, first: u64) {
        let (kept, old) = self
            .increments
            .drain(..)
            .partition(|part| part.seq >= first);
        self.increments = kept;
        self.history.extend(self.base.replace(base));
        self.history.extend::<Vec<Part>>(old);
    }
}

fn part(line: &str) -> Result<(Part, String), String> {
    let malformed = || {
        "Invalid AOF manifest file format, which is `file NAME seq NUMBER type b|h|i`".to_string()
    };
    let words = split_args(line.as_bytes()).ok_or_else(malformed)?;
    let words: Option<Vec<String>> = words
        .into_iter()
        .map(|word| String::from_utf8(word).ok())
        .collect();
    let words = words.ok_or_else(malformed)?;
    if words.len() < 6 || !words.len().is_multiple_of(2) {
        return Err(malformed());
    }
    let (mut name, mut seq, mut kind) = (None, None, None);
    for pair in words.chunks(2) {
        match pair[0].to_ascii_lowercase().as_str() {
            "file" => name = Some(pair[1].clone()),
            "seq" => seq = pair[1].parse::<u64>().ok(),
            "type" => kind = Some(pair[1].clone()),
            // Of a later version.
            _ => {}
        }
    }
    match (name, seq, kind) {
        (Some(name), Some(_), Some(_)) if name.contains('/') => {
            Err("File can't be a path, just a filename".to_string())
        }
        (Some(name), Some(seq @ 1..), Some(kind)) => Ok((Part { name, seq }, kind)),
        _ => Err(malformed()),
    }
}

/// As Redis quotes a string that has blanks or what cannot be printed.
fn quoted(name: &str) -> String {
    let plain =
        |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\'' && byte != b'\\';
    if !name.is_empty() && name.bytes().all(plain) {
        return name.to_string();
    }
    let mut text = String::from("\"");
    for byte in name.bytes() {
        match byte {
            b'"' | b'\\' => text += &format!("\\{}", byte as char),
            b' '..=b'~' => text.push(byte as char),
            _ => text += &format!("\\x{byte:02x}"),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, seq: u64) -> Part {
        Part {
            name: name.to_string(),
            seq,
        }
    }

    #[test]
    fn what_is_written_is_read_and_a_new_base_makes_what_is_before_it_history() {
        let mut manifest = Manifest {
            base: Some(named("a b.aof.1.base.rdb", 1)),
            increments: vec![named("a.1.incr.aof", 1), named("a.2.incr.aof", 2)],
            history: Vec::new(),
        };
        assert_eq!(Manifest::parse(&manifest.text()), Ok(manifest.clone()));
        manifest.rebase(named("a.2.base.rdb", 2), 2);
        assert_eq!(
            manifest.text(),
            "file a.2.base.rdb seq 2 type b\nfile \"a b.aof.1.base.rdb\" seq 1 type h\nfile a.1.incr.aof seq 1 type h\nfile a.2.incr.aof seq 2 type i\n"
        );
        assert_eq!((manifest.next_base(), manifest.next_increment()), (3, 3));
    }

    #[test]
    fn a_line_that_means_nothing_is_told_with_its_number() {
        for (text, line) in [
            ("", 1),
            ("file a seq 1 type b\n\n", 2),
            ("file a seq 1 type b\nfile b seq 2 type b\n", 2),
            ("file a seq 2 type i\nfile b seq 1 type i\n", 2),
            ("file a seq 1 type x\n", 1),
            ("file a seq one type b\n", 1),
            ("file a/b seq 1 type b\n", 1),
            ("file a seq 1\n", 1),
        ] {
            let fault = Manifest::parse(text).expect_err(text);
            assert_eq!(fault.line, line, "{text}: {fault}");
        }
        assert!(Manifest::parse("# a word\nfile a seq 1 type b new field\n").is_ok());
    }
}
