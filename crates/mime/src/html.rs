//! What a reader sees of HTML, as plain text, for searching.

/// A longer name of a character is none.
const ENTITY_OCTETS_MAX: usize = 10;
/// Stands for what only tells where words may be parted or joined.
const INVISIBLE: char = '\u{200b}';

/// The text between the tags: tags that end a line or a cell become a space, others nothing; scripts, styles and comments are
/// left out; the commonest character references are read.
pub fn text_of(html: &str) -> String {
    let mut out = String::with_capacity(html.len() / 2);
    let mut rest = html;
    while let Some(at) = memchr::memchr2(b'<', b'&', rest.as_bytes()) {
        let (text, mark) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push_str(text);
        rest = match mark.strip_prefix('<') {
            Some(tag) => after_tag(tag, &mut out),
            None => after_reference(mark, &mut out),
        };
    }
    out.push_str(rest);
    out
}

/// `tag` begins after its angle bracket.
fn after_tag<'a>(tag: &'a str, out: &mut String) -> &'a str {
    if let Some(comment) = tag.strip_prefix("!--") {
        return after(comment, "-->");
    }
    let name_end = tag
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '/')
        .unwrap_or(tag.len());
    let name = tag.get(..name_end).unwrap_or_default();
    if name.is_empty() && !tag.starts_with(['!', '?']) {
        // A bracket that begins no tag is text.
        out.push('<');
        return tag;
    }
    let rest = after(tag, ">");
    for hidden in ["script", "style"] {
        if name.eq_ignore_ascii_case(hidden) {
            return after_end_of(rest, hidden);
        }
    }
    if parts_words(name.trim_matches('/')) {
        out.push(' ');
    }
    rest
}

/// Whether a tag of this name stands between words rather than within one.
fn parts_words(name: &str) -> bool {
    const INLINE: [&str; 16] = [
        "a", "abbr", "b", "big", "code", "em", "font", "i", "mark", "s", "small", "span", "strong",
        "sub", "u", "wbr",
    ];
    !INLINE
        .iter()
        .any(|inline| inline.eq_ignore_ascii_case(name))
}

fn after<'a>(text: &'a str, end: &str) -> &'a str {
    memchr::memmem::find(text.as_bytes(), end.as_bytes())
        .and_then(|at| text.get(at + end.len()..))
        .unwrap_or_default()
}

/// What follows the end tag of an element.
fn after_end_of<'a>(text: &'a str, name: &str) -> &'a str {
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest.as_bytes(), b"</") {
        rest = rest.get(at + 2..).unwrap_or_default();
        if rest
            .get(..name.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(name))
        {
            return after(rest, ">");
        }
    }
    ""
}

/// `text` begins with the ampersand.
fn after_reference<'a>(text: &'a str, out: &mut String) -> &'a str {
    let window = text.as_bytes().get(1..).unwrap_or_default();
    let window = window.get(..ENTITY_OCTETS_MAX).unwrap_or(window);
    let found = memchr::memchr(b';', window).and_then(|end| {
        let name = text.get(1..=end)?;
        Some((character(name)?, text.get(end + 2..)?))
    });
    match found {
        Some((INVISIBLE, rest)) => rest,
        Some((c, rest)) => {
            out.push(c);
            rest
        }
        None => {
            out.push('&');
            text.get(1..).unwrap_or_default()
        }
    }
}

/// The character of an entity, by its name or number.
pub(crate) fn character(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code);
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" | "ensp" | "emsp" | "thinsp" => ' ',
        "shy" | "zwnj" | "zwj" => INVISIBLE,
        "auml" => 'ä',
        "ouml" => 'ö',
        "uuml" => 'ü',
        "Auml" => 'Ä',
        "Ouml" => 'Ö',
        "Uuml" => 'Ü',
        "szlig" => 'ß',
        "agrave" => 'à',
        "aacute" => 'á',
        "acirc" => 'â',
        "ccedil" => 'ç',
        "egrave" => 'è',
        "eacute" => 'é',
        "ecirc" => 'ê',
        "iacute" => 'í',
        "ntilde" => 'ñ',
        "oacute" => 'ó',
        "uacute" => 'ú',
        "ndash" => '–',
        "mdash" => '—',
        "hellip" => '…',
        "lsquo" => '‘',
        "rsquo" => '’',
        "ldquo" => '“',
        "rdquo" => '”',
        "euro" => '€',
        "copy" => '©',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_is_what_is_seen() {
        for (html, text) in [
            ("<b>Nee</b>dle in <i>hay</i>", "Needle in hay"),
            ("one<br>two<p>three", "one two three"),
            ("<style>p { x }</STYLE>seen<!-- not > this -->", "seen"),
            ("<script>if (a < b) {}</script>x", "x"),
            ("a &amp; b&#x20;c &eacute;&bogus; &", "a & b c é&bogus; &"),
            ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
            ("<a href=\"x\">open", "open"),
            ("<!doctype html>x", " x"),
            ("end <b", "end "),
        ] {
            assert_eq!(text_of(html), text, "{html:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(html in "(<|>|&|;|</|script|!--|-->|#x?[0-9]|é|[a-z ]){0,40}") {
            text_of(&html);
        }
    }
}
