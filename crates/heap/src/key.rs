//! The heap's key, which turns BLAKE3 into a keyed hash.
//!
//! Without the key nobody can make a blob with a chosen id, nor bytes that pass for a record of a segment.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::HeapError;
use crate::segment::sync_directory;

/// The key of a heap. Whoever loses it can still read the heap, but not append to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HeapKey([u8; 32]);

impl HeapKey {
    const FILE: &'static str = "heap.key";

    /// Wraps 32 secret bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key kept in `dir`, or a new random one, which is on stable storage when this returns.
    pub(crate) fn load_or_create(dir: &Path) -> Result<Self, HeapError> {
        match File::open(dir.join(Self::FILE)) {
            Ok(mut file) => {
                let mut bytes = [0; 32];
                file.read_exact(&mut bytes)?;
                Ok(Self(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(dir),
            Err(error) => Err(error.into()),
        }
    }

    fn create(dir: &Path) -> Result<Self, HeapError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| HeapError::Io(error.to_string()))?;
        let draft = dir.join("heap.key.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, dir.join(Self::FILE))?;
        sync_directory(dir)?;
        Ok(Self(bytes))
    }

    /// The eight bytes that every record of segment `segment` carries.
    pub(crate) fn segment_tag(&self, segment: u64) -> [u8; 8] {
        let mut input = *b"nightmail segment\0\0\0\0\0\0\0\0";
        for (slot, byte) in input.iter_mut().rev().zip(segment.to_le_bytes()) {
            *slot = byte;
        }
        let digest = blake3::keyed_hash(&self.0, &input);
        let mut tag = [0; 8];
        for (slot, byte) in tag.iter_mut().zip(digest.as_bytes()) {
            *slot = *byte;
        }
        tag
    }
}

impl std::fmt::Debug for HeapKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HeapKey(..)")
    }
}
