//! ARC (RFC 8617): the chain of those who handled a message, and whether it holds.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use nightmail_dns::Dns;
use nightmail_mime::header::Field;

use crate::canon::Canon;
use crate::dkim::{PARTIAL, check_body, is_partial};
use crate::inspector::{FieldIndex, Inspected};
use crate::key::{KeyError, PublicKey};
use crate::signature::{MessageSignature, Reason, Signed};
use crate::tag_list::TagList;

/// Sets in one chain (RFC 8617 §4.2.1).
pub(crate) const ARC_SETS_MAX: usize = 50;

/// What is said of a chain (RFC 8617 §4.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ArcOutcome {
    /// There is none.
    None,
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// A key could not be looked up now.
    TempError,
}

impl ArcOutcome {
    /// The keyword of Authentication-Results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::TempError => "temperror",
        }
    }
}

/// A chain and what is said of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArcResult {
    /// Whether it holds.
    pub outcome: ArcOutcome,
    /// Why it does not.
    pub reason: Option<&'static str>,
    /// Its sets; 0 where there is no chain.
    pub sets: usize,
    /// Who sealed it, the latest first: only of a chain that holds.
    pub sealers: Vec<String>,
    /// What the latest sealer said before: the chain cannot be mended.
    pub is_closed: bool,
}

impl ArcResult {
    pub(crate) const NONE: Self = Self {
        outcome: ArcOutcome::None,
        reason: None,
        sets: 0,
        sealers: Vec::new(),
        is_closed: false,
    };
}

/// The word in `cv=`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Validation {
    None,
    Pass,
    Fail,
}

/// One ARC-Seal.
struct Seal {
    field: usize,
    signed: Signed,
    validation: Validation,
}

impl Seal {
    fn parse(field: usize, tags: &TagList<'_>) -> Result<Self, Reason> {
        if tags.get("h").is_some() || tags.get("bh").is_some() {
            return Err("seal with a list of fields");
        }
        let validation = match tags.get("cv") {
            Some("none") => Validation::None,
            Some("pass") => Validation::Pass,
            Some("fail") => Validation::Fail,
            _ => return Err("seal without a verdict"),
        };
        let signed = Signed::parse(tags)?;
        Ok(Self {
            field,
            signed,
            validation,
        })
    }
}

/// The three fields of one instance.
#[derive(Default)]
struct ArcSet {
    results: Option<usize>,
    message: Option<(usize, Result<Box<MessageSignature>, Reason>)>,
    seal: Option<Result<Seal, Reason>>,
}

/// The ARC fields of a message.
#[derive(Default)]
pub(crate) struct ArcChain {
    sets: Vec<ArcSet>,
    broken: Option<Reason>,
}

/// The instance in `i=`.
fn instance(text: &str) -> Option<usize> {
    let plain = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let number = plain.then(|| text.parse().ok())??;
    (1..=ARC_SETS_MAX).contains(&number).then_some(number)
}

/// The instance of ARC-Authentication-Results: its first words must be `i=N;`.
fn results_instance(value: &[u8]) -> Option<usize> {
    let end = memchr::memchr(b';', value)?;
    let (name, number) = std::str::from_utf8(value.get(..end)?)
        .ok()?
        .split_once('=')?;
    (name.trim() == "i").then(|| instance(number.trim()))?
}

/// Puts a field into the place it alone may have.
fn fill<T>(place: &mut Option<T>, value: T) -> Result<(), Reason> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err("an instance has two fields of one kind"),
    }
}

impl ArcChain {
    /// Gathers the sets of a header.
    pub(crate) fn find(fields: &[Field<'_>]) -> Self {
        let mut sets = BTreeMap::new();
        let mut broken = None;
        for (index, field) in fields.iter().enumerate() {
            if let Err(reason) = Self::add(&mut sets, index, field) {
                broken = broken.or(Some(reason));
            }
        }
        let complete = sets.keys().copied().eq(1..=sets.len());
        if !complete {
            broken = broken.or(Some("an instance is missing"));
        }
        Self {
            sets: sets.into_values().collect(),
            broken,
        }
    }

    fn add(
        sets: &mut BTreeMap<usize, ArcSet>,
        index: usize,
        field: &Field<'_>,
    ) -> Result<(), Reason> {
        let unknown = "a field without an instance";
        if field.is("arc-authentication-results") {
            let instance = results_instance(field.value).ok_or(unknown)?;
            return fill(&mut sets.entry(instance).or_default().results, index);
        }
        let is_seal = field.is("arc-seal");
        if !is_seal && !field.is("arc-message-signature") {
            return Ok(());
        }
        let tags = TagList::parse(field.value).map_err(|_| "invalid tag list")?;
        let instance = tags.get("i").and_then(instance).ok_or(unknown)?;
        let set: &mut ArcSet = sets.entry(instance).or_default();
        match is_seal {
            true => fill(&mut set.seal, Seal::parse(index, &tags)),
            false => {
                let signature = MessageSignature::arc(&tags).map(Box::new);
                fill(&mut set.message, (index, signature))
            }
        }
    }

    /// The body hash that is needed: that of the latest set.
    pub(crate) fn body(&self) -> Option<(Canon, Option<u64>)> {
        let (_, message) = self.sets.last()?.message.as_ref()?;
        let message = message.as_ref().ok()?;
        Some((message.body_canon, message.length))
    }

    /// How many sets there are.
    pub(crate) fn len(&self) -> usize {
        self.sets.len()
    }

    /// Whether there is no ARC field at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.broken.is_none()
    }

