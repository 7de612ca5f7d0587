//! PFDEBUG: what a HyperLogLog is made of, for tests.

use larder_wire::Refusal;

use super::hll::{put, refusal, view};
use crate::call::Call;
use crate::hyperloglog::Union;

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
