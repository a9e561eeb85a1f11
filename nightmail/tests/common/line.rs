//! A connection of lines, with a bound on every wait.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;

/// A connection to the server under test.
pub struct Lines {
    reader: BufReader<TcpStream>,
}

impl Lines {
    /// Connects; waits as long as [`PATIENCE`] for everything.
    pub fn connect(address: SocketAddr) -> std::io::Result<Self> {
        Self::connect_within(address, PATIENCE)
    }

    /// Connects; waits so long for everything.
    pub fn connect_within(address: SocketAddr, wait: Duration) -> std::io::Result<Self> {
        let mut lines = Self::over(TcpStream::connect_timeout(&address, wait)?)?;
        lines.reader.get_mut().set_write_timeout(Some(wait))?;
        lines.patience(wait);
        Ok(lines)
    }

    /// Takes over a connection.
    pub fn over(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            reader: BufReader::new(stream),
        })
    }

    /// How long reading waits from now on.
    pub fn patience(&mut self, wait: Duration) {
        self.reader.get_ref().set_read_timeout(Some(wait)).unwrap();
    }

    /// Writes octets as they are.
    pub fn write(&mut self, octets: &[u8]) -> std::io::Result<()> {
        self.reader.get_mut().write_all(octets)
    }

    /// A line without its CRLF; an error at the end of the stream.
    pub fn line(&mut self) -> std::io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(content) => Ok(content.to_vec()),
            None => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Exactly so many octets.
    pub fn octets(&mut self, count: usize) -> std::io::Result<Vec<u8>> {
        let mut octets = vec![0; count];
        self.reader.read_exact(&mut octets)?;
        Ok(octets)
    }

    /// Everything up to the end of the stream.
    pub fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest)?;
        Ok(rest)
    }
}
