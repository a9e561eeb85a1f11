//! A bounded cache of packs on the local disk.
//!
//! One sparse file per pack holds the stretches of it that were written or read here; what was never filled reads as
//! zeros and fails the records' checksums, which is a miss. Nothing is synced: a bad or lost entry is read from the
//! store again. The packs that were not used for longest go first.
//!
//! **Invariant:** no trouble of the cache's disk is an error to whoever reads or writes mail.

use std::collections::{BTreeMap, HashMap};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

const SUFFIX: &str = ".part";
const OPEN_FILES_MAX: usize = 128;
/// Unit of `st_blocks`.
const BLOCK_BYTES: u64 = 512;

/// The cache in one directory, which belongs to one node.
pub(crate) struct PackCache {
    dir: PathBuf,
    bytes_max: u64,
    entries: Mutex<Entries>,
    /// Whether the last write failed, so that a broken disk is told once and not with every message.
    failing: AtomicBool,
}

#[derive(Default)]
struct Entries {
    clock: u64,
    packs: HashMap<u64, Entry>,
    by_use: BTreeMap<u64, u64>,
    bytes: u64,
    open: usize,
}

struct Entry {
    used: u64,
    bytes: u64,
    file: Option<Arc<File>>,
}

impl PackCache {
    /// The cache in `dir`, with what an earlier process left there.
    pub fn open(dir: &Path, bytes_max: u64) -> Self {
        let cache = Self {
            dir: dir.to_path_buf(),
            bytes_max,
            entries: Mutex::default(),
            failing: AtomicBool::new(false),
        };
        match cache.make_dir().and_then(|()| found(dir)) {
            Ok(mut found) => {
                found.sort_unstable();
                let mut entries = cache.entries.lock();
                for (_, pack, bytes) in found {
                    entries.note(pack, bytes, None);
                }
            }
            Err(error) => cache.failed(&error),
        }
        cache.shrink(bytes_max);
        cache
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.entries.lock().bytes
    }

    /// What the file of `pack` holds at `range`, if it reaches so far. It may be anything: check it.
    pub fn read(&self, pack: u64, range: Range<u64>) -> Option<Bytes> {
        let file = self.file(pack)?;
        let mut bytes = vec![0; usize::try_from(range.end.checked_sub(range.start)?).ok()?];
        match file.read_exact_at(&mut bytes, range.start) {
            Ok(()) => Some(bytes.into()),
            Err(_) => None,
        }
    }

    /// Keeps `parts`, which lie one after the other from `offset` of `pack`.
    pub fn write(&self, pack: u64, offset: u64, parts: &[Bytes]) {
        let len: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if len > self.bytes_max / 2 {
            return;
        }
        match self.fill(pack, offset, parts) {
            Ok((bytes, file)) => {
                self.entries.lock().note(pack, bytes, Some(file));
                self.failing.store(false, Ordering::Relaxed);
                self.shrink(self.bytes_max);
            }
            Err(error) => {
                self.failed(&error);
                self.forget(pack);
                if error.kind() == ErrorKind::StorageFull {
                    self.shrink(self.bytes() / 2);
                }
            }
        }
    }

    /// Drops what is kept of `pack`.
    pub fn forget(&self, pack: u64) {
        self.entries.lock().remove(pack);
        drop(std::fs::remove_file(self.path(pack)));
    }

    fn path(&self, pack: u64) -> PathBuf {
        self.dir.join(format!("{pack:016x}{SUFFIX}"))
    }

    fn make_dir(&self) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
    }

    /// The open file of a pack of which something is kept.
    fn file(&self, pack: u64) -> Option<Arc<File>> {
        if let Some(file) = self.entries.lock().touch(pack)? {
            return Some(file);
        }
        match File::open(self.path(pack)) {
            Ok(file) => {
                let file = Arc::new(file);
                self.entries.lock().keep_open(pack, &file);
                Some(file)
            }
            Err(_) => {
                self.entries.lock().remove(pack);
                None
            }
        }
    }

    /// Writes into the pack's file; returns how much of the disk it takes now.
    fn fill(&self, pack: u64, offset: u64, parts: &[Bytes]) -> io::Result<(u64, Arc<File>)> {
        let file = match self.open_to_write(pack) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make_dir()?;
                self.open_to_write(pack)?
            }
            opened => opened?,
        };
        let mut at = offset;
        for part in parts {
            file.write_all_at(part, at)?;
            at += part.len() as u64;
        }
        let bytes = (file.metadata()?.blocks() * BLOCK_BYTES).max(at - offset);
        Ok((bytes, Arc::new(file)))
    }

    fn open_to_write(&self, pack: u64) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path(pack))
    }

    /// Drops the least recently used packs until no more than `bytes` are kept.
    fn shrink(&self, bytes: u64) {
        let mut dropped = Vec::new();
        {
            let mut entries = self.entries.lock();
            while entries.bytes > bytes
                && let Some((_, &pack)) = entries.by_use.first_key_value()
            {
                entries.remove(pack);
                dropped.push(pack);
            }
            metrics::gauge!("nightmail_heap_cache_octets").set(entries.bytes as f64);
        }
        for pack in dropped {
            drop(std::fs::remove_file(self.path(pack)));
        }
    }

    fn failed(&self, error: &io::Error) {
        metrics::counter!("nightmail_heap_cache_failures_total").increment(1);
        if !self.failing.swap(true, Ordering::Relaxed) {
            let dir = self.dir.display();
            tracing::warn!(%dir, %error, "message bytes cannot be cached; they are read from the store");
        }
    }
}

