//! The lexical pieces of structured fields (RFC 5322 §3.2): comments, quoted strings, folding white space.
//!
//! Every function takes what is left of a value and returns what it read with what is then left. Nothing fails:
//! an unterminated piece ends with the value.

/// White space in a field value; folds count as such.
pub(crate) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Skips white space.
pub(crate) fn skip_space(input: &[u8]) -> &[u8] {
    let end = input
        .iter()
        .position(|&byte| !is_space(byte))
        .unwrap_or(input.len());
    input.get(end..).unwrap_or_default()
}

/// Skips white space and comments.
pub(crate) fn skip_cfws(mut input: &[u8]) -> &[u8] {
    loop {
        input = skip_space(input);
        match input.first() {
            Some(b'(') => input = comment(input).1,
            _ => return input,
        }
    }
}

/// Without white space at either end.
pub(crate) fn trim(mut input: &[u8]) -> &[u8] {
    input = skip_space(input);
    while let Some((&last, rest)) = input.split_last() {
        if !is_space(last) {
            break;
        }
        input = rest;
    }
    input
}

/// Reads a comment from its opening parenthesis. The content keeps nested parentheses and loses escapes.
pub(crate) fn comment(input: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut content = Vec::new();
    let mut depth = 0usize;
    let mut bytes = input.iter().enumerate();
    while let Some((index, &byte)) = bytes.next() {
        match byte {
            b'\\' => content.extend(bytes.next().map(|(_, &escaped)| escaped)),
            b'(' => {
                if depth > 0 {
                    content.push(byte);
                }
                depth += 1;
            }
            b')' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return (content, input.get(index + 1..).unwrap_or_default());
                }
                content.push(byte);
            }
            b'\r' | b'\n' => {}
            _ => content.push(byte),
        }
    }
    (content, &[])
}

/// Reads a quoted string from its opening quote, without its quoting and folds.
pub(crate) fn quoted(input: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut content = Vec::new();
    let mut bytes = input.iter().enumerate().skip(1);
    while let Some((index, &byte)) = bytes.next() {
        match byte {
            b'"' => return (content, input.get(index + 1..).unwrap_or_default()),
            b'\\' => content.extend(bytes.next().map(|(_, &escaped)| escaped)),
            b'\r' | b'\n' => {}
            _ => content.push(byte),
        }
    }
    (content, &[])
}

/// Splits before the first byte that `stop` names.
pub(crate) fn until(input: &[u8], stop: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = input
        .iter()
        .position(|&byte| stop(byte))
        .unwrap_or(input.len());
    input.split_at_checked(end).unwrap_or((input, &[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_nest_and_lose_escapes() {
        assert_eq!(
            comment(b"(a (b) \\) c) d"),
            (b"a (b) ) c".to_vec(), &b" d"[..])
        );
        assert_eq!(comment(b"(open"), (b"open".to_vec(), &b""[..]));
    }

    #[test]
    fn quoted_strings_lose_quoting_and_folds() {
        assert_eq!(
            quoted(b"\"a\\\"b\r\n c\"x"),
            (b"a\"b c".to_vec(), &b"x"[..])
        );
        assert_eq!(quoted(b"\"open\\"), (b"open".to_vec(), &b""[..]));
    }

    #[test]
    fn cfws_is_skipped_to_the_first_token() {
        assert_eq!(skip_cfws(b" \r\n\t(x) (y(z)) a"), b"a");
        assert_eq!(trim(b" \ta b\r\n"), b"a b");
    }
}
