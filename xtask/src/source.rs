//! Rust sources as text: comments and literals blanked, tests cut out, functions measured.

use std::ops::Range;

/// A copy in which comments, strings and character literals are blanks. Lines keep their numbers.
pub(crate) fn code_of(source: &str) -> Vec<char> {
    let mut text: Vec<char> = source.chars().collect();
    let mut at = 0;
    while at < text.len() {
        let end = skip_end(&text, at);
        if end > at {
            blank(&mut text, at..end);
            at = end;
        } else {
            at += 1;
        }
    }
    text
}

/// Where the comment or literal that starts at `at` ends; `at` itself when none starts there.
fn skip_end(text: &[char], at: usize) -> usize {
    match (char_at(text, at), char_at(text, at + 1)) {
        ('/', '/') => find(text, at, "\n"),
        ('/', '*') => block_comment_end(text, at),
        ('"', _) => string_end(text, at + 1),
        ('r', '"' | '#') if !word_before(text, at) || raw_prefix(text, at) => raw_end(text, at),
        ('\'', _) => char_end(text, at),
        _ => at,
    }
}

fn char_at(text: &[char], at: usize) -> char {
    text.get(at).copied().unwrap_or('\0')
}

fn word_before(text: &[char], at: usize) -> bool {
    at > 0 && is_word(char_at(text, at - 1))
}

/// Whether the `r` at `at` belongs to `br"` or `cr"`.
fn raw_prefix(text: &[char], at: usize) -> bool {
    let before = at.wrapping_sub(1);
    matches!(char_at(text, before), 'b' | 'c') && !word_before(text, before)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `what` next starts; the text's end when it does not.
fn find(text: &[char], from: usize, what: &str) -> usize {
    let what: Vec<char> = what.chars().collect();
    let rest = text.get(from..).unwrap_or_default();
    let found = rest.windows(what.len()).position(|window| window == what);
    found.map_or(text.len(), |at| from + at)
}

fn block_comment_end(text: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < text.len() {
        match (char_at(text, at), char_at(text, at + 1)) {
            ('/', '*') => {
                depth += 1;
                at += 2;
            }
            ('*', '/') => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    text.len()
}

fn string_end(text: &[char], mut at: usize) -> usize {
    while at < text.len() {
        match char_at(text, at) {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// The end of a raw string; `at` itself when it is a raw identifier.
fn raw_end(text: &[char], at: usize) -> usize {
    let rest = text.get(at + 1..).unwrap_or_default();
    let hashes = rest.iter().take_while(|c| **c == '#').count();
    if char_at(text, at + 1 + hashes) != '"' {
        return at;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let end = find(text, at + 2 + hashes, &close) + close.len();
    end.min(text.len())
}

/// The end of a character literal; `at` itself when it is a lifetime.
fn char_end(text: &[char], at: usize) -> usize {
    if char_at(text, at + 1) == '\\' {
        return (find(text, at + 3, "'") + 1).min(text.len());
    }
    match char_at(text, at + 2) {
        '\'' => at + 3,
        _ => at,
    }
}

fn blank(text: &mut [char], range: Range<usize>) {
    for c in text.get_mut(range).unwrap_or_default() {
        if *c != '\n' {
            *c = ' ';
        }
    }
}

/// Removes every item under `#[cfg(test)]`: its lines go, so that what is left can be counted.
pub(crate) fn without_tests(code: &[char]) -> Vec<char> {
    let mut left = Vec::with_capacity(code.len());
    let mut at = 0;
    loop {
        let test = find(code, at, "#[cfg(test)]");
        left.extend_from_slice(code.get(at..test).unwrap_or_default());
        if test == code.len() {
            return left;
        }
        at = item_end(code, test);
    }
}

/// Where the item that starts at `from` ends: behind its block or its semicolon.
fn item_end(code: &[char], from: usize) -> usize {
    match body_start(code, from) {
        Some(open) => block_end(code, open),
        None => find(code, from, ";").saturating_add(1).min(code.len()),
    }
}

/// The first `{` outside of brackets, unless a `;` comes before it.
fn body_start(code: &[char], from: usize) -> Option<usize> {
    let mut depth = 0_u32;
    for (at, c) in code.iter().enumerate().skip(from) {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            '{' if depth == 0 => return Some(at),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

fn block_end(code: &[char], open: usize) -> usize {
    let mut depth = 0_u32;
    for (at, c) in code.iter().enumerate().skip(open) {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// The line, from 1, of its `fn`.
    pub(crate) line: usize,
    /// Lines from `fn` to the closing brace.
    pub(crate) lines: usize,
}

/// The functions of blanked code.
pub(crate) fn functions(code: &[char]) -> Vec<Function> {
    let mut found = Vec::new();
    let mut at = find(code, 0, "fn ");
    while at < code.len() {
        let next = at + 3;
        let name: String = code
            .iter()
            .skip(next)
            .copied()
            .take_while(|c| is_word(*c))
            .collect();
        if !word_before(code, at)
            && !name.is_empty()
            && let Some(open) = body_start(code, next)
        {
            let newlines = |range: Range<usize>| {
                let part = code.get(range).unwrap_or_default();
                part.iter().filter(|c| **c == '\n').count()
            };
            found.push(Function {
                name,
                line: newlines(0..at) + 1,
                lines: newlines(at..block_end(code, open)) + 1,
            });
        }
        at = find(code, next, "fn ");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(source: &str) -> String {
        code_of(source).into_iter().collect()
    }

    #[test]
    fn literals_and_comments_are_blanked_and_lifetimes_are_not() {
        let source = "a(\"}\\\"{\", '{', '\\'', r#\"\"{\"#, b\"{\", br\"{\") // {\n/* { /* */ { */ fn b<'a>(x: &'a str)";
        let blanked = code(source);
        assert!(!blanked.contains('{'), "{blanked}");
        assert!(blanked.contains("fn b<'a>(x: &'a str)"));
        assert_eq!(blanked.matches('\n').count(), 1);
        assert_eq!(code("let r#type = var\"x\";").matches("r#type").count(), 1);
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let source = "fn one() -> [u8; 4] {\n  {}\n}\ntrait T { fn none(&self); }\nstruct S { f: fn (u8) }\nfn two<F>(f: F)\nwhere\n    F: Fn(),\n{\n    f();\n}\n";
        let found = functions(&code_of(source));
        let told: Vec<_> = found
            .iter()
            .map(|f| (f.name.as_str(), f.line, f.lines))
            .collect();
        assert_eq!(told, [("one", 1, 3), ("two", 6, 6)]);
    }

    #[test]
    fn test_items_are_cut_out() {
        let source = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod far;\n";
        let left = without_tests(&code_of(source));
        let names: Vec<_> = functions(&left).into_iter().map(|f| f.name).collect();
        assert_eq!(names, ["a", "c"]);
        assert!(!left.iter().collect::<String>().contains("far"));
    }
}
