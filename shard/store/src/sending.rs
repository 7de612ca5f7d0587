//! A captured key on its way to another node: commands that make it there, each of bounded size.
//!
//! A small value is one RESTORE. A large collection is a DEL, then commands that add piece after piece, then its expiry (before it
//! that of a hash's fields); the pieces come from the captured clone, so writes in between do not show in them.

use larder_wire::resp::OwnedRequest;
use larder_wire::resp::write::decimal;

use crate::collection::Budget;
use crate::rdb;
use crate::value::{Collection, Value};
use crate::walk::Captured;

/// A collection of more bytes or elements than these travels in pieces of at most so many.
pub const PIECE_BYTES_MAX: usize = 64 * 1024;
pub const PIECE_ELEMENTS_MAX: usize = 512;

/// The commands that make one key, in order.
pub struct Sending {
    key: Box<[u8]>,
    captured: Captured,
    step: Step,
}

enum Step {
    Whole,
    Clear,
    Piece(usize),
    /// Times of a hash's fields, from this place on.
    Times(usize),
    Expiry,
    Done,
}

impl Captured {
    /// The commands that make this value under `key`, whatever was there.
    pub fn into_sending(self, key: &[u8]) -> Sending {
        let large = match &self.value {
            Value::Int(_) | Value::Bytes(_) => false,
            // Its commands say what a payload does.
            Value::Collection(Collection::Stream(_)) => true,
            Value::Collection(collection) => {
                collection.len() > PIECE_ELEMENTS_MAX || collection.heap_bytes() > PIECE_BYTES_MAX
            }
        };
        Sending {
            key: key.into(),
            captured: self,
            step: if large { Step::Clear } else { Step::Whole },
        }
    }
}

impl Sending {
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// True when nothing has been sent, or all.
    pub fn is_between_keys(&self) -> bool {
        matches!(self.step, Step::Whole | Step::Clear | Step::Done)
    }

    /// The next command; `None` when the key is complete.
    pub fn next_command(&mut self) -> Option<OwnedRequest> {
        match self.step {
            Step::Whole => {
                self.step = Step::Done;
                Some(self.whole())
            }
            Step::Clear => {
                self.step = Step::Piece(0);
                Some(OwnedRequest::from_args([b"DEL", &*self.key]))
            }
            Step::Piece(from) => {
                let (piece, next) = self.piece(from);
                self.step = next.map_or(Step::Times(0), Step::Piece);
                Some(piece)
            }
            Step::Times(from) => match times_piece(&self.key, &self.captured.value, from) {
                Some((piece, next)) => {
                    self.step = next.map_or(Step::Expiry, Step::Times);
                    Some(piece)
                }
                None => {
                    self.step = Step::Expiry;
                    self.next_command()
                }
            },
            Step::Expiry => {
                self.step = Step::Done;
                let at = self.captured.expires?;
                let mut digits = [0; 20];
                let at = decimal(&mut digits, at.0);
                Some(OwnedRequest::from_args([b"PEXPIREAT", &*self.key, at]))
            }
            Step::Done => None,
        }
    }

    fn whole(&self) -> OwnedRequest {
        let mut payload = Vec::new();
        rdb::to_payload(self.captured.value.view(), &mut payload);
        let mut digits = [0; 20];
        let at = decimal(&mut digits, self.captured.expires.map_or(0, |at| at.0));
        OwnedRequest::from_args([
            &b"RESTORE"[..],
            &self.key,
            at,
            &payload,
            b"REPLACE",
            b"ABSTTL",
        ])
    }

    /// A command that adds the elements from place `from` on, and the place to go on from.
    fn piece(&self, from: usize) -> (OwnedRequest, Option<usize>) {
        let budget = Budget::new(PIECE_ELEMENTS_MAX, PIECE_BYTES_MAX);
        let mut args: Vec<Vec<u8>> = Vec::new();
        args.resize(2, self.key.to_vec());
        let (name, next) = match &self.captured.value {
            Value::Collection(Collection::Hash(hash)) => {
                let next = hash.piece(from, budget, |field, value| {
                    args.push(field.to_vec());
                    args.push(value.to_vec());
                });
                (&b"HSET"[..], next)
            }
            Value::Collection(Collection::List(list)) => {
                let next = list.piece(from, budget, |element| args.push(element.to_vec()));
                (&b"RPUSH"[..], next)
            }
            Value::Collection(Collection::Set(set)) => {
                let next = set.piece(from, budget, |member| args.push(member.to_vec()));
                (&b"SADD"[..], next)
            }
            Value::Collection(Collection::ZSet(zset)) => {
                let next = zset.piece(from, budget, |member, score| {
                    let mut room = [0; larder_wire::float::DOUBLE_TEXT_BYTES_MAX];
                    args.push(larder_wire::float::format_double(&mut room, score).to_vec());
                    args.push(member.to_vec());
                });
                (&b"ZADD"[..], next)
            }
            Value::Collection(Collection::Stream(stream)) => {
                let next = stream.piece(&self.key, from, Budget::new(1, 0), |command| {
                    args = command.iter().map(|arg| arg.to_vec()).collect();
                });
                return (OwnedRequest::from_args(args.iter()), next);
            }
            Value::Int(_) | Value::Bytes(_) => unreachable!("a string is sent whole"),
        };
        args[0] = name.to_vec();
        (OwnedRequest::from_args(args.iter()), next)
    }
}

/// A command that sets the expiry of fields from place `from` on, all of one time, and the place to go on from.
fn times_piece(key: &[u8], value: &Value, from: usize) -> Option<(OwnedRequest, Option<usize>)> {
    let Value::Collection(Collection::Hash(hash)) = value else {
        return None;
    };
    let budget = Budget::new(PIECE_ELEMENTS_MAX, PIECE_BYTES_MAX);
    let (at, fields, next) = hash.times_piece(from, budget)?;
    let (mut digits, count) = ([0; 20], fields.len().to_string());
    let words = [
        &b"HPEXPIREAT"[..],
        key,
        decimal(&mut digits, at.0),
        b"FIELDS",
        count.as_bytes(),
    ];
    let args = words.into_iter().chain(fields.iter().map(|field| &**field));
    let args: Vec<&[u8]> = args.collect();
    Some((OwnedRequest::from_args(args), next))
}
