//! Zones that are signed: keys, signatures made as answers go out, and proofs that there is nothing (NSEC; NSEC3 by
//! `hashed`).
//!
//! The root is signed as soon as any zone is, and is the one trust anchor. A name belongs to the zone with the longest
//! apex above it; a zone has a key and is vouched for by the one above, or is delegated without.

use std::collections::{BTreeMap, HashSet};
use std::time::{SystemTime, UNIX_EPOCH};

use hickory_proto::dnssec::crypto::EcdsaSigningKey;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, NSEC, RRSIG, SigInput};
use hickory_proto::dnssec::{Algorithm, DigestType, PublicKey, SigningKey, TBS};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, NS, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, SerialNumber};

use super::{ALIASES_MAX, Table, key_of, wire};

const ALGORITHM: Algorithm = Algorithm::ECDSAP256SHA256;
/// Flags of a key that signs its zone and is vouched for from above.
const KEY_FLAGS: u16 = 257;
const DAY_SECS: u32 = 86_400;

/// What is wrong with the signatures over a name's records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flaw {
    /// They are of something else.
    Forged,
    /// They ended yesterday.
    Expired,
}

/// How a zone is signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Signing {
    Whole,
    /// The zone above vouches for a key, and no signature is given out.
    Stripped,
    /// It signs, and the zone above says that there is no key.
    Island,
    /// The zone above says that there is no key, and it has none.
    None,
}

impl Signing {
    const fn is_vouched_for(self) -> bool {
        matches!(self, Self::Whole | Self::Stripped)
    }

    const fn gives_signatures(self) -> bool {
        matches!(self, Self::Whole | Self::Island)
    }
}

pub(super) struct Zone {
    signing: Signing,
    key: EcdsaSigningKey,
    /// Whether it proves what is not there by hashes of names.
    is_hashed: bool,
}

/// The zones of a server; none until one is signed.
#[derive(Default)]
pub(super) struct Zones {
    zones: BTreeMap<Name, Zone>,
    flaws: BTreeMap<String, Flaw>,
    /// How long records and denials may be kept, in seconds.
    pub(super) ttl_secs: u32,
    pub(super) negative_ttl_secs: u32,
}

impl Zone {
    fn new(signing: Signing) -> Self {
        let pkcs8 = EcdsaSigningKey::generate_pkcs8(ALGORITHM).expect("a key is made");
        let key = EcdsaSigningKey::from_pkcs8(&pkcs8, ALGORITHM).expect("a key that was made");
        Self {
            signing,
            key,
            is_hashed: false,
        }
    }

    fn dnskey(&self) -> DNSKEY {
        let public = self.key.to_public_key().expect("a key has a public half");
        DNSKEY::with_flags(KEY_FLAGS, public)
    }

    fn ds(&self, apex: &Name) -> DS {
        let key = self.dnskey();
        let digest = key.to_digest(apex, DigestType::SHA256).expect("a digest");
        let tag = key.calculate_key_tag().expect("a tag");
        let algorithm = key.public_key().algorithm();
        DS::new(tag, algorithm, DigestType::SHA256, digest.as_ref().to_vec())
    }
}

impl Zones {
    pub(super) fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }

    pub(super) fn add(&mut self, apex: &str, signing: Signing) {
        self.zones
            .entry(Name::root())
            .or_insert_with(|| Zone::new(Signing::Whole));
        if !apex.is_empty() {
            self.zones.insert(wire(apex), Zone::new(signing));
        }
    }

    /// Has a zone prove what is not there by hashes.
    pub(super) fn hash(&mut self, apex: &str) {
        if let Some(zone) = self.zones.get_mut(&wire(apex)) {
            zone.is_hashed = true;
        }
    }

    pub(super) fn spoil(&mut self, name: String, flaw: Flaw) {
        self.flaws.insert(name, flaw);
    }

    /// Signatures are sound again.
    pub(super) fn mend(&mut self, name: &str) {
        self.flaws.remove(name);
    }

    /// The root's key, as a resolver is told to trust it.
    pub(super) fn trust_anchor(&self) -> String {
        let root = self.zones.get(&Name::root()).expect("a zone was signed");
        format!(". {DAY_SECS} IN DNSKEY {}\n", root.dnskey())
    }

    /// The zone that answers about a name: that above for what a zone is vouched for with.
    fn of(&self, name: &Name, kind: RecordType) -> (&Name, &Zone) {
        let zones = self.zones.iter().filter(|(apex, _)| {
            apex.zone_of(name) && (apex.is_root() || kind != RecordType::DS || *apex != name)
        });
        zones
            .max_by_key(|(apex, _)| apex.num_labels())
            .expect("the root is above every name")
    }
}

