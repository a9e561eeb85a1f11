//! Segments: message bytes in append-only files of one directory, written by one process.
//!
//! One lock is held while a group is written and synced; readers never take it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::builder::{PreparedBlob, Source, Stored};
use crate::heap::{Record, Shared, count};
use crate::record::{HEADER_BYTES_MAX, Header};
use crate::scan::Scan;
use crate::segment::{self, Handles, SEGMENT_HEADER_BYTES, Start};
use crate::{HeapError, HeapKey, HeapOptions, Location, ScanSummary, ScannedRecord, SegmentInfo};

/// Bytes gathered before they are written; a group of usual size is one write.
const WRITE_BYTES: usize = 1 << 20;
/// Records up to this length are read at once.
const READ_AT_ONCE_BYTES: u64 = 64 << 10;

const LOCK_ATTEMPTS: usize = 10;
const LOCK_WAIT: Duration = Duration::from_millis(30);

/// The segments of one directory. Every call blocks for as long as the disk takes.
pub(crate) struct Segments {
    shared: Arc<Shared>,
    dir: PathBuf,
    segment_bytes: u64,
    handles: Handles,
    table: Mutex<BTreeMap<u64, SegmentInfo>>,
    tail: Mutex<Tail>,
    _lock: File,
}

/// Where the next group goes. Held while a group is written and synced.
#[derive(Default)]
struct Tail {
    active: Option<Active>,
    next_segment: u64,
    buffer: Vec<u8>,
}

struct Active {
    segment: u64,
    tag: [u8; 8],
    file: File,
    end: u64,
}

impl Segments {
    /// Opens the segments in `dir`, making the directory if it is not there, and cuts a torn tail.
    pub fn open(dir: &Path, options: HeapOptions) -> Result<(Arc<Shared>, Arc<Self>), HeapError> {
        std::fs::create_dir_all(dir)?;
        let above = dir.canonicalize()?;
        segment::sync_directory(above.parent().unwrap_or(Path::new("/")))?;
        let lock = lock(dir)?;
        let key = match options.key {
            Some(key) => key,
            None => HeapKey::load_or_create(dir)?,
        };
        let shared = Arc::new(Shared::new(key, dir.to_path_buf()));
        let segments = Self {
            shared: Arc::clone(&shared),
            dir: dir.to_path_buf(),
            segment_bytes: options.segment_bytes,
            handles: Handles::new(dir.to_path_buf(), options.open_files_max),
            table: Mutex::default(),
            tail: Mutex::default(),
            _lock: lock,
        };
        segments.find_segments()?;
        Ok((shared, Arc::new(segments)))
    }

