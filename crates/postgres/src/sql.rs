//! The statements: their text, and the bounded store of prepared ones that a connection has.
//!
//! Arrays of keys are sorted by the caller, and the planner is told to look them up one after the other (see
//! [`SETTINGS`]), so that statements lock rows in the order of their keys.

use std::collections::HashMap;
use std::fmt::Write;

use nightmail_engine::{Order, Space};
use tokio_postgres::Statement;
use tokio_postgres::types::Type;

/// Prepared statements that a connection keeps.
const STATEMENTS_MAX: usize = 256;

/// True only inside a transaction that [`begin`] has opened, so that no statement of a batch takes effect by itself
/// when its `BEGIN` has failed.
const OPEN: &str = "current_setting('nightmail.batch', true) = 'open'";

/// What a session is set to, where the server knows the setting.
///
/// Plans are made once and by index, whatever the statistics say. The server gives no statement up by itself: a commit
/// given up while it waits for a standby would count as done. A session whose client has vanished ends.
pub(crate) const SETTINGS: [(&str, &str); 17] = [
    ("client_connection_check_interval", "5s"),
    ("default_transaction_isolation", "read committed"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_seqscan", "off"),
    ("idle_in_transaction_session_timeout", "30s"),
    ("idle_session_timeout", "0"),
    ("jit", "off"),
    ("lock_timeout", "0"),
    ("plan_cache_mode", "force_generic_plan"),
    ("statement_timeout", "0"),
    ("tcp_keepalives_count", "3"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_user_timeout", "30s"),
    ("transaction_timeout", "0"),
];

/// The statement that makes the [`SETTINGS`].
pub(crate) fn settings() -> String {
    let wanted: Vec<String> = SETTINGS
        .iter()
        .map(|(name, value)| format!("('{name}', '{value}')"))
        .collect();
    format!(
        "SELECT set_config(s.name, w.value, false) FROM (VALUES {}) AS w(name, value) \
         JOIN pg_settings AS s ON s.name = w.name",
        wanted.join(", ")
    )
}

/// Opens the transaction of a batch.
pub(crate) fn begin(synced: bool) -> &'static str {
    match synced {
        true => "BEGIN; SET LOCAL nightmail.batch = 'open'",
        false => "BEGIN; SET LOCAL nightmail.batch = 'open'; SET LOCAL synchronous_commit = off",
    }
}

/// The table of a space.
pub(crate) fn table(space: Space) -> String {
    format!("nm_{}", space.name())
}

/// What a batch does with rows, in the order in which it does it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Step {
    /// Changes rows that hold what is expected.
    Update,
    /// Deletes rows that hold what is expected.
    Remove,
    /// Keeps rows that hold what is expected as they are until the commit.
    Hold,
    /// Puts rows that there must not be yet.
    Insert,
    /// Puts rows, whether they are there or not.
    Upsert,
    /// Deletes rows, whether they are there or not.
    Delete,
}

/// A statement that can be prepared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Query {
    /// Rows of the spaces whose bits are set: number of the space, place in its array of keys, value.
    Get(u32),
    /// Rows of a space in order; with an end or without.
    Scan(Space, Order, bool),
    /// A step of a batch in a space.
    Step(Step, Space),
    /// Moves a lane on, inside a batch.
    Lane,
    /// Writes the lane, so that a commit reaches the disk.
    Touch,
    /// Writes a pack.
    PackPut,
    /// Reads a part of a pack.
    PackRead,
    /// Deletes a pack.
    PackDelete,
    /// Lists packs.
    PackList,
}

impl Query {
    /// The reading of keys in `spaces`.
    pub(crate) fn get(spaces: impl IntoIterator<Item = Space>) -> Self {
        Self::Get(spaces.into_iter().fold(0, |set, space| set | bit(space)))
    }

    /// The statement and the types of its parameters.
    pub(crate) fn text(self) -> (String, Vec<Type>) {
        match self {
            Self::Get(set) => get(set),
            Self::Scan(space, order, ends) => scan(space, order, ends),
            Self::Step(step, space) => step.text(&table(space)),
            Self::Lane => (
                format!(
                    "WITH done AS (UPDATE nm_lane SET seq = $2, at = now() \
                     WHERE id = $1 AND seq = $2 - 1 AND {OPEN} RETURNING 1) \
                     SELECT 1 / count(*) FROM done"
                ),
                vec![Type::BYTEA, Type::INT8],
            ),
            Self::Touch => (
                "UPDATE nm_lane SET at = now() WHERE id = $1".to_owned(),
                vec![Type::BYTEA],
            ),
            Self::PackPut => (
                "INSERT INTO nm_pack (id, data) VALUES ($1, $2)".to_owned(),
                vec![Type::INT8, Type::BYTEA],
            ),
            Self::PackRead => (
                "SELECT substring(data FROM $2 FOR $3) FROM nm_pack WHERE id = $1".to_owned(),
                vec![Type::INT8, Type::INT4, Type::INT4],
            ),
            Self::PackDelete => (
                "DELETE FROM nm_pack WHERE id = $1".to_owned(),
                vec![Type::INT8],
            ),
            Self::PackList => (
                "SELECT id, octet_length(data) FROM nm_pack WHERE id >= $1 ORDER BY id LIMIT $2"
                    .to_owned(),
                vec![Type::INT8, Type::INT8],
            ),
        }
    }
}

const fn bit(space: Space) -> u32 {
    1 << (space.number() - 1)
}

