//! How full accounts have been told that they are: `w` id → a share in per cent.

use nightmail_core::AccountId;
use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_engine::RowKey;

use crate::directory::Directory;
use crate::error::DirectoryError;
use crate::row::directory_key;

const VERSION: u8 = 1;
/// Begins the keys of these rows.
const WARNINGS_PREFIX: &str = "w";

pub(crate) fn warning_key(id: AccountId) -> RowKey {
    directory_key(WARNINGS_PREFIX, &id.to_be_bytes())
}

pub(crate) fn encode_warning(percent: u8) -> Vec<u8> {
    RowWriter::new(VERSION).u8(percent).finish()
}

pub(crate) fn decode_warning(row: &[u8]) -> Result<u8, RowError> {
    let (mut reader, _) = RowReader::new(row, VERSION)?;
    reader.u8()
}

impl Directory {
    /// The share of its quota in per cent that account `id` has been told of; 0 where it has not.
    pub async fn fullness(&self, id: AccountId) -> Result<u8, DirectoryError> {
        let engine = self.committer().engine();
        let row = engine.get_many(&[warning_key(id)]).await?.pop().flatten();
        Ok(row.map_or(Ok(0), |row| decode_warning(&row))?)
    }
}
