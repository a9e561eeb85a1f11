//! The accepted recipients of a transaction, kept as text: a thousand of them take what their paths take.

use std::fmt;

use crate::command::{Rcpt, Syntax};

/// Octets by which the text grows.
const STEP_OCTETS: usize = 1024;

/// Recipients in the order in which they were accepted, with the parameters of RCPT.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Recipients {
    /// The arguments of RCPT, a line each.
    lines: String,
    count: usize,
}

impl Recipients {
    /// Adds one.
    pub fn push(&mut self, rcpt: &Rcpt) {
        let line = line_of(rcpt);
        if self.lines.capacity() - self.lines.len() <= line.len() {
            self.lines.reserve_exact(line.len() + STEP_OCTETS);
        }
        self.lines.push_str(&line);
        self.lines.push('\n');
        self.count += 1;
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Rcpt> {
        let lines = self.lines.lines();
        lines.filter_map(|line| Rcpt::parse(line.as_bytes(), &Syntax::ALL).ok())
    }

    /// Octets that this one would take; nothing where it would not come back as it is, which must not be accepted.
    pub(super) fn octets_of(rcpt: &Rcpt) -> Option<usize> {
        let line = line_of(rcpt);
        let back = Rcpt::parse(line.as_bytes(), &Syntax::ALL);
        (back.as_ref() == Ok(rcpt)).then_some(line.len() + 1)
    }

    /// Octets taken.
    pub(super) const fn octets(&self) -> usize {
        self.lines.len()
    }
}

fn line_of(rcpt: &Rcpt) -> String {
    let mut line = rcpt.to_string();
    line.drain(.."RCPT ".len());
    line
}

impl<'a> FromIterator<&'a Rcpt> for Recipients {
    fn from_iter<I: IntoIterator<Item = &'a Rcpt>>(recipients: I) -> Self {
        let mut out = Self::default();
        for rcpt in recipients {
            out.push(rcpt);
        }
        out
    }
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lines.lines()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_come_back_as_they_were_pushed() {
        let lines = [
            "TO:<Postmaster>",
            r#"TO:<"a b\"c >"@x.test> NOTIFY=NEVER"#,
            "TO:<jörg@x.test> ORCPT=utf-8;jörg@x.test",
            "TO:<a@[IPv6:::1]> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@x.test",
        ];
        let given: Vec<Rcpt> = lines
            .iter()
            .map(|line| Rcpt::parse(line.as_bytes(), &Syntax::ALL).unwrap())
            .collect();
        let kept: Recipients = given.iter().collect();
        assert_eq!(kept.len(), given.len());
        assert_eq!(kept.iter().collect::<Vec<_>>(), given);
    }

    #[test]
    fn a_thousand_recipients_take_what_their_paths_take() {
        let mut kept = Recipients::default();
        for number in 0..1000 {
            let line = format!("TO:<user{number:04}@example.test>");
            kept.push(&Rcpt::parse(line.as_bytes(), &Syntax::ALL).unwrap());
        }
        assert_eq!(kept.octets(), 1000 * 27);
        assert!(kept.lines.capacity() <= kept.octets() + 2 * STEP_OCTETS);
    }
}
