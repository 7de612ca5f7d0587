//! PFDEBUG and PFSELFTEST: what a HyperLogLog is made of, for tests.

use larder_wire::Refusal;

use super::hll::{put, refusal, view};
use crate::call::Call;
use crate::hyperloglog::{HyperLogLog, Union, View, Vote};

const NO_SUCH_KEY: Refusal = Refusal::fixed("ERR The specified key does not exist");

pub fn pfdebug(call: &mut Call<'_>) -> Result<(), Refusal> {
    let (word, key) = (call.request.arg(1), call.key(2));
    let found = call.keyspace.string(key, call.now)?.ok_or(NO_SUCH_KEY)?;
    let hll = view(found)?;
    let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    if is("encoding") {
        call.reply
            .simple(if hll.is_dense() { "dense" } else { "sparse" });
    } else if is("decode") {
        if hll.is_dense() {
            return Err(Refusal::fixed("ERR HLL encoding is not sparse"));
        }
        let text = hll.runs_text().map_err(refusal)?;
        call.reply.bulk(text.as_bytes());
    } else if is("todense") || is("getreg") {
        let was_sparse = !hll.is_dense();
        let mut union = Union::default();
        union.include(hll).map_err(refusal)?;
        if was_sparse {
            let mut dense = hll.to_owned();
            dense.make_dense().map_err(refusal)?;
            put(call, key, &dense)?;
            call.effects.verbatim();
        }
        if is("todense") {
            call.reply.int(was_sparse.into());
        } else {
            let registers = union.registers();
            call.reply.array(registers.len());
            for &register in registers {
                call.reply.int(register.into());
            }
        }
    } else {
        return Err(Refusal::new(format!(
            "ERR Unknown PFDEBUG subcommand '{}'",
            String::from_utf8_lossy(word)
        )));
    }
    Ok(())
}

/// Elements that the self test counts, and most that it may be wrong by, in percent: four standard errors.
const SELF_TEST_ELEMENTS: u64 = 100_000;
const SELF_TEST_ERROR_PERCENT_MAX: f64 = 4.0 * 0.81;

/// Counts elements in a sparse and in a dense form, which must agree, and be right within the error that is promised.
pub fn pfselftest(call: &mut Call<'_>) -> Result<(), Refusal> {
    let sparse_bytes_max = call.keyspace.collections().hll_sparse_bytes_max;
    let (mut grown, mut dense) = (HyperLogLog::default(), HyperLogLog::default());
    dense.make_dense().map_err(refusal)?;
    let failed = |why: String| Err(Refusal::new(format!("TESTFAILED {why}")));
    let mut check_at = 10;
    for element in 1..=SELF_TEST_ELEMENTS {
        let vote = |element: u64| Vote::of(&element.to_le_bytes());
        grown
            .add(vote(element), sparse_bytes_max)
            .map_err(refusal)?;
        dense
            .add(vote(element), sparse_bytes_max)
            .map_err(refusal)?;
        if element == check_at {
            check_at *= 10;
            let count = |hll: &HyperLogLog| {
                let hll = View::new(hll.bytes()).map_err(refusal)?;
                hll.count().map_err(refusal)
            };
            let (one, other) = (count(&grown)?, count(&dense)?);
            if one != other {
                return failed(format!("sparse and dense disagree: {one} and {other}"));
            }
            let off = one.abs_diff(element) as f64 * 100.0 / element as f64;
            if off > SELF_TEST_ERROR_PERCENT_MAX {
                return failed(format!("{one} counted of {element}"));
            }
        }
    }
    call.reply.ok();
    Ok(())
}