/// The files of a cache: when they were written, of which pack, and what they take.
fn found(dir: &Path) -> io::Result<Vec<(i64, u64, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let pack = name
            .to_str()
            .and_then(|name| name.strip_suffix(SUFFIX))
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        if let (Some(pack), Ok(metadata)) = (pack, entry.metadata()) {
            found.push((metadata.mtime(), pack, metadata.blocks() * BLOCK_BYTES));
        }
    }
    Ok(found)
}

impl Entries {
    /// Marks a pack as used now; its file, if that is open. `None` when nothing of it is kept.
    fn touch(&mut self, pack: u64) -> Option<Option<Arc<File>>> {
        self.clock += 1;
        let now = self.clock;
        let entry = self.packs.get_mut(&pack)?;
        self.by_use.remove(&entry.used);
        self.by_use.insert(now, pack);
        entry.used = now;
        Some(entry.file.clone())
    }

    fn note(&mut self, pack: u64, bytes: u64, file: Option<Arc<File>>) {
        self.remove(pack);
        self.clock += 1;
        let entry = Entry {
            used: self.clock,
            bytes,
            file: None,
        };
        self.by_use.insert(self.clock, pack);
        self.bytes += bytes;
        self.packs.insert(pack, entry);
        if let Some(file) = file {
            self.keep_open(pack, &file);
        }
    }

    fn keep_open(&mut self, pack: u64, file: &Arc<File>) {
        if self.open >= OPEN_FILES_MAX {
            self.close_some();
        }
        if let Some(entry) = self.packs.get_mut(&pack)
            && entry.file.replace(Arc::clone(file)).is_none()
        {
            self.open += 1;
        }
    }

    /// Closes half of the open files, the least recently used first.
    fn close_some(&mut self) {
        for pack in self.by_use.values() {
            if self.open <= OPEN_FILES_MAX / 2 {
                return;
            }
            let file = self.packs.get_mut(pack).and_then(|entry| entry.file.take());
            self.open -= usize::from(file.is_some());
        }
    }

    fn remove(&mut self, pack: u64) {
        if let Some(entry) = self.packs.remove(&pack) {
            self.by_use.remove(&entry.used);
            self.bytes -= entry.bytes;
            self.open -= usize::from(entry.file.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(byte: u8, len: usize) -> Bytes {
        vec![byte; len].into()
    }

    #[test]
    fn what_was_written_is_read_and_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let cache = PackCache::open(dir.path(), 1 << 20);
        cache.write(5, 100, &[part(1, 10), part(2, 5)]);
        assert_eq!(cache.read(5, 109..112).unwrap(), [1, 2, 2].as_slice());
        assert_eq!(cache.read(5, 0..1).unwrap(), [0].as_slice(), "a hole");
        assert_eq!(cache.read(5, 100..116), None, "beyond the end");
        assert_eq!(cache.read(6, 0..1), None);
        let again = PackCache::open(dir.path(), 1 << 20);
        assert_eq!(again.read(5, 109..111).unwrap(), [1, 2].as_slice());
        assert_eq!(again.bytes(), cache.bytes());
    }

    #[test]
    fn the_packs_unused_for_longest_go_and_the_bound_holds() {
        let dir = tempfile::tempdir().unwrap();
        let cache = PackCache::open(dir.path(), 400 << 10);
        for pack in 0..300 {
            cache.write(pack, 0, &[part(7, 8 << 10)]);
            assert!(cache.bytes() <= 400 << 10);
            assert!(cache.read(0, 0..1).is_some(), "used all the time");
        }
        assert!(cache.read(299, 0..1).is_some() && cache.read(1, 0..1).is_none());
        let files = std::fs::read_dir(dir.path()).unwrap().count();
        assert!(files <= 50, "{files} files");
        cache.write(1000, 0, &[part(1, 300 << 10)]);
        assert_eq!(cache.read(1000, 0..1), None, "too large to be kept");
        let smaller = PackCache::open(dir.path(), 100 << 10);
        assert!(smaller.bytes() <= 100 << 10);
    }

    #[test]
    fn a_directory_that_is_gone_is_made_again_and_one_that_cannot_be_is_borne() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("cache");
        let cache = PackCache::open(&below, 1 << 20);
        cache.write(1, 0, &[part(1, 10)]);
        std::fs::remove_dir_all(&below).unwrap();
        cache.write(2, 0, &[part(2, 10)]);
        assert!(cache.read(2, 0..10).is_some());
        std::fs::remove_dir_all(&below).unwrap();
        std::fs::write(&below, "a file").unwrap();
        cache.write(3, 0, &[part(3, 10)]);
        assert_eq!(cache.read(3, 0..10), None);
        assert_eq!(PackCache::open(&below, 1 << 20).read(3, 0..1), None);
    }

    #[test]
    fn more_packs_than_files_may_be_open_are_all_read() {
        let dir = tempfile::tempdir().unwrap();
        let cache = PackCache::open(dir.path(), 64 << 20);
        for pack in 0..1000 {
            cache.write(pack, 0, &[part(pack as u8, 10)]);
        }
        for pack in (0..1000).rev() {
            assert_eq!(cache.read(pack, 9..10).unwrap(), [pack as u8].as_slice());
            assert!(cache.entries.lock().open <= OPEN_FILES_MAX);
        }
    }
}
