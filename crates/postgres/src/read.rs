//! Repeatable rows: by key and in order, each by one statement, so that it sees one state.

use std::collections::BTreeMap;
use std::pin::pin;

use futures_util::TryStreamExt;
use nightmail_engine::{Key, KeyRange, Order, RowKey, Space, Value};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::fault::Fault;
use crate::pool::Repeatable;
use crate::session::Session;
use crate::sql::Query;

/// The values of keys, in their order.
pub(crate) struct GetMany<'a> {
    count: usize,
    /// For each space its keys, and the place of each among all.
    spaces: BTreeMap<Space, (Vec<&'a [u8]>, Vec<usize>)>,
}

impl<'a> GetMany<'a> {
    pub(crate) fn new(keys: impl IntoIterator<Item = &'a RowKey>) -> Self {
        let mut wanted = Self {
            count: 0,
            spaces: BTreeMap::new(),
        };
        for key in keys {
            let (names, places) = wanted.spaces.entry(key.space).or_default();
            names.push(&key.key);
            places.push(wanted.count);
            wanted.count += 1;
        }
        wanted
    }

    /// Where among all keys the one is that the server names by its space and its place there.
    fn place(&self, row: &Row) -> Result<Option<usize>, Fault> {
        let (number, place): (i32, i64) = (row.try_get(0)?, row.try_get(1)?);
        let found = self
            .spaces
            .iter()
            .find(|(space, _)| i32::from(space.number()) == number)
            .zip(usize::try_from(place - 1).ok())
            .and_then(|((_, (_, places)), place)| places.get(place));
        Ok(found.copied())
    }
}

impl Repeatable for GetMany<'_> {
    type Answer = Vec<Option<Value>>;

    async fn ask(&self, session: &mut Session) -> Result<Self::Answer, Fault> {
        let query = Query::get(self.spaces.keys().copied());
        let parameters: Vec<&(dyn ToSql + Sync)> = self
            .spaces
            .values()
            .map(|(names, _)| names as &(dyn ToSql + Sync))
            .collect();
        let mut values = vec![None; self.count];
        let mut rows = pin!(session.query(query, &parameters).await?);
        while let Some(row) = rows.try_next().await? {
            let value = value(&row, 2)?;
            let slot = self.place(&row)?.and_then(|place| values.get_mut(place));
            let unasked = || Fault::Refused("a row that was not asked for".to_owned());
            *slot.ok_or_else(unasked)? = Some(value);
        }
        Ok(values)
    }
}

/// Rows of a range.
pub(crate) struct Scan {
    pub(crate) space: Space,
    pub(crate) range: KeyRange,
    pub(crate) order: Order,
    pub(crate) limit: usize,
}

impl Repeatable for Scan {
    type Answer = Vec<(Key, Value)>;

    async fn ask(&self, session: &mut Session) -> Result<Self::Answer, Fault> {
        let limit = i64::try_from(self.limit).unwrap_or(i64::MAX);
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&self.range.from, &limit];
        if let Some(to) = &self.range.to {
            parameters.push(to);
        }
        let query = Query::Scan(self.space, self.order, self.range.to.is_some());
        let mut rows = pin!(session.query(query, &parameters).await?);
        let mut found = Vec::new();
        while let Some(row) = rows.try_next().await? {
            let key: &[u8] = row.try_get(0)?;
            found.push((key.to_vec(), value(&row, 1)?));
        }
        Ok(found)
    }
}

fn value(row: &Row, column: usize) -> Result<Value, Fault> {
    let bytes: &[u8] = row.try_get(column)?;
    Ok(Value::copy_from_slice(bytes))
}
