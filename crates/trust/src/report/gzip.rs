//! gzip (RFC 1952): one member, without name and time.

use miniz_oxide::deflate::compress_to_vec;

/// The level of compression, 0 to 10.
const LEVEL: u8 = 6;

/// Compresses `octets` into one member of gzip.
pub fn compress(octets: &[u8]) -> Vec<u8> {
    // Magic, deflate, no flags, no time, no extra flags, unknown system.
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    out.extend_from_slice(&compress_to_vec(octets, LEVEL));
    out.extend_from_slice(&crc32fast::hash(octets).to_le_bytes());
    out.extend_from_slice(&(octets.len() as u32).to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    #[test]
    fn gunzip_reads_it() {
        let octets = b"<feedback/>".repeat(1000);
        let mut gunzip = Command::new("gzip")
            .args(["-dc"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        gunzip
            .stdin
            .take()
            .unwrap()
            .write_all(&compress(&octets))
            .unwrap();
        let output = gunzip.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout, octets);
    }
}
