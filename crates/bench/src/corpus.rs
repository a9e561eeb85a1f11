//! The messages that are sent: a bounded pool of texts made from a seed, each use made unique.
//!
//! Sizes: 70 % between 1.5 and 5 KB, 25 % between 5 and 20 KB, 5 % between 20 and 120 KB, 8.9 KB in the mean.
//! Texts are words of a fixed vocabulary, frequent ones first; the larger half carry a base64 attachment, so that
//! they compress as mail does. A message has its number in its Message-ID and inside each body part, so neither
//! whole messages nor parts repeat.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nightmail_core::Timestamp;

/// Texts in the pool: about 3.6 MB.
const POOL: u64 = 400;
/// Smaller messages are plain text.
const ATTACHMENT_FROM: usize = 10_000;
/// What the two lines that name sender and recipient take, about.
const ENVELOPE_LINES: usize = 64;
/// Width of the place that makes a message unique.
const TOKEN: usize = 16;
const LINE_MAX: usize = 72;
const BOUNDARY: &str = "=_part_7d1f0a";

/// A small generator (SplitMix64) that gives the same numbers for the same seed.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Evenly from `0..bound`; 0 when `bound` is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Evenly from 0 up to, not including, 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// SplitMix64's output step: different inputs give different outputs.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The pool of message texts of one run.
#[derive(Debug)]
pub struct Corpus {
    texts: Vec<Text>,
    nonce: u64,
}

/// A message but for its From and To lines, and where its unique places are.
#[derive(Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    tokens: Vec<usize>,
}

impl Corpus {
    /// Texts that depend on the seed alone. Message-IDs also depend on the time, so that a run never repeats
    /// what an earlier run has sent.
    pub fn new(seed: u64) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let date = Timestamp::from_secs(i64::try_from(now.as_secs()).unwrap_or_default()).rfc5322();
        let mut rng = Rng::new(seed);
        let texts = (0..POOL)
            .map(|index| Text::generate(&mut rng, index, &date))
            .collect();
        let nonce = mix(now.as_nanos() as u64);
        Self { texts, nonce }
    }

    /// Adds lines of words to `out` until they are about `size` bytes.
    pub(crate) fn write_words(rng: &mut Rng, size: usize, out: &mut Vec<u8>) {
        let mut text = Text {
            bytes: std::mem::take(out),
            tokens: Vec::new(),
        };
        let end = text.bytes.len() + size;
        text.words(rng, end);
        *out = text.bytes;
    }

    /// Writes message `number` to `out`, which is cleared first: CRLF line ends, no line starts with a dot.
    pub fn write_message(&self, number: u64, from: &str, to: &str, out: &mut Vec<u8>) {
        out.clear();
        for part in ["From: <", from, ">\r\nTo: <", to, ">\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        let Some(text) = self.texts.get((number * 7 % POOL) as usize) else {
            return;
        };
        let start = out.len();
        out.extend_from_slice(&text.bytes);
        let token = format!("{:016x}", mix(self.nonce.wrapping_add(number)));
        for place in &text.tokens {
            let place = start + place;
            if let Some(place) = out.get_mut(place..place + TOKEN) {
                place.copy_from_slice(token.as_bytes());
            }
        }
    }
}

/// The size of the pool's `index`-th message: each class holds its share of every twenty.
fn draw_size(rng: &mut Rng, index: u64) -> usize {
    let (low, high) = match index % 20 {
        0..14 => (1_500, 5_000),
        14..19 => (5_000, 20_000),
        _ => (20_000, 120_000),
    };
    (low + rng.below(high - low)) as usize
}

impl Text {
    fn generate(rng: &mut Rng, index: u64, date: &str) -> Self {
        let size = draw_size(rng, index).saturating_sub(ENVELOPE_LINES);
        let mut text = Self::default();
        text.header(rng, date);
        if size < ATTACHMENT_FROM {
            text.push("Content-Type: text/plain; charset=utf-8\r\n\r\n");
            text.words(rng, size);
        } else {
            text.multipart(rng, size);
        }
        text
    }

    fn push(&mut self, part: &str) {
        self.bytes.extend_from_slice(part.as_bytes());
    }

    fn token(&mut self) {
        self.tokens.push(self.bytes.len());
        self.push("0000000000000000");
    }

