//! Segment files: their names, headers and open handles.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{HeapError, HeapKey};

/// Bytes before the first record: `NMHEAPS1`, the number, the tag.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 24;
const SEGMENT_MAGIC: [u8; 8] = *b"NMHEAPS1";
const SUFFIX: &str = ".seg";

/// What is known of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentInfo {
    /// The segment's number; higher is newer.
    pub id: u64,
    /// Bytes of its file that hold records or once did.
    pub bytes: u64,
    /// Whether it takes no more records.
    pub sealed: bool,
}

/// Makes the entries of `dir` durable.
pub(crate) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

pub(crate) fn path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:016x}{SUFFIX}"))
}

/// The numbers of the segments in `dir`, in order.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(SUFFIX))
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The header of segment or pack `segment`.
pub(crate) fn header(segment: u64, tag: [u8; 8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(SEGMENT_HEADER_BYTES as usize);
    header.extend_from_slice(&SEGMENT_MAGIC);
    header.extend_from_slice(&segment.to_be_bytes());
    header.extend_from_slice(&tag);
    header
}

/// Makes segment `segment`, durable with its directory entry, with no record in it.
///
/// What a crash during creation leaves has no complete header, and is made anew.
pub(crate) fn create(dir: &Path, segment: u64, key: &HeapKey) -> Result<File, HeapError> {
    let path = path(dir, segment);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)?;
    let header = header(segment, key.segment_tag(segment));
    let written = file
        .write_all_at(&header, 0)
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_directory(dir));
    if let Err(error) = written {
        // Without its header the file is as good as absent; leaving it behind costs nothing.
        drop(std::fs::remove_file(&path));
        return Err(error.into());
    }
    Ok(file)
}

/// What the start of a segment file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    /// A header of this segment.
    Good,
    /// No complete header, and nothing after it.
    Unfinished,
    /// A header of this segment, made under another key.
    WrongKey,
    /// No header of this segment.
    Damaged,
}

/// Looks at the start of a segment file of `len` bytes.
pub(crate) fn start(file: &File, len: u64, segment: u64, key: &HeapKey) -> io::Result<Start> {
    if len < SEGMENT_HEADER_BYTES {
        return Ok(Start::Unfinished);
    }
    let mut header = [0; SEGMENT_HEADER_BYTES as usize];
    file.read_exact_at(&mut header, 0)?;
    let ours = header.starts_with(&SEGMENT_MAGIC)
        && header.get(8..16) == Some(segment.to_be_bytes().as_slice());
    Ok(match ours {
        true if header.ends_with(&key.segment_tag(segment)) => Start::Good,
        true => Start::WrongKey,
        false if len == SEGMENT_HEADER_BYTES => Start::Unfinished,
        false => Start::Damaged,
    })
}

/// Open segment files, the least recently used closed first.
pub(crate) struct Handles {
    dir: PathBuf,
    max: usize,
    open: Mutex<OpenFiles>,
}

#[derive(Default)]
struct OpenFiles {
    clock: u64,
    files: HashMap<u64, (u64, Arc<File>)>,
}

impl Handles {
    pub fn new(dir: PathBuf, max: usize) -> Self {
        Self {
            dir,
            max: max.max(1),
            open: Mutex::default(),
        }
    }

    /// The file of `segment`, or [`HeapError::Gone`].
    pub fn get(&self, segment: u64) -> Result<Arc<File>, HeapError> {
        let mut open = self.open.lock();
        open.clock += 1;
        let now = open.clock;
        if let Some((used, file)) = open.files.get_mut(&segment) {
            *used = now;
            return Ok(Arc::clone(file));
        }
        // Opened under the lock, so that `forget` never misses a handle of a removed file.
        let file = match File::open(path(&self.dir, segment)) {
            Ok(file) => Arc::new(file),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(HeapError::Gone { segment });
            }
            Err(error) => return Err(error.into()),
        };
        open.files.insert(segment, (now, Arc::clone(&file)));
        if open.files.len() > self.max {
            let oldest = open
                .files
                .iter()
                .min_by_key(|(_, (used, _))| *used)
                .map(|(&id, _)| id);
            oldest.and_then(|id| open.files.remove(&id));
        }
        Ok(file)
    }

    /// Closes the file of `segment`, once nobody reads it.
    pub fn forget(&self, segment: u64) {
        self.open.lock().files.remove(&segment);
    }
}
