//! The access control list of a mailbox (RFC 4314 §2): who but its owner may do what with it.

use nightmail_core::AccountId;
use nightmail_core::codec::{RowError, RowReader, RowWriter};

use crate::rights::Rights;

const VERSION: u8 = 1;
const ANYONE: u8 = 0;
const ACCOUNT: u8 = 1;

/// Whom an entry is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Grantee {
    /// Every account of the owner's domain.
    Anyone,
    /// One account.
    Account(AccountId),
}

/// An entry of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AclEntry {
    /// Whom it is about.
    pub grantee: Grantee,
    /// Whether the rights are taken away rather than given.
    pub negative: bool,
    /// Which rights; never none.
    pub rights: Rights,
}

/// How an entry changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RightsChange {
    /// These and no others; none removes the entry.
    Set(Rights),
    /// These as well.
    Add(Rights),
    /// These no more.
    Remove(Rights),
}

impl RightsChange {
    fn of(self, rights: Rights) -> Rights {
        match self {
            Self::Set(rights) => rights,
            Self::Add(more) => rights | more,
            Self::Remove(fewer) => rights.without(fewer),
        }
    }
}

/// Who but the owner may do what with a mailbox.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Acl {
    /// The owner's domain, for which [`Grantee::Anyone`] stands; as it was at the last change.
    pub(crate) domain: Box<str>,
    entries: Vec<AclEntry>,
}

impl Acl {
    /// Entries of one list.
    pub const ENTRIES_MAX: usize = 500;

    /// The entries, by whom they are about.
    pub fn entries(&self) -> &[AclEntry] {
        &self.entries
    }

    /// What an account that is not the owner may do. `in_domain`: whether it is of the owner's domain.
    ///
    /// All entries about it are taken together; what one takes away is not there, whatever the others give.
    pub fn rights_of(&self, account: AccountId, in_domain: bool) -> Rights {
        let applies = |entry: &&AclEntry| match entry.grantee {
            Grantee::Anyone => in_domain,
            Grantee::Account(grantee) => grantee == account,
        };
        let (mut given, mut taken) = (Rights::NONE, Rights::NONE);
        for entry in self.entries.iter().filter(applies) {
            match entry.negative {
                true => taken |= entry.rights,
                false => given |= entry.rights,
            }
        }
        given.without(taken)
    }

    /// Changes the entry about `grantee`; says whether there was room for it.
    pub(crate) fn change(
        &mut self,
        grantee: Grantee,
        negative: bool,
        change: RightsChange,
    ) -> bool {
        let key = (grantee, negative);
        match self.entries.binary_search_by_key(&key, place) {
            Ok(at) => {
                if let Some(entry) = self.entries.get_mut(at) {
                    entry.rights = change.of(entry.rights);
                }
            }
            Err(_) if self.entries.len() >= Self::ENTRIES_MAX => return false,
            Err(at) => self.entries.insert(
                at,
                AclEntry {
                    grantee,
                    negative,
                    rights: change.of(Rights::NONE),
                },
            ),
        }
        self.entries.retain(|entry| !entry.rights.is_empty());
        true
    }

    /// Takes out what is about one grantee.
    pub(crate) fn forget(&mut self, grantee: Grantee) {
        self.entries.retain(|entry| entry.grantee != grantee);
    }

    /// Whom it gives something.
    pub(crate) fn grantees(&self) -> impl Iterator<Item = Grantee> {
        let given = self.entries.iter().filter(|entry| !entry.negative);
        given.map(|entry| entry.grantee)
    }

    /// The byte form.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.str(&self.domain).varint(self.entries.len() as u64);
        for entry in &self.entries {
            match entry.grantee {
                Grantee::Anyone => row.u8(ANYONE),
                Grantee::Account(account) => row.u8(ACCOUNT).u64(account.get()),
            };
            row.u8(u8::from(entry.negative))
                .u32(u32::from(entry.rights.bits()));
        }
        row.finish()
    }

    /// Reads the byte form.
    pub(crate) fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut reader, _) = RowReader::new(row, VERSION)?;
        let domain = reader.str()?.into();
        let count = reader.varint()?;
        let entries = (0..count).map(|_| {
            let grantee = match reader.u8()? {
                ANYONE => Grantee::Anyone,
                ACCOUNT => Grantee::Account(AccountId::new(reader.u64()?)),
                _ => return Err(RowError::Invalid("grantee")),
            };
            let negative = reader.u8()? != 0;
            let bits = u16::try_from(reader.u32()?).map_err(|_| RowError::Invalid("rights"))?;
            Ok(AclEntry {
                grantee,
                negative,
                rights: Rights::from_bits(bits),
            })
        });
        let entries = entries.collect::<Result<_, RowError>>()?;
        Ok(Self { domain, entries })
    }
}

fn place(entry: &AclEntry) -> (Grantee, bool) {
    (entry.grantee, entry.negative)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANN: AccountId = AccountId::new(1);
    const BOB: AccountId = AccountId::new(2);

    fn rights(letters: &str) -> Rights {
        Rights::parse(letters).unwrap()
    }

    #[test]
    fn what_is_taken_away_is_not_there_whoever_gives_it() {
        let mut acl = Acl::default();
        let set = |letters| RightsChange::Set(rights(letters));
        assert!(acl.change(Grantee::Anyone, false, set("lr")));
        assert!(acl.change(Grantee::Account(BOB), false, set("sw")));
        assert!(acl.change(Grantee::Account(BOB), true, set("r")));
        assert_eq!(acl.rights_of(BOB, true), rights("lsw"));
        assert_eq!(acl.rights_of(BOB, false), rights("sw"));
        assert_eq!(acl.rights_of(ANN, true), rights("lr"));
        assert_eq!(acl.rights_of(ANN, false), Rights::NONE);
    }

    #[test]
    fn an_entry_without_rights_is_no_entry() {
        let mut acl = Acl::default();
        let bob = Grantee::Account(BOB);
        acl.change(bob, false, RightsChange::Add(rights("lr")));
        acl.change(bob, false, RightsChange::Remove(rights("l")));
        assert_eq!(acl.entries().len(), 1);
        acl.change(bob, false, RightsChange::Remove(rights("rs")));
        assert!(acl.entries().is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(changes in prop::collection::vec((any::<bool>(), 0u64..4, any::<u16>()), 0..20)) {
            let mut acl = Acl { domain: "example.org".into(), ..Acl::default() };
            for (negative, who, bits) in changes {
                let grantee = match who {
                    0 => Grantee::Anyone,
                    id => Grantee::Account(AccountId::new(id)),
                };
                acl.change(grantee, negative, RightsChange::Set(Rights::from_bits(bits)));
            }
            prop_assert_eq!(Acl::decode(&acl.encode()), Ok(acl));
        }

        #[test]
        fn no_bytes_confuse_the_reader(row in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Acl::decode(&row);
        }
    }
}
