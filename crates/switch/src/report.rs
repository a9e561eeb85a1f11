//! What every delivery status notification needs, whoever writes it (RFC 3461, RFC 3464).

use bytes::Bytes;
use nightmail_commit::NewBlob;
use nightmail_core::Address;
use nightmail_heap::{BlobBuilder, Heap, HeapError};
use nightmail_mime::scan;
use nightmail_smtp::command::{OriginalRecipient, Xtext};

/// The text meant by `xtext`; `None` where it is none.
pub fn decode_xtext(text: &str) -> Option<String> {
    Some(Xtext::parse(text)?.decode())
}

/// An original recipient as a report shows it: `rfc822;a+2Bb@x.test` as `rfc822;a+b@x.test`, and `utf-8` addresses
/// without their escapes (RFC 6533 §3).
pub fn decode_orcpt(orcpt: &str) -> Option<String> {
    let original = OriginalRecipient::parse(orcpt)?;
    Some(format!("{};{}", original.kind(), original.address()))
}

/// Cuts after the blank line that ends the header, and back to the last whole line where there is none.
pub fn header_of(mut head: Vec<u8>) -> Vec<u8> {
    let end = head
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|at| at + 2);
    let end = end.or_else(|| {
        head.iter()
            .rposition(|byte| *byte == b'\n')
            .map(|at| at + 1)
    });
    head.truncate(end.unwrap_or(0));
    head
}

/// Makes the report `bytes` to `to` a blob, with its structure and, for salvage, its envelope.
pub async fn prepare(heap: &Heap, to: &Address, bytes: Vec<u8>) -> Result<NewBlob, HeapError> {
    let (heap, envelope) = (heap.clone(), Bytes::from(format!("<>\n<{to}>\n")));
    let prepared = tokio::task::spawn_blocking(move || {
        let mut builder = BlobBuilder::new(&heap);
        builder.push(&bytes)?;
        let meta = Bytes::from(scan(&bytes).encode());
        Ok::<_, HeapError>(NewBlob {
            blob: builder.finish()?,
            envelope,
            meta,
        })
    })
    .await;
    prepared.map_err(|error| HeapError::Io(error.to_string()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_cut_at_its_blank_line_or_at_its_last_whole_line() {
        assert_eq!(header_of(b"A: b\r\n\r\nbody\r\n".to_vec()), b"A: b\r\n");
        assert_eq!(header_of(b"A: b\r\nC: d".to_vec()), b"A: b\r\n");
        assert_eq!(header_of(b"no line".to_vec()), b"");
    }

    #[test]
    fn original_recipients_are_shown_decoded() {
        for (given, shown) in [
            ("rfc822;a+2Bb@x.test", Some("rfc822;a+b@x.test")),
            ("utf-8;j\\x{F6}rg@x.test", Some("utf-8;jörg@x.test")),
            ("utf-8;jörg@x.test", Some("utf-8;jörg@x.test")),
            ("utf-8;a\\x{zz}", None),
            ("no kind", None),
        ] {
            assert_eq!(decode_orcpt(given).as_deref(), shown, "{given}");
        }
    }
}
