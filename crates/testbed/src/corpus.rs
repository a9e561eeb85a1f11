//! Messages and vectors that others have published. They are no part of this tree: tests that want them are skipped
//! where they are not.

use std::path::{Path, PathBuf};

/// A file of the corpus by its path in it: the folder named by `NIGHTMAIL_CORPUS_ROOT`, or `shared/corpus` beside the
/// checkout. Says so where there is none.
pub fn file(name: &str) -> Option<Vec<u8>> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let root = std::env::var_os("NIGHTMAIL_CORPUS_ROOT").map_or_else(beside, PathBuf::from);
    let found = std::fs::read(root.join(name)).ok();
    if found.is_none() {
        eprintln!("skipped: there is no corpus/{name}");
    }
    found
}

/// The same as text, if it is text.
pub fn text(name: &str) -> Option<String> {
    String::from_utf8(file(name)?).ok()
}

/// With every line end a CRLF.
pub fn with_crlf(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 32);
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(content) => {
                out.extend_from_slice(content.strip_suffix(b"\r").unwrap_or(content));
                out.extend_from_slice(b"\r\n");
            }
            None => out.extend_from_slice(line),
        }
    }
    out
}