    /// Appends `records` in order, one sync for all.
    pub fn append_group(&self, records: &[Record]) -> Result<Vec<Location>, HeapError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let mut tail = self.tail.lock();
        let result = self.append(&mut tail, records);
        if result.is_err() {
            count(&self.shared.counters.failures, 1);
        }
        result
    }

    /// The record at `from`, to be appended again as it is stored.
    pub fn copy_record(&self, from: &Location) -> Result<Record, HeapError> {
        let (header, stored) = self.open_record(from)?;
        Ok(Record {
            blob: PreparedBlob::new(Arc::clone(&self.shared), header.blob, header.table, stored),
            envelope: header.envelope,
            created: header.created,
        })
    }

    /// At most `limit` segments with a number above `after`, oldest first.
    pub fn list(&self, after: Option<u64>, limit: usize) -> Vec<SegmentInfo> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let table = self.table.lock();
        let above = table.range((from, Bound::Unbounded));
        above.map(|(_, info)| *info).take(limit).collect()
    }

    /// How many segments there are, and their bytes.
    pub fn extent(&self) -> (u64, u64) {
        let table = self.table.lock();
        let bytes = table.values().map(|segment| segment.bytes).sum();
        (table.len() as u64, bytes)
    }

    /// Every record of `segment` whose header is whole.
    pub fn scan(&self, segment: u64) -> Result<(Vec<ScannedRecord>, ScanSummary), HeapError> {
        let info = self.table.lock().get(&segment).copied();
        let info = info.ok_or(HeapError::Gone { segment })?;
        let scan = Scan {
            file: &*self.handles.get(segment)?,
            segment,
            tag: self.shared.key.segment_tag(segment),
            to: info.bytes,
            check_chunks: false,
        };
        let mut records = Vec::new();
        let summary = scan.run(|record| records.push(record))?;
        Ok((records, summary))
    }

    /// Removes a segment; the newest stays.
    pub fn remove(&self, segment: u64) -> Result<(), HeapError> {
        let mut table = self.table.lock();
        if table.keys().next_back() == Some(&segment) {
            return Err(HeapError::Newest { segment });
        }
        match std::fs::remove_file(segment::path(&self.dir, segment)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        self.handles.forget(segment);
        match table.remove(&segment) {
            Some(_) => Ok(()),
            None => Err(HeapError::Gone { segment }),
        }
    }

    /// Takes stock of the directory and makes the newest segment ready for the next group.
    fn find_segments(&self) -> Result<(), HeapError> {
        let numbers = segment::list(&self.dir)?;
        for &id in &numbers {
            let bytes = std::fs::metadata(segment::path(&self.dir, id))?.len();
            let info = SegmentInfo {
                id,
                bytes,
                sealed: true,
            };
            self.table.lock().insert(id, info);
        }
        let mut tail = self.tail.lock();
        if let Some(&newest) = numbers.last() {
            tail.next_segment = newest + 1;
            tail.active = self.resume(newest)?;
        }
        Ok(())
    }

    /// Cuts the torn tail of the newest segment; `None` when it takes no more groups.
    fn resume(&self, segment: u64) -> Result<Option<Active>, HeapError> {
        let path = segment::path(&self.dir, segment);
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let len = file.metadata()?.len();
        let start = segment::start(&file, len, segment, &self.shared.key)?;
        let tag = self.shared.key.segment_tag(segment);
        let mut end = SEGMENT_HEADER_BYTES;
        let mut damaged = start == Start::Damaged;
        match start {
            Start::WrongKey => return Err(HeapError::WrongKey { segment }),
            Start::Unfinished => file = segment::create(&self.dir, segment, &self.shared.key)?,
            Start::Good | Start::Damaged => {
                let scan = Scan {
                    file: &file,
                    segment,
                    tag,
                    to: len,
                    check_chunks: true,
                };
                let summary = scan.run(|_| ())?;
                end = summary.end;
                damaged |= summary.damaged_bytes > 0;
            }
        }
        if damaged {
            tracing::error!(segment, "heap segment is damaged before its end");
        } else if end < len {
            tracing::warn!(segment, end, cut_bytes = len - end, "cut a torn heap tail");
            file.set_len(end)?;
            file.sync_all()?;
        }
        let usable = !damaged && end < self.segment_bytes;
        self.note(segment, if damaged { len } else { end }, !usable);
        Ok(usable.then_some(Active {
            segment,
            tag,
            file,
            end,
        }))
    }

    fn note(&self, id: u64, bytes: u64, sealed: bool) {
        let info = SegmentInfo { id, bytes, sealed };
        self.table.lock().insert(id, info);
    }

    fn append(&self, tail: &mut Tail, records: &[Record]) -> Result<Vec<Location>, HeapError> {
        let mut active = self.active(tail)?;
        let mut writer = GroupWriter {
            file: &active.file,
            buffer: &mut tail.buffer,
            at: active.end,
        };
        let written = writer.write(&active, records);
        tail.buffer.clear();
        let (locations, end) = match written {
            Ok(written) => written,
            Err(error) => {
                // Nothing was synced, so cutting the file back undoes the group.
                match active.file.set_len(active.end) {
                    Ok(()) => tail.active = Some(active),
                    Err(_) => self.note(active.segment, active.end, true),
                }
                return Err(error);
            }
        };
        count(&self.shared.counters.syncs, 1);
        if let Err(error) = active.file.sync_data() {
            // After a failed sync the kernel may count unwritten pages as written: nothing more goes here.
            drop(active.file.set_len(active.end));
            self.note(active.segment, active.end, true);
            return Err(error.into());
        }
        count(&self.shared.counters.groups, 1);
        count(&self.shared.counters.records, records.len() as u64);
        count(&self.shared.counters.bytes_written, end - active.end);
        active.end = end;
        self.note(active.segment, end, false);
        tail.active = Some(active);
        Ok(locations)
    }

    /// Takes the active segment out of `tail`, a new one if the last is full or was given up.
    fn active(&self, tail: &mut Tail) -> Result<Active, HeapError> {
        if let Some(active) = tail.active.take() {
            if active.end < self.segment_bytes {
                return Ok(active);
            }
            self.note(active.segment, active.end, true);
        }
        let segment = tail.next_segment;
        let file = segment::create(&self.dir, segment, &self.shared.key)?;
        tail.next_segment = segment + 1;
        self.note(segment, SEGMENT_HEADER_BYTES, false);
        Ok(Active {
            segment,
            tag: self.shared.key.segment_tag(segment),
            file,
            end: SEGMENT_HEADER_BYTES,
        })
    }

    /// Reads a record's header, and its body too when it is short.
    pub fn open_record(&self, location: &Location) -> Result<(Header, Stored), HeapError> {
        let file = self.handles.get(location.segment)?;
        let place = (location.segment, location.offset);
        let corrupt = |what| HeapError::Corrupt {
            segment: location.segment,
            offset: location.offset,
            what,
        };
        let at_once = location.length <= READ_AT_ONCE_BYTES;
        let len = if at_once {
            location.length as usize
        } else {
            location.header as usize
        };
        if len > HEADER_BYTES_MAX {
            return Err(corrupt("header length"));
        }
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, location.offset)
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => corrupt("record ends early"),
                _ => error.into(),
            })?;
        let tag = self.shared.key.segment_tag(location.segment);
        let header = Header::decode_at(&bytes, tag, location).map_err(corrupt)?;
        let source = if at_once {
            Source::Memory(Bytes::from(bytes).slice(location.header as usize..))
        } else {
            Source::File(file, location.offset + u64::from(location.header))
        };
        Ok((header, Stored { source, place }))
    }
}

