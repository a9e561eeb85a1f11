//! Care of `fjall`'s log files (`*.jnl`) while the store is closed.
//!
//! A log is a row of batches: a start (count, sequence number), items, and an end with a checksum of the items.
//! `fjall` itself cuts a log that ends inside a batch, but refuses one whose last batch is there with wrong
//! bytes, as a power loss leaves when the disk wrote later blocks before earlier ones. [`cut_damaged_tail`]
//! takes care of that.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
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

/// Cuts the newest log before the first batch that is not whole, keeping what is cut in a file beside it.
pub(super) fn cut_damaged_tail(dir: &Path) -> Result<(), EngineError> {
    let Some(path) = newest(dir)? else {
        return Ok(());
    };
    let bytes = std::fs::read(&path)?;
    let good = good_bytes(&bytes);
    let (_, tail) = bytes.split_at_checked(good).unwrap_or((&bytes, &[]));
    let used = tail
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |at| at + 1);
    if let Some((cut, _)) = tail.split_at_checked(used) {
        let mut kept = File::create(path.with_extension("cut"))?;
        kept.write_all(cut)?;
        kept.sync_all()?;
    }
    tracing::error!(log = %path.display(), good, cut_bytes = used, "cut a damaged log");
    let file = OpenOptions::new().write(true).open(&path)?;
    file.set_len(good as u64)?;
    Ok(file.sync_all()?)
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

/// How many bytes from the front are whole batches.
fn good_bytes(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some(next) = after_batch(rest) {
        rest = next;
    }
    bytes.len() - rest.len()
}

/// What follows the batch at the front, if that is whole and its checksum holds.
fn after_batch(bytes: &[u8]) -> Option<&[u8]> {
    let (&[1], rest) = bytes.split_first_chunk()? else {
        return None;
    };
    let (count, rest) = rest.split_first_chunk()?;
    let (_sequence, mut rest) = rest.split_first_chunk::<8>()?;
    let mut hasher = Xxh3::default();
    for _ in 0..u32::from_le_bytes(*count) {
        let next = after_item(rest)?;
        hasher.update(rest.get(..rest.len() - next.len())?);
        rest = next;
    }
    let (&[3], rest) = rest.split_first_chunk()? else {
        return None;
    };
    let (checksum, rest) = rest.split_first_chunk()?;
    let (trailer, rest) = rest.split_first_chunk()?;
    (*trailer == TRAILER && u64::from_le_bytes(*checksum) == hasher.digest()).then_some(rest)
}

/// What follows the item at the front: a row, or the mark that a keyspace was cleared.
fn after_item(bytes: &[u8]) -> Option<&[u8]> {
    let (&[tag], rest) = bytes.split_first_chunk()?;
    if tag == 4 {
        return rest.get(8..);
    }
    // Kind of row, compression, keyspace, and the lengths of key, plain value and stored value.
    let (_, rest) = rest.split_first_chunk::<10>()?;
    let (key, rest) = rest.split_first_chunk()?;
    let (_, rest) = rest.split_first_chunk::<4>()?;
    let (value, rest) = rest.split_first_chunk()?;
    let len = usize::from(u16::from_le_bytes(*key)) + u32::from_le_bytes(*value) as usize;
    (tag == 2).then_some(rest)?.get(len..)
}
