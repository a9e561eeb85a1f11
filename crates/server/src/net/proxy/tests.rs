//! Headers read at every split, broken in every place, and compared with another implementation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

use ppp::v2::{Builder, Command, Protocol, Type, Version};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const SOON: Duration = Duration::from_secs(60);

fn client() -> SocketAddr {
    "192.0.2.7:4711".parse().unwrap()
}

fn whole(header: &[u8], origin: Origin) -> Result<Scan, HeaderError> {
    let octets = header.len();
    Ok(Scan::Whole { octets, origin })
}

/// A header of version 2 with this command, family and body.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [v2::SIGNATURE, &[command, family], &length, body].concat()
}

/// A header of version 2 as HAProxy makes it: for a client, with a checksum and another value.
fn v2_with_checksum() -> Vec<u8> {
    let mut header = v2(
        0x21,
        0x11,
        b"\xc0\x00\x02\x07\x7f\0\0\x01\x12\x67\0\x19\x03\0\x04\0\0\0\0\x05\0\x02id",
    );
    let sum = bitwise_sum(&header).to_be_bytes();
    header[16 + 12 + 3..][..4].copy_from_slice(&sum);
    header
}

/// CRC-32C by division of one long polynomial, as the definition has it.
fn bitwise_sum(octets: &[u8]) -> u32 {
    let bits = octets
        .iter()
        .flat_map(|octet| (0..8).map(move |bit| octet >> bit & 1));
    let mut remainder = u32::MAX;
    for bit in bits {
        let carry = (remainder & 1) ^ u32::from(bit);
        remainder >>= 1;
        if carry == 1 {
            remainder ^= 0x1edc_6f41_u32.reverse_bits();
        }
    }
    !remainder
}

#[test]
fn a_line_names_the_client() {
    let v4 = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n";
    assert_eq!(scan(v4), whole(v4, Origin::Client(client())));
    let v6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 65535 0\r\n";
    let client = "[2001:db8::7]:65535".parse().unwrap();
    assert_eq!(scan(v6), whole(v6, Origin::Client(client)));
    let longest = format!(
        "PROXY TCP6 {0} {0} 65535 65535\r\n",
        "ffff:".repeat(7) + "ffff"
    );
    assert!(matches!(
        scan(longest.as_bytes()),
        Ok(Scan::Whole { octets: 104, .. })
    ));
}

#[test]
fn a_line_may_say_nothing() {
    let words = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LINE_OCTETS_MAX - 16));
    assert_eq!(words.len(), LINE_OCTETS_MAX);
    for line in ["PROXY UNKNOWN\r\n", &words, "PROXY UNKNOWN \r\n"] {
        assert_eq!(scan(line.as_bytes()), whole(line.as_bytes(), Origin::Proxy));
    }
}

#[test]
fn a_line_that_breaks_the_grammar_is_refused() {
    for line in [
        "PROXY \r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP4\r\n",
        "PROXY tcp4 192.0.2.7 192.0.2.1 4711 25\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 4711 25 \r\n",
        "PROXY TCP4  192.0.2.7 192.0.2.1 4711 25\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 4711\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 65536 25\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 04711 25\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 +471 25\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 -1 25\r\n",
        "PROXY TCP4 192.0.2.07 192.0.2.1 4711 25\r\n",
        "PROXY TCP4 192.0.2.256 192.0.2.1 4711 25\r\n",
        "PROXY TCP4 2001:db8::7 2001:db8::1 4711 25\r\n",
        "PROXY TCP6 192.0.2.7 192.0.2.1 4711 25\r\n",
        "PROXY TCP6 2001:db8::7 192.0.2.1 4711 25\r\n",
        "PROXY \u{e9}\r\n",
    ] {
        let scanned = scan(line.as_bytes());
        assert!(
            matches!(scanned, Err(HeaderError::Malformed(_))),
            "{line:?}: {scanned:?}"
        );
    }
    let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; LINE_OCTETS_MAX]].concat();
    let limit = LINE_OCTETS_MAX;
    assert_eq!(scan(&endless[..limit - 1]), Ok(Scan::Partial));
    assert_eq!(scan(&endless[..limit]), Err(HeaderError::TooLong { limit }));
}

