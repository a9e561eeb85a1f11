//! The first words of a message, as a list of messages shows them (RFC 8970).
//!
//! Owns which part is read and what of its text is worth showing. Markup, quoted lines and signatures are not.

use crate::html::character;
use crate::search::decode_text;
use crate::structure::{Part, Structure};

/// Octets of the encoded part that are looked at; what is shown lies at its start.
pub const PREVIEW_SOURCE_OCTETS: u64 = 16 * 1024;
/// Elements whose text nobody sees.
const HIDDEN: [&str; 4] = ["style", "script", "head", "title"];
/// An entity is no longer than this.
const ENTITY_OCTETS_MAX: usize = 10;

/// The part that a preview is made of: the first plain text that is no attachment, else the first other text.
pub fn preview_part(structure: &Structure) -> Option<&Part> {
    let shown = |part: &&Part| {
        let disposition = part.disposition.as_ref();
        part.is_text() && !disposition.is_some_and(|d| d.kind.eq_ignore_ascii_case(b"attachment"))
    };
    let mut texts = structure.parts().filter(shown);
    let first = texts.next()?;
    if is_plain(first) {
        return Some(first);
    }
    Some(texts.find(|part| is_plain(part)).unwrap_or(first))
}

fn is_plain(part: &Part) -> bool {
    part.media.is("text", "plain")
}

/// The first words of a part, at most `chars_max` characters on one line. `raw` is how its body begins in the message.
pub fn preview(part: &Part, raw: &[u8], chars_max: usize) -> String {
    let text = decode_text(part, raw);
    let text = match part.media.is("text", "html") {
        true => strip_markup(&text),
        false => without_quotes(&text),
    };
    first_words(&text, chars_max)
}

/// Without lines that quote another message and without the signature.
fn without_quotes(text: &str) -> String {
    let own = text.lines().take_while(|line| *line != "-- ");
    let mut kept = String::with_capacity(text.len());
    for line in own.filter(|line| !line.starts_with('>')) {
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// Words with one space between them. What a broken end of the text left behind is not shown.
fn first_words(text: &str, chars_max: usize) -> String {
    let visible = |c: &char| {
        !c.is_control() && !matches!(c, '\u{fffd}' | '\u{feff}' | '\u{200b}'..='\u{200f}')
    };
    let mut words = String::new();
    let mut count = 0;
    for word in text.split_whitespace() {
        if count > 0 {
            words.push(' ');
            count += 1;
        }
        for c in word.chars().filter(visible) {
            words.push(c);
            count += 1;
        }
        if count >= chars_max {
            break;
        }
    }
    match words.char_indices().nth(chars_max) {
        Some((end, _)) => words.get(..end).unwrap_or_default().trim_end().to_owned(),
        None => words.trim_end().to_owned(),
    }
}

/// The text of HTML, without what is in tags and comments.
fn strip_markup(html: &str) -> String {
    let mut text = String::with_capacity(html.len() / 2);
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        let (before, marked) = rest.split_at_checked(at).unwrap_or((rest, ""));
        text.push_str(before);
        rest = match marked.starts_with('&') {
            true => entity(marked, &mut text),
            false => tag(marked, &mut text),
        };
    }
    text.push_str(rest);
    text
}

/// What follows a tag or a comment, and an element that is not shown.
fn tag<'a>(marked: &'a str, text: &mut String) -> &'a str {
    if let Some(comment) = marked.strip_prefix("<!--") {
        return comment.split_once("-->").map_or("", |(_, rest)| rest);
    }
    let Some((tag, rest)) = marked.split_once('>') else {
        return "";
    };
    text.push(' ');
    let name = tag.trim_start_matches('<');
    let name = name.split(|c: char| !c.is_ascii_alphanumeric()).next();
    let name = name.unwrap_or_default();
    match HIDDEN
        .iter()
        .find(|hidden| hidden.eq_ignore_ascii_case(name))
    {
        Some(hidden) if !tag.ends_with('/') => after_element(rest, hidden),
        _ => rest,
    }
}

fn after_element<'a>(rest: &'a str, name: &str) -> &'a str {
    let mut rest = rest;
    while let Some((_, after)) = rest.split_once("</") {
        let begins = after.get(..name.len());
        if begins.is_some_and(|begins| begins.eq_ignore_ascii_case(name)) {
            return after.split_once('>').map_or("", |(_, rest)| rest);
        }
        rest = after;
    }
    ""
}

fn entity<'a>(marked: &'a str, text: &mut String) -> &'a str {
    let inner = marked.strip_prefix('&').unwrap_or(marked);
    let end = inner
        .bytes()
        .take(ENTITY_OCTETS_MAX)
        .position(|b| b == b';');
    let named = end.and_then(|end| Some((inner.get(..end)?, inner.get(end + 1..)?)));
    if let Some((name, rest)) = named
        && let Some(c) = character(name)
    {
        text.push(c);
        return rest;
    }
    text.push('&');
    inner
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(message: &str) -> String {
        let structure = crate::scan(message.as_bytes());
        let Some(part) = preview_part(&structure) else {
            return "none".into();
        };
        let raw = &message.as_bytes()[part.body.start as usize..part.body.end as usize];
        preview(part, raw, 20)
    }

    #[test]
    fn quotes_and_signatures_are_not_shown() {
        assert_eq!(
            of("\r\n> old\r\nYes,\r\n please.\r\n-- \r\nJoe\r\n"),
            "Yes, please."
        );
        assert_eq!(of("\r\n\r\n"), "");
    }

    #[test]
    fn text_is_cut_at_a_character() {
        assert_eq!(
            of("Content-Type: text/plain; charset=utf-8\r\n\r\näöü äöü äöü äöü äöü äöü"),
            "äöü äöü äöü äöü äöü"
        );
    }

    #[test]
    fn markup_is_not_shown() {
        let html = "Content-Type: text/html\r\n\r\n<html><head><title>x</title></head><style>p > a {}</STYLE>\
            <!-- <p> --><p class='a'>Tom &amp; Jerry&nbsp;&#33;<br/>&x; 1 < 2";
        assert_eq!(of(html), "Tom & Jerry ! &x; 1");
    }

    #[test]
    fn plain_text_is_preferred_and_attachments_are_not_text() {
        let both = "Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<b>H\r\n\
            --b\r\nContent-Type: text/plain\r\n\r\nplain\r\n--b--\r\n";
        assert_eq!(of(both), "plain");
        let attached = "Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nx";
        assert_eq!(of(attached), "none");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(<|>|&|;|/|!|-|[a-z]|style|head| |é|#x1F;){0,60}") {
            prop_assert!(first_words(&strip_markup(&text), 10).chars().count() <= 10);
        }
    }
}
