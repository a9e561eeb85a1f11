//! The texts of a message, as SEARCH compares them: text parts decoded, headers of messages inside, and of parts.

use bytes::Bytes;
use nightmail_mime::search::decode_text;
use nightmail_mime::{Content, Part, encoded_word, header, html};
use nightmail_store::{Store, StoreError};

use super::super::fetch::Item;

/// So much of one text part is searched.
const TEXT_OCTETS_MAX: u64 = 8 << 20;
/// So much of all texts of a message is searched.
const TEXTS_OCTETS_MAX: u64 = 16 << 20;

/// The texts of a message as they lie in it.
pub(super) struct Texts {
    header: Bytes,
    /// Headers of messages inside.
    headers: Vec<Bytes>,
    /// Headers of parts.
    mime: Vec<Bytes>,
    /// Bodies of text parts, by the place of the part among all.
    bodies: Vec<(usize, Bytes)>,
}

/// The texts of a message as UTF-8.
pub(super) struct Decoded {
    /// Headers of parts: they count as header (RFC 9051 §6.4.4), although they lie in the body.
    pub(super) mime: Vec<String>,
    /// The body.
    pub(super) body: Vec<String>,
}

/// Reads the texts of a message.
pub(super) async fn texts(store: &Store, item: &Item, header: Bytes) -> Result<Texts, StoreError> {
    let mut texts = Texts {
        header,
        headers: Vec::new(),
        mime: Vec::new(),
        bodies: Vec::new(),
    };
    let mut left = TEXTS_OCTETS_MAX;
    let mut of_message = item.structure.root().header.clone();
    for (place, part) in item.structure.parts().enumerate() {
        if part.header != of_message && !part.header.is_empty() {
            let range = item.shifted(&part.header);
            let octets = item.read(store, range, TEXT_OCTETS_MAX.min(left)).await?;
            left = left.saturating_sub(octets.len() as u64);
            texts.mime.push(octets);
        }
        if let Content::Message(message) = &part.content {
            of_message = message.root.header.clone();
        }
        let range = match &part.content {
            Content::Message(message) => &message.root.header,
            Content::Leaf if part.is_text() || is_unopened(part) => &part.body,
            _ => continue,
        };
        let range = item.shifted(range);
        let octets = item.read(store, range, TEXT_OCTETS_MAX.min(left)).await?;
        left = left.saturating_sub(octets.len() as u64);
        match &part.content {
            Content::Message(_) => texts.headers.push(octets),
            _ => texts.bodies.push((place, octets)),
        }
    }
    Ok(texts)
}

impl Texts {
    /// Octets of all texts.
    pub(super) fn octets(&self) -> usize {
        let bodies = self.bodies.iter().map(|(_, octets)| octets);
        let all = self.headers.iter().chain(&self.mime).chain(bodies);
        all.map(Bytes::len).sum()
    }

    /// The message's own header.
    pub(super) fn header(&self) -> &[u8] {
        &self.header
    }

    /// What lies below the message's own header, as UTF-8.
    pub(super) fn decode(&self, item: &Item) -> Decoded {
        Decoded {
            mime: self
                .mime
                .iter()
                .map(|header| decode_header(header))
                .collect(),
            body: self.decode_body(item),
        }
    }

    fn decode_body(&self, item: &Item) -> Vec<String> {
        let headers = self.headers.iter().map(|header| decode_header(header));
        let mut bodies = self.bodies.iter().peekable();
        let parts = item.structure.parts().enumerate();
        let bodies = parts.filter_map(|(place, part): (usize, &Part)| {
            let (_, raw) = bodies.next_if(|(of, _)| *of == place)?;
            Some((part, decode_text(part, raw)))
        });
        let mut texts: Vec<String> = headers.collect();
        for (part, text) in bodies {
            // What a reader sees may be written across tags; what is written is searched as well.
            let seen = part.media.is("text", "html").then(|| html::text_of(&text));
            texts.push(text);
            texts.extend(seen);
        }
        texts
    }
}

/// Whether a part holds others and lies too deep for them to be known: it is searched as it is written.
fn is_unopened(part: &Part) -> bool {
    part.media.is_main("multipart") || part.media.is("message", "rfc822")
}

fn decode_header(octets: &[u8]) -> String {
    let mut text = String::new();
    for field in header::fields(octets) {
        text.push_str(&String::from_utf8_lossy(field.name));
        text.push_str(": ");
        text.push_str(&encoded_word::decode_words(field.value));
        text.push('\n');
    }
    text
}
