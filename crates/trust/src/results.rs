//! The text of Authentication-Results (RFC 8601 §2.2): written folded and quoted, and read back.

use nightmail_mime::header::unfold;

/// The longest value that is written, in characters.
const VALUE_CHARS_MAX: usize = 200;
/// Where a line is folded, in octets.
const LINE_OCTETS: usize = 78;

/// Writes the value of the field. Whatever a value holds, it stays one value.
pub(crate) struct ResultsWriter {
    out: String,
    /// Octets in the last line.
    line: usize,
    methods: usize,
}

impl ResultsWriter {
    pub(crate) fn new(authserv_id: &str) -> Self {
        let id = quoted(authserv_id);
        // The field's name stands before it.
        let line = id.len() + "ARC-Authentication-Results: i=50; ".len();
        Self {
            out: id,
            line,
            methods: 0,
        }
    }

    /// Begins a result. Both are words of ours.
    pub(crate) fn method(&mut self, method: &str, result: &str) -> &mut Self {
        self.methods += 1;
        self.out.push_str(";\r\n\t");
        self.line = 8;
        self.word(&format!("{method}={result}"));
        self
    }

    /// Adds a comment, words of ours.
    pub(crate) fn comment(&mut self, comment: &str) -> &mut Self {
        self.next(&format!("({comment})"));
        self
    }

    /// Adds a reason, words of ours.
    pub(crate) fn reason(&mut self, reason: Option<&str>) -> &mut Self {
        if let Some(reason) = reason {
            self.next(&format!("reason=\"{reason}\""));
        }
        self
    }

    /// Adds a property with any value; an empty one is left out.
    pub(crate) fn property(&mut self, name: &str, value: &str) -> &mut Self {
        if !value.is_empty() {
            self.next(&format!("{name}={}", quoted(value)));
        }
        self
    }

    fn next(&mut self, text: &str) {
        if self.line + 1 + text.len() > LINE_OCTETS {
            self.out.push_str("\r\n\t");
            self.line = 8;
        } else {
            self.out.push(' ');
            self.line += 1;
        }
        self.word(text);
    }

    fn word(&mut self, text: &str) {
        self.out.push_str(text);
        self.line += text.len();
    }

    pub(crate) fn finish(mut self) -> String {
        if self.methods == 0 {
            self.out.push_str("; none");
        }
        self.out
    }
}

/// A value as it may stand in the field: bare where it is a token or an address, else quoted. What is no visible
/// character becomes a question mark.
fn quoted(value: &str) -> String {
    let shown = |c: char| if c.is_control() { '?' } else { c };
    let value: String = value.chars().map(shown).take(VALUE_CHARS_MAX).collect();
    let is_bare = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-^_`{|}~.@:".contains(c);
    if !value.is_empty() && value.chars().all(is_bare) && !value.contains(':') {
        return value;
    }
    let mut out = String::from("\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// Reads such a value.
pub(crate) struct ResultsReader {
    /// Without comments and folds; the parts between semicolons.
    parts: Vec<String>,
}

impl ResultsReader {
    pub(crate) fn new(value: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&unfold(value)).into_owned();
        Self {
            parts: split(&text),
        }
    }

    /// Whether it says that DMARC passed, for this author's domain where it names one.
    pub(crate) fn dmarc_passed(&self, from: &str) -> bool {
        self.parts.iter().any(|part| {
            let mut words = part.split_ascii_whitespace();
            let passed = words.next().is_some_and(|word| {
                let result = word.split_once('=');
                result.is_some_and(|(method, result)| {
                    method.eq_ignore_ascii_case("dmarc") && result.eq_ignore_ascii_case("pass")
                })
            });
            let named = words.find_map(|word| word.strip_prefix("header.from="));
            passed && named.is_none_or(|named| named.eq_ignore_ascii_case(from))
        })
    }
}

/// Splits at semicolons outside quotes and comments; drops both quotes and comments.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut depth, mut in_quotes) = (0usize, false);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let part = match c {
            '\\' if depth > 0 || in_quotes => {
                let escaped = rest.next();
                escaped.filter(|_| depth == 0)
            }
            '"' if depth == 0 => {
                in_quotes = !in_quotes;
                None
            }
            '(' if !in_quotes => {
                depth += 1;
                Some(' ').filter(|_| depth == 1)
            }
            ')' if !in_quotes && depth > 0 => {
                depth -= 1;
                None
            }
            ';' if !in_quotes && depth == 0 => {
                parts.push(String::new());
                None
            }
            c => Some(c).filter(|_| depth == 0),
        };
        if let (Some(c), Some(last)) = (part, parts.last_mut()) {
            last.push(c);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_result_is_written_with_its_properties() {
        let mut writer = ResultsWriter::new("mx.test");
        writer
            .method("spf", "fail")
            .property("smtp.mailfrom", "a@x.test")
            .property("x", "");
        writer
            .method("dmarc", "pass")
            .comment("p=none")
            .property("header.from", "a b");
        assert_eq!(
            writer.finish(),
            "mx.test;\r\n\tspf=fail smtp.mailfrom=a@x.test;\r\n\tdmarc=pass (p=none) header.from=\"a b\""
        );
        assert_eq!(ResultsWriter::new("mx.test").finish(), "mx.test; none");
    }

    #[test]
    fn only_a_plain_pass_for_the_author_counts() {
        for (text, passes) in [
            ("i=1; mx.test; dmarc=pass", true),
            ("i=1; mx.test; DMARC=Pass (p=none) header.from=X.test", true),
            ("mx.test; dmarc=pass header.from=y.test", false),
            (
                "mx.test; dmarc=fail; spf=pass reason=\"; dmarc=pass\"",
                false,
            ),
            ("mx.test; dmarc=fail (; dmarc=pass)", false),
            ("mx.test; spf=pass", false),
        ] {
            let found = ResultsReader::new(text.as_bytes()).dmarc_passed("x.test");
            assert_eq!(found, passes, "{text}");
        }
    }

    proptest! {
        /// Whatever a stranger chooses as a value, the field has the lines and results we gave it, and no more.
        #[test]
        fn no_value_breaks_out(value: String, short in "[;\"()\\\\=\r\n a@]{0,12}") {
            for value in [value, short] {
                let mut writer = ResultsWriter::new("mx.test");
                writer.method("spf", "fail").property("smtp.mailfrom", &value);
                writer.method("dkim", "none");
                let text = writer.finish();
                for line in text.split("\r\n").skip(1) {
                    prop_assert!(line.starts_with('\t'));
                    prop_assert!(!line.trim_start_matches('\t').contains(|c: char| c.is_control()));
                }
                let parts = split(&text);
                prop_assert_eq!(parts.len(), 3);
                prop_assert!(parts[1].trim().starts_with("spf=fail"));
                prop_assert_eq!(parts[2].trim(), "dkim=none");
            }
        }
    }
}
