//! The words of a replica's connection, beside those of a feed. None of them counts in the journal's offsets.
//!
//! ```text
//! primary → replica   LARDER FULL <history> [<history> <offset>]                the data follows, as a feed; where the history went on
//!                                                                               from another one
//!                     LARDER CONTINUE <history> <offset> [<history> <offset>]   the journal follows, from there
//!                     LARDER JOINED <history> <offset> [<history> <offset>]     that was all data: the journal follows, from there
//!                     LARDER PING <ms> <offset>                                 the primary's clock, and the end of its journal
//! replica → primary   LARDER ACK <bytes>                                        of the feed so many bytes are applied
//!                     LARDER HAVE <offset> [<ms> [<offset>]]                    of the journal everything before is; the last ping, or 0;
//!                                                                               what of it is on the disk
//! ```

use larder_wire::Offset;
use larder_wire::replication::Place;
use larder_wire::resp::Request;

use crate::feed::frame::words;

/// A place that the primary names, and where its history went on from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    pub place: Place,
    pub previous: Option<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkWord {
    /// The offset is that of the journal at the moment.
    Full(Named),
    Continue(Named),
    Joined(Named),
    Ping {
        sent_ms: u64,
        end: Offset,
    },
    Have {
        offset: Offset,
        ping_sent_ms: Option<u64>,
        synced: Option<Offset>,
    },
}

impl LinkWord {
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            LinkWord::Full(named) => write_named(out, "FULL", named),
            LinkWord::Continue(named) => write_named(out, "CONTINUE", named),
            LinkWord::Joined(named) => write_named(out, "JOINED", named),
            LinkWord::Ping { sent_ms, end } => {
                write(out, &["PING", &sent_ms.to_string(), &end.to_string()]);
            }
            LinkWord::Have {
                offset,
                ping_sent_ms,
                synced,
            } => {
                let mut texts = vec![offset.to_string()];
                if ping_sent_ms.is_some() || synced.is_some() {
                    texts.push(ping_sent_ms.unwrap_or(0).to_string());
                }
                texts.extend(synced.map(|synced| synced.to_string()));
                let mut args = vec!["HAVE"];
                args.extend(texts.iter().map(String::as_str));
                write(out, &args);
            }
        }
    }

    /// `None`: it is something else, a word of a feed or a command.
    pub fn read(request: &Request<'_>) -> Option<LinkWord> {
        if !request.name().eq_ignore_ascii_case(b"LARDER") {
            return None;
        }
        let text = |at: usize| std::str::from_utf8(request.get(at)?).ok();
        let offset = |at: usize| text(at)?.parse().ok().map(Offset);
        let place = |at: usize| {
            Some(Place {
                history: text(at)?.parse().ok()?,
                offset: offset(at + 1)?,
            })
        };
        let named = || {
            Some(Named {
                place: place(2)?,
                previous: place(4),
            })
        };
        match request.get(1)? {
            b"FULL" => named().map(LinkWord::Full),
            b"CONTINUE" => named().map(LinkWord::Continue),
            b"JOINED" => named().map(LinkWord::Joined),
            b"PING" => Some(LinkWord::Ping {
                sent_ms: text(2)?.parse().ok()?,
                end: offset(3)?,
            }),
            b"HAVE" => Some(LinkWord::Have {
                offset: offset(2)?,
                ping_sent_ms: match text(3) {
                    Some("0") | None => None,
                    Some(ms) => Some(ms.parse().ok()?),
                },
                synced: offset(4),
            }),
            _ => None,
        }
    }
}

fn write_named(out: &mut Vec<u8>, word: &str, named: &Named) {
    let places = [Some(named.place), named.previous];
    let texts = places
        .into_iter()
        .flatten()
        .flat_map(|place| [place.history.to_string(), place.offset.to_string()]);
    let texts: Vec<String> = texts.collect();
    let mut args = vec![word];
    args.extend(texts.iter().map(String::as_str));
    write(out, &args);
}

fn write(out: &mut Vec<u8>, args: &[&str]) {
    let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
    words(out, &args);
}

#[cfg(test)]
mod tests {
    use larder_wire::resp::{RequestScanner, Scanned};
    use larder_wire::{History, NodeId};

    use super::*;

    #[test]
    fn every_word_is_read_back_as_it_was_written() {
        let place = |n: u8, offset| Place {
            history: History(NodeId::from_bytes([n; 20])),
            offset: Offset(offset),
        };
        let fresh = Named {
            place: place(1, 0),
            previous: None,
        };
        let second = Named {
            place: place(2, u64::MAX),
            previous: Some(place(1, 77)),
        };
        for word in [
            LinkWord::Full(fresh),
            LinkWord::Full(second),
            LinkWord::Continue(second),
            LinkWord::Joined(fresh),
            LinkWord::Ping {
                sent_ms: 12,
                end: Offset(34),
            },
            LinkWord::Have {
                offset: Offset(5),
                ping_sent_ms: None,
                synced: None,
            },
            LinkWord::Have {
                offset: Offset(5),
                ping_sent_ms: Some(6),
                synced: None,
            },
            LinkWord::Have {
                offset: Offset(5),
                ping_sent_ms: Some(6),
                synced: Some(Offset(4)),
            },
            LinkWord::Have {
                offset: Offset(5),
                ping_sent_ms: None,
                synced: Some(Offset(0)),
            },
        ] {
            let mut bytes = Vec::new();
            word.write(&mut bytes);
            let mut scanner = RequestScanner::new();
            let consumed = bytes.len();
            assert_eq!(scanner.scan(&bytes), Ok(Scanned::Request { consumed }));
            assert_eq!(LinkWord::read(&scanner.request(&bytes)), Some(word));
        }
        let other = larder_wire::resp::OwnedRequest::from_args(["LARDER", "DROP", "1-5"]);
        assert_eq!(LinkWord::read(&other.view()), None);
    }
}