#[test]
fn what_begins_otherwise_is_no_header() {
    for octets in [
        &b"EHLO a.test\r\n"[..],
        b"P\r\n",
        b"PROXYTCP4",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\x16\x03\x01",
    ] {
        assert_eq!(scan(octets), Err(HeaderError::Missing), "{octets:?}");
    }
    assert_eq!(scan(b""), Ok(Scan::Partial));
}

#[test]
fn version_2_names_the_client_or_nobody() {
    let v4 = b"\xc0\x00\x02\x07\x7f\0\0\x01\x12\x67\0\x19";
    let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 28], &[1, 2, 3, 4]].concat();
    let client_v6 = "[2001:db8::]:258".parse().unwrap();
    let cases: [(Vec<u8>, Origin); 9] = [
        (v2(0x21, 0x11, v4), Origin::Client(client())),
        (v2(0x21, 0x21, &v6), Origin::Client(client_v6)),
        (v2(0x20, 0x00, b""), Origin::Proxy),
        // A health check says nothing, whatever it says.
        (v2(0x20, 0x11, v4), Origin::Proxy),
        (v2(0x20, 0xee, b"\xff\xff"), Origin::Proxy),
        (v2(0x21, 0x00, b"\x03\xff\xff"), Origin::Proxy),
        (v2(0x21, 0x12, v4), Origin::Proxy),
        (v2(0x21, 0x22, &v6), Origin::Proxy),
        (v2(0x21, 0x31, &[b'/'; 216]), Origin::Proxy),
    ];
    for (header, origin) in cases {
        assert_eq!(scan(&header), whole(&header, origin), "{header:x?}");
    }
}

#[test]
fn version_2_that_breaks_the_grammar_is_refused() {
    let v4 = b"\xc0\x00\x02\x07\x7f\0\0\x01\x12\x67\0\x19";
    for header in [
        v2(0x11, 0x11, v4),
        v2(0x22, 0x11, v4),
        v2(0x21, 0x13, v4),
        v2(0x21, 0x41, v4),
        v2(0x21, 0x10, v4),
        v2(0x21, 0x11, &v4[..11]),
        v2(0x21, 0x21, v4),
        v2(0x21, 0x31, &[b'/'; 215]),
        v2(0x21, 0x11, &[v4, &b"\x04"[..]].concat()),
        v2(0x21, 0x11, &[v4, &b"\x04\0"[..]].concat()),
        v2(0x21, 0x11, &[v4, &b"\x04\0\x02a"[..]].concat()),
        v2(0x21, 0x11, &[v4, &b"\x03\0\x04\0\0\0\0"[..]].concat()),
        v2(0x21, 0x11, &[v4, &b"\x03\0\0"[..]].concat()),
    ] {
        let scanned = scan(&header);
        assert!(
            matches!(scanned, Err(HeaderError::Malformed(_))),
            "{header:x?}: {scanned:?}"
        );
    }
    let limit = 16 + BODY_OCTETS_MAX;
    let largest = v2(0x20, 0, &vec![0; BODY_OCTETS_MAX]);
    assert_eq!(scan(&largest), whole(&largest, Origin::Proxy));
    let beyond = v2(0x20, 0, &vec![0; BODY_OCTETS_MAX + 1]);
    assert_eq!(scan(&beyond[..16]), Err(HeaderError::TooLong { limit }));
}

#[test]
fn no_bit_of_a_header_with_a_checksum_can_change_its_client() {
    let header = v2_with_checksum();
    assert_eq!(scan(&header), whole(&header, Origin::Client(client())));
    for bit in 0..header.len() * 8 {
        let mut broken = header.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        // The type of the value itself may become one that means nothing.
        if let Ok(Scan::Whole {
            origin: Origin::Client(other),
            ..
        }) = scan(&broken)
        {
            assert_eq!((other, bit / 8), (client(), 16 + 12), "bit {bit}");
        }
    }
}

fn any_client() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)));
    let v6 = any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)));
    (prop_oneof![v4, v6], any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

/// A server's address of the family of the client.
fn server_for(client: SocketAddr) -> SocketAddr {
    match client {
        SocketAddr::V4(_) => SocketAddrV4::new(Ipv4Addr::LOCALHOST, 25).into(),
        SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 25).into(),
    }
}

