//! Random sessions through the fuzz entry points: their assertions must hold whatever a peer sends.

use std::time::Instant;

use nightmail_smtp::fuzzing;
use proptest::prelude::*;

/// What a client might send, whole lines and fragments, sensible and not.
const FROM_CLIENTS: [&str; 68] = [
    "EHLO c.test\r\n",
    "LHLO c.test\r\n",
    "HELO c.test\r\n",
    "MAIL FROM:<a@x.test>\r\n",
    "MAIL FROM:<> BODY=BINARYMIME\r\n",
    "MAIL FROM:<jörg@x.test> SMTPUTF8\r\n",
    "RCPT TO:<b@x.test>\r\n",
    "RCPT TO:<c@x.test>\r\n",
    "DATA\r\n",
    "BDAT 5\r\n",
    "BDAT 9 LAST\r\n",
    "BDAT 0 LAST\r\n",
    "BDAT 700\r\n",
    "BDAT 3000 LAST\r\n",
    "BDAT 0\r\n",
    "BDAT 5\r\nhello",
    "BDAT 5\r\nhe\r\nl",
    "DATA\r\ntext\r\n.\r\n",
    "MAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\n",
    "RSET\r\nMAIL FROM:<>\r\nRCPT TO:<b@x.test>\r\n",
    "RSET\r\n",
    "NOOP\r\n",
    "QUIT\r\n",
    "VRFY a\r\n",
    "HELP\r\n",
    "STARTTLS\r\n",
    "AUTH PLAIN AGEAcA==\r\n",
    "AUTH LOGIN\r\n",
    "AUTH PLAIN\r\n",
    "YQ==\r\n",
    "*\r\n",
    "AUTH EXTERNAL =\r\n",
    "AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9YQ==\r\n",
    "AUTH OAUTHBEARER bixhPWFAeC50ZXN0LAFhdXRoPUJlYXJlciB0b2tlbgEB\r\n",
    "AQ==\r\n",
    "ETRN x.test\r\n",
    "ATRN x.test,y.test\r\n",
    "ATRN\r\n220 c.test\r\n",
    "ETRN @x.test\r\n",
    "ETRN #q\r\n",
    "ETRN\r\n",
    "XCLIENT NAME=a ADDR=192.0.2.1\r\n",
    "XCLIENT HELO=c LOGIN=a PROTO=SMTP\r\n",
    "XFORWARD NAME=[UNAVAILABLE] SOURCE=REMOTE\r\n",
    "MAIL FROM:<a@x.test> REQUIRETLS\r\n",
    "MAIL FROM:<a@x.test> MT-PRIORITY=-4\r\n",
    "MAIL FROM:<a@x.test> BY=60;RT\r\n",
    "MAIL FROM:<a@x.test> HOLDFOR=60\r\n",
    "MAIL FROM:<a@x.test> HOLDUNTIL=1970-01-02T00:00:00Z\r\n",
    "MAIL FROM:<a@x.test> RET=HDRS ENVID=a+2B\r\n",
    "RCPT TO:<b@x.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bc\r\n",
    "RCPT TO:<@r.test:b@x.test> NOTIFY=NEVER\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "\r\n.\r\n",
    ".\r\n",
    "..\r\n",
    "text\r\n",
    "\n.\n",
    "\r",
    "\n",
    ".",
    "hello",
    "\0",
    "\u{ff}",
    " ",
    "FOO\r\n",
    "GET / HTTP/1.1\r\n",
    "a line of text with some length to it, so that limits are met now and then\r\n",
];

/// What a server might send.
const FROM_SERVERS: [&str; 31] = [
    "220 mx.test\r\n",
    "250 ok\r\n",
    "250-mx.test\r\n",
    "250 PIPELINING\r\n",
    "250-STARTTLS\r\n",
    "250-AUTH PLAIN LOGIN\r\n",
    "250 SMTPUTF8\r\n",
    "250-CHUNKING\r\n",
    "250-BINARYMIME\r\n",
    "250-REQUIRETLS\r\n",
    "250-MT-PRIORITY\r\n",
    "250-DELIVERBY 60\r\n",
    "250-LIMITS RCPTMAX=2 MAILMAX=1\r\n",
    "250-DSN\r\n",
    "250-SIZE 10\r\n",
    "354 go\r\n",
    "334 eA==\r\n",
    "235 ok\r\n",
    "421 4.3.2 bye\r\n",
    "450 4.2.1 busy\r\n",
    "550 5.1.1 no\r\n",
    "552 full\r\n",
    "221 bye\r\n",
    "251 moved\n",
    "503 no\r\n",
    "\r\n",
    "2",
    "250-",
    "x",
    "\u{ff}",
    "250\r\n",
];

fn stream(words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let choice = proptest::sample::select(words);
    let words = proptest::collection::vec(choice, 0..60);
    (any::<[u8; 2]>(), words)
        .prop_map(|(head, words)| [head.as_slice(), words.concat().as_bytes()].concat())
}

/// A session that gets as far as DATA, then random ones.
fn far_stream() -> impl Strategy<Value = Vec<u8>> {
    let opening =
        "EHLO c\r\nLHLO c\r\nAUTH PLAIN AGEAcA==\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\n";
    stream(&FROM_CLIENTS).prop_map(move |stream| {
        let (head, tail) = stream.split_at(2);
        [head, opening.as_bytes(), tail].concat()
    })
}

/// A server that does as it should up to some point.
fn far_replies() -> impl Strategy<Value = Vec<u8>> {
    let opening = "220 mx.test\r\n250-mx.test\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250-REQUIRETLS\r\n250 PIPELINING\r\n\
         250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n";
    (stream(&FROM_SERVERS), 0..opening.len()).prop_map(move |(stream, cut)| {
        let (head, tail) = stream.split_at(2);
        [head, opening.as_bytes().split_at(cut).0, tail].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_client_breaks_the_server(data in prop_oneof![stream(&FROM_CLIENTS), far_stream()]) {
        fuzzing::server_session(Instant::now(), &data);
    }

    #[test]
    fn no_server_breaks_the_client(data in prop_oneof![stream(&FROM_SERVERS), far_replies()]) {
        fuzzing::client_session(Instant::now(), &data);
    }

    #[test]
    fn no_octets_break_anything(data: Vec<u8>) {
        fuzzing::server_session(Instant::now(), &data);
        fuzzing::client_session(Instant::now(), &data);
        fuzzing::command_line(&data);
        fuzzing::reply(&data);
    }
}
