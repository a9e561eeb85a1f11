//! The byte form of rows: a version byte, then fields in a fixed order.
//!
//! Fixed integers are big-endian, lengths and counts are LEB128 varints. A reader never panics and never
//! allocates more than its input is long.

use thiserror::Error;

/// A row that does not read as what its space holds.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum RowError {
    /// The row ends before its last field.
    #[error("row ends inside a field")]
    Short,
    /// A version that this program does not know.
    #[error("row version {0} is not known to this program")]
    Version(u8),
    /// A field holds a value that is not allowed there.
    #[error("row field {0} is invalid")]
    Invalid(&'static str),
}

/// Builds a row.
#[derive(Debug, Default)]
pub struct RowWriter {
    bytes: Vec<u8>,
}

impl RowWriter {
    /// Starts a row with its version byte.
    pub fn new(version: u8) -> Self {
        // Most rows are that short, and growing octet by octet costs more than the room.
        let mut bytes = Vec::with_capacity(64);
        bytes.push(version);
        Self { bytes }
    }

    /// Appends one byte.
    #[inline]
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    /// Appends a big-endian `u32`.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends a big-endian `u64`.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends a big-endian `i64`.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends a LEB128 varint.
    #[inline]
    pub fn varint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.bytes.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
        self
    }

    /// Appends bytes whose length the reader knows.
    pub fn fixed(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(value);
        self
    }

    /// Appends length and bytes.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.varint(value.len() as u64);
        self.fixed(value)
    }

    /// Appends length and UTF-8 bytes.
    pub fn str(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// The finished row.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

/// Reads a row from its front.
#[derive(Debug, Clone, Copy)]
pub struct RowReader<'a> {
    rest: &'a [u8],
}

impl<'a> RowReader<'a> {
    /// Reads the version byte and accepts `1..=newest`. Returns the reader and the version.
    pub fn new(row: &'a [u8], newest: u8) -> Result<(Self, u8), RowError> {
        let mut reader = Self { rest: row };
        match reader.u8()? {
            version if (1..=newest).contains(&version) => Ok((reader, version)),
            version => Err(RowError::Version(version)),
        }
    }

    /// Reads `len` bytes.
    #[inline]
    pub fn fixed(&mut self, len: usize) -> Result<&'a [u8], RowError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(RowError::Short)?;
        self.rest = rest;
        Ok(head)
    }

    /// Reads an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], RowError> {
        self.fixed(N)?.try_into().map_err(|_| RowError::Short)
    }

    /// Reads one byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, RowError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// Reads a big-endian `u32`.
    pub fn u32(&mut self) -> Result<u32, RowError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Reads a big-endian `u64`.
    pub fn u64(&mut self) -> Result<u64, RowError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Reads a big-endian `i64`.
    pub fn i64(&mut self) -> Result<i64, RowError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// Reads a LEB128 varint.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, RowError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RowError::Invalid("varint"))
    }

    /// Reads length and bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], RowError> {
        let len = usize::try_from(self.varint()?).map_err(|_| RowError::Short)?;
        self.fixed(len)
    }

    /// Reads length and UTF-8 bytes.
    pub fn str(&mut self) -> Result<&'a str, RowError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| RowError::Invalid("utf-8"))
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_row_reads_back_as_written(a: u64, b: i64, text: String, blob: Vec<u8>) {
            let row = RowWriter::new(2).varint(a).i64(b).str(&text).bytes(&blob).u32(7).finish();
            let (mut reader, version) = RowReader::new(&row, 2).unwrap();
            prop_assert_eq!(version, 2);
            prop_assert_eq!(reader.varint().unwrap(), a);
            prop_assert_eq!(reader.i64().unwrap(), b);
            prop_assert_eq!(reader.str().unwrap(), text);
            prop_assert_eq!(reader.bytes().unwrap(), &blob[..]);
            prop_assert_eq!(reader.u32().unwrap(), 7);
            prop_assert!(reader.rest().is_empty());
        }

        #[test]
        fn no_input_makes_the_reader_panic(row: Vec<u8>) {
            if let Ok((mut reader, _)) = RowReader::new(&row, 255) {
                let _ = reader.varint().and_then(|_| reader.bytes()).and_then(|_| reader.u64());
            }
        }
    }

    #[test]
    fn an_unknown_version_is_refused() {
        assert_eq!(
            RowReader::new(&[3, 1], 2).unwrap_err(),
            RowError::Version(3)
        );
        assert_eq!(RowReader::new(&[], 2).unwrap_err(), RowError::Short);
    }
}
