//! Header sections as raw bytes: iterating fields, picking some, unfolding (RFC 5322 §2.2).

use memchr::memchr;

use crate::lex;

/// One field of a header section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    /// The name as written, without white space before the colon.
    pub name: &'a [u8],
    /// What follows the colon, folds included, without the last line end.
    pub value: &'a [u8],
    /// The whole field with its last line end, where it has one.
    pub raw: &'a [u8],
    /// Where `raw` begins in the header section, in octets.
    pub offset: usize,
}

impl Field<'_> {
    /// Whether the field has this name, compared without case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// Iterates the fields up to the blank line or the end. Lines that are no field are passed over.
pub const fn fields(header: &[u8]) -> Fields<'_> {
    Fields {
        rest: header,
        offset: 0,
    }
}

/// See [`fields`].
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            let (mut len, line) = first_line(self.rest)?;
            if without_line_end(line).is_empty() {
                self.rest = &[];
                return None;
            }
            while let Some((more, _)) = self.rest.get(len..).and_then(continuation) {
                len += more;
            }
            let (raw, rest) = self.rest.split_at_checked(len)?;
            let offset = self.offset;
            self.rest = rest;
            self.offset += len;
            if let Some(name) = field_name(line) {
                let value = memchr(b':', raw).and_then(|colon| raw.get(colon + 1..));
                return Some(Field {
                    name,
                    value: without_line_end(value.unwrap_or_default()),
                    raw,
                    offset,
                });
            }
        }
    }
}

/// The first line with its line end, and its length.
fn first_line(input: &[u8]) -> Option<(usize, &[u8])> {
    if input.is_empty() {
        return None;
    }
    let len = memchr(b'\n', input).map_or(input.len(), |end| end + 1);
    input.get(..len).map(|line| (len, line))
}

/// The first line, if it continues a field.
fn continuation(input: &[u8]) -> Option<(usize, &[u8])> {
    first_line(input).filter(|(_, line)| is_continuation(line))
}

/// Whether a line begins with white space.
pub(crate) fn is_continuation(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t'))
}

/// The field name a line begins with: visible bytes up to a colon, white space allowed before it.
pub(crate) fn field_name(line: &[u8]) -> Option<&[u8]> {
    let colon = memchr(b':', line)?;
    let mut name = line.get(..colon)?;
    while let [rest @ .., b' ' | b'\t'] = name {
        name = rest;
    }
    let visible = name.iter().all(|&byte| byte > b' ' && byte != 0x7f);
    (visible && !name.is_empty()).then_some(name)
}

/// Without CRLF or LF at the end.
pub(crate) fn without_line_end(line: &[u8]) -> &[u8] {
    match line {
        [rest @ .., b'\r', b'\n'] | [rest @ .., b'\n'] => rest,
        _ => line,
    }
}

/// The value of the first field of this name, as written.
pub fn first<'a>(header: &'a [u8], name: &str) -> Option<&'a [u8]> {
    fields(header)
        .find(|field| field.is(name))
        .map(|field| field.value)
}

/// The value without folds and without white space at either end (RFC 5322 §2.2.3).
pub fn unfold(value: &[u8]) -> Vec<u8> {
    let line = |byte: &u8| !matches!(byte, b'\r' | b'\n');
    lex::trim(value).iter().copied().filter(line).collect()
}

/// `HEADER.FIELDS` and `HEADER.FIELDS.NOT` (RFC 3501 §6.4.5): the named fields, or with `not` all others, in
/// their order and as written, and the blank line.
pub fn pick_fields<N: AsRef<[u8]>>(header: &[u8], names: &[N], not: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields(header) {
        let named = names
            .iter()
            .any(|name| name.as_ref().eq_ignore_ascii_case(field.name));
        if named != not {
            out.extend_from_slice(field.raw);
            if !field.raw.ends_with(b"\n") {
                out.extend_from_slice(b"\r\n");
            }
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// The message ids of a Message-ID, In-Reply-To or References value (RFC 5322 §3.6.4), without angle brackets.
pub fn message_ids(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    std::iter::from_fn(move || {
        let start = memchr(b'<', rest)?;
        let after = rest.get(start + 1..)?;
        let end = memchr(b'>', after)?;
        rest = after.get(end + 1..)?;
        after.get(..end)
    })
    .map(lex::trim)
    .filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] =
        b"From x Mon Jan 1\r\nSubject: a\r\n b\r\nTO : x\nX-Empty:\r\nto:y\r\n\r\nNot: this\r\n";

    #[test]
    fn fields_keep_their_raw_bytes_and_place() {
        let found: Vec<_> = fields(HEADER).collect();
        let names: Vec<_> = found.iter().map(|field| field.name).collect();
        assert_eq!(names, [&b"Subject"[..], b"TO", b"X-Empty", b"to"]);
        assert_eq!(found[0].value, b" a\r\n b");
        assert_eq!(found[0].raw, b"Subject: a\r\n b\r\n");
        assert_eq!(found[1].raw, b"TO : x\n");
        assert_eq!(found[2].value, b"");
        for field in found {
            assert_eq!(&HEADER[field.offset..][..field.raw.len()], field.raw);
        }
    }

    #[test]
    fn picked_fields_keep_their_order_and_end_in_a_blank_line() {
        assert_eq!(
            pick_fields(HEADER, &["To", "subject"], false),
            b"Subject: a\r\n b\r\nTO : x\nto:y\r\n\r\n"
        );
        assert_eq!(
            pick_fields(HEADER, &["To", "subject"], true),
            b"X-Empty:\r\n\r\n"
        );
        assert_eq!(pick_fields(b"A: b", &["a"], false), b"A: b\r\n\r\n");
        assert_eq!(pick_fields(b"A: b", &["c"], false), b"\r\n");
    }

    #[test]
    fn unfolding_drops_line_ends_only() {
        assert_eq!(unfold(b" a\r\n b\t\n\tc \r\n"), b"a b\t\tc");
        assert_eq!(first(HEADER, "TO"), Some(&b" x"[..]));
        assert_eq!(first(HEADER, "Not"), None);
    }

    #[test]
    fn message_ids_lose_their_brackets() {
        let ids: Vec<_> = message_ids(b"<a@b> junk <c@d>\r\n <> < e@f > <open").collect();
        assert_eq!(ids, [&b"a@b"[..], b"c@d", b"e@f"]);
    }
}
