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

use std::path::{Path, PathBuf};

use imap_codec::decode::Decoder;
use imap_codec::{GreetingCodec, ResponseCodec};
use script::player::{Feeding, play, record};

/// The transcripts, by name.
fn transcripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 80, "{} transcripts found", paths.len());
    paths
}

/// What the other parser does not know, by a word of the response, and where it is defined.
const UNKNOWN_THERE: &[(&str, &str)] = &[
    ("]<4294967296> ", "RFC 9051 §9, partials of 64 bits"),
    ("* ESEARCH (", "RFC 4731, RFC 5267, RFC 7377, RFC 9394"),
    ("* UIDBATCHES (", "RFC 10022"),
    (" UIDFETCH (", "RFC 9586"),
    ("* GENURLAUTH ", "RFC 4467"),
    ("* URLFETCH ", "RFC 4467"),
    ("* ACL ", "RFC 4314"),
    ("* MYRIGHTS ", "RFC 4314"),
    ("* LISTRIGHTS ", "RFC 4314"),
    ("(\"CHILDINFO\" (", "RFC 5258 §3.5"),
    ("(\"OLDNAME\" (", "RFC 9051 §6.3.9.7"),
    (" MAILBOXID (", "RFC 8474 §4.3, in STATUS"),
    ("DELETED-STORAGE ", "RFC 9208 §4.1.4"),
    ("SAVEDATE ", "RFC 8514"),
    ("EMAILID ", "RFC 8474 §5.1"),
    ("THREADID ", "RFC 8474 §5.2"),
    ("PREVIEW ", "RFC 8970"),
    ("BINARY[", "RFC 3516: a literal8 in FETCH"),
    (
        "ENVELOPE NIL",
        "no envelope: what the transcript's driver gives",
    ),
    (
        "ENVELOPE (NIL 1)",
        "no envelope: what the transcript's driver gives",
    ),
];

/// The octets of one response with its literals, and the rest.
fn split_response(wire: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    loop {
        let line = wire[at..].windows(2).position(|pair| pair == b"\r\n");
        let end = at + line.expect("responses end in CRLF") + 2;
        let line = String::from_utf8_lossy(&wire[at..end - 2]).into_owned();
        let literal = line
            .strip_suffix('}')
            .and_then(|line| line.rsplit_once('{'))
            .and_then(|(_, octets)| octets.parse::<usize>().ok());
        match literal {
            Some(octets) => at = end + octets,
            None => return wire.split_at(end),
        }
    }
}

fn is_understood(response: &[u8], greeting: bool) -> bool {
    if greeting {
        return GreetingCodec::default()
            .decode(response)
            .is_ok_and(|(rest, _)| rest.is_empty());
    }
    ResponseCodec::default()
        .decode(response)
        .is_ok_and(|(rest, _)| rest.is_empty())
}

#[test]
fn another_parser_understands_what_is_sent() {
    let mut strange = Vec::new();
    let mut understood = 0;
    for path in transcripts() {
        let text = std::fs::read_to_string(&path).unwrap();
        // One that does not play is another test's failure.
        let wire = std::panic::catch_unwind(|| record(&text, Feeding::ByLine));
        let Ok(Ok(wire)) = wire else { continue };
        let mut rest = wire.as_slice();
        let mut greeting = true;
        while !rest.is_empty() {
            let (response, after) = split_response(rest);
            rest = after;
            let shown = String::from_utf8_lossy(response).into_owned();
            if is_understood(response, std::mem::take(&mut greeting)) {
                understood += 1;
            } else if !UNKNOWN_THERE.iter().any(|(word, _)| shown.contains(word)) {
                strange.push(format!("{}: {shown}", path.display()));
            }
        }
    }
    assert!(understood > 500, "{understood} responses understood");
    assert!(strange.is_empty(), "\n{}", strange.concat());
}

#[test]
fn every_transcript_plays_as_written() {
    let paths = transcripts();
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
