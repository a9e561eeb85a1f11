//! What was promised, compared with what hosts have and what the sender was told.

use std::collections::{HashMap, HashSet};

use nightmail_bench::{Fate, Kept};

use crate::common::{Imap, Service, text};
use crate::world::World;

/// Broken promises that are shown.
const SHOWN_MAX: usize = 20;

/// How many recipients of accepted messages ended how.
#[derive(Debug, Default)]
pub struct Reckoning {
    pub delivered: usize,
    pub bounced: usize,
    /// Copies beyond the first of a recipient whose earlier copies were never answered for whole.
    pub repeated: usize,
    /// Copies beyond the first of a recipient that had been answered for in an earlier life of the server.
    pub repeated_after_kill: usize,
    /// Of those that were sent again, the most copies that had been kept after one of them in the same life.
    pub furthest: usize,
}

/// A copy, and how many more were kept after it in the same life of the server.
struct Copy {
    kept: Kept,
    later: usize,
}

/// The copies of each recipient, in order.
fn copies(world: &World) -> HashMap<String, Vec<Copy>> {
    let kept = world.kept.kept();
    let mut ends: HashMap<u32, usize> = HashMap::new();
    for (place, kept) in kept.iter().enumerate() {
        ends.insert(kept.epoch, place);
    }
    let mut copies: HashMap<String, Vec<Copy>> = HashMap::new();
    for (place, kept) in kept.into_iter().enumerate() {
        let later = ends[&kept.epoch] - place;
        let of_recipient = copies.entry(kept.recipient.to_string()).or_default();
        of_recipient.push(Copy { kept, later });
    }
    copies
}

/// Compares everything; the queue must be empty. Panics where a promise is broken.
pub fn reckon(world: &World) -> Reckoning {
    let copies = copies(world);
    let bounced = bounced(world);
    let mut reckoning = Reckoning::default();
    let mut broken = Vec::new();
    for (recipient, copies) in &copies {
        broken.extend(reckoning.repeats(recipient, copies));
        if bounced.contains(recipient) && copies.iter().any(|copy| copy.kept.answered) {
            broken.push(format!("{recipient} was delivered, and reported as failed"));
        }
    }
    for offered in world.offered.offered() {
        for recipient in &offered.recipients {
            let delivered = copies.contains_key(recipient);
            let reported = bounced.contains(recipient);
            match offered.fate {
                Fate::Accepted if !delivered && !reported => {
                    broken.push(format!("{recipient} was accepted and is lost"));
                }
                Fate::Accepted if delivered => reckoning.delivered += 1,
                Fate::Accepted => reckoning.bounced += 1,
                Fate::Refused | Fate::Broken if delivered || reported => {
                    broken.push(format!(
                        "{recipient} was {:?} and went out nevertheless",
                        offered.fate
                    ));
                }
                Fate::Refused | Fate::Broken | Fate::Unknown => {}
            }
        }
    }
    let shown = &broken[..broken.len().min(SHOWN_MAX)];
    assert!(
        broken.is_empty(),
        "{} promises broken, {reckoning:?}:\n{}",
        broken.len(),
        shown.join("\n")
    );
    reckoning
}

impl Reckoning {
    /// Counts what was sent again; what must not have been.
    fn repeats(&mut self, recipient: &str, copies: &[Copy]) -> Option<String> {
        for pair in copies.windows(2) {
            let [earlier, later] = pair else { continue };
            if !earlier.kept.answered {
                self.repeated += 1;
            } else if earlier.kept.epoch < later.kept.epoch {
                self.repeated_after_kill += 1;
                self.furthest = self.furthest.max(earlier.later);
            } else {
                let kept: Vec<_> = copies.iter().map(|copy| &copy.kept).collect();
                return Some(format!(
                    "{recipient} was sent again after a whole reply: {kept:?}"
                ));
            }
        }
        None
    }
}

/// The recipients that alice was told have failed.
fn bounced(world: &World) -> HashSet<String> {
    let address = world.site.address(Service::Imap);
    let mut imap = Imap::open(address, "alice", "demo", "INBOX").unwrap();
    let reports = imap.bodies("").unwrap();
    let mut bounced = HashSet::new();
    for (_, report) in &reports {
        let report = text(report);
        assert!(report.contains("report-type=delivery-status"), "{report}");
        let mut recipient = None;
        for line in report.lines() {
            if let Some(named) = line.strip_prefix("Final-Recipient: rfc822; ") {
                recipient = Some(named.trim().to_owned());
            }
            if line.trim_end() == "Action: failed" {
                bounced.extend(recipient.take());
            }
        }
    }
    bounced
}