fn lock(dir: &Path) -> Result<File, HeapError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join("heap.lock"))?;
    // A process that is just ending, or one just being started by the last owner, holds it for a moment more.
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_WAIT),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
    Err(HeapError::Locked(dir.display().to_string()))
}

/// Writes one group at the end of the active segment.
struct GroupWriter<'a> {
    file: &'a File,
    buffer: &'a mut Vec<u8>,
    at: u64,
}

impl GroupWriter<'_> {
    fn write(
        &mut self,
        active: &Active,
        records: &[Record],
    ) -> Result<(Vec<Location>, u64), HeapError> {
        let mut locations = Vec::with_capacity(records.len());
        for record in records {
            locations.push(self.record(active, record)?);
        }
        self.flush()?;
        Ok((locations, self.at))
    }

    fn record(&mut self, active: &Active, record: &Record) -> Result<Location, HeapError> {
        let offset = self.at + self.buffer.len() as u64;
        let header = Header {
            blob: record.blob.id(),
            created: record.created,
            envelope: record.envelope.clone(),
            table: record.blob.table().clone(),
        };
        let lengths = header.encode(active.tag, self.buffer)?;
        let mut start = 0;
        while start < lengths.body {
            let len = (lengths.body - start).min(WRITE_BYTES as u64);
            let bytes = record.blob.stored().read(start, len as usize)?;
            self.buffer.extend_from_slice(&bytes);
            start += len;
            if self.buffer.len() >= WRITE_BYTES {
                self.flush()?;
            }
        }
        Ok(Location {
            segment: active.segment,
            offset,
            length: lengths.total(),
            header: lengths.header,
            size: header.table.size,
        })
    }

    fn flush(&mut self) -> Result<(), HeapError> {
        self.file.write_all_at(self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
