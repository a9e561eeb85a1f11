//! Real and broken messages from a folder outside the project: `NIGHTMAIL_CORPUS`, or one beside the checkout.

use std::path::{Path, PathBuf};

use nightmail_mime::{Content, Limits, Part, Scanner, fuzzing, scan};

const DEFAULT_CORPUS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../../shared/corpus/messages"
);

fn corpus() -> Vec<(PathBuf, Vec<u8>)> {
    let root = std::env::var_os("NIGHTMAIL_CORPUS").map_or(DEFAULT_CORPUS.into(), PathBuf::from);
    let mut files = Vec::new();
    collect(&root, &mut files);
    if files.is_empty() {
        println!("skipped: no corpus");
    }
    files.sort();
    files
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if let Ok(message) = std::fs::read(&path) {
            files.push((path, message));
        }
    }
}

#[test]
fn every_message_of_the_corpus_has_a_sound_structure() {
    let mut seed = 1u64;
    for (path, message) in corpus() {
        let whole = fuzzing::scanner(&message, 4096);
        for _ in 0..4 {
            let mut scanner = Scanner::new(Limits::default());
            let mut rest = message.as_slice();
            while !rest.is_empty() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let cut = ((seed >> 33) as usize % 400).min(rest.len());
                scanner.push(&rest[..cut]);
                rest = &rest[cut..];
            }
            assert_eq!(scanner.finish(), whole, "{}", path.display());
        }
        fuzzing::envelope(&message);
        fuzzing::header(&message);
    }
}

/// The tree as mailparse sees it: it does not open messages and knows no digests.
fn theirs(part: &mailparse::ParsedMail<'_>) -> String {
    if part.subparts.is_empty() {
        return part.ctype.mimetype.to_lowercase();
    }
    let inner: Vec<_> = part.subparts.iter().map(theirs).collect();
    format!(
        "{}[{}]",
        part.ctype.mimetype.to_lowercase(),
        inner.join(",")
    )
}

fn ours(part: &Part) -> String {
    let media = [part.media.main.as_slice(), b"/", &part.media.subtype].concat();
    let media = String::from_utf8_lossy(&media).to_lowercase();
    match &part.content {
        Content::Multipart(children) if !children.is_empty() => {
            let inner: Vec<_> = children.iter().map(ours).collect();
            format!("{media}[{}]", inner.join(","))
        }
        _ => media,
    }
}

#[test]
fn the_part_tree_agrees_with_another_parser() {
    let corpus = corpus();
    let mut differing = 0;
    for (path, message) in &corpus {
        let Ok(parsed) = mailparse::parse_mail(message) else {
            continue;
        };
        let (ours, theirs) = (ours(scan(message).root()), theirs(&parsed));
        if ours != theirs {
            differing += 1;
            println!("{}:\n  ours   {ours}\n  theirs {theirs}", path.display());
        }
    }
    println!("{differing} of {} differ", corpus.len());
    assert!(differing * 20 <= corpus.len(), "{differing} differ");
}

/// Not a benchmark, but a figure to look at: `cargo test -- --nocapture`.
#[test]
fn scanning_is_quick() {
    let start = std::time::Instant::now();
    let mut octets = 0;
    let corpus = corpus();
    for (_, message) in &corpus {
        octets += message.len();
        scan(message);
    }
    println!(
        "{} messages, {octets} octets: {:?}",
        corpus.len(),
        start.elapsed()
    );
    let plain = [
        b"\r\n".to_vec(),
        b"seventy-two octets of plain text make one line of this large body..\r\n".repeat(200_000),
    ]
    .concat();
    let start = std::time::Instant::now();
    let structure = scan(&plain);
    println!(
        "{} octets of plain body: {:?}",
        plain.len(),
        start.elapsed()
    );
    assert_eq!(structure.root().lines, 200_000);
}
