//! Writing responses (RFC 3501 §7).

use std::borrow::Cow;
use std::fmt::{Display, Write};

use bytes::{BufMut, BytesMut};
use nightmail_core::{Flags, ModSeq, Uid};

use crate::enabled::{Enabled, Extension};
use crate::flag::{FlagList, Keyword, named};
use crate::io::Permitted;
use crate::mutf7;
use crate::name::MailboxName;
use crate::parse::is_atom_char;
use crate::set::UidSet;

/// Writes anything that can be displayed.
pub(crate) fn display(out: &mut BytesMut, value: impl Display) {
    // Writing to memory that grows cannot fail.
    let _ = write!(out, "{value}");
}

/// Writes a number, without the detour of formatting.
pub(crate) fn number(out: &mut BytesMut, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut count = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        count += 1;
        if value == 0 {
            break;
        }
    }
    out.put_slice(digits.get(digits.len() - count..).unwrap_or_default());
}

/// `* 5 EXISTS` and its like.
pub(crate) fn count(out: &mut BytesMut, value: usize, what: &str) {
    out.put_slice(b"* ");
    number(out, value as u64);
    out.put_u8(b' ');
    out.put_slice(what.as_bytes());
    out.put_slice(b"\r\n");
}

/// Flags in parentheses, `\Recent` last.
pub(crate) fn flags(out: &mut BytesMut, list: &FlagList, recent: bool) {
    spaced(out, list.names().chain(recent.then_some("\\Recent")));
}

fn spaced<'a>(out: &mut BytesMut, names: impl Iterator<Item = &'a str>) {
    out.put_u8(b'(');
    for (index, name) in names.enumerate() {
        if index > 0 {
            out.put_u8(b' ');
        }
        out.put_slice(name.as_bytes());
    }
    out.put_u8(b')');
}

/// What an untagged FETCH tells of a message whose flags are new.
pub(crate) struct FlagsNews<'a> {
    /// Its sequence number.
    pub(crate) seq: usize,
    /// Its UID.
    pub(crate) uid: Uid,
    /// Whether the UID is told although nobody asked for it.
    pub(crate) tells_uid: bool,
    /// Its flags; none where only the modification sequence is news.
    pub(crate) flags: Option<&'a FlagList>,
    /// Whether it is `\Recent`.
    pub(crate) recent: bool,
    /// When they changed.
    pub(crate) modseq: ModSeq,
}

/// Begins a FETCH response, or a UIDFETCH response where there are no sequence numbers (RFC 9586 §3.3).
pub(crate) fn fetch_head(out: &mut BytesMut, seq: usize, uid: Uid, enabled: Enabled) {
    out.put_slice(b"* ");
    if enabled.has(Extension::UidOnly) {
        number(out, u64::from(uid.get()));
        out.put_slice(b" UIDFETCH (");
    } else {
        number(out, seq as u64);
        out.put_slice(b" FETCH (");
    }
}

/// `MODSEQ (5)`
pub(crate) fn modseq(out: &mut BytesMut, modseq: ModSeq) {
    out.put_slice(b"MODSEQ (");
    number(out, modseq.get());
    out.put_u8(b')');
}

/// An untagged FETCH with what is new of a message's flags.
pub(crate) fn fetch_flags(out: &mut BytesMut, news: &FlagsNews<'_>, enabled: Enabled) {
    fetch_head(out, news.seq, news.uid, enabled);
    let mut separator: &[u8] = b"";
    // Whoever counts modification sequences is told the UID as well (RFC 7162 §3.1).
    let tells_uid = news.tells_uid || enabled.has(Extension::Condstore);
    if tells_uid && !enabled.has(Extension::UidOnly) {
        out.put_slice(b"UID ");
        number(out, u64::from(news.uid.get()));
        separator = b" ";
    }
    if let Some(list) = news.flags {
        out.put_slice(separator);
        out.put_slice(b"FLAGS ");
        flags(out, list, news.recent && enabled.tells_recent());
        separator = b" ";
    }
    if enabled.has(Extension::Condstore) {
        out.put_slice(separator);
        modseq(out, news.modseq);
    }
    out.put_slice(b")\r\n");
}

