//! The rows of the membership and their byte form.

use std::fmt;

use nightmail_core::Timestamp;
use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_engine::{RowKey, Space};

use crate::lease::LeaseName;
use crate::name::{NodeName, Role, Roles};

const VERSION: u8 = 1;

/// What every row of the membership begins with: one scan reads them all, in one state.
pub(crate) const PREFIX: &[u8] = b"cluster/";
const NODE: &[u8] = b"node/";
const BEAT: &[u8] = b"beat/";
const DRAIN: &[u8] = b"drain/";
const LEASE: &[u8] = b"lease/";

/// One life of a node: random, new with every join.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Session(u64);

impl Session {
    /// Wraps a number read from a row or drawn at random.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The number.
    pub(crate) const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// How often a node row or a lease has changed hands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(u64);

impl Epoch {
    /// Wraps a number read from a row.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a session may commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    Live,
    Left,
    Fenced,
}

/// A node row: the fence of its session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NodeRow {
    pub session: Session,
    pub epoch: Epoch,
    pub standing: Standing,
    /// When the session began, by the node's wall clock; for the operator.
    pub started: Timestamp,
    pub version: String,
    pub addresses: String,
    pub roles: Roles,
}

impl NodeRow {
    pub fn key(name: &NodeName) -> RowKey {
        key(NODE, name.as_str())
    }

    pub fn is_live(&self) -> bool {
        self.standing == Standing::Live
    }

    /// This row when its session has ended.
    pub fn ended(&self, standing: Standing) -> Self {
        Self {
            epoch: self.epoch.next(),
            standing,
            ..self.clone()
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.u64(self.session.0).u64(self.epoch.0);
        row.u8(match self.standing {
            Standing::Live => 1,
            Standing::Left => 2,
            Standing::Fenced => 3,
        });
        row.i64(self.started.millis());
        row.str(&self.version).str(&self.addresses);
        row.varint(self.roles.len() as u64);
        for role in &self.roles {
            row.str(role.name());
        }
        row.finish()
    }

    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut row, _) = RowReader::new(row, VERSION)?;
        Ok(Self {
            session: Session(row.u64()?),
            epoch: Epoch(row.u64()?),
            standing: match row.u8()? {
                1 => Standing::Live,
                2 => Standing::Left,
                3 => Standing::Fenced,
                _ => return Err(RowError::Invalid("standing")),
            },
            started: Timestamp::from_millis(row.i64()?),
            version: row.str()?.to_owned(),
            addresses: row.str()?.to_owned(),
            roles: read_roles(&mut row)?,
        })
    }
}

/// A role that this program does not know is passed over: nodes of two versions run side by side during an upgrade.
fn read_roles(row: &mut RowReader<'_>) -> Result<Roles, RowError> {
    let mut roles = Roles::new();
    for _ in 0..row.varint()? {
        roles.extend(row.str()?.parse::<Role>());
    }
    Ok(roles)
}

/// A heartbeat: it differs from the one before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BeatRow {
    pub session: Session,
    pub count: u64,
    /// By the node's wall clock; for the operator.
    pub at: Timestamp,
}

impl BeatRow {
    pub fn key(name: &NodeName) -> RowKey {
        key(BEAT, name.as_str())
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.u64(self.session.0).u64(self.count);
        row.i64(self.at.millis());
        row.finish()
    }

    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut row, _) = RowReader::new(row, VERSION)?;
        Ok(Self {
            session: Session(row.u64()?),
            count: row.u64()?,
            at: Timestamp::from_millis(row.i64()?),
        })
    }
}

/// The wish that a node be emptied: that the row is there says everything.
pub(crate) struct DrainRow;

impl DrainRow {
    pub fn key(name: &NodeName) -> RowKey {
        key(DRAIN, name.as_str())
    }

    pub fn encode() -> Vec<u8> {
        RowWriter::new(VERSION).finish()
    }
}

/// Whom a lease was given to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Holder {
    pub name: NodeName,
    pub session: Session,
}

/// A lease row; `holder` is `None` when the lease was given back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct LeaseRow {
    pub epoch: Epoch,
    pub holder: Option<Holder>,
}

impl LeaseRow {
    pub fn key(name: LeaseName) -> RowKey {
        key(LEASE, &name.to_string())
    }

    /// This lease, given back.
    pub fn freed(&self) -> Self {
        Self {
            epoch: self.epoch,
            holder: None,
        }
    }

    /// This lease in new hands.
    pub fn given_to(&self, holder: Holder) -> Self {
        Self {
            epoch: self.epoch.next(),
            holder: Some(holder),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.u64(self.epoch.0);
        match &self.holder {
            None => row.u8(0),
            Some(holder) => row.u8(1).str(holder.name.as_str()).u64(holder.session.0),
        };
        row.finish()
    }

    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut row, _) = RowReader::new(row, VERSION)?;
        let epoch = Epoch(row.u64()?);
        let holder = match row.u8()? {
            0 => None,
            1 => Some(Holder {
                name: row
                    .str()?
                    .parse()
                    .map_err(|_| RowError::Invalid("holder"))?,
                session: Session(row.u64()?),
            }),
            _ => return Err(RowError::Invalid("holder")),
        };
        Ok(Self { epoch, holder })
    }
}

