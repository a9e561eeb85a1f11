//! Compression of a connection (RFC 4978): raw deflate both ways.
//!
//! What is read needs its window of 32 KiB for as long as the connection lives, since the peer may refer to it. What is
//! written is compressed in a workspace of the thread and flushed to a whole octet each time, so that it refers to
//! nothing before: a compressed connection that waits holds no compressor.
//!
//! **Invariant:** inflating stops when its output is full; what a peer makes of few octets never piles up.

use std::cell::Cell;
use std::io;

use bytes::{Buf, BytesMut};
use miniz_oxide::deflate::core::{
    CompressionStrategy, CompressorOxide, TDEFLFlush, TDEFLStatus, compress,
};
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

use super::outgoing::Outgoing;

/// How hard the compressor tries, of 10.
const LEVEL: u8 = 4;
/// The window of deflate, as a power of 2.
const WINDOW_BITS: u8 = 15;
/// Room that the compressor is given at once.
const PACKED_OCTETS: usize = 4096;

thread_local! {
    /// The compressor of this thread, taken while in use.
    static COMPRESSOR: Cell<Option<Box<CompressorOxide>>> = const { Cell::new(None) };
}

fn take_compressor() -> Box<CompressorOxide> {
    COMPRESSOR.take().unwrap_or_else(|| {
        Box::new(CompressorOxide::with_params(
            DataFormat::Raw,
            LEVEL,
            CompressionStrategy::Default,
            WINDOW_BITS,
        ))
    })
}

/// Both directions of a compressed connection.
pub(super) struct Compression {
    state: Box<InflateState>,
    /// Octets of the peer that are not inflated yet.
    incoming: BytesMut,
    /// Whether more may come of octets that were taken.
    has_more: bool,
    ended: bool,
    /// What is packed and not written yet.
    pub(super) packed: Outgoing,
}

impl Compression {
    pub(super) fn new() -> Self {
        Self {
            state: InflateState::new_boxed(DataFormat::Raw),
            incoming: BytesMut::new(),
            has_more: false,
            ended: false,
            packed: Outgoing::default(),
        }
    }

    /// Takes octets of the peer, to be inflated.
    pub(super) fn push(&mut self, octets: &[u8]) {
        self.incoming.extend_from_slice(octets);
    }

    /// Whether there may be something to inflate.
    pub(super) fn has_input(&self) -> bool {
        self.has_more || !self.incoming.is_empty()
    }

    /// Whether the peer has ended its stream.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Inflates as much as `out` holds; how much came.
    pub(super) fn unpack(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let result = inflate(&mut self.state, &self.incoming, out, MZFlush::None);
        self.incoming.advance(result.bytes_consumed);
        self.has_more = result.bytes_written > 0;
        if self.incoming.is_empty() {
            self.incoming = BytesMut::new();
        }
        match result.status {
            Ok(MZStatus::StreamEnd) => self.ended = true,
            // Without more octets nothing more comes.
            Ok(_) | Err(MZError::Buf) => {}
            Err(error) => {
                let text = format!("the peer's compression is broken: {error:?}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        Ok(result.bytes_written)
    }

    /// Compresses all that waits, up to a whole octet.
    pub(super) fn pack(&mut self, outgoing: &mut Outgoing) -> io::Result<()> {
        if outgoing.is_empty() {
            return Ok(());
        }
        let mut compressor = take_compressor();
        compressor.reset();
        while !outgoing.is_empty() {
            let taken = self
                .step(&mut compressor, outgoing.front(), TDEFLFlush::None)?
                .0;
            outgoing.advance(taken);
        }
        while self.step(&mut compressor, &[], TDEFLFlush::Sync)?.1 == PACKED_OCTETS {}
        COMPRESSOR.set(Some(compressor));
        Ok(())
    }

    /// One call of the compressor: octets taken and given.
    fn step(
        &mut self,
        compressor: &mut CompressorOxide,
        octets: &[u8],
        flush: TDEFLFlush,
    ) -> io::Result<(usize, usize)> {
        let tail = self.packed.tail();
        let before = tail.len();
        tail.resize(before + PACKED_OCTETS, 0);
        let room = tail.get_mut(before..).unwrap_or_default();
        let (status, taken, given) = compress(compressor, octets, room, flush);
        tail.truncate(before + given);
        match status {
            TDEFLStatus::Okay | TDEFLStatus::Done => Ok((taken, given)),
            status => Err(io::Error::other(format!("compressing failed: {status:?}"))),
        }
    }

    /// Gives back what is not needed while the connection waits.
    pub(super) fn release(&mut self) {
        self.packed.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn packed(one: &mut Compression, octets: &[u8]) -> Vec<u8> {
        let mut outgoing = Outgoing::default();
        outgoing.push(Bytes::copy_from_slice(octets));
        one.pack(&mut outgoing).unwrap();
        let mut wire = Vec::new();
        while !one.packed.is_empty() {
            let front = one.packed.front().to_vec();
            one.packed.advance(front.len());
            wire.extend(front);
        }
        wire
    }

    fn unpacked(other: &mut Compression) -> Vec<u8> {
        let (mut all, mut out) = (Vec::new(), [0; 100]);
        while other.has_input() {
            let count = other.unpack(&mut out).unwrap();
            all.extend_from_slice(&out[..count]);
        }
        all
    }

    #[test]
    fn octets_of_great_promise_come_in_small_portions() {
        let wire = packed(&mut Compression::new(), &vec![b'a'; 50 << 20]);
        assert!(wire.len() < 200_000, "{}", wire.len());
        let mut other = Compression::new();
        other.push(&wire);
        let mut out = vec![0; 16 * 1024];
        let mut count = 0;
        while other.has_input() {
            let came = other.unpack(&mut out).unwrap();
            assert!(came <= out.len());
            count += came;
        }
        assert_eq!(count, 50 << 20);
    }

    #[test]
    fn what_is_no_deflate_is_an_error() {
        let mut other = Compression::new();
        other.push(&[0xff; 40]);
        let mut out = [0; 100];
        let failed = (0..10).any(|_| other.unpack(&mut out).is_err());
        assert!(failed);
    }

    #[test]
    fn a_text_is_smaller_when_it_is_packed() {
        let text = b"* 1 FETCH (FLAGS (\\Seen) UID 1)\r\n".repeat(100);
        assert!(packed(&mut Compression::new(), &text).len() < text.len() / 10);
    }

    proptest! {
        #[test]
        fn every_flush_can_be_read_at_once(
            pieces in prop::collection::vec(prop::collection::vec(0u8..8, 0..5000), 1..8),
            cut in 1usize..300,
        ) {
            let (mut one, mut other) = (Compression::new(), Compression::new());
            for piece in pieces {
                let wire = packed(&mut one, &piece);
                let mut came = Vec::new();
                for part in wire.chunks(cut) {
                    other.push(part);
                    came.extend(unpacked(&mut other));
                }
                prop_assert_eq!(came, piece);
            }
        }
    }
}