    fn header(&mut self, rng: &mut Rng, date: &str) {
        self.push("Subject: ");
        for _ in 0..3 + rng.below(5) {
            self.push(word(rng));
            self.push(" ");
        }
        self.push("report\r\nDate: ");
        self.push(date);
        self.push("\r\nMessage-ID: <");
        self.token();
        self.push(".bench@mail.example.org>\r\n");
        self.push("User-Agent: Mailer/7.2 (X11; Linux x86_64; rv:115.0) Release/115.9.0\r\n");
        self.push("Content-Language: en-GB\r\nMIME-Version: 1.0\r\n");
    }

    fn multipart(&mut self, rng: &mut Rng, size: usize) {
        let closing = format!("\r\n--{BOUNDARY}--\r\n");
        self.push(&format!(
            "Content-Type: multipart/mixed; boundary=\"{BOUNDARY}\"\r\n\r\n"
        ));
        self.push(&format!(
            "--{BOUNDARY}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
        ));
        self.words(rng, size / 3);
        self.push(&format!(
            "\r\n--{BOUNDARY}\r\nContent-Type: application/pdf\r\n"
        ));
        self.push("Content-Transfer-Encoding: base64\r\n");
        self.push("Content-Disposition: attachment; filename=\"figures.pdf\"\r\n\r\n");
        self.base64(rng, size.saturating_sub(closing.len()));
        self.push(&closing);
    }

    /// Lines of words until the text is `size` bytes long.
    fn words(&mut self, rng: &mut Rng, size: usize) {
        self.push("Reference ");
        self.token();
        self.push(" follows.\r\n");
        let mut line_start = self.bytes.len();
        let mut sentence_left = 6 + rng.below(12);
        while self.bytes.len() + 12 < size {
            self.push(word(rng));
            sentence_left -= 1;
            if sentence_left == 0 {
                self.push(".");
                sentence_left = 6 + rng.below(12);
            }
            if self.bytes.len() - line_start + 12 > LINE_MAX {
                self.push("\r\n");
                line_start = self.bytes.len();
            } else {
                self.push(" ");
            }
        }
        self.push("regards\r\n");
    }

    /// Lines of base64 until the text is `size` bytes long.
    fn base64(&mut self, rng: &mut Rng, size: usize) {
        let first = self.bytes.len();
        while self.bytes.len() + 78 <= size {
            let raw: Vec<u8> = (0..57).map(|_| rng.next() as u8).collect();
            self.push(&STANDARD.encode(raw));
            self.push("\r\n");
        }
        if self.bytes.len() > first {
            self.tokens.push(first);
        }
    }
}

/// A word: the squared draw makes the first ones frequent, as in a language.
fn word(rng: &mut Rng) -> &'static str {
    let count = VOCABULARY.len() as u64;
    let draw = rng.below(count) * rng.below(count) / count;
    VOCABULARY.get(draw as usize).copied().unwrap_or("and")
}