/// `* VANISHED 1,3:5` (RFC 7162 §3.2.10); nothing where the set is empty.
pub(crate) fn vanished(out: &mut BytesMut, earlier: bool, uids: &UidSet) {
    if uids.is_empty() {
        return;
    }
    out.put_slice(b"* VANISHED ");
    if earlier {
        out.put_slice(b"(EARLIER) ");
    }
    display(out, format_args!("{uids}\r\n"));
}

/// All system flags and the keywords in use, in parentheses; `more` is put last.
pub(crate) fn all_flags(out: &mut BytesMut, keywords: &[Keyword], more: Option<&str>) {
    let system = Flags::from_bits(u8::MAX);
    spaced(out, named(system, keywords).chain(more));
}

/// FLAGS and PERMANENTFLAGS of a mailbox that can be changed (RFC 3501 §7.2.6, §7.1).
pub(crate) fn flags_in_use(out: &mut BytesMut, keywords: &[Keyword], permitted: Permitted) {
    out.put_slice(b"* FLAGS ");
    all_flags(out, keywords, None);
    out.put_slice(b"\r\n* OK [PERMANENTFLAGS ");
    match permitted.others {
        true => spaced(out, named(permitted.flags(), keywords).chain(Some("\\*"))),
        false => spaced(out, named(permitted.flags(), &[])),
    }
    out.put_slice(b"] Flags permitted\r\n");
}

/// Text that is printable ASCII as a quoted string.
pub(crate) fn quoted(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    for b in text.bytes() {
        if matches!(b, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(if matches!(b, b' '..=b'~') { b } else { b'?' });
    }
    out.put_u8(b'"');
}

/// Printable ASCII as an atom where it is one, else quoted.
pub(crate) fn astring(out: &mut BytesMut, text: &str) {
    if text.is_empty() || text.eq_ignore_ascii_case("NIL") || !text.bytes().all(is_atom_char) {
        return quoted(out, text);
    }
    out.put_slice(text.as_bytes());
}

/// What the modification sequence of the open mailbox stands at (RFC 7162 §3.1.2.1).
pub(crate) fn highest_modseq(out: &mut BytesMut, modseq: ModSeq) {
    display(
        out,
        format_args!("* OK [HIGHESTMODSEQ {modseq}] Highest\r\n"),
    );
}

/// Text as a string: quoted where it may be, else a literal.
pub(crate) fn text(out: &mut BytesMut, text: &str, utf8: bool) {
    let quotable = |c: char| matches!(c, ' '..='~') || utf8 && !c.is_control() && !c.is_ascii();
    if !text.chars().all(quotable) {
        display(out, format_args!("{{{}}}\r\n{text}", text.len()));
        return;
    }
    out.put_u8(b'"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.put_u8(b'\\');
        }
        out.put_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out.put_u8(b'"');
}

/// A mailbox name in its wire form: UTF-8 where the session has enabled that, else modified UTF-7.
pub(crate) fn mailbox(out: &mut BytesMut, name: &MailboxName, utf8: bool) {
    mailbox_text(out, name.as_str(), utf8);
}

/// The same for a name without a mailbox, such as a level above one.
pub(crate) fn mailbox_text(out: &mut BytesMut, name: &str, utf8: bool) {
    if !utf8 || name.is_ascii() {
        let wire = if utf8 {
            Cow::Borrowed(name)
        } else {
            mutf7::encode(name).into()
        };
        return astring(out, &wire);
    }
    out.put_u8(b'"');
    for c in name.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            out.put_u8(b'\\');
        }
        out.put_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out.put_u8(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn strings_are_quoted_where_an_atom_cannot_say_them() {
        assert_eq!(written(|out| astring(out, "INBOX")), "INBOX");
        assert_eq!(written(|out| astring(out, "nil")), "\"nil\"");
        assert_eq!(written(|out| astring(out, "")), "\"\"");
        assert_eq!(written(|out| astring(out, "a \"b\\")), r#""a \"b\\""#);
    }

    proptest! {
        #[test]
        fn numbers_are_written_in_decimal(value: u64) {
            prop_assert_eq!(written(|out| number(out, value)), value.to_string());
        }
    }
}
