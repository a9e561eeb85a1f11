//! Replays every transcript in `tests/transcripts` against the server and the client machine: whole, octet by
//! octet, and cut in two at every octet.
//!
//! A transcript is read line by line. `\r`, `\n`, `\t`, `\\` and `\xHH` are escapes, `{x*500}` repeats a text,
//! and `C-`, `S-`, `B-` in place of `C:`, `S:`, `B:` leave the CRLF out.
//!
//! | line | a server transcript | a client transcript |
//! |---|---|---|
//! | `# …` | comment | comment |
//! | `@ key value` | setting | setting (`@ client` comes first) |
//! | `C: …` | sent to the server | expected from the client |
//! | `S: …` | expected from the server | sent to the client |
//! | `!S: …`, `!C: …` | must appear nowhere | must appear nowhere |
//! | `?: question -> answer` | a question and its answer | |
//! | `B: …` | expected message content | given as content |
//! | `E: event` | an output: `starttls`, `discard`, `turn-around …`, `close` | also `ready`, `failed …`, `done …` |
//! | `I: event` | an input: `tls`, `closed`, `shutdown` | also `deliver …`, `quit`, `tls-failed`, `body-failed` |
//! | `T: +300s` | time passes | time passes |
//! | `L: octets` | the question before gave this length | |

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod transcript;

use std::fs;
use std::path::{Path, PathBuf};

use transcript::{Cut, Script};

fn transcripts() -> Vec<(PathBuf, Script)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let script = Script::parse(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        (path, script)
    };
    paths.into_iter().map(read).collect()
}

fn replay_all(cuts: impl Fn(&Script) -> Vec<Cut>) {
    let mut failures = Vec::new();
    for (path, script) in transcripts() {
        let failed = cuts(&script)
            .into_iter()
            .find_map(|cut| script.replay(cut).err().map(|why| (cut, why)));
        if let Some((cut, why)) = failed {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            failures.push(format!("{name} ({cut:?}): {why}"));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn there_are_transcripts() {
    assert!(transcripts().len() >= 60);
}

#[test]
fn transcripts_hold_whole() {
    replay_all(|_| vec![Cut::Nowhere]);
}

#[test]
fn transcripts_hold_octet_by_octet() {
    replay_all(|_| vec![Cut::Everywhere]);
}

#[test]
fn transcripts_hold_cut_at_every_octet() {
    replay_all(|script| {
        let octets = script.sent_octets();
        let cuts_max = if octets < 100_000 { 3000 } else { 300 };
        (1..octets.min(cuts_max)).map(Cut::At).collect()
    });
}

#[test]
fn transcripts_as_fuzz_seeds_break_nothing() {
    let now = std::time::Instant::now();
    for (_, script) in transcripts() {
        let mut sent = script.sent();
        sent.truncate(4096);
        for seed in 0..=255u8 {
            let data = [&[seed, 7], sent.as_slice()].concat();
            nightmail_smtp::fuzzing::server_session(now, &data);
            nightmail_smtp::fuzzing::client_session(now, &data);
        }
        for line in sent.split(|octet| *octet == b'\n') {
            nightmail_smtp::fuzzing::command_line(line);
        }
        nightmail_smtp::fuzzing::reply(&sent);
    }
}
