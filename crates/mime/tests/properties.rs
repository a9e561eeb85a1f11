//! What holds for every message, every row and every place the stream is cut.

use nightmail_mime::{Limits, Scanner, Structure, fuzzing, scan};
use proptest::prelude::*;

/// Text made of the pieces that decide structure.
fn message() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("Content-Type: multipart/mixed; boundary=a\r\n\r\n"),
        Just("Content-Type: multipart/digest; boundary=\"b\"\n\n"),
        Just("Content-Type: message/rfc822\r\n\r\n"),
        Just("Content-Type: text/html; charset=\"utf-8\"\r\n"),
        Just("Content-Transfer-Encoding: base64\r\n"),
        Just("From: A (c) <@r:a@b>, g: x@y;, \"q\" <z>\r\n"),
        Just("Subject: =?utf-8?q?=41?=\r\n folded\r\n"),
        Just("Date: Wed, 17 Jul 2026 02:23:25 -0700\r\n"),
        Just("Delivered-To: a@b\r\nReceived: x\r\n"),
        Just("--a\r\n"),
        Just("--a--\r\n"),
        Just("--b \r\n"),
        Just("--b--\n"),
        Just("--"),
        Just("-"),
        Just("\r\n"),
        Just("\n"),
        Just("\r"),
        Just(": \""),
        Just("text line\r\n"),
        Just("\u{f6}\0("),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn scan_in_pieces(message: &[u8], cuts: &[usize]) -> Structure {
    let mut scanner = Scanner::new(Limits::default());
    let mut rest = message;
    for &cut in cuts {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        scanner.push(piece);
        rest = after;
    }
    scanner.push(rest);
    scanner.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_message_has_a_sound_structure(message in message(), piece in 1usize..20) {
        fuzzing::scanner(message.as_bytes(), piece);
        fuzzing::envelope(message.as_bytes());
        fuzzing::header(message.as_bytes());
    }

    #[test]
    fn bytes_that_are_no_message_have_a_structure(message: Vec<u8>) {
        fuzzing::scanner(&message, 3);
        fuzzing::envelope(&message);
        fuzzing::header(&message);
    }

    #[test]
    fn where_the_stream_is_cut_does_not_matter(message in message(), cuts in prop::collection::vec(0usize..50, 0..20)) {
        prop_assert_eq!(scan_in_pieces(message.as_bytes(), &cuts), scan(message.as_bytes()));
    }

    #[test]
    fn a_damaged_row_is_refused_or_sound(message in message(), at: prop::sample::Index, byte: u8) {
        let mut row = scan(message.as_bytes()).encode();
        let at = at.index(row.len());
        row[at] = byte;
        fuzzing::structure_decode(&row);
        row.truncate(at);
        prop_assert!(Structure::decode(&row).is_err());
    }

    #[test]
    fn no_row_makes_the_decoder_panic(row: Vec<u8>) {
        fuzzing::structure_decode(&row);
    }
}
