//! Proofs that there is nothing, by hashes of names (NSEC3, RFC 5155): without salt and further iterations, and with
//! zones below that nobody vouches for left out, as large zones have it.

use std::collections::{BTreeMap, BTreeSet};

use hickory_proto::dnssec::Nsec3HashAlgorithm;
use hickory_proto::dnssec::rdata::{DNSSECRData, NSEC3};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::zones::{Answering, Zone};

/// The names of a zone by their hashes.
type Hashes = BTreeMap<Vec<u8>, Name>;

impl Answering<'_> {
    /// The records that deny a name, or a type of it. `names` are those of the zone, in order.
    pub(super) fn hashed_proofs(
        &self,
        apex: &Name,
        zone: &Zone,
        names: &[Name],
        name: &Name,
    ) -> Vec<Record> {
        let hashes = self.hashes(apex, names);
        let asked = hash_of(name);
        let mut owners = BTreeSet::new();
        if hashes.contains_key(&asked) {
            owners.insert(asked);
        } else {
            let closest = closest(name, &hashes);
            let next_closer = name.trim_to(usize::from(closest.num_labels()) + 1);
            let wildcard = closest.prepend_label("*").expect("a label more fits");
            owners.insert(hash_of(&closest));
            owners.insert(span_of(&hash_of(&next_closer), &hashes));
            owners.insert(span_of(&hash_of(&wildcard), &hashes));
        }
        let proof = |owner: &Vec<u8>| self.proof(apex, zone, &hashes, owner);
        owners.iter().flat_map(proof).collect()
    }

    fn proof(&self, apex: &Name, zone: &Zone, hashes: &Hashes, owner: &Vec<u8>) -> Vec<Record> {
        let after = (std::ops::Bound::Excluded(owner), std::ops::Bound::Unbounded);
        let next = hashes.range::<Vec<u8>, _>(after).next();
        let next = next.or_else(|| hashes.first_key_value());
        let next = next.expect("a zone has an apex").0;
        let name = hashes.get(owner).unwrap_or(apex);
        let mut kinds = self.kinds(apex, name);
        if !kinds.is_empty() {
            kinds.push(RecordType::RRSIG);
        }
        let record = nsec3(next, kinds);
        // The label is had from a record that names this hash as the next one.
        let label = nsec3(owner, Vec::new());
        let label = label.next_hashed_owner_name_base32().expect("a hash fits");
        let owner = apex.prepend_label(label.as_bytes()).expect("a label fits");
        let data = vec![RData::DNSSEC(DNSSECRData::NSEC3(record))];
        self.signed(apex, zone, &owner.to_lowercase(), data)
    }

    /// The names that the zone speaks for, those that have only names below them included.
    fn hashes(&self, apex: &Name, names: &[Name]) -> Hashes {
        let spoken_for = names.iter().filter(|name| !self.is_left_out(apex, name));
        let mut hashes = Hashes::new();
        for name in spoken_for {
            for labels in apex.num_labels()..=name.num_labels() {
                let above = name.trim_to(labels.into());
                hashes.insert(hash_of(&above), above);
            }
        }
        hashes
    }
}

fn nsec3(next: &[u8], kinds: Vec<RecordType>) -> NSEC3 {
    NSEC3::new(
        Nsec3HashAlgorithm::SHA1,
        true,
        0,
        Vec::new(),
        next.to_vec(),
        kinds,
    )
}

fn hash_of(name: &Name) -> Vec<u8> {
    let hash = Nsec3HashAlgorithm::SHA1.hash(&[], name, 0);
    hash.expect("a name can be hashed").as_ref().to_vec()
}

/// The longest name above this one that the zone speaks for.
fn closest(name: &Name, hashes: &Hashes) -> Name {
    let mut above = name.base_name();
    while !above.is_root() && !hashes.contains_key(&hash_of(&above)) {
        above = above.base_name();
    }
    above
}

/// The hash at which the span begins that this one lies in.
fn span_of(hash: &Vec<u8>, hashes: &Hashes) -> Vec<u8> {
    let before = hashes.range::<Vec<u8>, _>(..hash).next_back();
    let before = before.or_else(|| hashes.last_key_value());
    before.expect("a zone has an apex").0.clone()
}