/// One answer being written.
pub(super) struct Answering<'a> {
    pub(super) table: &'a Table,
    pub(super) zones: &'a Zones,
    /// Whether signatures were asked for.
    pub(super) wants_proof: bool,
}

impl Answering<'_> {
    /// Puts in the records of a name, those of what it is an alias of behind it, or the proven news that there are none.
    pub(super) fn fill(&self, response: &mut Message, asked: &Name, kind: RecordType) {
        let mut name = asked.to_lowercase();
        for _ in 0..ALIASES_MAX {
            let (apex, zone) = self.zones.of(&name, kind);
            let records = self.records(apex, zone, &name, kind);
            if !records.is_empty() {
                response.add_answers(self.signed(apex, zone, &name, records));
                return;
            }
            let Some(target) = self.table.alias(&key_of(&name)) else {
                self.deny(response, apex, zone, &name);
                return;
            };
            let alias = vec![RData::CNAME(CNAME(target.clone()))];
            response.add_answers(self.signed(apex, zone, &name, alias));
            name = target.to_lowercase();
        }
    }

    /// The records of a name in one zone, those that a zone has of itself included.
    fn records(&self, apex: &Name, zone: &Zone, name: &Name, kind: RecordType) -> Vec<RData> {
        let known = self.table.records.get(&(key_of(name), kind));
        if let Some(known) = known.filter(|known| !known.is_empty()) {
            return known.clone();
        }
        let is_apex = name == apex;
        match kind {
            RecordType::DNSKEY if is_apex && zone.signing != Signing::None => {
                vec![RData::DNSSEC(DNSSECRData::DNSKEY(zone.dnskey()))]
            }
            RecordType::NS if is_apex || self.zones.zones.contains_key(name) => {
                vec![RData::NS(NS(wire("ns.test")))]
            }
            RecordType::SOA if is_apex => vec![self.start()],
            RecordType::DS => match self.zones.zones.get(name) {
                Some(child) if !is_apex && child.signing.is_vouched_for() => {
                    vec![RData::DNSSEC(DNSSECRData::DS(child.ds(name)))]
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    fn start(&self) -> RData {
        let (server, person) = (wire("ns.test"), wire("hostmaster.test"));
        let ttl = self.zones.negative_ttl_secs;
        RData::SOA(SOA::new(
            server,
            person,
            1,
            3600,
            600,
            DAY_SECS.cast_signed(),
            ttl,
        ))
    }

    fn deny(&self, response: &mut Message, apex: &Name, zone: &Zone, name: &Name) {
        response.add_authorities(self.signed(apex, zone, apex, vec![self.start()]));
        let names = self.names(apex);
        let exists = names.iter().any(|known| name.zone_of(known));
        if !exists {
            response.metadata.response_code = ResponseCode::NXDomain;
        }
        if self.wants_proof && zone.signing.gives_signatures() {
            let proofs = match zone.is_hashed {
                true => self.hashed_proofs(apex, zone, &names, name),
                false if exists => self.proofs(apex, zone, &names, std::slice::from_ref(name)),
                false => {
                    let wildcard = wildcard_for(name, apex, &names);
                    self.proofs(apex, zone, &names, &[name.clone(), wildcard])
                }
            };
            response.add_authorities(proofs);
        }
    }

    /// For each of the names the record that spans it, once.
    fn proofs(&self, apex: &Name, zone: &Zone, names: &[Name], denied: &[Name]) -> Vec<Record> {
        let mut owners = HashSet::new();
        let mut proofs = Vec::new();
        for name in denied {
            let at = names.partition_point(|known| known <= name);
            let owner = names.get(at.saturating_sub(1)).unwrap_or(apex).clone();
            if !owners.insert(owner.clone()) {
                continue;
            }
            let next = names.get(at).unwrap_or(apex).clone();
            let nsec = NSEC::new_cover_self(next, self.kinds(apex, &owner));
            let nsec = vec![RData::DNSSEC(DNSSECRData::NSEC(nsec))];
            proofs.extend(self.signed(apex, zone, &owner, nsec));
        }
        proofs
    }

    /// The names of a zone that have records, in order; zones below it by their apex alone.
    fn names(&self, apex: &Name) -> Vec<Name> {
        let known = self.table.records.iter();
        let known = known.filter(|(_, records)| !records.is_empty());
        let own = known
            .map(|((name, _), _)| wire(name))
            .filter(|name| self.zones.of(name, RecordType::A).0 == apex);
        let cuts = self.zones.zones.keys().filter(|cut| {
            !cut.is_root() && (*cut == apex || self.zones.of(cut, RecordType::DS).0 == apex)
        });
        let mut names: Vec<Name> = own.chain(cuts.cloned()).chain([apex.clone()]).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The types of record that a zone has of a name, as its denials list them.
    pub(super) fn kinds(&self, apex: &Name, name: &Name) -> Vec<RecordType> {
        if name != apex && self.zones.zones.contains_key(name) {
            let (_, zone) = self.zones.of(name, RecordType::DS);
            let ds = self.records(apex, zone, name, RecordType::DS);
            let ds = (!ds.is_empty()).then_some(RecordType::DS);
            return ds.into_iter().chain([RecordType::NS]).collect();
        }
        let here = key_of(name);
        let known = self.table.records.iter();
        let mut kinds: Vec<RecordType> = known
            .filter(|((known, _), records)| *known == here && !records.is_empty())
            .map(|((_, kind), _)| *kind)
            .collect();
        if name == apex {
            kinds.extend([RecordType::SOA, RecordType::NS, RecordType::DNSKEY]);
        }
        kinds
    }

    /// Whether a name is a zone below that is not vouched for.
    pub(super) fn is_left_out(&self, apex: &Name, name: &Name) -> bool {
        let below = self.zones.zones.get(name).filter(|_| name != apex);
        below.is_some_and(|zone| !zone.signing.is_vouched_for())
    }

    /// A set of records, and the signature over it where one is wanted.
    pub(super) fn signed(
        &self,
        apex: &Name,
        zone: &Zone,
        name: &Name,
        data: Vec<RData>,
    ) -> Vec<Record> {
        let ttl = self.zones.ttl_secs;
        let mut records: Vec<Record> = data
            .into_iter()
            .map(|data| Record::from_rdata(name.clone(), ttl, data))
            .collect();
        if self.wants_proof && zone.signing.gives_signatures() {
            let signature = self.signature(apex, zone, name, &records);
            records.push(signature);
        }
        records
    }

    fn signature(&self, apex: &Name, zone: &Zone, name: &Name, records: &[Record]) -> Record {
        let flaw = self.zones.flaws.get(&key_of(name)).copied();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs()) as u32;
        let (since, until) = match flaw {
            Some(Flaw::Expired) => (now - 2 * DAY_SECS, now - DAY_SECS),
            _ => (now - DAY_SECS, now + DAY_SECS),
        };
        let kind = records
            .first()
            .map_or(RecordType::NULL, Record::record_type);
        let input = SigInput {
            type_covered: kind,
            algorithm: ALGORITHM,
            num_labels: name.num_labels(),
            original_ttl: self.zones.ttl_secs,
            sig_expiration: SerialNumber::new(until),
            sig_inception: SerialNumber::new(since),
            key_tag: zone.dnskey().calculate_key_tag().expect("a tag"),
            signer_name: apex.clone(),
        };
        let signed = TBS::from_input(name, DNSClass::IN, &input, records.iter()).expect("a set");
        let mut signature = zone.key.sign(&signed).expect("a signature");
        if flaw == Some(Flaw::Forged)
            && let Some(octet) = signature.last_mut()
        {
            *octet ^= 1;
        }
        let signature = DNSSECRData::RRSIG(RRSIG::from_sig(input, signature));
        Record::from_rdata(name.clone(), self.zones.ttl_secs, RData::DNSSEC(signature))
    }
}

/// The wildcard that could have answered for a name: below the closest name above it that is there.
fn wildcard_for(name: &Name, apex: &Name, names: &[Name]) -> Name {
    let is_there =
        |above: &Name| apex.zone_of(above) && names.iter().any(|known| above.zone_of(known));
    let closest = (0..name.num_labels())
        .rev()
        .map(|labels| name.trim_to(labels.into()))
        .find(is_there)
        .unwrap_or_else(|| apex.clone());
    closest.prepend_label("*").expect("a label more fits")
}
