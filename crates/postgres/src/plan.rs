//! A batch as steps: what is done to which rows, in which order.
//!
//! Steps are ordered by kind, then space, then key, everywhere: two batches that meet on rows which play the same part
//! in both wait for each other and do not deadlock.

use std::collections::BTreeMap;

use nightmail_engine::{Batch, RowKey, Space, Value};
use tokio_postgres::types::ToSql;

use crate::sql::{Query, Step};

/// The steps of a batch.
#[derive(Debug, Default)]
pub(crate) struct Plan<'a> {
    steps: BTreeMap<(Step, Space), Rows<'a>>,
}

/// Arrays of the same length: keys, and what belongs to them.
#[derive(Debug, Default)]
pub(crate) struct Rows<'a> {
    keys: Vec<&'a [u8]>,
    expected: Vec<&'a [u8]>,
    values: Vec<&'a [u8]>,
    count: i64,
}

impl<'a> Plan<'a> {
    /// Plans `batch`, or says which of its checks cannot hold whatever the rows are.
    pub(crate) fn new(batch: &'a Batch) -> Result<Self, &'a RowKey> {
        let mut parts: BTreeMap<&RowKey, Part<'a>> = BTreeMap::new();
        for check in &batch.checks {
            let expected = check.expected.as_ref();
            if check.key.key.len() > RowKey::KEY_BYTES_MAX {
                match expected {
                    Some(_) => return Err(&check.key),
                    None => continue,
                }
            }
            let part = parts.entry(&check.key).or_default();
            if part.expected.is_some_and(|before| before != expected) {
                return Err(&check.key);
            }
            part.expected = Some(expected);
        }
        for write in &batch.writes {
            parts.entry(&write.key).or_default().value = Some(write.value.as_ref());
        }
        let mut plan = Self::default();
        for (key, part) in parts {
            plan.add(key, &part);
        }
        Ok(plan)
    }

    fn add(&mut self, key: &'a RowKey, part: &Part<'a>) {
        match (part.expected, part.value) {
            (Some(Some(old)), Some(Some(new))) if old != new => {
                let rows = self.rows(Step::Update, key);
                rows.expected.push(old);
                rows.values.push(new);
            }
            (Some(Some(old)), Some(None)) => self.rows(Step::Remove, key).expected.push(old),
            (Some(Some(old)), _) => self.rows(Step::Hold, key).expected.push(old),
            (Some(None), Some(Some(new))) => self.rows(Step::Insert, key).values.push(new),
            // A row that is put for a moment keeps others from putting one until the commit.
            (Some(None), _) => {
                self.rows(Step::Insert, key).values.push(&[]);
                self.rows(Step::Delete, key);
            }
            (None, Some(Some(new))) => self.rows(Step::Upsert, key).values.push(new),
            (None, Some(None)) => drop(self.rows(Step::Delete, key)),
            (None, None) => {}
        }
    }

    fn rows(&mut self, step: Step, key: &'a RowKey) -> &mut Rows<'a> {
        let rows = self.steps.entry((step, key.space)).or_default();
        rows.keys.push(&key.key);
        rows.count += 1;
        rows
    }

    /// The statements, in their order.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (Query, Vec<&(dyn ToSql + Sync)>)> {
        self.steps
            .iter()
            .map(|((step, space), rows)| (Query::Step(*step, *space), rows.parameters(*step)))
    }
}

impl Rows<'_> {
    fn parameters(&self, step: Step) -> Vec<&(dyn ToSql + Sync)> {
        match step {
            Step::Update => vec![&self.keys, &self.expected, &self.values, &self.count],
            Step::Remove | Step::Hold => vec![&self.keys, &self.expected, &self.count],
            Step::Insert | Step::Upsert => vec![&self.keys, &self.values],
            Step::Delete => vec![&self.keys],
        }
    }
}

/// What a batch says about one row.
#[derive(Default)]
struct Part<'a> {
    /// What it must hold, if that is checked.
    expected: Option<Option<&'a Value>>,
    /// What it becomes, if it is written: of several writes the last.
    value: Option<Option<&'a Value>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(space: Space, key: &str) -> RowKey {
        RowKey::new(space, key)
    }

    fn value(text: &'static str) -> Option<Value> {
        Some(Value::from_static(text.as_bytes()))
    }

    fn queries(batch: &Batch) -> Vec<(Step, Space, Vec<String>)> {
        let plan = Plan::new(batch).unwrap();
        plan.steps
            .iter()
            .map(|((step, space), rows)| {
                let keys = rows.keys.iter().map(|key| String::from_utf8_lossy(key));
                (*step, *space, keys.map(String::from).collect())
            })
            .collect()
    }

    #[test]
    fn rows_of_a_step_are_in_the_order_of_their_keys_and_steps_in_theirs() {
        let mut batch = Batch::new();
        for key in ["c", "a", "b"] {
            batch.put(row(Space::Message, key), "x");
        }
        batch.check(row(Space::Mailbox, "m"), value("1"));
        batch.put(row(Space::Mailbox, "m"), "2");
        batch.check(row(Space::Account, "u"), value("1"));
        let names = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect::<Vec<_>>();
        let expected = [
            (Step::Update, Space::Mailbox, names(&["m"])),
            (Step::Hold, Space::Account, names(&["u"])),
            (Step::Upsert, Space::Message, names(&["a", "b", "c"])),
        ];
        assert_eq!(queries(&batch), expected);
    }

    #[test]
    fn an_absence_that_is_only_checked_is_a_row_for_a_moment() {
        let mut batch = Batch::new();
        batch.check(row(Space::Blob, "x"), None);
        let names = vec!["x".to_owned()];
        let expected = [
            (Step::Insert, Space::Blob, names.clone()),
            (Step::Delete, Space::Blob, names),
        ];
        assert_eq!(queries(&batch), expected);
    }

    #[test]
    fn the_last_write_of_a_row_counts_and_one_that_changes_nothing_is_a_check() {
        let mut batch = Batch::new();
        let (twice, same) = (row(Space::Link, "twice"), row(Space::Link, "same"));
        batch.put(twice.clone(), "1").delete(twice);
        batch.check(same.clone(), value("v")).put(same, "v");
        let expected = [
            (Step::Hold, Space::Link, vec!["same".to_owned()]),
            (Step::Delete, Space::Link, vec!["twice".to_owned()]),
        ];
        assert_eq!(queries(&batch), expected);
    }

    #[test]
    fn checks_that_contradict_each_other_never_hold() {
        let key = row(Space::Meta, "k");
        let mut batch = Batch::new();
        batch.check(key.clone(), value("1"));
        batch.check(key.clone(), value("1"));
        assert!(Plan::new(&batch).is_ok());
        batch.check(key.clone(), None);
        assert_eq!(Plan::new(&batch).err(), Some(&key));
    }

    #[test]
    fn a_key_that_no_row_can_have_is_absent() {
        let key = RowKey::new(Space::Meta, vec![0; RowKey::KEY_BYTES_MAX + 1]);
        let mut batch = Batch::new();
        batch.check(key.clone(), None);
        assert_eq!(queries(&batch), []);
        batch.check(key.clone(), value("1"));
        assert_eq!(Plan::new(&batch).err(), Some(&key));
    }
}
