//! MIGRATE: a node connects to no other server by a client's word; where there is nothing to send it says so, as Redis does.

use larder_wire::Refusal;

use super::args::int_arg;
use crate::call::Call;

const NOT_HERE: Refusal = Refusal::fixed(
    "ERR this server does not connect to another: take the key by DUMP and put it there by RESTORE",
);

pub fn migrate(call: &mut Call<'_>) -> Result<(), Refusal> {
    let keys = keys_from(call)?;
    int_arg(call.request, 5)?;
    int_arg(call.request, 4)?;
    for index in keys {
        let key = call.key(index);
        if call.keyspace.exists(key, call.now) {
            return Err(NOT_HERE);
        }
    }
    call.reply.simple("NOKEY");
    Ok(())
}

/// The arguments that are keys.
fn keys_from(call: &Call<'_>) -> Result<std::ops::Range<usize>, Refusal> {
    let request = call.request;
    let mut at = 6;
    while let Some(word) = request.get(at) {
        let is = |option: &str| word.eq_ignore_ascii_case(option.as_bytes());
        let values = match () {
            () if is("copy") || is("replace") => 0,
            () if is("auth") => 1,
            () if is("auth2") => 2,
            () if is("keys") && !request.arg(3).is_empty() => {
                return Err(Refusal::fixed(
                    "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
                ));
            }
            () if is("keys") => return Ok(at + 1..request.len()),
            () => return Err(Refusal::SYNTAX),
        };
        if at + values >= request.len() {
            return Err(Refusal::SYNTAX);
        }
        at += 1 + values;
    }
    Ok(3..4)
}
