//! Which licences the dependencies may have: permissive ones.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::error::TaskError;

/// Taken without a word.
const PERMISSIVE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];
/// Copyleft for single files: taken unchanged, and told.
const FLAGGED: &[&str] = &["MPL-2.0"];

/// How a licence expression is judged, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Permissive,
    Flagged,
    Refused,
}

/// Dependencies that are refused, and those that are only told.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) refused: Vec<String>,
    pub(crate) flagged: Vec<String>,
}

/// Judges every crate that a build on this kind of machine takes.
pub(crate) fn check(root: &Path) -> Result<Findings, TaskError> {
    let metadata = metadata(root)?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    let mut findings = Findings::default();
    for package in packages.into_iter().flatten() {
        let text = |key: &str| package.get(key).and_then(Value::as_str).unwrap_or_default();
        let licence = text("license");
        let told = format!("{} {}: licence `{licence}`", text("name"), text("version"));
        match judge(licence) {
            Verdict::Permissive => {}
            Verdict::Flagged => findings.flagged.push(told),
            Verdict::Refused => findings.refused.push(told),
        }
    }
    Ok(findings)
}

fn metadata(root: &Path) -> Result<Value, TaskError> {
    let program = "cargo metadata".to_owned();
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let arguments = [
        "metadata",
        "--format-version=1",
        "--offline",
        "--filter-platform",
        &host,
    ];
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root)
        .output()
        .map_err(|source| TaskError::Start {
            program: program.clone(),
            source,
        })?;
    if !output.status.success() {
        let detail = format!(": {}", String::from_utf8_lossy(&output.stderr));
        return Err(TaskError::Program { program, detail });
    }
    serde_json::from_slice(&output.stdout).map_err(|source| TaskError::Json { program, source })
}

/// Judges an SPDX expression: of alternatives the best counts, of parts that hold together the worst.
fn judge(expression: &str) -> Verdict {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let verdict = alternatives(&mut words);
    match words.next() {
        None => verdict,
        Some(_) => Verdict::Refused,
    }
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn alternatives(words: &mut Words<'_>) -> Verdict {
    let mut best = together(words);
    while words.next_if_eq(&"OR").is_some() {
        best = best.min(together(words));
    }
    best
}

fn together(words: &mut Words<'_>) -> Verdict {
    let mut worst = single(words);
    while words.next_if_eq(&"AND").is_some() {
        worst = worst.max(single(words));
    }
    worst
}

fn single(words: &mut Words<'_>) -> Verdict {
    let word = words.next().unwrap_or_default();
    if word == "(" {
        let inner = alternatives(words);
        return match words.next() {
            Some(")") => inner,
            _ => Verdict::Refused,
        };
    }
    if words.next_if_eq(&"WITH").is_some() {
        // An exception only permits more.
        words.next();
    }
    if PERMISSIVE.contains(&word) {
        Verdict::Permissive
    } else if FLAGGED.contains(&word) {
        Verdict::Flagged
    } else {
        Verdict::Refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copyleft_is_refused_unless_there_is_a_choice() {
        assert_eq!(judge("GPL-3.0-only"), Verdict::Refused);
        assert_eq!(judge("LGPL-2.1-or-later AND MIT"), Verdict::Refused);
        assert_eq!(judge("Apache-2.0 OR GPL-2.0-only"), Verdict::Permissive);
        assert_eq!(judge("AGPL-3.0"), Verdict::Refused);
    }

    #[test]
    fn brackets_and_exceptions_are_understood() {
        assert_eq!(judge("ISC AND (Apache-2.0 OR ISC)"), Verdict::Permissive);
        assert_eq!(judge("MIT AND (GPL-2.0 OR AGPL-3.0)"), Verdict::Refused);
        assert_eq!(
            judge("Apache-2.0 WITH LLVM-exception OR MIT"),
            Verdict::Permissive
        );
        assert_eq!(judge("MIT/Apache-2.0"), Verdict::Permissive);
    }

    #[test]
    fn file_copyleft_is_told_and_nothing_is_refused() {
        assert_eq!(judge("MPL-2.0"), Verdict::Flagged);
        assert_eq!(judge(""), Verdict::Refused);
        assert_eq!(judge("(MIT"), Verdict::Refused);
    }
}
