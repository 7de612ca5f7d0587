//! DEBUG PROTOCOL: one reply of each type, for tests of clients.

use larder_wire::Refusal;
use larder_wire::resp::Protocol;

use crate::turn::{Outcome, Turn};

pub(super) fn reply(turn: &mut Turn<'_>) -> Result<Outcome, Refusal> {
    let name = String::from_utf8_lossy(turn.request.arg(2)).to_ascii_lowercase();
    let resp3 = turn.session.protocol == Protocol::Resp3;
    let reply = &mut turn.reply;
    match name.as_str() {
        "string" => reply.bulk(b"Hello World"),
        "integer" => reply.int(12345),
        "double" => reply.double_text(b"3.141"),
        "bignum" => reply.big_number("1234567999999999999999999999999999999"),
        "null" => reply.null(),
        "array" => {
            reply.array(3);
            (0..3).for_each(|number| reply.int(number));
        }
        "set" => {
            reply.set(3);
            (0..3).for_each(|number| reply.int(number));
        }
        "map" => {
            reply.map(3);
            for number in 0..3 {
                reply.int(number);
                reply.bool(number == 1);
            }
        }
        "attrib" => {
            if resp3 {
                reply.attribute(1);
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.int(90);
            }
            // An attribute is no reply of its own: one follows it.
            reply.bulk(b"Some real reply following the attribute");
        }
        "push" if !resp3 => {
            return Err(Refusal::fixed("ERR RESP2 is not supported by this command"));
        }
        "push" => {
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.int(42);
            // Nor is a push.
            reply.bulk(b"Some real reply following the push reply");
        }
        "true" => reply.bool(true),
        "false" => reply.bool(false),
        "verbatim" => reply.verbatim("txt", b"This is a verbatim\nstring"),
        _ => {
            return Err(Refusal::fixed(
                "ERR Wrong protocol type name. Please use one of the following: string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(Outcome::Done)
}
