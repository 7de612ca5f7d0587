//! Request traces: one text line a request, `key size`, plain or compressed with xz.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Failure;

/// Longest line, in bytes.
const LINE_BYTES_MAX: usize = 4096;

pub(crate) struct Trace {
    /// Keys in the order of their first requests, with the size of their values in bytes.
    pub(crate) keys: Vec<(String, usize)>,
    /// Places in `keys`.
    pub(crate) requests: Vec<u32>,
}

impl Trace {
    /// Reads a file; one whose name ends in `.xz` by way of the program `xz`.
    pub(crate) fn read(path: &Path) -> Result<Trace, Failure> {
        let shown = path.display();
        if path.extension().is_some_and(|it| it == "xz") {
            let mut child = Command::new("xz")
                .args(["--decompress", "--stdout", "--"])
                .arg(path)
                .stdout(Stdio::piped())
                .spawn()
                .map_err(|error| format!("xz (xz-utils) does not start: {error}"))?;
            let output = child.stdout.take().ok_or("xz has no output")?;
            let trace = Trace::parse(output).map_err(|error| format!("{shown}: {error}"));
            let ended = child.wait()?;
            if !ended.success() {
                return Err(format!("{shown}: xz cannot read it").into());
            }
            Ok(trace?)
        } else {
            let file = std::fs::File::open(path).map_err(|error| format!("{shown}: {error}"))?;
            Ok(Trace::parse(file).map_err(|error| format!("{shown}: {error}"))?)
        }
    }

    fn parse(from: impl Read) -> Result<Trace, Failure> {
        let mut reader = BufReader::new(from);
        let mut known: HashMap<String, u32> = HashMap::new();
        let (mut keys, mut requests) = (Vec::new(), Vec::new());
        let mut line = String::new();
        loop {
            line.clear();
            if (&mut reader)
                .take(LINE_BYTES_MAX as u64)
                .read_line(&mut line)?
                == 0
            {
                return Ok(Trace { keys, requests });
            }
            let at = requests.len() + 1;
            let wrong = || format!("line {at} is not `key size`: {line:?}");
            let (key, size) = line.trim_end().split_once(' ').ok_or_else(wrong)?;
            let size: usize = size.parse().map_err(|_| wrong())?;
            let place = match known.get(key) {
                Some(&place) => place,
                None => {
                    let place = u32::try_from(keys.len())?;
                    known.insert(key.to_owned(), place);
                    keys.push((key.to_owned(), size));
                    place
                }
            };
            requests.push(place);
        }
    }

    /// Bytes of all keys with their values.
    pub(crate) fn footprint(&self) -> u64 {
        let sum: usize = self.keys.iter().map(|(key, size)| key.len() + size).sum();
        sum as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_names_keys_once() {
        let trace = Trace::parse(&b"a 10\nbb 20\na 10\n"[..]).expect("it is well-formed");
        assert_eq!(trace.requests, [0, 1, 0]);
        assert_eq!(trace.keys[1], ("bb".to_owned(), 20));
        assert_eq!(trace.footprint(), 33);
        assert!(Trace::parse(&b"a\n"[..]).is_err());
        assert!(Trace::parse(&b"a b\n"[..]).is_err());
    }
}
