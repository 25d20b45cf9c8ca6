//! A message as a chain of byte strings: what was written new, and long parts shared with the message they came from.

use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Below this many bytes a copy is cheaper than one more part in the write: 4 KiB are copied in some 100 ns.
const COPY_BYTES_MAX: usize = 4096;

/// A chain of byte strings that is written with one vectored write.
#[derive(Debug, Clone, Default)]
pub struct Rope {
    /// The first part; together with `rest` in order. Most messages have no other.
    head: Bytes,
    /// Parts after the first, the next one last.
    rest: Vec<Bytes>,
}

impl Rope {
    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.rest.iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One byte string; copies only when there is more than one part.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        if self.rest.is_empty() { self.head } else { self.copy_to_bytes(self.len()) }
    }

    /// The parts in order.
    pub fn parts(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.head).chain(self.rest.iter().rev())
    }
}

impl From<Bytes> for Rope {
    fn from(bytes: Bytes) -> Self {
        Self { head: bytes, rest: Vec::new() }
    }
}

impl From<Vec<u8>> for Rope {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl Buf for Rope {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.head
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slice, part) in slices.iter_mut().zip(self.parts().filter(|part| !part.is_empty())) {
            *slice = IoSlice::new(part);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        while count >= self.head.len() {
            count -= self.head.len();
            match self.rest.pop() {
                Some(next) => self.head = next,
                None => {
                    assert_eq!(count, 0, "advanced past the end");
                    self.head.clear();
                    return;
                }
            }
        }
        self.head.advance(count);
    }
}

/// Writes a [`Rope`].
#[derive(Debug, Default)]
pub struct Builder {
    parts: Vec<Bytes>,
    tail: BytesMut,
}

impl Builder {
    /// A builder with room for `capacity` bytes of small parts.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { parts: Vec::new(), tail: BytesMut::with_capacity(capacity) }
    }

    /// Appends a copy.
    pub fn push_slice(&mut self, slice: &[u8]) -> &mut Self {
        self.tail.extend_from_slice(slice);
        self
    }

    /// Appends a decimal number.
    pub fn push_number(&mut self, mut number: u64) -> &mut Self {
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return self.push_slice(&digits[at..]);
            }
        }
    }

    /// Appends bytes: copied when few, shared when many.
    pub fn push_bytes(&mut self, bytes: Bytes) -> &mut Self {
        if bytes.len() < COPY_BYTES_MAX {
            return self.push_slice(&bytes);
        }
        self.cut();
        self.parts.push(bytes);
        self
    }

    /// Appends another rope.
    pub fn push_rope(&mut self, rope: Rope) -> &mut Self {
        self.push_bytes(rope.head);
        for part in rope.rest.into_iter().rev() {
            self.push_bytes(part);
        }
        self
    }

    /// The finished rope.
    #[must_use]
    pub fn finish(mut self) -> Rope {
        self.cut();
        self.parts.reverse();
        let head = self.parts.pop().unwrap_or_default();
        Rope { head, rest: self.parts }
    }

    fn cut(&mut self) {
        if !self.tail.is_empty() {
            self.parts.push(self.tail.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_parts() -> Rope {
        let mut builder = Builder::with_capacity(16);
        builder.push_slice(b"head").push_bytes(Bytes::from(vec![b'x'; COPY_BYTES_MAX])).push_slice(b"tail").push_number(1_205);
        builder.finish()
    }

    #[test]
    fn long_parts_are_shared_and_short_ones_joined() {
        let lengths: Vec<_> = three_parts().parts().map(Bytes::len).collect();

        assert_eq!(lengths, [4, COPY_BYTES_MAX, 8]);
    }

    #[test]
    fn reading_it_in_steps_gives_the_same_bytes() {
        let whole = three_parts().into_bytes();
        for step in [1, 3, 4, 5, 4096, 5000] {
            let mut rope = three_parts();
            let mut read = Vec::new();
            while rope.has_remaining() {
                read.extend_from_slice(&rope.copy_to_bytes(step.min(rope.remaining())));
            }

            assert_eq!(read, whole, "in steps of {step}");
        }
    }

    #[test]
    fn a_vectored_write_sees_every_part() {
        let rope = three_parts();
        let mut slices = [IoSlice::new(&[]); 8];

        let count = rope.chunks_vectored(&mut slices);

        assert_eq!(slices[..count].iter().map(|slice| slice.len()).sum::<usize>(), rope.len());
    }
}
