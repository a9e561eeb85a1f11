//! The rows of the greylist.

use nightmail_core::Timestamp;
use nightmail_core::codec::{RowError, RowReader, RowWriter};

use super::GreylistState;

const VERSION: u8 = 1;
const WAITING: u8 = 0;
const PASSED: u8 = 1;

/// What one client network sends from one sender to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TripletRow {
    pub client: String,
    pub sender: String,
    pub recipient: String,
    /// When it was first seen.
    pub since: Timestamp,
    /// When it was last seen after it had come back.
    pub passed: Option<Timestamp>,
}

impl TripletRow {
    pub fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.str(&self.client)
            .str(&self.sender)
            .str(&self.recipient)
            .i64(self.since.millis());
        match self.passed {
            None => row.u8(WAITING),
            Some(last) => row.u8(PASSED).i64(last.millis()),
        };
        row.finish()
    }

    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut row, _) = RowReader::new(row, VERSION)?;
        Ok(Self {
            client: row.str()?.to_owned(),
            sender: row.str()?.to_owned(),
            recipient: row.str()?.to_owned(),
            since: Timestamp::from_millis(row.i64()?),
            passed: match row.u8()? {
                WAITING => None,
                PASSED => Some(Timestamp::from_millis(row.i64()?)),
                _ => return Err(RowError::Invalid("greylist state")),
            },
        })
    }

    pub fn into_state(self) -> GreylistState {
        let Self {
            sender, recipient, ..
        } = self;
        match self.passed {
            None => GreylistState::Waiting {
                sender,
                recipient,
                since: self.since,
            },
            Some(last) => GreylistState::Passed {
                sender,
                recipient,
                last,
            },
        }
    }
}

/// How often a client network has come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientRow {
    pub client: String,
    pub passed: u32,
    /// When it was last seen.
    pub last: Timestamp,
}

impl ClientRow {
    pub fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.str(&self.client)
            .u32(self.passed)
            .i64(self.last.millis());
        row.finish()
    }

    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut row, _) = RowReader::new(row, VERSION)?;
        Ok(Self {
            client: row.str()?.to_owned(),
            passed: row.u32()?,
            last: Timestamp::from_millis(row.i64()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_read_back_and_no_cut_of_them_does(
            client: String,
            sender: String,
            recipient: String,
            since: i64,
            last: Option<i64>,
            passed: u32,
        ) {
            let triplet = TripletRow {
                client: client.clone(),
                sender,
                recipient,
                since: Timestamp::from_millis(since),
                passed: last.map(Timestamp::from_millis),
            };
            let row = triplet.encode();
            prop_assert_eq!(TripletRow::decode(&row), Ok(triplet));
            for cut in 0..row.len() {
                prop_assert!(TripletRow::decode(&row[..cut]).is_err());
            }
            let network = ClientRow { client, passed, last: Timestamp::from_millis(since) };
            let row = network.encode();
            prop_assert_eq!(ClientRow::decode(&row), Ok(network));
            for cut in 0..row.len() {
                prop_assert!(ClientRow::decode(&row[..cut]).is_err());
            }
        }

        #[test]
        fn no_bytes_make_a_row_panic(row: Vec<u8>) {
            let _ = (TripletRow::decode(&row), ClientRow::decode(&row));
        }
    }
}
