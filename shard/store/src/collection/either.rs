//! An iterator that is one of two kinds.

pub enum Either<A, B> {
    One(A),
    Other(B),
}

impl<T, A: Iterator<Item = T>, B: Iterator<Item = T>> Iterator for Either<A, B> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match self {
            Either::One(one) => one.next(),
            Either::Other(other) => other.next(),
        }
    }
}
