//! Care of `fjall`'s log files (`*.jnl`) while the store is closed.
//!
//! A log is a row of batches: a start (count, sequence number), items, and an end with a checksum of the items.
//! `fjall` itself cuts a log that ends inside a batch, but refuses or misreads one whose last batch is there
//! with wrong bytes, as a power loss leaves when the disk wrote later blocks before earlier ones.
//! [`cut_torn_tail`] takes care of that.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::EngineError;

const PROBE_BYTES: usize = 4 << 20;
const BLOCK_BYTES: usize = 64 << 10;
const TRAILER: [u8; 4] = [b'F', b'J', b'L', 3];

/// Whether `dir` takes a few megabytes and syncs them.
pub(super) fn probe(dir: &Path) -> Result<(), EngineError> {
    let path = dir.join("probe.tmp");
    let write = || {
        let mut file = File::create(&path)?;
        let block = [0x5a; BLOCK_BYTES];
        for _ in 0..PROBE_BYTES / BLOCK_BYTES {
            file.write_all(&block)?;
        }
        file.sync_data()
    };
    let outcome: io::Result<()> = write();
    let removed = std::fs::remove_file(&path);
    Ok(outcome.and(removed)?)
}

/// Writes the newest log anew, so that every byte of it is on stable storage.
///
/// After a failed sync the kernel may take unwritten pages for written ones: reading them back succeeds, and
/// syncing them again does nothing. Only writing them anew does.
pub(super) fn rewrite(dir: &Path) -> Result<(), EngineError> {
    let Some(path) = newest(dir)? else {
        return Ok(());
    };
    let draft = path.with_extension("new");
    let written = copy_sparse(&path, &draft);
    if written.is_err() {
        // The draft is no log; what is left of it is overwritten by the next attempt.
        drop(std::fs::remove_file(&draft));
    }
    written?;
    std::fs::rename(&draft, &path)?;
    Ok(File::open(dir)?.sync_all()?)
}

/// Copies a file block by block, leaving out blocks of zeros, and syncs the copy.
fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = File::create(to)?;
    let len = source.metadata()?.len();
    let mut block = vec![0; BLOCK_BYTES];
    let mut at = 0;
    while at < len {
        block.resize((len - at).min(BLOCK_BYTES as u64) as usize, 0);
        source.read_exact(&mut block)?;
        if block.iter().any(|&byte| byte != 0) {
            target.seek(SeekFrom::Start(at))?;
            target.write_all(&block)?;
        }
        at += block.len() as u64;
    }
    target.set_len(len)?;
    target.sync_all()
}

/// Cuts the newest log before the first batch that is not whole.
///
/// No batch that was answered is lost by that, as long as the disk keeps what it synced: each sync covers all
/// that comes before it. In case it did not, what is cut is kept in a file beside the log if it holds the end
/// of a batch.
pub(super) fn cut_torn_tail(dir: &Path) -> Result<(), EngineError> {
    let Some(path) = newest(dir)? else {
        return Ok(());
    };
    let good = whole_batches_bytes(&path)?;
    let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
    let tail = Tail::look(&mut file, good)?;
    if tail.used == 0 {
        return Ok(());
    }
    tracing::warn!(log = %path.display(), good, cut_bytes = tail.used, "cut a torn log");
    if tail.has_batch_end {
        tracing::error!(log = %path.display(), "a whole batch of the log is damaged");
        file.seek(SeekFrom::Start(good))?;
        let mut kept = File::create(path.with_extension("cut"))?;
        io::copy(&mut (&file).take(tail.used), &mut kept)?;
        kept.sync_all()?;
    }
    file.set_len(good)?;
    Ok(file.sync_all()?)
}

/// What follows the whole batches of a log.
#[derive(Default)]
struct Tail {
    /// Bytes up to the last that is not zero.
    used: u64,
    has_batch_end: bool,
}

impl Tail {
    fn look(file: &mut File, from: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(from))?;
        let mut tail = Self::default();
        let mut block = vec![0; BLOCK_BYTES];
        let (mut at, mut carried) = (0, 0);
        loop {
            // The last bytes of a block come again before the next, lest a trailer across both be missed.
            let fresh = block.get_mut(carried..).unwrap_or_default();
            let got = file.read(fresh)?;
            let seen = block.get(..carried + got).unwrap_or_default();
            if got == 0 {
                return Ok(tail);
            }
            if let Some(last) = seen.iter().rposition(|&byte| byte != 0) {
                tail.used = tail.used.max(at + last as u64 + 1);
                tail.has_batch_end |= seen.windows(TRAILER.len()).any(|part| part == TRAILER);
            }
            let keep = seen.len().min(TRAILER.len() - 1);
            at += (seen.len() - keep) as u64;
            block.copy_within(carried + got - keep..carried + got, 0);
            carried = keep;
        }
    }
}

/// The log with the highest number.
fn newest(dir: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        if let Some(number) = number {
            newest = newest.max(Some((number, path)));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// How many bytes of the log from the front are whole batches.
fn whole_batches_bytes(path: &Path) -> io::Result<u64> {
    let mut log = LogReader {
        input: BufReader::with_capacity(BLOCK_BYTES, File::open(path)?),
        hasher: Xxh3::default(),
        read: 0,
    };
    let mut good = 0;
    loop {
        match log.batch() {
            Ok(true) => good = log.read,
            Ok(false) => return Ok(good),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(good),
            Err(error) => return Err(error),
        }
    }
}

/// Reads a log from its front, hashing as it goes.
struct LogReader {
    input: BufReader<File>,
    hasher: Xxh3,
    read: u64,
}

impl LogReader {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        self.hasher.update(&bytes);
        self.read += N as u64;
        Ok(bytes)
    }

    fn skip(&mut self, mut len: u64) -> io::Result<()> {
        while len > 0 {
            let buffered = self.input.fill_buf()?;
            let usable = (buffered.len() as u64).min(len) as usize;
            let Some(bytes) = buffered.get(..usable).filter(|bytes| !bytes.is_empty()) else {
                return Err(ErrorKind::UnexpectedEof.into());
            };
            self.hasher.update(bytes);
            self.input.consume(usable);
            self.read += usable as u64;
            len -= usable as u64;
        }
        Ok(())
    }

    /// Whether a whole batch comes next; it is read.
    fn batch(&mut self) -> io::Result<bool> {
        if self.take()? != [1] {
            return Ok(false);
        }
        let count = u32::from_le_bytes(self.take()?);
        self.skip(8)?;
        self.hasher.reset();
        for _ in 0..count {
            if !self.item()? {
                return Ok(false);
            }
        }
        let digest = self.hasher.digest();
        let is_end = self.take()? == [3];
        let checksum = u64::from_le_bytes(self.take()?);
        Ok(self.take()? == TRAILER && is_end && checksum == digest)
    }

    /// Whether an item comes next, a row or the mark that a keyspace was cleared; it is read.
    fn item(&mut self) -> io::Result<bool> {
        match self.take()? {
            [2] => {}
            [4] => {
                self.skip(8)?;
                return Ok(true);
            }
            _ => return Ok(false),
        }
        let [_kind, compression] = self.take()?;
        self.skip(8)?;
        let key = u16::from_le_bytes(self.take()?);
        let plain = u32::from_le_bytes(self.take()?);
        let stored = u32::from_le_bytes(self.take()?);
        self.skip(u64::from(key) + u64::from(stored))?;
        Ok(compression != 0 || plain == stored)
    }
}
