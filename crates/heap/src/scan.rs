//! Walking a segment's records, past damage if there is any.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use memchr::memmem;
use nightmail_core::{BlobId, Timestamp};

use crate::Location;
use crate::record::{FIXED_BYTES, Header, Lengths, MAGIC, VERSION};
use crate::segment::SEGMENT_HEADER_BYTES;

const FIRST_READ_BYTES: usize = 4096;
const WINDOW_BYTES: usize = 1 << 20;
/// Version, magic and tag: what every record of a segment begins with.
const MARK_BYTES: usize = 12;

/// A record found in a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScannedRecord {
    /// Where it lies.
    pub location: Location,
    /// The blob's id.
    pub blob: BlobId,
    /// Plain bytes of the blob.
    pub size: u64,
    /// What it was accepted with.
    pub envelope: Bytes,
    /// When it was accepted.
    pub created: Timestamp,
}

/// What a walk over a segment came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScanSummary {
    /// Records found.
    pub records: u64,
    /// Where the last of them ends, in bytes from the start of the segment.
    pub end: u64,
    /// Bytes between records that are no record.
    pub damaged_bytes: u64,
}

/// A walk over the records of one segment.
pub(crate) struct Scan<'a> {
    pub file: &'a File,
    pub segment: u64,
    pub tag: [u8; 8],
    /// Where to stop, in bytes from the start of the segment.
    pub to: u64,
    /// Whether a record with a bad chunk counts as damage.
    pub check_chunks: bool,
}

impl Scan<'_> {
    /// Calls `visit` with every record. After damage it goes on at the next record's mark.
    pub fn run(&self, mut visit: impl FnMut(ScannedRecord)) -> io::Result<ScanSummary> {
        let mut at = SEGMENT_HEADER_BYTES;
        let mut summary = ScanSummary {
            end: at,
            ..ScanSummary::default()
        };
        while at < self.to {
            match self.record(at)? {
                Some(record) => {
                    summary.records += 1;
                    summary.damaged_bytes += at - summary.end;
                    at += record.location.length;
                    summary.end = at;
                    visit(record);
                }
                None => match self.next_mark(at + 1)? {
                    Some(next) => at = next,
                    None => break,
                },
            }
        }
        Ok(summary)
    }

    /// The record that begins at `at`, if there is a whole one.
    fn record(&self, at: u64) -> io::Result<Option<ScannedRecord>> {
        let room = self.to - at;
        if room < FIXED_BYTES as u64 {
            return Ok(None);
        }
        let mut bytes = vec![0; room.min(FIRST_READ_BYTES as u64) as usize];
        self.file.read_exact_at(&mut bytes, at)?;
        let Some(lengths) = Header::peek(&bytes, self.tag) else {
            return Ok(None);
        };
        if lengths.total() > room {
            return Ok(None);
        }
        if lengths.header as usize > bytes.len() {
            bytes.resize(lengths.header as usize, 0);
            self.file.read_exact_at(&mut bytes, at)?;
        }
        let Ok(header) = Header::decode(&bytes, self.tag) else {
            return Ok(None);
        };
        if self.check_chunks && !self.chunks_hold(&header, at + u64::from(lengths.header))? {
            return Ok(None);
        }
        Ok(Some(self.found(header, lengths, at)))
    }

    fn found(&self, header: Header, lengths: Lengths, at: u64) -> ScannedRecord {
        ScannedRecord {
            location: Location {
                segment: self.segment,
                offset: at,
                length: lengths.total(),
                header: lengths.header,
                size: header.table.size,
            },
            blob: header.blob,
            size: header.table.size,
            envelope: header.envelope,
            created: header.created,
        }
    }

    fn chunks_hold(&self, header: &Header, body: u64) -> io::Result<bool> {
        let mut bytes = Vec::new();
        for chunk in &header.table.chunks {
            bytes.resize(chunk.len as usize, 0);
            self.file.read_exact_at(&mut bytes, body + chunk.start)?;
            if crc32fast::hash(&bytes) != chunk.crc {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where the next mark of a record is, from `from` on.
    fn next_mark(&self, from: u64) -> io::Result<Option<u64>> {
        let mut mark = [VERSION; MARK_BYTES];
        let rest = MAGIC.iter().chain(&self.tag);
        for (slot, byte) in mark.iter_mut().skip(1).zip(rest) {
            *slot = *byte;
        }
        let finder = memmem::Finder::new(&mark);
        let mut window = vec![0; WINDOW_BYTES];
        let mut at = from;
        while at + (MARK_BYTES as u64) <= self.to {
            let len = (self.to - at).min(WINDOW_BYTES as u64) as usize;
            window.truncate(len);
            self.file.read_exact_at(&mut window, at)?;
            if let Some(found) = finder.find(&window) {
                return Ok(Some(at + found as u64));
            }
            at += (len - (MARK_BYTES - 1)) as u64;
        }
        Ok(None)
    }
}