fn key(kind: &[u8], name: &str) -> RowKey {
    RowKey::new(Space::Meta, [PREFIX, kind, name.as_bytes()].concat())
}

/// What a key of the membership names; `None` for a kind that this program does not know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Node(NodeName),
    Beat(NodeName),
    Drain(NodeName),
    Lease(LeaseName),
}

impl Kind {
    pub fn of(key: &[u8]) -> Option<Self> {
        let key = key.strip_prefix(PREFIX)?;
        let name = |kind: &[u8]| std::str::from_utf8(key.strip_prefix(kind)?).ok();
        let node = |kind: &[u8]| name(kind)?.parse().ok();
        node(NODE)
            .map(Self::Node)
            .or_else(|| node(BEAT).map(Self::Beat))
            .or_else(|| node(DRAIN).map(Self::Drain))
            .or_else(|| LeaseName::parse(name(LEASE)?).map(Self::Lease))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node_name() -> impl Strategy<Value = NodeName> {
        "[a-z][a-z0-9.-]{0,20}".prop_map(|name| name.parse().unwrap())
    }

    prop_compose! {
        fn node_row()(
            session: u64, epoch: u64, standing in 0usize..3, started: i64, version: String, addresses: String,
            roles in proptest::collection::btree_set(0usize..6, 0..6),
        ) -> NodeRow {
            NodeRow {
                session: Session(session),
                epoch: Epoch(epoch),
                standing: [Standing::Live, Standing::Left, Standing::Fenced][standing],
                started: Timestamp::from_millis(started),
                version,
                addresses,
                roles: roles.into_iter().map(|index| Role::ALL[index]).collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn a_node_row_reads_back_and_none_cut_short_does(row in node_row(), cut: proptest::sample::Index) {
            let bytes = row.encode();
            prop_assert!(NodeRow::decode(&bytes[..cut.index(bytes.len())]).is_err());
            prop_assert_eq!(NodeRow::decode(&bytes), Ok(row));
        }

        #[test]
        fn a_beat_reads_back_and_none_cut_short_does(
            session: u64, count: u64, at: i64, cut: proptest::sample::Index,
        ) {
            let row = BeatRow { session: Session(session), count, at: Timestamp::from_millis(at) };
            let bytes = row.encode();
            prop_assert!(BeatRow::decode(&bytes[..cut.index(bytes.len())]).is_err());
            prop_assert_eq!(BeatRow::decode(&bytes), Ok(row));
        }

        #[test]
        fn a_lease_row_reads_back_and_none_cut_short_does(
            epoch: u64,
            holder in proptest::option::of((node_name(), any::<u64>())),
            cut: proptest::sample::Index,
        ) {
            let holder = holder.map(|(name, session)| Holder { name, session: Session(session) });
            let row = LeaseRow { epoch: Epoch(epoch), holder };
            let bytes = row.encode();
            prop_assert!(LeaseRow::decode(&bytes[..cut.index(bytes.len())]).is_err());
            prop_assert_eq!(LeaseRow::decode(&bytes), Ok(row));
        }

        #[test]
        fn no_bytes_make_a_reader_panic(row: Vec<u8>) {
            let _ = (NodeRow::decode(&row), BeatRow::decode(&row), LeaseRow::decode(&row), Kind::of(&row));
        }

        #[test]
        fn a_key_says_what_it_names(name in node_name()) {
            prop_assert_eq!(Kind::of(&NodeRow::key(&name).key), Some(Kind::Node(name.clone())));
            prop_assert_eq!(Kind::of(&BeatRow::key(&name).key), Some(Kind::Beat(name.clone())));
            prop_assert_eq!(Kind::of(&DrainRow::key(&name).key), Some(Kind::Drain(name)));
        }
    }

    #[test]
    fn a_role_of_a_newer_program_is_passed_over() {
        let row = NodeRow {
            session: Session(1),
            epoch: Epoch(1),
            standing: Standing::Live,
            started: Timestamp::default(),
            version: String::new(),
            addresses: String::new(),
            roles: Roles::from([Role::Imap]),
        };
        let mut bytes = row.encode();
        let name = bytes.len() - 4;
        bytes[name..].copy_from_slice(b"jmap");
        assert_eq!(NodeRow::decode(&bytes).unwrap().roles, Roles::new());
    }

    #[test]
    fn every_lease_has_a_key_of_its_own() {
        for name in LeaseName::all() {
            assert_eq!(Kind::of(&LeaseRow::key(name).key), Some(Kind::Lease(name)));
        }
        assert_eq!(Kind::of(b"cluster/lease/queue/x"), None);
        assert_eq!(Kind::of(b"cluster/else/n"), None);
    }
}
