//! The base subject (RFC 5256 §2.1): what stays of a subject when the marks of answers and forwards are taken off.

/// So much of a decoded subject is looked at, in octets.
const SUBJECT_OCTETS_MAX: usize = 4096;

/// A subject without its marks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BaseSubject {
    /// What stays; may be empty.
    pub text: String,
    /// Whether it was marked as an answer or a forward.
    pub is_reply: bool,
}

impl BaseSubject {
    /// Takes the marks off a subject whose encoded-words are decoded.
    pub fn of(decoded: &str) -> Self {
        let text = spaced(decoded);
        let mut base = text.as_str();
        let mut is_reply = false;
        loop {
            base = without_trailers(base, &mut is_reply);
            base = without_leaders(base, &mut is_reply);
            match strip_ends(base, "[fwd:", "]") {
                Some(inner) => {
                    base = inner;
                    is_reply = true;
                }
                None => break,
            }
        }
        Self {
            text: base.to_owned(),
            is_reply,
        }
    }
}

/// With one space wherever there is white space.
fn spaced(text: &str) -> String {
    let mut end = text.len().min(SUBJECT_OCTETS_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut out = String::with_capacity(end);
    let mut after_space = false;
    for c in text.get(..end).unwrap_or_default().chars() {
        let is_space = matches!(c, ' ' | '\t' | '\r' | '\n');
        if !is_space {
            out.push(c);
        } else if !after_space {
            out.push(' ');
        }
        after_space = is_space;
    }
    out
}

/// `*subj-trailer`: white space and `(fwd)`.
fn without_trailers<'a>(text: &'a str, is_reply: &mut bool) -> &'a str {
    let mut rest = text.trim_end_matches(' ');
    while let Some(before) = strip_ends(rest, "", "(fwd)") {
        *is_reply = true;
        rest = before.trim_end_matches(' ');
    }
    rest
}

/// `subj-leader` as often as there is one, and blobs before what is not empty without them.
fn without_leaders<'a>(text: &'a str, is_reply: &mut bool) -> &'a str {
    let mut rest = text.trim_start_matches(' ');
    loop {
        if let Some(after) = after_mark(rest) {
            *is_reply = true;
            rest = after.trim_start_matches(' ');
            continue;
        }
        match after_blob(rest) {
            Some(after) if !after.is_empty() => rest = after,
            _ => return rest,
        }
    }
}

/// `*subj-blob subj-refwd`
fn after_mark(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(after) = after_blob(rest) {
        rest = after;
    }
    let word = ["re", "fwd", "fw"]
        .into_iter()
        .find_map(|word| strip_ends(rest, word, ""))?;
    let word = word.trim_start_matches(' ');
    after_blob(word).unwrap_or(word).strip_prefix(':')
}

/// `subj-blob`: brackets with what is in them, and the white space after them.
fn after_blob(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?;
    let end = inner.find(['[', ']'])?;
    let after = inner.get(end..)?.strip_prefix(']')?;
    Some(after.trim_start_matches(' '))
}

/// Without a beginning and an end, compared without case.
fn strip_ends<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let inner_end = text.len().checked_sub(end.len())?;
    let head = text.get(..start.len())?;
    let tail = text.get(inner_end..)?;
    let fits = head.eq_ignore_ascii_case(start) && tail.eq_ignore_ascii_case(end);
    fits.then(|| text.get(start.len()..inner_end)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn marks_are_taken_off() {
        for (subject, base, is_reply) in [
            ("hello", "hello", false),
            ("Re: hello", "hello", true),
            ("RE:hello", "hello", true),
            ("fwd : Re[2]: [list] hello (fwd) (FWD) ", "hello", true),
            ("[list] Re: [other] hello", "hello", true),
            ("[list] [b] hello", "hello", false),
            ("[list]", "[list]", false),
            ("Re: [list]", "[list]", true),
            ("[Fwd: Re: hello]", "hello", true),
            ("[fwd: [fwd: hello (fwd)] ]", "hello", true),
            ("[fwd: [fwd: hello (fwd)]]", "hello", true),
            ("Fw: a\t\t b", "a b", true),
            ("Re: ", "", true),
            ("Regards: x", "Regards: x", false),
            ("re [a[b]: x", "re [a[b]: x", false),
            ("Re: Re [blob] : x", "x", true),
            ("", "", false),
            ("Re: RÉ: é", "RÉ: é", true),
        ] {
            let found = BaseSubject::of(subject);
            let expected = BaseSubject {
                text: base.into(),
                is_reply,
            };
            assert_eq!(found, expected, "{subject:?}");
        }
    }

    proptest! {
        #[test]
        fn a_base_subject_is_its_own(subject in "(\\[[ab]?\\]|re|fwd?|[: ]|\\(fwd\\)|\\[fwd:|\\]|x|é){0,12}") {
            let base = BaseSubject::of(&subject);
            let again = BaseSubject::of(&base.text);
            prop_assert_eq!(&again.text, &base.text);
            prop_assert!(!again.is_reply);
        }

        #[test]
        fn no_subject_makes_it_panic(subject: String) {
            BaseSubject::of(&subject);
        }
    }
}
