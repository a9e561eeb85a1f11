//! Terms: what events are found by, in the one form in which filters and searches compare it.

use std::fmt::Write;

use xxhash_rust::xxh3::xxh3_64;

use crate::block::EventRef;
use crate::event::Event;

/// The text without angle brackets and space around it.
pub(crate) fn bare(text: &str) -> &str {
    let text = text.trim();
    let inner = text.strip_prefix('<').and_then(|t| t.strip_suffix('>'));
    inner.unwrap_or(text)
}

/// The text up to the longest that is kept.
pub(crate) fn clip(text: &str) -> &str {
    if text.len() <= Event::TEXT_OCTETS_MAX {
        return text;
    }
    let ends = (0..=Event::TEXT_OCTETS_MAX).rev();
    let mut heads = ends.filter_map(|end| text.get(..end));
    heads.next().unwrap_or_default()
}

/// The form in which texts are compared: small letters.
pub(crate) fn fold(text: &str, out: &mut String) {
    if text.is_ascii() {
        out.push_str(text);
        out.make_ascii_lowercase();
    } else {
        out.extend(text.chars().flat_map(char::to_lowercase));
    }
}

/// What a question for `text` looks for: an address, `@domain`, a Message-ID or a queue id.
pub(crate) fn asked(text: &str) -> String {
    let mut term = String::new();
    fold(clip(bare(text)), &mut term);
    term
}

/// What a term is in a filter.
pub(crate) fn hash(term: &str) -> u64 {
    xxh3_64(term.as_bytes())
}

/// Calls `take` with every term that `event` is found by: its addresses and their domains (`@example.org`), its
/// Message-ID and its queue id. `room` is for reuse.
pub(crate) fn each_term(event: &EventRef<'_>, room: &mut String, mut take: impl FnMut(&str)) {
    for address in [event.sender, event.recipient].into_iter().flatten() {
        if address.is_empty() {
            continue;
        }
        room.clear();
        fold(address, room);
        take(room);
        if let Some(domain) = room.rfind('@').and_then(|at| room.get(at..)) {
            take(domain);
        }
    }
    if let Some(id) = event.message_id.filter(|id| !id.is_empty()) {
        room.clear();
        fold(id, room);
        take(room);
    }
    if let Some(id) = event.queue_id {
        room.clear();
        // Writing to a string cannot fail.
        let _ = write!(room, "{id}");
        take(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_case_and_length_make_no_difference() {
        assert_eq!(asked(" <Ann@X.Test> "), "ann@x.test");
        assert_eq!(asked("Ä@Ü.test"), "ä@ü.test");
        let long = "é".repeat(Event::TEXT_OCTETS_MAX);
        assert_eq!(asked(&long).len(), Event::TEXT_OCTETS_MAX);
    }
}
