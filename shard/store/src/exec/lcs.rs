//! LCS: the longest common subsequence of two strings.

use larder_wire::Refusal;
use larder_wire::resp::limits::BULK_BYTES_MAX;

use super::args::int_arg;
use super::string::to_bytes;
use crate::call::Call;

#[derive(Default)]
struct Options {
    indexes: bool,
    length: bool,
    with_match_length: bool,
    match_length_min: usize,
}

impl Options {
    fn of(call: &Call<'_>) -> Result<Options, Refusal> {
        let mut options = Options::default();
        let mut at = 3;
        while let Some(word) = call.request.get(at) {
            if word.eq_ignore_ascii_case(b"idx") {
                options.indexes = true;
            } else if word.eq_ignore_ascii_case(b"len") {
                options.length = true;
            } else if word.eq_ignore_ascii_case(b"withmatchlen") {
                options.with_match_length = true;
            } else if word.eq_ignore_ascii_case(b"minmatchlen") && at + 1 < call.request.len() {
                at += 1;
                options.match_length_min = int_arg(call.request, at)?.max(0) as usize;
            } else {
                return Err(Refusal::SYNTAX);
            }
            at += 1;
        }
        if options.indexes && options.length {
            return Err(Refusal::fixed(
                "ERR If you want both the length and indexes, please just use IDX.",
            ));
        }
        Ok(options)
    }
}

/// A run that both strings have: where it starts in each, and its length.
struct Run {
    a: usize,
    b: usize,
    len: usize,
}

pub fn lcs(call: &mut Call<'_>) -> Result<(), Refusal> {
    // Both are looked up before either is judged.
    let (a, b) = (value(call, 1), value(call, 2));
    let (a, b) = (a?, b?);
    let options = Options::of(call)?;
    let lengths = Lengths::of(&a, &b)?;
    if options.length {
        call.reply.int(lengths.of_all().into());
        return Ok(());
    }
    let runs = lengths.runs(&a, &b);
    if !options.indexes {
        // Runs come from the end.
        let common: Vec<u8> = runs
            .iter()
            .rev()
            .flat_map(|run| &a[run.a..run.a + run.len])
            .copied()
            .collect();
        call.reply.bulk(&common);
        return Ok(());
    }
    let shown: Vec<&Run> = runs
        .iter()
        .filter(|run| run.len >= options.match_length_min)
        .collect();
    call.reply.map(2);
    call.reply.bulk(b"matches");
    call.reply.array(shown.len());
    for run in shown {
        call.reply
            .array(if options.with_match_length { 3 } else { 2 });
        for start in [run.a, run.b] {
            call.reply.array(2);
            call.reply.int(start as i64);
            call.reply.int((start + run.len - 1) as i64);
        }
        if options.with_match_length {
            call.reply.int(run.len as i64);
        }
    }
    call.reply.bulk(b"len");
    call.reply.int(lengths.of_all().into());
    Ok(())
}

fn value(call: &mut Call<'_>, index: usize) -> Result<Vec<u8>, Refusal> {
    let key = call.key(index);
    match call.keyspace.string(key, call.now) {
        Ok(Some(string)) => Ok(to_bytes(string)),
        Ok(None) => Ok(Vec::new()),
        Err(_) => Err(Refusal::fixed(
            "ERR The specified keys must contain string values",
        )),
    }
}

/// The length of the longest common subsequence of each pair of beginnings.
struct Lengths {
    table: Vec<u32>,
    width: usize,
}

impl Lengths {
    fn of(a: &[u8], b: &[u8]) -> Result<Lengths, Refusal> {
        let cells = (a.len() + 1).checked_mul(b.len() + 1);
        let cells = cells.filter(|&cells| cells <= BULK_BYTES_MAX / size_of::<u32>());
        let cells = cells.ok_or(Refusal::fixed(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ))?;
        let width = b.len() + 1;
        let mut table = vec![0; cells];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                table[i * width + j] = if a[i - 1] == b[j - 1] {
                    table[(i - 1) * width + j - 1] + 1
                } else {
                    table[(i - 1) * width + j].max(table[i * width + j - 1])
                };
            }
        }
        Ok(Lengths { table, width })
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.table[i * self.width + j]
    }

    fn of_all(&self) -> u32 {
        self.table.last().copied().unwrap_or(0)
    }

    /// The runs of one longest common subsequence, the last first, as Redis finds them.
    fn runs(&self, a: &[u8], b: &[u8]) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let (mut i, mut j) = (a.len(), b.len());
        let mut open = false;
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                i -= 1;
                j -= 1;
                match runs.last_mut() {
                    Some(run) if open => {
                        (run.a, run.b) = (i, j);
                        run.len += 1;
                    }
                    Some(_) | None => runs.push(Run { a: i, b: j, len: 1 }),
                }
                open = true;
            } else {
                open = false;
                if self.at(i - 1, j) > self.at(i, j - 1) {
                    i -= 1;
                } else {
                    j -= 1;
                }
            }
        }
        runs
    }
}
