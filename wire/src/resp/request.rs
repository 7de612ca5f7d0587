//! One request: the bytes that carry it and where its arguments lie in them. No copies.

use std::fmt;

/// Where one argument lies, in bytes from the start of the request's buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArgRange {
    pub start: u32,
    pub end: u32,
}

/// A request as it came: argument 0 is the command's name.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    bytes: &'a [u8],
    args: &'a [ArgRange],
}

impl<'a> Request<'a> {
    /// `args` are ranges of `bytes`.
    pub fn new(bytes: &'a [u8], args: &'a [ArgRange]) -> Request<'a> {
        Request { bytes, args }
    }

    /// Arguments, the command's name included.
    #[inline]
    pub fn len(&self) -> usize {
        self.args.len()
    }

    pub fn is_empty(&self) -> bool {
        self.args.is_empty()
    }

    /// Argument `index`.
    ///
    /// # Panics
    /// When there is no such argument: arity is checked before anything asks.
    #[inline]
    pub fn arg(&self, index: usize) -> &'a [u8] {
        let range = self.args[index];
        &self.bytes[range.start as usize..range.end as usize]
    }

    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let range = self.args.get(index)?;
        Some(&self.bytes[range.start as usize..range.end as usize])
    }

    /// The command's name as the client spelt it; empty when there are no arguments.
    pub fn name(&self) -> &'a [u8] {
        self.get(0).unwrap_or(b"")
    }

    /// The arguments from `first` on.
    pub fn args_from(
        &self,
        first: usize,
    ) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + Clone + use<'a> {
        let (bytes, args) = (self.bytes, self.args.get(first..).unwrap_or(&[]));
        args.iter()
            .map(move |range| &bytes[range.start as usize..range.end as usize])
    }

    /// The request as a RESP array: exactly the bytes that came, or what an inline request means.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Where the arguments lie in [`Request::bytes`].
    pub fn ranges(&self) -> &'a [ArgRange] {
        self.args
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.args_from(0).map(String::from_utf8_lossy))
            .finish()
    }
}

/// A request that owns its bytes: queued by MULTI, made by a script, read from a feed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct OwnedRequest {
    bytes: Vec<u8>,
    args: Vec<ArgRange>,
}

impl OwnedRequest {
    /// Writes `args` as a RESP array of bulk strings and remembers where each lies.
    pub fn from_args<A: AsRef<[u8]>>(
        args: impl IntoIterator<Item = A, IntoIter: ExactSizeIterator>,
    ) -> OwnedRequest {
        let args = args.into_iter();
        let mut request = OwnedRequest {
            bytes: Vec::new(),
            args: Vec::with_capacity(args.len()),
        };
        super::write::array_header(&mut request.bytes, args.len());
        for arg in args {
            let arg = arg.as_ref();
            super::write::bulk_header(&mut request.bytes, arg.len());
            let start = request.bytes.len() as u32;
            request.bytes.extend_from_slice(arg);
            request.args.push(ArgRange {
                start,
                end: request.bytes.len() as u32,
            });
            request.bytes.extend_from_slice(b"\r\n");
        }
        request
    }

    pub fn view(&self) -> Request<'_> {
        Request {
            bytes: &self.bytes,
            args: &self.args,
        }
    }

    /// The request as a RESP array.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes held, for budgets.
    pub fn size(&self) -> usize {
        self.bytes.len() + size_of_val(self.args.as_slice())
    }
}

/// Copies the arguments only, written anew.
impl From<Request<'_>> for OwnedRequest {
    fn from(request: Request<'_>) -> OwnedRequest {
        OwnedRequest::from_args(request.args_from(0))
    }
}

impl fmt::Debug for OwnedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}
