//! Reads the commands of an append-only file out of its bytes, and knows up to where they are whole.
//!
//! A transaction is whole with its EXEC: what comes before that is held back. Lines that begin with `#` are remarks; ours say where the journal stands. Knows no files and
//! carries nothing out.

use larder_store::Db;
use larder_wire::replication::Place;
use larder_wire::resp::{ProtocolError, Request, RequestScanner, Scanned};
use larder_wire::{History, Offset};

/// Begins a remark that says the place of what follows, and its database where nothing in the bytes does: `#larder <history> <offset> [<database>]`.
const PLACE_REMARK: &str = "#larder ";
/// Longest remark, in bytes.
const REMARK_BYTES_MAX: usize = 1024;

/// What the bytes at hand begin with.
#[derive(Debug, PartialEq)]
pub enum Piece {
    /// A command of so many bytes; [`Reader::command`] gives it.
    Command { bytes: usize },
    /// A remark of so many bytes.
    Remark {
        bytes: usize,
        place: Option<Place>,
        db: Option<Db>,
    },
    /// The bytes end in the middle, or there are none.
    Incomplete,
}

/// The bytes are no command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoCommand(pub String);

#[derive(Default)]
pub struct Reader {
    scanner: RequestScanner,
}

impl Reader {
    /// Looks at bytes that begin where a command does. After `Incomplete` it is given the same bytes with more behind them.
    pub fn look(&mut self, bytes: &[u8]) -> Result<Piece, NoCommand> {
        match bytes.first() {
            None => Ok(Piece::Incomplete),
            Some(b'#') => remark(bytes),
            Some(b'*') => self.scan(bytes),
            Some(byte) => Err(NoCommand(format!(
                "a command begins with '*' and not with {:?}",
                char::from(*byte)
            ))),
        }
    }

    fn scan(&mut self, bytes: &[u8]) -> Result<Piece, NoCommand> {
        let scanned = self.scanner.scan(bytes);
        let found = scanned.map_err(|error: ProtocolError| NoCommand(error.to_string()))?;
        match found {
            Scanned::Request { consumed } => match self.scanner.request(bytes).is_empty() {
                true => Err(NoCommand("a command has no words".to_string())),
                false => Ok(Piece::Command { bytes: consumed }),
            },
            Scanned::Incomplete { .. } => Ok(Piece::Incomplete),
        }
    }

    /// The command that was found last.
    pub fn command<'a>(&'a self, bytes: &'a [u8]) -> Request<'a> {
        self.scanner.request(bytes)
    }
}

fn remark(bytes: &[u8]) -> Result<Piece, NoCommand> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return match bytes.len() > REMARK_BYTES_MAX {
            true => Err(NoCommand("a remark does not end".to_string())),
            false => Ok(Piece::Incomplete),
        };
    };
    let line = std::str::from_utf8(&bytes[..end]).unwrap_or_default();
    let words = line
        .trim_end()
        .strip_prefix(PLACE_REMARK)
        .unwrap_or_default();
    let mut words = words.split(' ');
    let place = words
        .next()
        .zip(words.next())
        .and_then(|(history, offset)| {
            Some(Place {
                history: History(history.parse().ok()?),
                offset: Offset(offset.parse().ok()?),
            })
        });
    let db = words.next().and_then(|db| Db::new(db.parse().ok()?));
    Ok(Piece::Remark {
        bytes: end + 1,
        place,
        db: db.filter(|_| place.is_some()),
    })
}

/// What stands before bytes of the journal from `place` on. `db` is their database: a journal of the node's own says it itself, a copy of another's cannot.
pub fn place_remark(place: Place, db: Option<Db>) -> Vec<u8> {
    let db = db.map_or(String::new(), |db| format!(" {db}"));
    format!("{PLACE_REMARK}{} {}{db}\r\n", place.history, place.offset.0).into_bytes()
}

/// Where what was read stands in the journal that wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Along {
    pub place: Option<Place>,
}

impl Along {
    pub fn went(&mut self, bytes: usize) {
        if let Some(place) = &mut self.place {
            place.offset.0 += bytes as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use larder_wire::NodeId;

    use super::*;

    #[test]
    fn commands_and_remarks_are_told_apart_and_what_is_cut_is_incomplete() {
        let place = Place {
            history: History(NodeId::from_bytes([7; 20])),
            offset: Offset(42),
        };
        let db = Db::new(3);
        let mut text = place_remark(place, db);
        let remark = text.len();
        text.extend_from_slice(b"*2\r\n$3\r\nDEL\r\n$1\r\na\r\n");
        for cut in 0..remark {
            assert_eq!(Reader::default().look(&text[..cut]), Ok(Piece::Incomplete));
        }
        let mut reader = Reader::default();
        assert_eq!(
            reader.look(&text),
            Ok(Piece::Remark {
                bytes: remark,
                place: Some(place),
                db
            })
        );
        let bytes = remark - 2;
        assert_eq!(
            reader.look(&place_remark(place, None)),
            Ok(Piece::Remark {
                bytes,
                place: Some(place),
                db: None
            })
        );
        for cut in remark..text.len() {
            assert_eq!(reader.look(&text[remark..cut]), Ok(Piece::Incomplete));
        }
        let bytes = text.len() - remark;
        assert_eq!(reader.look(&text[remark..]), Ok(Piece::Command { bytes }));
        assert_eq!(reader.command(&text[remark..]).arg(1), b"a");
    }

    #[test]
    fn what_is_no_command_is_told() {
        for wrong in ["SET a b\r\n", "*0\r\n", "*x\r\n", "*1\r\n:3\r\n"] {
            assert!(Reader::default().look(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
