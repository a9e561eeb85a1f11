//! COMPRESS: both directions are deflated from the answer on.

use std::io::{Read, Write};
use std::net::TcpStream;

use miniz_oxide::deflate::core::{CompressionStrategy, CompressorOxide, TDEFLFlush, compress};
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush};

use super::harness::Server;

/// A client that has agreed on compression. Its compressor keeps its window, as zlib's does.
struct Packed {
    stream: TcpStream,
    deflater: Box<CompressorOxide>,
    inflater: Box<InflateState>,
    /// What was inflated and not looked at yet.
    text: Vec<u8>,
    /// Octets of the wire.
    read: usize,
}

impl Packed {
    fn begin(server: &Server) -> Self {
        let mut client = server.client();
        client.ok("COMPRESS DEFLATE");
        Self {
            stream: client.into_stream(),
            deflater: Box::new(CompressorOxide::with_params(
                DataFormat::Raw,
                6,
                CompressionStrategy::Default,
                15,
            )),
            inflater: InflateState::new_boxed(DataFormat::Raw),
            text: Vec::new(),
            read: 0,
        }
    }

    fn send(&mut self, octets: &[u8]) {
        let mut room = vec![0; octets.len() + 1024];
        let (_, taken, given) = compress(&mut self.deflater, octets, &mut room, TDEFLFlush::Sync);
        assert_eq!(taken, octets.len());
        self.stream.write_all(&room[..given]).unwrap();
    }

    /// Reads until `end` has come; all that came up to it.
    fn until(&mut self, end: &str) -> String {
        let mut wire = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&self.text).into_owned();
            if let Some(at) = text.find(end) {
                let line = text[at..].find("\r\n").map(|length| at + length + 2);
                if let Some(line) = line {
                    self.text.drain(..line);
                    return text[..line].to_owned();
                }
            }
            let count = self.stream.read(&mut wire).unwrap();
            assert!(count > 0, "the connection ended: {text}");
            self.read += count;
            let mut input = &wire[..count];
            let mut out = [0; 8192];
            loop {
                let came = inflate(&mut self.inflater, input, &mut out, MZFlush::None);
                input = &input[came.bytes_consumed..];
                self.text.extend_from_slice(&out[..came.bytes_written]);
                if came.bytes_written == 0 {
                    break;
                }
            }
        }
    }
}

#[test]
fn commands_and_messages_pass_compressed_both_ways() {
    let server = Server::start();
    let mut client = Packed::begin(&server);
    let message = [
        b"Subject: x\r\n\r\n".as_slice(),
        &b"the same line again\r\n".repeat(20_000),
    ]
    .concat();
    client.send(format!("a APPEND INBOX {{{}+}}\r\n", message.len()).as_bytes());
    for piece in message.chunks(50_000) {
        client.send(piece);
    }
    client.send(b"\r\n");
    assert!(client.until("a ").contains("OK [APPENDUID"));
    client.send(b"b SELECT INBOX\r\n");
    client.until("b OK");
    let before = client.read;
    client.send(b"c FETCH 1 BODY.PEEK[]\r\n");
    let fetched = client.until("c OK");
    assert!(fetched.contains(std::str::from_utf8(&message).unwrap()));
    assert!(
        client.read - before < message.len() / 10,
        "{}",
        client.read - before
    );
    client.send(b"d COMPRESS DEFLATE\r\n");
    assert!(client.until("d ").contains("BAD [COMPRESSIONACTIVE]"));
}

#[test]
fn news_in_idle_comes_compressed() {
    let server = Server::start();
    let mut client = Packed::begin(&server);
    client.send(b"a SELECT INBOX\r\nb IDLE\r\n");
    client.until("+ ");
    server.deliver(b"", b"Subject: news\r\n\r\n");
    assert!(client.until(" EXISTS").contains("* 1 EXISTS"));
    client.send(b"DONE\r\n");
    client.until("b OK");
}

#[test]
fn octets_that_inflate_without_measure_do_not_pile_up() {
    let server = Server::start();
    let mut client = Packed::begin(&server);
    let mut bomb = vec![b'a'; 64 << 20];
    bomb.extend_from_slice(b"\r\n");
    client.send(&bomb);
    assert!(client.until("BAD").contains("BAD"));
    client.send(b"b NOOP\r\n");
    client.until("b OK");
}

#[test]
fn what_is_not_compressed_ends_the_connection() {
    let server = Server::start();
    let mut client = Packed::begin(&server);
    client.stream.write_all(&[0xff; 100]).unwrap();
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).unwrap();
}

#[test]
fn a_client_that_logs_out_of_its_account_speaks_plainly_again() {
    let server = Server::start();
    let mut client = Packed::begin(&server);
    client.send(b"a UNAUTHENTICATE\r\n");
    assert!(client.until("a OK").contains("[CAPABILITY "));
    client
        .stream
        .write_all(b"b LOGIN ann@test secret\r\n")
        .unwrap();
    let mut answer = [0; 4];
    client.stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"b OK");
}