/// The header as the other implementation writes it.
fn written(version: u8, client: SocketAddr, value: &[u8]) -> Vec<u8> {
    let addresses = (client, server_for(client));
    if version == 1 {
        return ppp::v1::Addresses::from(addresses).to_string().into_bytes();
    }
    let begun = Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, addresses);
    let with_value = begun.write_tlv(Type::Authority, value).unwrap();
    with_value.build().unwrap()
}

proptest! {
    #[test]
    fn a_header_is_read_at_any_split_and_ends_where_it_ends(
        version in 1u8..=2,
        client in any_client(),
        value in prop::collection::vec(any::<u8>(), 0..40),
        behind in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let header = written(version, client, &value);
        let all = [&header[..], &behind].concat();
        for length in 0..=all.len() {
            let expected = match length < header.len() {
                true => Ok(Scan::Partial),
                false => whole(&header, Origin::Client(client)),
            };
            prop_assert_eq!(scan(&all[..length]), expected, "{} of {:x?}", length, all);
        }
    }

    #[test]
    fn garbage_is_judged_once_and_never_reaches_beyond_its_end(
        begin in prop::sample::select(vec![
            &b""[..], b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ::1 ", b"\r\n\r\n\0\r\nQUIT\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x20", b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x30",
        ]),
        garbage in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let octets = [begin, &garbage].concat();
        let mut judged = Ok(Scan::Partial);
        for length in 0..=octets.len() {
            let scanned = scan(&octets[..length]);
            if judged == Ok(Scan::Partial) {
                judged = scanned;
            }
            prop_assert_eq!(scanned, judged);
            if let Ok(Scan::Whole { octets, .. }) = scanned {
                prop_assert!(octets <= length);
            }
        }
    }
}

/// Reads a header that comes in two pieces; gives what is left in the socket as well.
async fn read_in_pieces(first: &[u8], second: &[u8]) -> (Result<Origin, ReadError>, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut proxy = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    proxy.set_nodelay(true).unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let write = async {
        proxy.write_all(first).await.unwrap();
        // Lets the reader have the first piece alone.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let _ = proxy.write_all(second).await;
        let _ = proxy.shutdown().await;
    };
    let (read, ()) = tokio::join!(read_header(&stream, SOON), write);
    let mut rest = Vec::new();
    if read.is_ok() {
        stream.read_to_end(&mut rest).await.unwrap();
    }
    (read, rest)
}

#[tokio::test]
async fn nothing_behind_a_header_is_lost_wherever_it_is_cut() {
    for version in [1, 2] {
        let header = written(version, client(), &[7; 400]);
        let all = [&header[..], b"\x16\x03\x01 client hello"].concat();
        for cut in (0..60)
            .chain(header.len() - 3..=all.len())
            .filter(|cut| *cut <= all.len())
        {
            let (first, second) = all.split_at(cut);
            let (read, rest) = read_in_pieces(first, second).await;
            assert_eq!(read.unwrap(), Origin::Client(client()), "cut at {cut}");
            assert_eq!(rest, b"\x16\x03\x01 client hello", "cut at {cut}");
        }
    }
}

#[tokio::test]
async fn a_header_that_does_not_come_whole_is_not_waited_for() {
    let (read, _) = read_in_pieces(b"PROXY TCP4 192.", b"").await;
    assert!(matches!(read, Err(ReadError::Closed)), "{read:?}");
    let (read, _) = read_in_pieces(b"", b"").await;
    assert!(matches!(read, Err(ReadError::Closed)), "{read:?}");
    let (read, _) = read_in_pieces(b"EH", b"LO a.test\r\n").await;
    assert!(
        matches!(read, Err(ReadError::Header(HeaderError::Missing))),
        "{read:?}"
    );

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut proxy = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    proxy.write_all(b"PROXY").await.unwrap();
    let read = read_header(&stream, Duration::from_millis(20)).await;
    assert!(matches!(read, Err(ReadError::Late(_))), "{read:?}");
}
