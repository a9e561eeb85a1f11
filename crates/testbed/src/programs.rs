//! Programs of this machine: found, or said to be missing.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where a program is: on the path, or in one of `folders`.
pub fn find(program: &str, folders: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(folders.iter().map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|found| found.is_file())
}

/// Says why a test does nothing: on standard error, and in the list that is shown at the end of all tests. With
/// `CI=true` nothing that can be installed may be missing, and this panics.
///
/// # Panics
///
/// With `CI=true` in the environment.
pub fn skip(reason: &str) {
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "{reason}");
    skip_always(reason);
}

/// The same for what takes too long to install everywhere.
pub fn skip_always(reason: &str) {
    let line = format!("skipped: {reason}\n");
    // Not by a macro, whose output the test runner would keep to itself.
    let _ = std::io::stderr().write_all(line.as_bytes());
    let Some(list) = std::env::var_os("NIGHTMAIL_SKIPPED") else {
        return;
    };
    let written = File::options()
        .create(true)
        .append(true)
        .open(Path::new(&list))
        .and_then(|mut list| list.write_all(line.as_bytes()));
    if let Err(error) = written {
        eprintln!("the list of skipped tests cannot be written: {error}");
    }
}
