//! Packs in a directory, each a file: for one machine, or for nodes that mount the same durable file system.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{BoxFuture, PackError, PackInfo, PackStore, cut, pack_name, pack_number};
use crate::segment::sync_directory;

const DRAFT_PREFIX: &str = ".draft-";
/// A draft older than this belongs to no writer any more.
const DRAFT_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A pack store in a directory.
///
/// A pack is written beside its place, synced, and then given its name, which fails where the name is taken; then the
/// directory is synced. A crash in between leaves a draft that nobody sees; drafts of a day ago go at the next open.
#[derive(Clone)]
pub struct DirectoryPacks {
    dir: Arc<PathBuf>,
}

impl DirectoryPacks {
    /// The store in `dir`, which is made if it is not there.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, PackError> {
        let dir = dir.into();
        prepare(&dir).map_err(|error| failure(0, &error))?;
        Ok(Self { dir: Arc::new(dir) })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        pack: u64,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, PackError> {
        let dir = Arc::clone(&self.dir);
        match tokio::task::spawn_blocking(move || work(&dir)).await {
            Ok(done) => done.map_err(|error| failure(pack, &error)),
            Err(error) => Err(PackError::Unavailable(error.to_string())),
        }
    }
}

fn failure(pack: u64, error: &io::Error) -> PackError {
    match error.kind() {
        ErrorKind::AlreadyExists => PackError::Exists(pack),
        ErrorKind::NotFound => PackError::Missing(pack),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            PackError::Full(error.to_string())
        }
        _ => PackError::Unavailable(error.to_string()),
    }
}

fn prepare(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let above = dir.canonicalize()?;
    sync_directory(above.parent().unwrap_or(Path::new("/")))?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let is_draft = entry
            .file_name()
            .to_string_lossy()
            .starts_with(DRAFT_PREFIX);
        if is_draft && is_old(&entry.metadata()?) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_old(metadata: &std::fs::Metadata) -> bool {
    let age = metadata
        .modified()
        .ok()
        .and_then(|modified| SystemTime::now().duration_since(modified).ok());
    age.is_some_and(|age| age > DRAFT_AGE_MAX)
}

fn write(dir: &Path, pack: u64, parts: &[Bytes]) -> io::Result<()> {
    let mut draft = tempfile::Builder::new()
        .prefix(DRAFT_PREFIX)
        .tempfile_in(dir)?;
    for part in parts {
        draft.write_all(part)?;
    }
    draft.as_file().sync_all()?;
    draft
        .persist_noclobber(dir.join(pack_name(pack)))
        .map_err(|failed| failed.error)?;
    sync_directory(dir)
}

fn read(dir: &Path, pack: u64, range: &Range<u64>) -> io::Result<Bytes> {
    let file = File::open(dir.join(pack_name(pack)))?;
    let range = cut(range, file.metadata()?.len());
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}

fn delete(dir: &Path, pack: u64) -> io::Result<()> {
    match std::fs::remove_file(dir.join(pack_name(pack))) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn list(dir: &Path, after: Option<u64>, limit: usize) -> io::Result<Vec<PackInfo>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(pack_number);
        let Some(pack) = number.filter(|number| after.is_none_or(|after| *number > after)) else {
            continue;
        };
        found.push(pack);
    }
    found.sort_unstable();
    found.truncate(limit);
    let mut packs = Vec::with_capacity(found.len());
    for pack in found {
        match std::fs::metadata(dir.join(pack_name(pack))) {
            Ok(metadata) => packs.push(PackInfo {
                pack,
                bytes: metadata.len(),
            }),
            // Another node has removed it meanwhile; a page that is not full would end the listing.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                packs.push(PackInfo { pack, bytes: 0 })
            }
            Err(error) => return Err(error),
        }
    }
    Ok(packs)
}

impl PackStore for DirectoryPacks {
    fn put<'a>(&'a self, pack: u64, bytes: Vec<Bytes>) -> BoxFuture<'a, Result<(), PackError>> {
        Box::pin(self.blocking(pack, move |dir| write(dir, pack, &bytes)))
    }

    fn read<'a>(&'a self, pack: u64, range: Range<u64>) -> BoxFuture<'a, Result<Bytes, PackError>> {
        Box::pin(self.blocking(pack, move |dir| read(dir, pack, &range)))
    }

    fn delete<'a>(&'a self, pack: u64) -> BoxFuture<'a, Result<(), PackError>> {
        Box::pin(self.blocking(pack, move |dir| delete(dir, pack)))
    }

    fn list<'a>(
        &'a self,
        after: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<PackInfo>, PackError>> {
        Box::pin(self.blocking(0, move |dir| list(dir, after, limit)))
    }
}
