//! Part trees, sections and IMAP forms of ordinary and odd messages.

use nightmail_mime::fuzzing;
use nightmail_mime::imap::{write_body, write_envelope};
use nightmail_mime::{Content, Limits, Part, Scanner, SectionKind, Structure, scan};

/// Scans, checks every invariant at several piece sizes, and returns the structure.
fn checked(message: &str) -> Structure {
    for piece in [2, 3, 7, 64] {
        fuzzing::scanner(message.as_bytes(), piece);
    }
    fuzzing::scanner(message.as_bytes(), 1)
}

/// The tree in short: types, and bodies of leaves.
fn tree(message: &str) -> String {
    shown(checked(message).root(), message)
}

fn shown(part: &Part, message: &str) -> String {
    let media = format!(
        "{}/{}",
        String::from_utf8_lossy(&part.media.main),
        String::from_utf8_lossy(&part.media.subtype)
    );
    match &part.content {
        Content::Leaf => {
            let body = &message[part.body.start as usize..part.body.end as usize];
            format!("{media} {body:?}")
        }
        Content::Multipart(children) => {
            let children: Vec<_> = children.iter().map(|child| shown(child, message)).collect();
            format!("{media}[{}]", children.join(", "))
        }
        Content::Message(inner) => format!("{media}<{}>", shown(&inner.root, message)),
    }
}

fn section<'a>(message: &'a str, path: &[u32], kind: SectionKind) -> Option<&'a str> {
    let range = scan(message.as_bytes()).section(path, kind)?;
    message.get(range.start as usize..range.end as usize)
}