/// Words from the frequent to the rare.
#[rustfmt::skip]
const VOCABULARY: &[&str] = &[
    "the", "and", "to", "of", "a", "in", "that", "is", "for", "it", "we", "you", "on", "with", "this", "be", "as",
    "are", "have", "not", "at", "will", "from", "can", "by", "or", "if", "our", "your", "an", "was", "has", "all",
    "please", "would", "there", "but", "they", "one", "more", "about", "new", "which", "time", "do", "so", "when",
    "up", "out", "what", "my", "any", "been", "should", "some", "their", "also", "work", "week", "only", "need",
    "other", "than", "meeting", "after", "just", "first", "next", "see", "may", "know", "two", "were", "day",
    "project", "who", "could", "like", "now", "report", "send", "into", "how", "then", "make", "back", "these",
    "over", "last", "before", "use", "group", "year", "team", "them", "market", "price", "power", "question",
    "office", "thanks", "today", "call", "change", "list", "date", "tomorrow", "morning", "message", "system",
    "number", "order", "service", "plan", "letter", "point", "people", "case", "state", "under", "between",
    "contract", "schedule", "review", "attached", "draft", "comments", "details", "account", "request", "issue",
    "version", "document", "received", "management", "company", "business", "process", "information", "program",
    "available", "agreement", "discuss", "provide", "include", "current", "following", "possible", "additional",
    "customer", "delivery", "invoice", "payment", "budget", "estimate", "forecast", "quarter", "revenue", "margin",
    "supplier", "warehouse", "shipment", "transport", "harbour", "railway", "bridge", "station", "engineer",
    "machine", "engine", "pressure", "voltage", "circuit", "sensor", "signal", "network", "server", "storage",
    "backup", "password", "printer", "keyboard", "monitor", "library", "garden", "kitchen", "window", "curtain",
    "summer", "winter", "autumn", "spring", "weather", "thunder", "mountain", "valley", "river", "island",
    "holiday", "journey", "airport", "passport", "luggage", "hotel", "museum", "theatre", "concert", "orchestra",
    "violin", "painter", "gallery", "sculpture", "novel", "chapter", "grammar", "sentence", "language",
    "translate", "professor", "student", "lecture", "seminar", "theorem", "formula", "fraction", "average",
    "statistics", "probability", "experiment", "laboratory", "molecule", "protein", "hospital", "medicine",
    "surgery", "insurance", "solicitor", "parliament", "election", "minister", "regulation", "amendment",
    "committee", "resolution", "delegate", "treaty", "frontier", "province", "municipality", "architecture",
    "scaffolding", "concrete", "plaster", "timber", "quarry", "limestone", "furnace", "blacksmith", "carpenter",
    "upholstery", "velvet", "embroidery", "tapestry", "porcelain", "marmalade", "cinnamon", "rhubarb",
    "asparagus", "chrysanthemum",
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn message(corpus: &Corpus, number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        corpus.write_message(number, "bench@example.org", "u0001@example.test", &mut out);
        out
    }

    #[test]
    fn sizes_follow_the_distribution() {
        let corpus = Corpus::new(1);
        let sizes: Vec<usize> = (0..POOL).map(|n| message(&corpus, n).len()).collect();
        let share = |low: usize, high: usize| {
            let within = sizes.iter().filter(|s| (low..high).contains(*s)).count();
            within * 100 / sizes.len()
        };
        assert!((69..=71).contains(&share(1_400, 5_010)), "{sizes:?}");
        assert!((24..=26).contains(&share(5_010, 20_010)), "{sizes:?}");
        assert!((4..=6).contains(&share(20_010, 120_100)), "{sizes:?}");
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!((7_500..=10_500).contains(&mean), "{mean}");
    }

    #[test]
    fn no_two_messages_are_alike() {
        let corpus = Corpus::new(1);
        let seen: HashSet<Vec<u8>> = (0..3 * POOL).map(|n| message(&corpus, n)).collect();
        assert_eq!(seen.len() as u64, 3 * POOL);
    }

    #[test]
    fn parts_of_a_text_used_twice_differ() {
        let corpus = Corpus::new(1);
        let index = (0..POOL)
            .find(|n| message(&corpus, *n).len() > 20_100)
            .unwrap();
        let body = |n| {
            let text = String::from_utf8(message(&corpus, n)).unwrap();
            text.split(BOUNDARY)
                .skip(2)
                .take(2)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let (first, second) = (body(index), body(index + POOL));
        assert_eq!(first.len(), 2);
        for (a, b) in first.iter().zip(&second) {
            assert_eq!(a.len(), b.len());
            assert_ne!(a, b);
        }
    }

    #[test]
    fn messages_need_no_dot_stuffing_and_end_their_lines_with_crlf() {
        let corpus = Corpus::new(7);
        for number in 0..POOL {
            let text = String::from_utf8(message(&corpus, number)).unwrap();
            assert!(text.ends_with("\r\n"));
            assert!(!text.contains("\n."));
            assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
            assert!(text.lines().all(|line| line.len() <= 200));
        }
    }

    #[test]
    fn a_seed_gives_the_same_texts_again() {
        let (a, b, c) = (Corpus::new(5), Corpus::new(5), Corpus::new(6));
        let lengths = |corpus: &Corpus| -> Vec<usize> {
            (0..POOL).map(|n| message(corpus, n).len()).collect()
        };
        assert_eq!(lengths(&a), lengths(&b));
        assert_ne!(lengths(&a), lengths(&c));
    }
}
