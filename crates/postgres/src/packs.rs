//! Packs of messages in the database, where there is no object store.

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use nightmail_engine::EngineError;
use nightmail_heap::{BoxFuture, PackError, PackInfo, PackStore};
use tokio::time::timeout;
use tokio_postgres::types::ToSql;

use crate::fault::Fault;
use crate::pool::{Pool, Repeatable};
use crate::session::Session;
use crate::sql::Query;

/// Packs in a table of the database. A pack is read by range without the rest of it, and holds less than 1 GiB.
///
/// A pack is on stable storage when its writing is answered. The order of the log alone would not do: a server that
/// crashes after the answer could lose the pack, come back, and then commit the rows that name it.
pub struct PostgresPacks {
    pool: Arc<Pool>,
}

impl PostgresPacks {
    /// A value of PostgreSQL is shorter than this many bytes.
    const PACK_BYTES_MAX: usize = (1 << 30) - (1 << 20);

    pub(crate) const fn new(pool: Arc<Pool>) -> Self {
        Self { pool }
    }

    async fn write(&self, pack: u64, data: &[u8]) -> Result<(), PackError> {
        let mut lease = self.pool.acquire().await.map_err(failed)?;
        let warnings = lease.session.link.warnings();
        let parameters: [&(dyn ToSql + Sync); 2] = [&to_row(pack), &data];
        let put = lease.session.execute(Query::PackPut, &parameters);
        let fault = match timeout(self.pool.options.statement_timeout, put).await {
            Ok(Ok(_)) if lease.session.link.warnings() == warnings => {
                lease.release();
                return Ok(());
            }
            Ok(Ok(_)) => Fault::Lost("a commit was not waited for".to_owned()),
            Ok(Err(fault)) => fault,
            Err(_) => Fault::Lost("PostgreSQL does not answer in time".to_owned()),
        };
        match fault {
            Fault::Lost(_) => self.pool.note_lost(&fault),
            Fault::Unmet(_) => {
                lease.release();
                return Err(PackError::Exists(pack));
            }
            _ => lease.release(),
        }
        Err(failed(fault.into()))
    }
}

impl PackStore for PostgresPacks {
    fn put<'a>(&'a self, pack: u64, bytes: Vec<Bytes>) -> BoxFuture<'a, Result<(), PackError>> {
        Box::pin(async move {
            let length = bytes.iter().map(Bytes::len).sum();
            if length > Self::PACK_BYTES_MAX {
                let text = format!("a pack of {length} bytes is too large for PostgreSQL");
                return Err(PackError::Unavailable(text));
            }
            let mut data = BytesMut::with_capacity(length);
            for part in bytes {
                data.extend_from_slice(&part);
            }
            self.write(pack, &data).await
        })
    }

    fn read<'a>(&'a self, pack: u64, range: Range<u64>) -> BoxFuture<'a, Result<Bytes, PackError>> {
        Box::pin(async move {
            let part = Part { pack, range };
            let read = self.pool.ask(&part).await.map_err(failed)?;
            read.ok_or(PackError::Missing(pack))
        })
    }

    fn delete<'a>(&'a self, pack: u64) -> BoxFuture<'a, Result<(), PackError>> {
        Box::pin(async move { self.pool.ask(&Delete { pack }).await.map_err(failed) })
    }

    fn list<'a>(
        &'a self,
        after: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<PackInfo>, PackError>> {
        Box::pin(async move { self.pool.ask(&List { after, limit }).await.map_err(failed) })
    }
}

fn failed(error: EngineError) -> PackError {
    match error {
        EngineError::Full(text) => PackError::Full(text),
        other => PackError::Unavailable(other.to_string()),
    }
}

/// The table's number of a pack: in the same order, though PostgreSQL's numbers have a sign.
const fn to_row(pack: u64) -> i64 {
    (pack ^ (1 << 63)) as i64
}

const fn from_row(row: i64) -> u64 {
    (row as u64) ^ (1 << 63)
}

struct Part {
    pack: u64,
    range: Range<u64>,
}

impl Repeatable for Part {
    type Answer = Option<Bytes>;

    async fn ask(&self, session: &mut Session) -> Result<Self::Answer, Fault> {
        // Where the end lies beyond what a value can hold, the sum must not: PostgreSQL adds the two.
        let most = i64::from(i32::MAX) as u64 - 1;
        let from = self.range.start.min(most);
        let length = self.range.end.saturating_sub(from).min(most - from);
        let (from, length) = (from as i32 + 1, length as i32);
        let row = to_row(self.pack);
        let parameters: [&(dyn ToSql + Sync); 3] = [&row, &from, &length];
        let mut rows = pin!(session.query(Query::PackRead, &parameters).await?);
        let mut found = None;
        while let Some(row) = rows.try_next().await? {
            let bytes: &[u8] = row.try_get(0)?;
            found = Some(Bytes::copy_from_slice(bytes));
        }
        Ok(found)
    }
}

struct Delete {
    pack: u64,
}

impl Repeatable for Delete {
    type Answer = ();

    async fn ask(&self, session: &mut Session) -> Result<Self::Answer, Fault> {
        let row = to_row(self.pack);
        session.execute(Query::PackDelete, &[&row]).await?;
        Ok(())
    }
}

struct List {
    after: Option<u64>,
    limit: usize,
}

impl Repeatable for List {
    type Answer = Vec<PackInfo>;

    async fn ask(&self, session: &mut Session) -> Result<Self::Answer, Fault> {
        let Some(from) = self.after.map_or(Some(0), |after| after.checked_add(1)) else {
            return Ok(Vec::new());
        };
        let from = to_row(from);
        let limit = i64::try_from(self.limit).unwrap_or(i64::MAX);
        let mut rows = pin!(session.query(Query::PackList, &[&from, &limit]).await?);
        let mut packs = Vec::new();
        while let Some(row) = rows.try_next().await? {
            let (pack, bytes): (i64, i32) = (row.try_get(0)?, row.try_get(1)?);
            packs.push(PackInfo {
                pack: from_row(pack),
                bytes: bytes.unsigned_abs().into(),
            });
        }
        Ok(packs)
    }
}
