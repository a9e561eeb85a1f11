//! Runs every seed of every fuzz target, what clients say in the transcripts, and some thousand mutations of
//! both. The mutations are the same on every run; a longer search is `cargo fuzz run` (see `fuzz/Cargo.toml`).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use targets::{TARGETS, Target};

const MUTATIONS: usize = 20_000;
/// A target that is slow on a busy machine mutates less.
const TIME_MAX: Duration = Duration::from_secs(3);
const OCTETS_MAX: usize = 16 * 1024;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a folder by name; none where the folder is missing.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = folder.read_dir() else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files
}

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    files(&root().join("fuzz/corpus").join(target))
        .into_iter()
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect()
}

/// What one side says in the transcripts of a crate: lines that begin with `tag`.
fn transcripts(folder: &str, tag: &str, head: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for path in files(&root().join(folder)) {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        let mut said = head.to_vec();
        for line in text.lines().filter_map(|line| line.strip_prefix(tag)) {
            said.extend_from_slice(line.trim_start().as_bytes());
            said.extend_from_slice(b"\r\n");
        }
        found.push((path.display().to_string(), said));
    }
    found
}

fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut inputs = seeds(target);
    assert!(!inputs.is_empty(), "{target} has no seeds");
    inputs.extend(match target {
        "imap_session" => transcripts("crates/imap/tests/transcripts", "C:", &[0]),
        "pop3_session" => transcripts("crates/pop3/tests/transcripts", "C:", &[9]),
        "smtp_server" => transcripts("crates/smtp/tests/transcripts", "C:", &[0, 0]),
        "smtp_client" => transcripts("crates/smtp/tests/transcripts", "S:", &[0, 0]),
        _ => Vec::new(),
    });
    inputs
}

fn try_input(name: &str, target: Target, from: &str, input: &[u8]) {
    if catch_unwind(|| target(input)).is_err() {
        let path = std::env::temp_dir().join(format!("nightmail-{name}-{}", std::process::id()));
        std::fs::write(&path, input).unwrap();
        let (shown, path) = (input.escape_ascii(), path.display());
        panic!("{name} fails, from {from}; the input is in {path}: {shown}");
    }
}

/// Marsaglia's xorshift64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    fn octet(&mut self) -> u8 {
        const TELLING: &[u8] = b"\r\n\0 \t\"\\(){}<>@.:;=*%&+-,[]~~09aZ\x7f\x80\xc3\xff";
        match self.below(2) {
            0 => TELLING[self.below(TELLING.len())],
            _ => self.below(256) as u8,
        }
    }

    /// One change: an octet set, put in or taken out, a piece doubled, cut off or brought from elsewhere.
    fn mutate(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(input.len() + 1);
        let end = (at + 1 + self.below(24)).min(input.len());
        match self.below(7) {
            0 if at < input.len() => input[at] = self.octet(),
            1 => input.insert(at, self.octet()),
            2 if at < end => drop(input.drain(at..end)),
            3 if at < end => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            4 => input.truncate(at),
            5 => {
                let from = self.below(other.len() + 1);
                let to = (from + 1 + self.below(48)).min(other.len());
                input.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                let octet = self.octet();
                input.splice(at..at, std::iter::repeat_n(octet, 1 + self.below(300) / 4));
            }
        }
        input.truncate(OCTETS_MAX);
    }
}

fn replay(name: &str, target: Target) {
    let inputs = inputs(name);
    for (from, input) in &inputs {
        try_input(name, target, from, input);
        try_input(name, target, from, &[]);
    }
    let mut draw = Draw(0x9e37_79b9_7f4a_7c15);
    let began = Instant::now();
    for _ in 0..MUTATIONS {
        let (from, seed) = &inputs[draw.below(inputs.len())];
        let (_, other) = &inputs[draw.below(inputs.len())];
        let mut input = seed.clone();
        for _ in 0..=draw.below(4) {
            draw.mutate(&mut input, other);
        }
        try_input(name, target, from, &input);
        if began.elapsed() > TIME_MAX {
            return;
        }
    }
}

fn replay_all(prefix: &str) {
    let mut known = TARGETS
        .iter()
        .filter(|(name, _)| name.starts_with(prefix))
        .peekable();
    assert!(known.peek().is_some());
    known.for_each(|(name, target)| replay(name, *target));
}

#[test]
fn seeds_and_mutations_hold_in_core() {
    replay_all("core_");
}

#[test]
fn seeds_and_mutations_hold_in_imap() {
    replay_all("imap_");
}

#[test]
fn seeds_and_mutations_hold_in_mime() {
    replay_all("mime_");
}

#[test]
fn seeds_and_mutations_hold_in_pop3() {
    replay_all("pop3_");
}

#[test]
fn seeds_and_mutations_hold_in_smtp() {
    replay_all("smtp_");
}

#[test]
fn every_target_has_a_program_and_every_corpus_a_target() {
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    let programs = files(&root().join("fuzz/fuzz_targets"));
    let stems: Vec<&str> = programs
        .iter()
        .filter_map(|path| path.file_stem()?.to_str())
        .collect();
    assert_eq!(stems, names, "fuzz/fuzz_targets");
    for entry in root().join("fuzz/corpus").read_dir().unwrap() {
        let folder = entry.unwrap().file_name();
        assert!(names.contains(&folder.to_str().unwrap()), "{folder:?}");
    }
}
