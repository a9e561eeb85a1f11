//! Senders in the form in which they are compared.

use nightmail_core::{Domain, ReversePath};

/// What stands for a part that changes from message to message.
const CHANGES: &str = "#";

/// The sender without what changes from message to message: mailing lists, bounce handlers and forwarders put numbers,
/// times and hashes into its local-part (VERP, BATV, SRS). What follows a `+` is left out, and each word with a digit in
/// it becomes `#`. Lower-case; empty for `<>`.
pub fn normal_sender(sender: &ReversePath) -> String {
    let Some(address) = sender.address() else {
        return String::new();
    };
    let local_part = address.local_part().lookup();
    // A plus sign in front is no separator of a subaddress.
    let base = match local_part.split_once('+') {
        Some((base, _)) if !base.is_empty() => base,
        _ => &local_part,
    };
    let mut normal = String::with_capacity(base.len());
    let mut word = String::new();
    for c in base.chars() {
        match c {
            '-' | '=' | '.' | '_' | '+' => {
                push_word(&mut normal, &mut word);
                normal.push(c);
            }
            c => word.push(c),
        }
    }
    push_word(&mut normal, &mut word);
    let domain: &Domain = address.domain();
    format!("{normal}@{domain}")
}

fn push_word(normal: &mut String, word: &mut String) {
    match word.contains(|c: char| c.is_ascii_digit()) {
        true => normal.push_str(CHANGES),
        false => normal.push_str(word),
    }
    word.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        normal_sender(&ReversePath::Address(text.parse().unwrap()))
    }

    #[test]
    fn what_changes_from_message_to_message_is_left_out() {
        for (one, other) in [
            ("Ann@Example.org", "ann+news@example.org"),
            (
                "list-return-123-ann=here.test@lists.test",
                "list-return-124-ann=here.test@lists.test",
            ),
            ("bounce-5f3a9c-7@x.test", "bounce-91bb0e-12@x.test"),
            ("prvs=1234abcd56=ann@x.test", "prvs=2234abcf77=ann@x.test"),
            (
                "srs0=h4sh=2x=there.test=ann@x.test",
                "SRS0=9ash=3y=there.test=ann@x.test",
            ),
            (
                "msprvs1=17000abc=bounces-10_x@x.test",
                "msprvs1=17001def=bounces-11_x@x.test",
            ),
        ] {
            assert_eq!(normal(one), normal(other));
        }
    }

    #[test]
    fn who_sends_stays() {
        assert_ne!(normal("ann@x.test"), normal("bob@x.test"));
        assert_ne!(normal("ann@x.test"), normal("ann@y.test"));
        assert_eq!(normal("+ann@x.test"), "+ann@x.test");
        assert_eq!(normal_sender(&ReversePath::Null), "");
    }
}
