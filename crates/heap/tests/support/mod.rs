//! Blobs, records and a small disk for the tests of the heap.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use bytes::Bytes;
use nightmail_core::Timestamp;
use nightmail_heap::{BlobBuilder, Heap, PreparedBlob, Record};
use tokio::runtime::Runtime;

pub const CHUNK: usize = 256 * 1024;

pub fn run<T>(work: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
    RUNTIME.block_on(work)
}

pub fn prepare(heap: &Heap, plain: &[u8]) -> PreparedBlob {
    let mut builder = BlobBuilder::new(heap);
    for piece in plain.chunks(10_007) {
        builder.push(piece).unwrap();
    }
    builder.finish().unwrap()
}

pub fn record(heap: &Heap, plain: &[u8]) -> Record {
    Record {
        blob: prepare(heap, plain),
        envelope: Bytes::from_static(b"<a@example.org> <b@example.net>"),
        created: Timestamp::from_millis(1_795_364_520_123),
    }
}

/// Text that compresses, different for each seed.
pub fn text(seed: usize, len: usize) -> Vec<u8> {
    let line = format!("line {seed} of a message that says the same again and again\r\n");
    line.into_bytes().into_iter().cycle().take(len).collect()
}

/// Bytes that do not compress.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut reader = blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof();
    reader.fill(&mut bytes);
    bytes
}

/// A file system for one test.
pub struct TinyDisk(tempfile::TempDir);

impl TinyDisk {
    /// Of so many MiB; `None`, visibly, where mounting is not allowed.
    pub fn mount(mib: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(dir.path())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(dir));
        }
        nightmail_testbed::programs::skip_always("a tmpfs cannot be mounted here");
        None
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.0.path()).status());
    }
}
