//! Filling mailboxes by the quickest honest means: APPEND of many messages at once where the server knows MULTIAPPEND
//! (RFC 3502), else many APPEND commands behind each other.

use std::time::{Duration, Instant};

use super::MailboxArgs;
use super::raw::Raw;
use crate::corpus::{Corpus, Rng};
use crate::error::BenchError;

/// Messages of one round trip.
const GROUP: u64 = 100;
/// Octets of header that a message has beside its text, about.
const HEADER_OCTETS: usize = 420;
/// Every so many messages one holds the rare word.
const RARE_EVERY: u64 = 1000;
/// A word that stands in few texts and in few subjects.
pub(super) const RARE_WORD: &str = "quixotically";

/// Fills the user's mailbox. How long it took.
pub(super) fn fill(args: &MailboxArgs) -> Result<Duration, BenchError> {
    // The mailbox may come into being with the first look at it: not by all connections at once.
    args.login()?.command("SELECT", &args.mailbox)?;
    let began = Instant::now();
    let connections = u64::from(args.load.connections);
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..connections)
            .map(|part| scope.spawn(move || fill_part(args, part, connections)))
            .collect();
        parts.into_iter().try_for_each(|part| match part.join() {
            Ok(filled) => filled,
            Err(_) => Err(BenchError::Unexpected("a connection's thread died".into())),
        })
    })?;
    Ok(began.elapsed())
}

/// Appends each `parts`-th group of messages, beginning with group `part`.
fn fill_part(args: &MailboxArgs, part: u64, parts: u64) -> Result<(), BenchError> {
    let mut raw = args.login()?;
    let mut maker = Maker::new(args, part);
    let groups = args.load.count.div_ceil(GROUP);
    for group in (part..groups).step_by(usize::try_from(parts).unwrap_or(1)) {
        let first = group * GROUP;
        let last = (first + GROUP).min(args.load.count);
        maker.append(&mut raw, &args.mailbox, first..last)?;
    }
    Ok(())
}

/// Makes messages of a given size.
struct Maker {
    rng: Rng,
    octets: usize,
    message: Vec<u8>,
}

impl Maker {
    fn new(args: &MailboxArgs, part: u64) -> Self {
        Self {
            rng: Rng::new(args.load.seed.wrapping_add(part << 32)),
            octets: args.octets as usize,
            message: Vec::new(),
        }
    }

    fn append(
        &mut self,
        raw: &mut Raw,
        mailbox: &str,
        numbers: std::ops::Range<u64>,
    ) -> Result<(), BenchError> {
        let together = raw.can("MULTIAPPEND");
        if together {
            raw.begin(&format!("APPEND {mailbox}"));
        }
        for number in numbers {
            if !together {
                raw.begin(&format!("APPEND {mailbox}"));
            }
            let before = format!(" ({}) \"{}\" ", flags(number), date(number));
            self.make(number);
            raw.literal(&before, &self.message)?;
            if !together {
                raw.end();
            }
        }
        if together {
            raw.end();
        }
        raw.run("APPEND").map(drop)
    }

    /// A message of about the wanted size, with a part of its own in subject and text.
    fn make(&mut self, number: u64) {
        let rare = number % RARE_EVERY == RARE_EVERY - 1;
        let word = if rare { RARE_WORD } else { "ordinary" };
        let message = &mut self.message;
        message.clear();
        let header = format!(
            "From: Sender {from} <s{from}@sender.example.org>\r\nTo: <reader@example.test>\r\nSubject: {word} report {number}\r\nDate: {date}\r\nMessage-ID: <{number}.{unique:016x}@mail.example.org>\r\nUser-Agent: Mailer/7.2 (X11; Linux x86_64)\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nNumber {number}, {word}.\r\n",
            from = number % 97,
            date = header_date(number),
            unique = self.rng.next(),
        );
        message.extend_from_slice(header.as_bytes());
        let size = self.octets.saturating_sub(HEADER_OCTETS);
        Corpus::write_words(&mut self.rng, size, message);
    }
}

/// Flags of a message: nine in ten are read, one in twenty bears a keyword.
fn flags(number: u64) -> &'static str {
    match (number % 10 == 9, number % 20 == 3) {
        (true, _) => "",
        (false, true) => "\\Seen $Important",
        (false, false) => "\\Seen",
    }
}

/// The day of a message, from 1 to 28, and the month's name: they go round in a year of such months.
fn day(number: u64) -> (u64, &'static str) {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let month = MONTHS.get((number / 28 % 12) as usize);
    (number % 28 + 1, month.copied().unwrap_or("Jan"))
}

fn date(number: u64) -> String {
    let (day, month) = day(number);
    format!("{day:2}-{month}-2025 10:00:00 +0000")
}

fn header_date(number: u64) -> String {
    let (day, month) = day(number);
    format!("{day} {month} 2025 10:00:00 +0000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_the_fixed_width_that_imap_wants() {
        for number in 0..400 {
            assert_eq!(date(number).len(), "01-Jan-2025 10:00:00 +0000".len());
        }
        assert_eq!(date(27), "28-Jan-2025 10:00:00 +0000");
        assert_eq!(date(28), " 1-Feb-2025 10:00:00 +0000");
    }

    #[test]
    fn one_message_in_ten_is_unread_and_one_in_twenty_has_a_keyword() {
        let count = |word: &str| (0..1000).filter(|n| flags(*n).contains(word)).count();
        assert_eq!((count("\\Seen"), count("$Important")), (900, 50));
    }
}
