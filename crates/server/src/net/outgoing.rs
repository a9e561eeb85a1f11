//! What is waiting to be written: small pieces are gathered in one buffer, large ones are passed along uncopied.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Pieces up to this length are copied behind each other; longer ones are queued as they are.
const COPIED_OCTETS_MAX: usize = 2048;
/// Pieces handed to the kernel in one call.
const SLICES: usize = 32;

/// A queue of octets, in order. Holds no memory after [`Outgoing::release`] when it is empty.
#[derive(Debug, Default)]
pub struct Outgoing {
    queue: VecDeque<Bytes>,
    /// What follows the queue.
    tail: Vec<u8>,
    /// Octets of `tail` that are written already; zero unless the queue is empty.
    written: usize,
    queued: usize,
}

impl Outgoing {
    /// Octets that wait.
    pub fn len(&self) -> usize {
        self.queued + self.tail.len() - self.written
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buffer for small pieces, to be appended to only.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Adds a piece.
    pub fn push(&mut self, piece: Bytes) {
        if piece.len() <= COPIED_OCTETS_MAX {
            self.tail.extend_from_slice(&piece);
            return;
        }
        if self.tail.len() > self.written {
            let mut before = Bytes::from(std::mem::take(&mut self.tail));
            before.advance(self.written);
            self.written = 0;
            self.queued += before.len();
            self.queue.push_back(before);
        }
        self.queued += piece.len();
        self.queue.push_back(piece);
    }

    /// The first pieces that wait, for one vectored write.
    pub fn slices(&self) -> ([IoSlice<'_>; SLICES], usize) {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let waiting = self.queue.iter().map(Bytes::as_ref);
        let tail = self
            .tail
            .get(self.written..)
            .filter(|rest| !rest.is_empty());
        let mut count = 0;
        for (slot, piece) in slices.iter_mut().zip(waiting.chain(tail)) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        (slices, count)
    }

    /// The first piece that waits.
    pub fn front(&self) -> &[u8] {
        match self.queue.front() {
            Some(piece) => piece,
            None => self.tail.get(self.written..).unwrap_or_default(),
        }
    }

    /// Drops `count` octets from the front: they are written.
    pub fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.queue.front_mut() {
            let taken = count.min(piece.len());
            piece.advance(taken);
            self.queued -= taken;
            count -= taken;
            if !piece.is_empty() {
                return;
            }
            self.queue.pop_front();
        }
        self.written = (self.written + count).min(self.tail.len());
        if self.written == self.tail.len() {
            self.tail.clear();
            self.written = 0;
        }
    }

    /// Gives the memory back, if nothing waits.
    pub fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_idle_queue_holds_no_memory() {
        let mut out = Outgoing::default();
        out.tail().extend_from_slice(&[1; 5000]);
        out.push(Bytes::from(vec![2; 5000]));
        out.release();
        assert_eq!(out.len(), 10_000);
        out.advance(10_000);
        out.release();
        assert_eq!((out.tail.capacity(), out.queue.capacity()), (0, 0));
    }

    proptest! {
        #[test]
        fn octets_leave_in_the_order_they_came(
            steps in prop::collection::vec((0u8..3, 0usize..5000), 0..60)
        ) {
            let mut out = Outgoing::default();
            let (mut expected, mut seen, mut next) = (Vec::new(), Vec::new(), 0u8);
            for (kind, len) in steps {
                next = next.wrapping_add(1);
                match kind {
                    0 => out.push(Bytes::from(vec![next; len])),
                    1 => out.tail().extend(std::iter::repeat_n(next, len)),
                    _ => {
                        let (slices, count) = out.slices();
                        let all: Vec<u8> = slices[..count].iter().flat_map(|s| s.to_vec()).collect();
                        let taken = len.min(all.len());
                        seen.extend_from_slice(&all[..taken]);
                        out.advance(taken);
                        prop_assert_eq!(out.len(), expected.len() - seen.len());
                        continue;
                    }
                }
                expected.extend(std::iter::repeat_n(next, len));
            }
            while !out.is_empty() {
                let front = out.front().to_vec();
                seen.extend_from_slice(&front);
                out.advance(front.len());
            }
            prop_assert!(seen == expected);
        }
    }
}
