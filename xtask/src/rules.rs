//! What every source file must keep to.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::error::TaskError;
use crate::layers;
use crate::read;
use crate::source::{code_of, functions, without_tests};

/// Longest function, in lines.
const FUNCTION_LINES_MAX: usize = 70;
/// Longest file, in lines, its tests not counted.
const FILE_LINES_MAX: usize = 700;
/// Marks of unfinished work, in comments or code. Written apart, so that this file may hold them.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];
/// Macros that do not belong in finished code.
const MACROS: &[&str] = &["dbg!", "todo!", "unimplemented!"];
/// What a crate of the lowest layer never does: I/O, clocks, randomness, threads.
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "tokio::",
    "getrandom",
    "rand::",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::thread",
];

/// The Rust files of the workspace: a crate's `src`, `tests`, `examples`, `benches`.
pub(crate) fn sources(root: &Path) -> Result<Vec<PathBuf>, TaskError> {
    let mut found = Vec::new();
    for folder in ["crates", "nightmail", "xtask", "fuzz"] {
        let folder = root.join(folder);
        if folder.is_dir() {
            walk(&folder, &mut found)?;
        }
    }
    found.sort();
    Ok(found)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), TaskError> {
    let failed = |source| TaskError::File {
        path: folder.to_owned(),
        source,
    };
    for entry in folder.read_dir().map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                walk(&path, found)?;
            }
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// What is wrong with the sources, one line each: `path:line: what`.
pub(crate) fn check(root: &Path) -> Result<Vec<String>, TaskError> {
    let mut findings = Vec::new();
    for path in sources(root)? {
        let text = read(&path)?;
        let name = path.strip_prefix(root).unwrap_or(&path);
        let pure = layers::is_pure(name);
        let shown = name.display();
        let found = check_file(&text, pure, is_test(name));
        findings.extend(
            found
                .into_iter()
                .map(|(line, what)| format!("{shown}:{line}: {what}")),
        );
    }
    Ok(findings)
}

fn is_test(path: &Path) -> bool {
    let tests = |part| part == "tests" || part == "benches";
    path.iter().any(tests) || path.file_name().is_some_and(|name| name == "tests.rs")
}

/// Findings of one file, each with its line from 1.
fn check_file(text: &str, pure: bool, test: bool) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    if !text.starts_with("//!") {
        found.push((
            1,
            "the file does not open with what it owns (`//!`)".to_owned(),
        ));
    }
    for (number, line) in text.lines().enumerate() {
        for mark in UNFINISHED.iter().filter(|mark| holds_word(line, mark)) {
            found.push((number + 1, format!("{mark} is left")));
        }
    }
    let all = code_of(text);
    find_words(
        &all.iter().collect::<String>(),
        MACROS,
        "is left",
        &mut found,
    );
    if test {
        return found;
    }
    let code = without_tests(&all);
    let plain: String = code.iter().collect();
    let lines = plain.lines().count();
    if lines > FILE_LINES_MAX {
        let what = format!("{lines} lines without tests, {FILE_LINES_MAX} at most: split by topic");
        found.push((1, what));
    }
    for function in functions(&code)
        .iter()
        .filter(|f| f.lines > FUNCTION_LINES_MAX)
    {
        let (name, lines) = (&function.name, function.lines);
        let what = format!("fn {name} has {lines} lines, {FUNCTION_LINES_MAX} at most");
        found.push((function.line, what));
    }
    if pure {
        let what = "in a crate without I/O, clock or randomness";
        find_words(&plain, IMPURE, what, &mut found);
    }
    found
}

/// Notes each of `words` that `code` holds as a word of its own, once a line.
fn find_words(code: &str, words: &[&str], what: &str, found: &mut Vec<(usize, String)>) {
    for (number, line) in code.lines().enumerate() {
        for word in words.iter().filter(|word| holds_word(line, word)) {
            found.push((number + 1, format!("{word} {what}")));
        }
    }
}

fn holds_word(line: &str, word: &str) -> bool {
    let starts_word = |(at, _): (usize, &str)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        match before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    };
    line.match_indices(word)
        .try_for_each(starts_word)
        .is_break()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(text: &str, pure: bool) -> Vec<String> {
        let found = check_file(text, pure, false);
        found.into_iter().map(|(_, what)| what).collect()
    }

    #[test]
    fn a_file_without_header_is_found() {
        assert_eq!(whats("fn a() {}\n", false).len(), 1);
        assert!(whats("//! Owns a.\nfn a() {}\n", false).is_empty());
    }

    #[test]
    fn long_functions_and_files_are_found_but_not_long_tests() {
        let long = format!("fn long() {{\n{}}}\n", "    a();\n".repeat(80));
        let found = whats(&format!("//! X.\n{long}"), false);
        assert_eq!(found, ["fn long has 82 lines, 70 at most"]);
        let test = format!("//! X.\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert!(whats(&test, false).is_empty());
        let file = format!("//! X.\n{}", "use a;\n".repeat(701));
        assert_eq!(whats(&file, false).len(), 1);
    }

    #[test]
    fn clocks_are_found_in_pure_crates_only() {
        let text = "//! X.\nfn a() { let _ = Instant::now(); }\n// Instant::now is fine here\n";
        assert_eq!(whats(text, true).len(), 1);
        assert!(whats(text, false).is_empty());
    }

    #[test]
    fn unfinished_work_is_found_with_its_line() {
        let text = format!(
            "//! X.\n// {}: later\nfn a() {{ dbg!(1); }}\n",
            UNFINISHED[0]
        );
        let lines: Vec<usize> = check_file(&text, false, false)
            .iter()
            .map(|f| f.0)
            .collect();
        assert_eq!(lines, [2, 3]);
    }
}
