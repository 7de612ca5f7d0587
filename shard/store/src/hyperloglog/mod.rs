//! HyperLogLog: how many distinct elements were seen, in at most 12 KB. The bytes are those of Redis, so that GET, SET, DUMP and
//! RESTORE carry them from one server to the other.
//!
//! ```text
//! "HYLL" │ encoding │ 3 unused │ cached count, 8 bytes little-endian, highest bit: out of date │ registers
//! ```
//!
//! There are 2^14 registers of values up to 50. An element's hash chooses one and proposes a value; the
//! largest proposed is kept. `dense.rs` and `sparse.rs` own the two forms of the registers, `estimate.rs` the mathematics. Knows no
//! keyspace and no commands.

mod dense;
mod estimate;
mod hash;
mod sparse;
#[cfg(test)]
mod tests;

use estimate::Histogram;

/// Registers are chosen by so many bits of the hash.
const INDEX_BITS: u32 = 14;
const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of the hash that make a register's value: the largest is one more.
const VALUE_BITS: u32 = 64 - INDEX_BITS;

const HEADER_BYTES: usize = 16;
const MAGIC: &[u8; 4] = b"HYLL";
const ENCODING_AT: usize = 4;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
const CACHE: std::ops::Range<usize> = 8..16;
const CACHE_INVALID: u8 = 0x80;

/// Why bytes are no HyperLogLog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// They do not even start as one.
    Foreign,
    /// Their registers are not 2^14.
    Corrupted,
}

/// Bytes that have the header of a HyperLogLog.
#[derive(Clone, Copy)]
pub(crate) struct View<'a>(&'a [u8]);

/// A HyperLogLog to change.
#[derive(Clone)]
pub(crate) struct HyperLogLog(Vec<u8>);

/// What one element says: a value for a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vote {
    register: usize,
    value: u8,
}

impl Vote {
    pub(crate) fn of(element: &[u8]) -> Vote {
        let hash = hash::murmur64a(element);
        let register = hash as usize & (REGISTERS - 1);
        // A bit that ends the run of zeros in any case.
        let rest = (hash >> INDEX_BITS) | (1 << VALUE_BITS);
        Vote {
            register,
            value: rest.trailing_zeros() as u8 + 1,
        }
    }
}

/// The registers of several HyperLogLogs together.
pub(crate) struct Union {
    registers: Box<[u8; REGISTERS]>,
    any_dense: bool,
}

impl<'a> View<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<View<'a>, Fault> {
        let header = bytes.len() >= HEADER_BYTES && bytes.starts_with(MAGIC);
        match bytes.get(ENCODING_AT) {
            Some(&DENSE) if header && bytes.len() == HEADER_BYTES + dense::BYTES => Ok(View(bytes)),
            Some(&SPARSE) if header => Ok(View(bytes)),
            Some(_) | None => Err(Fault::Foreign),
        }
    }

    pub(crate) fn is_dense(self) -> bool {
        self.0[ENCODING_AT] == DENSE
    }

    fn registers(self) -> &'a [u8] {
        &self.0[HEADER_BYTES..]
    }

    /// The count that was kept, unless registers have changed since.
    pub(crate) fn cached_count(self) -> Option<u64> {
        let mut cached = [0; 8];
        cached.copy_from_slice(&self.0[CACHE]);
        (cached[7] & CACHE_INVALID == 0).then(|| u64::from_le_bytes(cached))
    }

    pub(crate) fn count(self) -> Result<u64, Fault> {
        let mut histogram = Histogram::default();
        if self.is_dense() {
            dense::values(self.registers()).for_each(|value| histogram.add(value, 1));
        } else {
            sparse::runs(self.registers(), |value, run| {
                histogram.add(value, run.len())
            })?;
        }
        Ok(histogram.estimate())
    }

    /// True when this vote, and it is a dense one, would raise a register.
    fn would_change(self, vote: Vote) -> bool {
        dense::get(self.registers(), vote.register) < vote.value
    }

    /// For the dense form: whether any vote would change it. `None` for the sparse form, which only trying tells of.
    pub(crate) fn dense_would_change(self, mut votes: impl Iterator<Item = Vote>) -> Option<bool> {
        self.is_dense()
            .then(|| votes.any(|vote| self.would_change(vote)))
    }

    /// The runs of the sparse form as PFDEBUG shows them: `z` and `Z` are short and long runs of zeros, `v` a value and its length.
    pub(crate) fn runs_text(self) -> Result<String, Fault> {
        let mut runs = Vec::new();
        sparse::runs(self.registers(), |value, run| {
            runs.push(match (value, run.len()) {
                (0, len @ ..=64) => format!("z:{len}"),
                (0, len) => format!("Z:{len}"),
                (value, len) => format!("v:{value},{len}"),
            });
        })?;
        Ok(runs.join(" "))
    }

    pub(crate) fn to_owned(self) -> HyperLogLog {
        HyperLogLog(self.0.to_vec())
    }
}