    /// The ARC-Authentication-Results of an instance.
    pub(crate) fn results(&self, instance: usize) -> Option<usize> {
        self.sets.get(instance.checked_sub(1)?)?.results
    }

    /// The fields of every set, in the order in which seals cover them.
    pub(crate) fn fields(&self) -> impl Iterator<Item = usize> {
        self.sets.iter().flat_map(|set| {
            let message = set.message.as_ref().map(|(index, _)| *index);
            let seal = set.seal.as_ref().and_then(|seal| seal.as_ref().ok());
            [set.results, message, seal.map(|seal| seal.field)]
                .into_iter()
                .flatten()
        })
    }

    /// What must hold of the fields themselves (RFC 8617 §5.2, steps 1 to 3).
    fn seals(&self) -> Result<Vec<&Seal>, Reason> {
        if let Some(reason) = self.broken {
            return Err(reason);
        }
        let mut seals = Vec::with_capacity(self.sets.len());
        for (index, set) in self.sets.iter().enumerate() {
            set.results.ok_or("results are missing")?;
            let (_, message) = set.message.as_ref().ok_or("a signature is missing")?;
            message.as_ref().map_err(|reason| *reason)?;
            let seal = set.seal.as_ref().ok_or("a seal is missing")?;
            let seal = seal.as_ref().map_err(|reason| *reason)?;
            match (index, seal.validation) {
                (0, Validation::None) | (1.., Validation::Pass) => seals.push(seal),
                (_, Validation::Fail) => return Err("failed before"),
                _ => return Err("a seal with the wrong verdict"),
            }
        }
        Ok(seals)
    }

    fn is_closed(&self) -> bool {
        let seal = self.sets.last().and_then(|set| set.seal.as_ref());
        seal.and_then(|seal| seal.as_ref().ok())
            .is_some_and(|seal| seal.validation == Validation::Fail)
    }
}

/// What a seal of instance `upto` covers, the earlier sets whole; `upto` is 1 or more.
fn sealed(chain: &ArcChain, index: &FieldIndex<'_>, upto: usize, out: &mut Vec<u8>) {
    let fields: Vec<usize> = chain.fields().take(upto * 3).collect();
    let Some((last, whole)) = fields.split_last() else {
        return;
    };
    for field in whole.iter().filter_map(|field| index.get(*field)) {
        Canon::Relaxed.field(field, out);
    }
    index.unsigned(Canon::Relaxed, *last, out);
}

/// Looks at the chain.
pub(crate) async fn verify(dns: &Dns, inspected: &Inspected, index: &FieldIndex<'_>) -> ArcResult {
    let chain = &inspected.chain;
    if chain.is_empty() {
        return ArcResult::NONE;
    }
    let (outcome, reason, sealers) = match judge(dns, inspected, index).await {
        Ok(sealers) => (ArcOutcome::Pass, None, sealers),
        Err(KeyError::Permanent(reason)) => (ArcOutcome::Fail, Some(reason), Vec::new()),
        Err(KeyError::Temporary(reason)) => (ArcOutcome::TempError, Some(reason), Vec::new()),
    };
    ArcResult {
        outcome,
        reason,
        sets: chain.len(),
        sealers,
        is_closed: chain.is_closed(),
    }
}

/// What is said of a chain that was not looked at to the end in time.
pub(crate) fn undecided(inspected: &Inspected) -> ArcResult {
    match inspected.chain.is_empty() {
        true => ArcResult::NONE,
        false => ArcResult {
            outcome: ArcOutcome::TempError,
            reason: Some("took too long"),
            sets: inspected.chain.len(),
            sealers: Vec::new(),
            is_closed: inspected.chain.is_closed(),
        },
    }
}

async fn judge(
    dns: &Dns,
    inspected: &Inspected,
    index: &FieldIndex<'_>,
) -> Result<Vec<String>, KeyError> {
    let chain = &inspected.chain;
    let seals = chain.seals().map_err(KeyError::Permanent)?;
    let latest = chain.sets.last().and_then(|set| set.message.as_ref());
    let Some((field, Ok(message))) = latest else {
        return Err(KeyError::Permanent("a signature is missing"));
    };
    check_body(message, inspected).map_err(KeyError::Permanent)?;
    if is_partial(message, inspected) {
        return Err(KeyError::Permanent(PARTIAL));
    }
    let signers = seals.iter().rev().map(|seal| &seal.signed);
    let signers: Vec<&Signed> = std::iter::once(&message.signed).chain(signers).collect();
    let mut keys = join_all(signers.iter().map(|signed| PublicKey::find(dns, signed)))
        .await
        .into_iter();
    let mut input = Vec::new();
    index.signed(message.header_canon, &message.headers, &mut input);
    index.unsigned(message.header_canon, *field, &mut input);
    prove(keys.next(), &message.signed, &input, "wrong signature")?;
    for (upto, seal) in seals.iter().enumerate().rev() {
        input.clear();
        sealed(chain, index, upto + 1, &mut input);
        prove(keys.next(), &seal.signed, &input, "wrong seal")?;
    }
    let sealers = seals.iter().rev();
    Ok(sealers
        .map(|seal| seal.signed.domain.as_str().to_owned())
        .collect())
}

fn prove(
    key: Option<Result<PublicKey, KeyError>>,
    signed: &Signed,
    input: &[u8],
    reason: Reason,
) -> Result<(), KeyError> {
    let key = key.unwrap_or(Err(KeyError::Permanent("no key")))?;
    match key.proves(signed, input) {
        true => Ok(()),
        false => Err(KeyError::Permanent(reason)),
    }
}
