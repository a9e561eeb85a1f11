//! Replays `transcripts/*.txt` against a session: as written, with all that a client says at once in one piece, and
//! octet by octet.
//!
//! `%:` sets the scene, `C:` is a line of the client and `c:` octets without a line end, `S:` a line of the server (`...`
//! at its end stands for anything), `!S:` a text that must never be sent (after `^`: begin a line), `?:` a question and its answers, `X:` another
//! output, `I:` another input, `T:` time that passes. `<CR>`, `<LF>`, `<NUL>`, `<SP>` and `<*N text>` (text N times) stand
//! for what cannot be written plainly.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod script;

use std::path::Path;

use script::player::{Feeding, play};

#[test]
fn every_transcript_plays_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 80, "{} transcripts found", paths.len());
    let mut failures = Vec::new();
    for path in &paths {
        let text = std::fs::read_to_string(path).unwrap();
        for feeding in [Feeding::ByLine, Feeding::AtOnce, Feeding::ByOctet] {
            // A line that cannot be read must not hide the other files.
            let played = std::panic::catch_unwind(|| play(&text, feeding));
            if let Err(failure) = played.unwrap_or(Err("unreadable".into())) {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                failures.push(format!("{name}, {feeding:?}: {failure}"));
            }
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

#[test]
fn a_transcript_that_differs_fails() {
    let play = |text: &str| play(text, Feeding::ByLine);
    assert!(play("%: login\nC: a NOOP\nS: a OK Nothing done\n").is_ok());
    assert!(play("%: login\nC: a NOOP\nS: a OK Something done\n").is_err());
    assert!(play("%: login\nC: a NOOP\n").is_err());
    assert!(play("%: login\nC: a NOOP\n!S: Nothing\nS: a OK ...\n").is_err());
    assert!(play("%: login\nC: a SELECT x\n?: select y -> ok\n").is_err());
}