fn body(message: &str, extended: bool) -> String {
    let mut out = Vec::new();
    write_body(&checked(message), extended, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn envelope(message: &str) -> String {
    let mut out = Vec::new();
    write_envelope(checked(message).envelope(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

const MIXED: &str = "Subject: m\r\n\
    Content-Type: multipart/mixed; boundary=\"out\"\r\n\
    \r\n\
    preamble\r\n\
    --out\r\n\
    \r\n\
    first\r\n\
    --out  \r\n\
    Content-Type: message/rfc822\r\n\
    \r\n\
    Subject: inner\r\n\
    Content-Type: multipart/alternative; boundary=in\r\n\
    \r\n\
    --in\r\n\
    Content-Type: text/plain\r\n\
    \r\n\
    plain\r\n\
    --in\r\n\
    Content-Type: text/html\r\n\
    \r\n\
    <p>\r\n\
    --in--\r\n\
    --out\r\n\
    Content-Type: image/png\r\n\
    Content-Transfer-Encoding: base64\r\n\
    \r\n\
    AAAA\r\n\
    --out--\r\n\
    epilogue\r\n";

#[test]
fn a_nested_message_is_found_whole() {
    assert_eq!(
        tree(MIXED),
        "multipart/mixed[text/plain \"first\", \
         message/rfc822<multipart/alternative[text/plain \"plain\", text/html \"<p>\"]>, \
         image/png \"AAAA\"]"
    );
}

#[test]
fn sections_follow_rfc_3501() {
    use SectionKind::{Body, Header, Mime, Text};
    assert_eq!(section(MIXED, &[], Body), Some(MIXED));
    assert!(
        section(MIXED, &[], Header)
            .unwrap()
            .ends_with("\"out\"\r\n\r\n")
    );
    assert!(section(MIXED, &[], Text).unwrap().starts_with("preamble"));
    assert_eq!(section(MIXED, &[], Mime), None);
    assert_eq!(section(MIXED, &[1], Body), Some("first"));
    assert_eq!(section(MIXED, &[1], Mime), Some("\r\n"));
    assert_eq!(section(MIXED, &[1], Header), None);
    assert_eq!(section(MIXED, &[1, 1], Body), None);
    assert!(
        section(MIXED, &[2], Body)
            .unwrap()
            .starts_with("Subject: inner\r\n")
    );
    assert!(section(MIXED, &[2], Body).unwrap().ends_with("--in--"));
    assert!(
        section(MIXED, &[2], Header)
            .unwrap()
            .starts_with("Subject: inner\r\n")
    );
    assert!(section(MIXED, &[2], Text).unwrap().starts_with("--in\r\n"));
    assert_eq!(
        section(MIXED, &[2], Mime),
        Some("Content-Type: message/rfc822\r\n\r\n")
    );
    assert_eq!(section(MIXED, &[2, 1], Body), Some("plain"));
    assert_eq!(section(MIXED, &[2, 2], Body), Some("<p>"));
    assert_eq!(
        section(MIXED, &[2, 2], Mime),
        Some("Content-Type: text/html\r\n\r\n")
    );
    assert_eq!(section(MIXED, &[2, 3], Body), None);
    assert_eq!(section(MIXED, &[3], Body), Some("AAAA"));
    assert_eq!(section(MIXED, &[0], Body), None);
    assert_eq!(section(MIXED, &[4], Body), None);
    assert_eq!(section(MIXED, &[u32::MAX], Body), None);
}

#[test]
fn a_message_that_is_no_multipart_has_one_part() {
    use SectionKind::{Body, Header, Mime, Text};
    let plain = "Subject: a\r\n\r\nbody\r\n";
    assert_eq!(section(plain, &[1], Body), Some("body\r\n"));
    assert_eq!(section(plain, &[1], Mime), Some("Subject: a\r\n\r\n"));
    assert_eq!(section(plain, &[1], Text), None);
    assert_eq!(section(plain, &[2], Body), None);
    let forwarded = "Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nbody\r\n";
    assert_eq!(
        section(forwarded, &[1], Body),
        Some("Subject: in\r\n\r\nbody\r\n")
    );
    assert_eq!(
        section(forwarded, &[1], Header),
        Some("Subject: in\r\n\r\n")
    );
    assert_eq!(section(forwarded, &[1, 1], Body), Some("body\r\n"));
    assert_eq!(section(forwarded, &[1, 2], Body), None);
}

#[test]
fn empty_messages_have_a_structure() {
    assert_eq!(tree(""), "text/plain \"\"");
    assert_eq!(tree("\r\n"), "text/plain \"\"");
    assert_eq!(tree("\n"), "text/plain \"\"");
    assert_eq!(tree("Subject: only"), "text/plain \"\"");
    assert_eq!(tree("Subject: only\r\n"), "text/plain \"\"");
    assert_eq!(
        section("Subject: only\r\n", &[], SectionKind::Header),
        Some("Subject: only\r\n")
    );
}

#[test]
fn a_missing_blank_line_ends_the_header_before_the_text() {
    let message = "Subject: a\r\nthis is text\r\nand: more\r\n";
    assert_eq!(
        tree(message),
        "text/plain \"this is text\\r\\nand: more\\r\\n\""
    );
    assert_eq!(tree("just text"), "text/plain \"just text\"");
    assert_eq!(
        tree(" indented: text\r\n"),
        "text/plain \" indented: text\\r\\n\""
    );
    let multipart = "Content-Type: multipart/mixed; boundary=b\r\n--b\r\n\r\nx\r\n--b--\r\n";
    assert_eq!(tree(multipart), "multipart/mixed[text/plain \"x\"]");
}

#[test]
fn an_mbox_separator_is_passed_over() {
    let message = "From a@b Mon Jan  1 00:00:00 2001\r\nSubject: a\r\n\r\nbody";
    assert_eq!(tree(message), "text/plain \"body\"");
    assert_eq!(envelope(message).split(' ').nth(1), Some("\"a\""));
}

#[test]
fn bare_line_feeds_end_lines() {
    let message = MIXED.replace("\r\n", "\n");
    assert_eq!(tree(&message), tree(MIXED));
}

#[test]
fn a_missing_final_boundary_ends_with_the_message() {
    let message =
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n";
    assert_eq!(
        tree(message),
        "multipart/mixed[text/plain \"one\", text/plain \"two\\r\\n\"]"
    );
    let message = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b--";
    assert_eq!(tree(message), "multipart/mixed[text/plain \"one\"]");
    let message = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b";
    assert_eq!(tree(message), "multipart/mixed[text/plain \"\"]");
}

#[test]
fn an_outer_boundary_ends_the_parts_inside() {
    let message = "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--a\r\n\r\ny\r\n--b\r\nz\r\n--a--\r\n";
    assert_eq!(
        tree(message),
        "multipart/mixed[multipart/mixed[text/plain \"x\"], text/plain \"y\\r\\n--b\\r\\nz\"]"
    );
}

#[test]
fn one_boundary_used_twice_belongs_to_the_inner_part_first() {
    let message = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n--b\r\n\r\ny\r\n--b--\r\n";
    assert_eq!(
        tree(message),
        "multipart/mixed[multipart/mixed[text/plain \"x\"], text/plain \"y\"]"
    );
}

#[test]
fn look_alikes_are_no_boundaries() {
    let message = "Content-Type: multipart/mixed; boundary=\"b \"\r\n\r\n--b \t\r\n\r\n\
        --bb\r\n --b\r\n---b\r\n--b--x\r\n-- b\r\n-\r\n--\r\n--b-- \r\n--b\r\n";
    assert_eq!(
        tree(message),
        "multipart/mixed[text/plain \"--bb\\r\\n --b\\r\\n---b\\r\\n--b--x\\r\\n-- b\\r\\n-\\r\\n--\"]"
    );
}

#[test]
fn a_boundary_in_a_header_ends_the_part() {
    let message = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\
        --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n--b\r\n--b--\r\n";
    assert_eq!(
        tree(message),
        "multipart/mixed[text/html \"\", message/rfc822<text/plain \"\">, text/plain \"\"]"
    );
    let header = section(message, &[2], SectionKind::Header);
    assert_eq!(header, Some("Subject: in"));
}

#[test]
fn parts_of_a_digest_are_messages() {
    let message = "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: in\r\n\r\nx\r\n\
        --b\r\nContent-Type: text/plain\r\n\r\ny\r\n--b--\r\n";
    assert_eq!(
        tree(message),
        "multipart/digest[message/rfc822<text/plain \"x\">, text/plain \"y\"]"
    );
}

#[test]
fn an_encoded_message_is_not_opened() {
    let message = "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogYQ==\r\n";
    assert!(
        body(message, false)
            .starts_with("(\"application\" \"octet-stream\" NIL NIL NIL \"base64\" 18)")
    );
    let identity = message.replace("base64", "8BIT");
    assert!(matches!(
        checked(&identity).root().content,
        Content::Message(_)
    ));
}

#[test]
fn a_multipart_without_boundary_is_text() {
    let message = "Content-Type: multipart/mixed\r\n\r\n--\r\nx\r\n";
    assert_eq!(tree(message), "text/plain \"--\\r\\nx\\r\\n\"");
}

#[test]
fn what_is_kept_of_tiny_parts_grows_no_faster_than_the_message() {
    let head = "Content-Type: multipart/mixed; boundary=a\r\n\r\n";
    let tiny = format!("{head}{}--a--\r\n", "--a\r\n\r\n".repeat(9000));
    let found = scan(tiny.as_bytes()).parts().count();
    assert!((101..=102 + tiny.len() / 256).contains(&found), "{found}");
    let part = format!("--a\r\n\r\n{}\r\n", "x".repeat(250));
    let ordinary = format!("{head}{}--a--\r\n", part.repeat(2000));
    assert_eq!(scan(ordinary.as_bytes()).parts().count(), 2001);
}

#[test]
fn what_lies_beyond_a_limit_is_opaque() {
    let many = format!(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n{}--b--\r\n",
        "--b\r\n\r\nx\r\n".repeat(10)
    );
    let mut scanner = Scanner::new(Limits {
        parts_max: 4,
        ..Limits::default()
    });
    scanner.push(many.as_bytes());
    let structure = scanner.finish();
    assert_eq!(structure.root().children().len(), 3);
    fuzzing::check(&structure, many.as_bytes());

    let deep = "Content-Type: message/rfc822\r\n\r\n".repeat(300);
    let structure = checked(&deep);
    assert_eq!(structure.parts().count(), 100);

    let long = format!("X: {}\r\nSubject: unread\r\n\r\nbody", "y".repeat(300_000));
    let structure = checked(&long);
    assert_eq!(structure.envelope().subject, None);
    assert_eq!(structure.root().octets(), 4);
}

#[test]
fn bodystructure_is_exact() {
    assert_eq!(
        body("\r\na\r\n", false),
        "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 3 1)"
    );
    assert_eq!(
        body(MIXED, false),
        "((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 5 0)\
         (\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 153 \
         (NIL \"inner\" NIL NIL NIL NIL NIL NIL NIL NIL) \
         ((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 5 0)\
         (\"text\" \"html\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 3 0) \"alternative\") 11)\
         (\"image\" \"png\" NIL NIL NIL \"base64\" 4) \"mixed\")"
    );
    assert_eq!(
        body(
            "Content-Type: Text/Plain; charset=\"a\\\"b\"; x=\"\"\r\n\
             Content-ID: <i@x>\r\nContent-Description: k\u{f6}rper\r\nContent-MD5: Q==\r\n\
             Content-Disposition: attachment; filename=f\r\nContent-Language: en, de\r\n\
             Content-Location: http://x/\r\nContent-Transfer-Encoding: 8BIT\r\n\r\n",
            true
        ),
        "(\"Text\" \"Plain\" (\"charset\" \"a\\\"b\" \"x\" \"\") \"<i@x>\" {7}\r\nk\u{f6}rper \"8BIT\" 0 0 \
         \"Q==\" (\"attachment\" (\"filename\" \"f\")) (\"en\" \"de\") \"http://x/\")"
    );
    assert_eq!(
        body(
            "Content-Type: multipart/x; boundary=b\r\nContent-Disposition: inline\r\n\r\n",
            true
        ),
        "((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0 NIL NIL NIL NIL) \"x\" \
         (\"boundary\" \"b\") (\"inline\" NIL) NIL NIL)"
    );
}

#[test]
fn envelope_is_exact() {
    assert_eq!(
        envelope(
            "Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\n\
             From: Terry Gray <gray@cac.washington.edu>\r\n\
             Subject: IMAP4rev1 WG\r\n mtg \"summary\"\r\n\
             To: imap@cac.washington.edu\r\n\
             Cc: minutes@CNRI.Reston.VA.US, \"John \\\\ K\" <KLENSIN@MIT.EDU>\r\n\
             Bcc: friends: <>, root;\r\n\
             Reply-To: \u{f6}@x\r\n\
             Message-ID: <B27397-0100000@cac.washington.edu>\r\n\r\n"
        ),
        "(\"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\" \"IMAP4rev1 WG mtg \\\"summary\\\"\" \
         ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) \
         ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) \
         ((NIL NIL {2}\r\n\u{f6} \"x\")) \
         ((NIL NIL \"imap\" \"cac.washington.edu\")) \
         ((NIL NIL \"minutes\" \"CNRI.Reston.VA.US\")(\"John \\\\ K\" NIL \"KLENSIN\" \"MIT.EDU\")) \
         ((NIL NIL \"friends\" NIL)(NIL NIL \"MISSING_MAILBOX\" \"MISSING_DOMAIN\")\
         (NIL NIL \"root\" \"MISSING_DOMAIN\")(NIL NIL NIL NIL)) \
         NIL \"<B27397-0100000@cac.washington.edu>\")"
    );
}

#[test]
fn a_usual_message_encodes_small() {
    let message = "Return-Path: <a@near.test>\r\nReceived: from x\r\nDelivered-To: bob@far.test\r\n\
        Date: Wed, 17 Jul 2026 02:23:25 -0700\r\nFrom: Alice Liddell <alice@near.test>\r\n\
        To: Bob <bob@far.test>\r\nCc: Carol <carol@far.test>\r\nSubject: About the meeting on Thursday\r\n\
        Message-ID: <0123456789abcdef@near.test>\r\nIn-Reply-To: <fedcba9876543210@far.test>\r\n\
        MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"000000000000a1b2c3\"\r\n\r\n\
        --000000000000a1b2c3\r\nContent-Type: text/plain; charset=\"UTF-8\"\r\n\
        Content-Transfer-Encoding: quoted-printable\r\n\r\nHello\r\n\
        --000000000000a1b2c3\r\nContent-Type: text/html; charset=\"UTF-8\"\r\n\
        Content-Transfer-Encoding: quoted-printable\r\n\r\n<p>Hello\r\n--000000000000a1b2c3--\r\n";
    let structure = checked(message);
    let row = structure.encode();
    assert!(row.len() < 600, "{} octets", row.len());
    assert_eq!(structure.received_count(), 1);
    assert_eq!(structure.delivered_to(), [b"bob@far.test".to_vec()]);
}
