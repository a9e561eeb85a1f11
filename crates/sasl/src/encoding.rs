//! Base64 as SASL's protocols carry it (RFC 4648 §4): padded, without line ends.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The text of octets.
pub fn encode(octets: &[u8]) -> String {
    STANDARD.encode(octets)
}

/// The octets of a text. None where it is not exactly what [`encode`] writes.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// The octets of an initial response, where `=` is an empty one (RFC 4954 §4, RFC 4959 §3, RFC 5034 §4).
pub fn decode_initial(text: &str) -> Option<Vec<u8>> {
    match text {
        "=" => Some(Vec::new()),
        text => decode(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_exact_base64_is_read() {
        assert_eq!(decode("YWI="), Some(b"ab".to_vec()));
        assert_eq!(decode(""), Some(Vec::new()));
        for text in ["YWI", "YWJ=", "YW I=", "YWI=\n", "=", "Y", "YW_-"] {
            assert_eq!(decode(text), None, "{text}");
        }
        assert_eq!(decode_initial("="), Some(Vec::new()));
        assert_eq!(decode_initial("YWI="), Some(b"ab".to_vec()));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(octets: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&octets)), Some(octets));
        }
    }
}