fn get(set: u32) -> (String, Vec<Type>) {
    let mut text = String::new();
    let mut types = Vec::new();
    for space in Space::ALL
        .into_iter()
        .filter(|&space| set & bit(space) != 0)
    {
        types.push(Type::BYTEA_ARRAY);
        let union = if text.is_empty() { "" } else { " UNION ALL " };
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "{union}SELECT {}::int4, u.place, t.v \
             FROM unnest(${}::bytea[]) WITH ORDINALITY AS u(k, place) \
             JOIN {} AS t ON t.k = u.k",
            space.number(),
            types.len(),
            table(space)
        );
    }
    (text, types)
}

fn scan(space: Space, order: Order, ends: bool) -> (String, Vec<Type>) {
    let direction = match order {
        Order::Ascending => "ASC",
        Order::Descending => "DESC",
    };
    let mut types = vec![Type::BYTEA, Type::INT8];
    let end = match ends {
        true => " AND k < $3",
        false => "",
    };
    if ends {
        types.push(Type::BYTEA);
    }
    let table = table(space);
    let text =
        format!("SELECT k, v FROM {table} WHERE k >= $1{end} ORDER BY k {direction} LIMIT $2");
    (text, types)
}

impl Step {
    fn text(self, table: &str) -> (String, Vec<Type>) {
        // Fails, and the batch with it, unless as many rows were found as are expected.
        let all = |count: &str, found: &str| {
            format!("WITH done AS ({found}) SELECT 1 / (count(*) = {count})::int FROM done")
        };
        let (text, arrays, counted) = match self {
            Self::Update => {
                let update = format!(
                    "UPDATE {table} AS t SET v = u.n \
                     FROM unnest($1::bytea[], $2::bytea[], $3::bytea[]) AS u(k, o, n) \
                     WHERE t.k = u.k AND t.v = u.o AND {OPEN} RETURNING 1"
                );
                (all("$4", &update), 3, true)
            }
            Self::Remove => {
                let delete = format!(
                    "DELETE FROM {table} AS t USING unnest($1::bytea[], $2::bytea[]) AS u(k, o) \
                     WHERE t.k = u.k AND t.v = u.o AND {OPEN} RETURNING 1"
                );
                (all("$3", &delete), 2, true)
            }
            Self::Hold => {
                let hold = format!(
                    "SELECT 1 FROM unnest($1::bytea[], $2::bytea[]) AS u(k, o) \
                     JOIN {table} AS t ON t.k = u.k AND t.v = u.o WHERE {OPEN} FOR SHARE OF t"
                );
                (all("$3", &hold), 2, true)
            }
            Self::Insert => (insert(table), 2, false),
            Self::Upsert => {
                let upsert = insert(table) + " ON CONFLICT (k) DO UPDATE SET v = excluded.v";
                (upsert, 2, false)
            }
            Self::Delete => {
                let delete = format!(
                    "DELETE FROM {table} AS t USING unnest($1::bytea[]) AS u(k) \
                     WHERE t.k = u.k AND {OPEN}"
                );
                (delete, 1, false)
            }
        };
        let mut types = vec![Type::BYTEA_ARRAY; arrays];
        if counted {
            types.push(Type::INT8);
        }
        (text, types)
    }
}

fn insert(table: &str) -> String {
    format!(
        "INSERT INTO {table} (k, v) SELECT u.k, u.v \
         FROM unnest($1::bytea[], $2::bytea[]) AS u(k, v) WHERE {OPEN}"
    )
}

/// The prepared statements of a connection; the one that was not used for longest makes way.
#[derive(Default)]
pub(crate) struct Statements {
    prepared: HashMap<Query, (Statement, u64)>,
    uses: u64,
}

impl Statements {
    pub(crate) fn find(&mut self, query: Query) -> Option<Statement> {
        self.uses += 1;
        let (statement, used) = self.prepared.get_mut(&query)?;
        *used = self.uses;
        Some(statement.clone())
    }

    pub(crate) fn keep(&mut self, query: Query, statement: Statement) {
        if self.prepared.len() >= STATEMENTS_MAX {
            let oldest = self.prepared.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(query) = oldest.map(|(query, _)| *query) {
                self.prepared.remove(&query);
            }
        }
        self.prepared.insert(query, (statement, self.uses));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_names_as_many_parameters_as_it_has_types() {
        let steps = [
            Step::Update,
            Step::Remove,
            Step::Hold,
            Step::Insert,
            Step::Upsert,
            Step::Delete,
        ];
        let mut queries: Vec<Query> = steps
            .into_iter()
            .map(|step| Query::Step(step, Space::Mailbox))
            .collect();
        queries.extend([Query::Lane, Query::Touch, Query::PackPut, Query::PackRead]);
        queries.extend([Query::PackDelete, Query::PackList, Query::get(Space::ALL)]);
        queries.push(Query::Scan(Space::Due, Order::Ascending, true));
        queries.push(Query::Scan(Space::Due, Order::Descending, false));
        for query in queries {
            let (text, types) = query.text();
            for number in 1..=types.len() {
                assert!(text.contains(&format!("${number}")), "{text}");
            }
            assert!(!text.contains(&format!("${}", types.len() + 1)), "{text}");
        }
    }

    #[test]
    fn every_writing_step_needs_an_open_batch() {
        for step in [
            Step::Update,
            Step::Remove,
            Step::Insert,
            Step::Upsert,
            Step::Delete,
        ] {
            assert!(step.text("t").0.contains(OPEN));
        }
        assert!(Query::Lane.text().0.contains(OPEN));
    }

    #[test]
    fn a_reading_joins_the_spaces_it_is_asked_for() {
        let (text, types) = Query::get([Space::Due, Space::Meta, Space::Due]).text();
        assert_eq!(types.len(), 2);
        assert!(text.contains("nm_meta") && text.contains("nm_due"));
        assert_eq!(text.matches("UNION ALL").count(), 1);
    }
}
