//! MSETEX: several strings under one condition and with one time.

use larder_wire::Refusal;

use super::number_args::int;
use super::string::{Options, set_with_effect};
use crate::call::Call;

const WRONG_COUNT: Refusal = Refusal::fixed("ERR invalid numkeys value or out of range");

pub fn msetex(call: &mut Call<'_>) -> Result<(), Refusal> {
    let count = int(call.request.arg(1)).map_err(|_| WRONG_COUNT)?;
    let count = i32::try_from(count).map_err(|_| WRONG_COUNT)?;
    let count = usize::try_from(count).map_err(|_| WRONG_COUNT)?;
    if count == 0 {
        return Err(WRONG_COUNT);
    }
    let after = 2 + 2 * count;
    if after > call.request.len() {
        return Err(Refusal::SYNTAX);
    }
    let options = Options::of_write(call, after, false)?;
    let expires = options.expires("msetex", call.now)?;
    if options.only_absent || options.only_present {
        for at in (2..after).step_by(2) {
            let key = call.key(at);
            if call.keyspace.is_there(key, call.now) != options.only_present {
                call.reply.int(0);
                return Ok(());
            }
        }
    }
    for at in (2..after).step_by(2) {
        let (key, value) = (call.key(at), call.request.arg(at + 1));
        set_with_effect(call, key, value, options.set_expiry(expires));
    }
    call.reply.int(1);
    Ok(())
}