/// Keeps the count in the bytes of a HyperLogLog.
pub(crate) fn cache_count(bytes: &mut [u8], count: u64) {
    bytes[CACHE].copy_from_slice(&count.to_le_bytes());
}

fn invalidate_cache(bytes: &mut [u8]) {
    bytes[CACHE.end - 1] |= CACHE_INVALID;
}

/// Adds votes to the bytes of a dense HyperLogLog.
pub(crate) fn add_to_dense(bytes: &mut [u8], votes: impl Iterator<Item = Vote>) {
    for vote in votes {
        dense::raise(&mut bytes[HEADER_BYTES..], vote);
    }
    invalidate_cache(bytes);
}

impl Default for HyperLogLog {
    /// An empty one: sparse, its count known.
    fn default() -> HyperLogLog {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        bytes[ENCODING_AT] = SPARSE;
        sparse::push_zeros(&mut bytes, REGISTERS);
        HyperLogLog(bytes)
    }
}

impl HyperLogLog {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// True when a register changed. The sparse form takes up to `sparse_bytes_max`.
    pub(crate) fn add(&mut self, vote: Vote, sparse_bytes_max: usize) -> Result<bool, Fault> {
        if self.0[ENCODING_AT] == DENSE {
            return Ok(dense::raise(&mut self.0[HEADER_BYTES..], vote));
        }
        match sparse::raise(&mut self.0, vote, sparse_bytes_max)? {
            sparse::Raised::Unchanged => Ok(false),
            sparse::Raised::Changed => Ok(true),
            sparse::Raised::NoRoom => {
                self.make_dense()?;
                Ok(dense::raise(&mut self.0[HEADER_BYTES..], vote))
            }
        }
    }

    pub(crate) fn make_dense(&mut self) -> Result<(), Fault> {
        if self.0[ENCODING_AT] == DENSE {
            return Ok(());
        }
        let mut dense = self.0[..HEADER_BYTES].to_vec();
        dense[ENCODING_AT] = DENSE;
        dense.resize(HEADER_BYTES + dense::BYTES, 0);
        let registers = &mut dense[HEADER_BYTES..];
        sparse::runs(&self.0[HEADER_BYTES..], |value, run| {
            if value > 0 {
                run.for_each(|register| {
                    dense::raise(registers, Vote { register, value });
                });
            }
        })?;
        self.0 = dense;
        Ok(())
    }

    pub(crate) fn invalidate_cache(&mut self) {
        invalidate_cache(&mut self.0);
    }
}

impl Default for Union {
    fn default() -> Union {
        Union {
            registers: Box::new([0; REGISTERS]),
            any_dense: false,
        }
    }
}

impl Union {
    pub(crate) fn registers(&self) -> &[u8] {
        &self.registers[..]
    }

    pub(crate) fn include(&mut self, other: View<'_>) -> Result<(), Fault> {
        if other.is_dense() {
            self.any_dense = true;
            for (mine, value) in self
                .registers
                .iter_mut()
                .zip(dense::values(other.registers()))
            {
                *mine = value.max(*mine);
            }
            return Ok(());
        }
        let registers = &mut self.registers;
        sparse::runs(other.registers(), |value, run| {
            for mine in &mut registers[run] {
                *mine = value.max(*mine);
            }
        })
    }

    pub(crate) fn count(&self) -> u64 {
        let mut histogram = Histogram::default();
        self.registers
            .iter()
            .for_each(|value| histogram.add(*value, 1));
        histogram.estimate()
    }

    /// Raises the registers of `target` to these; dense when one of those included was.
    pub(crate) fn write_to(
        &self,
        target: &mut HyperLogLog,
        sparse_bytes_max: usize,
    ) -> Result<(), Fault> {
        if self.any_dense {
            target.make_dense()?;
        }
        for (register, &value) in self.registers.iter().enumerate() {
            if value > 0 {
                target.add(Vote { register, value }, sparse_bytes_max)?;
            }
        }
        target.invalidate_cache();
        Ok(())
    }
}
