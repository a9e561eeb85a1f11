//! What is wrong with a configuration, all of it at once and each with its line.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line it stands on, from 1; `None` when it belongs to no line.
    pub line: Option<usize>,
    /// What is wrong and how to mend it.
    pub text: String,
}

/// Gathers problems while a text is read.
pub(crate) struct Report {
    /// The byte offset at which each line ends.
    line_ends: Vec<usize>,
    problems: Vec<Problem>,
}

impl Report {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            line_ends: text.match_indices('\n').map(|(at, _)| at).collect(),
            problems: Vec::new(),
        }
    }

    /// Adds a problem at a range of bytes of the text.
    pub(crate) fn problem(&mut self, span: Option<Range<usize>>, text: String) {
        let line = span.map(|span| self.line_ends.partition_point(|end| *end < span.start) + 1);
        self.problems.push(Problem { line, text });
    }

    /// The problems in the order of their lines.
    pub(crate) fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line);
        self.problems
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}. Write one with `nightmail config example > {path}`", path = path.display())]
    Unreadable {
        /// The file named.
        path: PathBuf,
        /// Why it cannot be read.
        source: std::io::Error,
    },
    /// The file can be read, and something in it is wrong.
    #[error("{}", Listing { path, problems })]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All that is wrong, in the order of lines.
        problems: Vec<Problem>,
    },
}

struct Listing<'a> {
    path: &'a PathBuf,
    problems: &'a [Problem],
}

/// `path:line: text`, a line each: the form editors can jump from.
impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:", self.path.display())?;
            if let Some(line) = problem.line {
                write!(f, "{line}:")?;
            }
            write!(f, " {}", problem.text)?;
        }
        Ok(())
    }
}
