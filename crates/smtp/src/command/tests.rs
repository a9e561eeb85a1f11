//! Tests of the command grammar.

use super::*;
use proptest::prelude::*;

fn parse(line: &str) -> Result<Command, CommandError> {
    Command::parse(line.as_bytes(), &Syntax::ALL)
}

/// Parses, prints and parses again.
fn printed(line: &str) -> String {
    let command = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let printed = command.to_string();
    assert_eq!(parse(&printed), Ok(command), "{line}");
    printed
}

#[test]
fn commands_are_read_without_case_and_with_spare_blanks() {
    for (line, print) in [
        ("ehlo  Client.test  ", "EHLO Client.test"),
        ("HELO [127.0.0.1] extra", "HELO [127.0.0.1]"),
        ("Mail From: <a@x.test>", "MAIL FROM:<a@x.test>"),
        ("MAIL\tFROM:<>\tSIZE=5", "MAIL FROM:<> SIZE=5"),
        ("mail from:<a@x.test> body=7bit", "MAIL FROM:<a@x.test>"),
        ("RCPT TO:<@r.test,@s.test:a@x.test>", "RCPT TO:<a@x.test>"),
        ("rcpt to:<PostMaster>", "RCPT TO:<postmaster>"),
        ("RCPT TO:<\"a > b\"@x.test>", "RCPT TO:<\"a > b\"@x.test>"),
        ("RCPT TO:<a@[IPv6:::1]>", "RCPT TO:<a@[IPv6:::1]>"),
        (
            "RCPT TO:<a@x.test> notify=delay,success",
            "RCPT TO:<a@x.test> NOTIFY=SUCCESS,DELAY",
        ),
        (
            "RCPT TO:<a@x.test> NOTIFY=NEVER ORCPT=rfc822;a+2Bb@x.test",
            "RCPT TO:<a@x.test> NOTIFY=NEVER ORCPT=rfc822;a+2Bb@x.test",
        ),
        (
            "MAIL FROM:<a@x.test> RET=hdrs ENVID=a+20b AUTH=<>",
            "MAIL FROM:<a@x.test> AUTH=<> RET=HDRS ENVID=a+20b",
        ),
        (
            "MAIL FROM:<jörg@x.test> SMTPUTF8 BODY=8BITMIME",
            "MAIL FROM:<jörg@x.test> BODY=8BITMIME SMTPUTF8",
        ),
        (
            "MAIL FROM:<> SIZE=99999999999999999999",
            "MAIL FROM:<> SIZE=18446744073709551615",
        ),
        (
            "MAIL FROM:<> requiretls mt-priority=-3 by=+60;nt holdfor=007",
            "MAIL FROM:<> REQUIRETLS MT-PRIORITY=-3 BY=60;NT HOLDFOR=7",
        ),
        (
            "MAIL FROM:<> HOLDUNTIL=2026-11-22T17:22:00+01:00",
            "MAIL FROM:<> HOLDUNTIL=2026-11-22T16:22:00Z",
        ),
        ("etrn X.test", "ETRN x.test"),
        ("ETRN @x.test", "ETRN @x.test"),
        ("ETRN #fast", "ETRN #fast"),
        (
            "xclient name=[unavailable] addr=192.0.2.1 helo=a+2Bb",
            "XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.1 HELO=a+2Bb",
        ),
        (
            "XFORWARD SOURCE=REMOTE IDENT=+5BTEMPUNAVAIL]",
            "XFORWARD SOURCE=REMOTE IDENT=[UNAVAILABLE]",
        ),
        ("bdat 007 last", "BDAT 7 LAST"),
        ("AUTH plain =", "AUTH PLAIN ="),
        ("NOOP anything", "NOOP"),
        ("VRFY jörg smtputf8", "VRFY jörg SMTPUTF8"),
        ("VRFY joe SMTPUTF8", "VRFY joe"),
        ("rset ", "RSET"),
    ] {
        assert_eq!(printed(line), print);
    }
}

#[test]
fn what_is_not_a_command_says_why() {
    use CommandError as E;
    let mail = E::Syntax("MAIL FROM:<address>");
    let rcpt = E::Syntax("RCPT TO:<address>");
    for (line, error) in [
        ("", E::Line),
        ("NOOP \0", E::Line),
        ("NO\rOP", E::Line),
        (" NOOP", E::Unknown),
        ("WHAT", E::Unknown),
        ("MAILFROM:<a@x.test>", E::Unknown),
        ("EHLO", E::Arguments),
        ("EHLO jörg", E::Arguments),
        ("MAIL", mail),
        ("MAIL FROM", mail),
        ("MAIL FROM:", mail),
        ("MAIL TO:<a@x.test>", mail),
        ("MAIL FROM:a@x.test", mail),
        ("MAIL FROM:<a@x.test", mail),
        ("MAIL FROM:<a@x.test>SIZE=1", mail),
        ("MAIL FROM:<\"a@x.test>", mail),
        ("MAIL FROM:<a b@x.test>", E::ReversePath),
        ("MAIL FROM:<a>", E::ReversePath),
        ("MAIL FROM:<@r.test>", E::ReversePath),
        ("MAIL FROM:<@r.test,s.test:a@x.test>", E::ReversePath),
        ("MAIL FROM:<jörg@x.test>", E::Utf8),
        ("MAIL FROM:<a@x.test> SIZE", E::ParameterValue),
        ("MAIL FROM:<a@x.test> SIZE=", E::ParameterValue),
        ("MAIL FROM:<a@x.test> SIZE=-1", E::ParameterValue),
        ("MAIL FROM:<a@x.test> SIZE=1 size=2", E::ParameterTwice),
        ("MAIL FROM:<a@x.test> BODY=9BIT", E::ParameterValue),
        ("MAIL FROM:<a@x.test> SMTPUTF8=1", E::ParameterValue),
        ("MAIL FROM:<a@x.test> NOTIFY=NEVER", E::ParameterUnknown),
        ("MAIL FROM:<a@x.test> X-FOO=1", E::ParameterUnknown),
        ("MAIL FROM:<a@x.test> !", E::Arguments),
        ("MAIL FROM:<a@x.test> ENVID=a+b", E::ParameterValue),
        ("MAIL FROM:<a@x.test> ENVID=a=b", E::ParameterValue),
        ("RCPT TO:<>", E::ForwardPath),
        ("RCPT TO:a@x.test", rcpt),
        ("RCPT TO:<a@x.test> SIZE=1", E::ParameterUnknown),
        ("RCPT TO:<a@x.test> NOTIFY=NEVER,DELAY", E::ParameterValue),
        ("RCPT TO:<a@x.test> ORCPT=rfc822", E::ParameterValue),
        ("RCPT TO:<a@x.test> ORCPT=rfc822;", E::ParameterValue),
        ("BDAT", E::Arguments),
        ("BDAT x", E::Arguments),
        ("BDAT 1 FIRST", E::Arguments),
        ("BDAT 1 LAST x", E::Arguments),
        ("DATA x", E::Arguments),
        ("AUTH", E::Arguments),
        ("AUTH PL/AIN", E::Arguments),
        ("AUTH PLAIN a b", E::Arguments),
        ("AUTH PLAIN é", E::Arguments),
        ("VRFY ", E::Arguments),
        ("VRFY jörg", E::Utf8),
        ("MAIL FROM:<> REQUIRETLS=1", E::ParameterValue),
        ("MAIL FROM:<> MT-PRIORITY", E::ParameterValue),
        ("MAIL FROM:<> MT-PRIORITY=10", E::ParameterValue),
        ("MAIL FROM:<> BY=0;R", E::ParameterValue),
        ("MAIL FROM:<> HOLDFOR=-1", E::ParameterValue),
        ("MAIL FROM:<> HOLDFOR=5 HOLDFOR=5", E::ParameterTwice),
        (
            "MAIL FROM:<> HOLDFOR=5 HOLDUNTIL=2026-11-22T16:22:00Z",
            E::ParameterTwice,
        ),
        ("MAIL FROM:<> HOLDUNTIL=tomorrow", E::ParameterValue),
        ("MAIL FROM:<> ENVID=a+0D+0AX:b", E::ParameterValue),
        ("RCPT TO:<a@x.test> ORCPT=rfc822;a+0Ab", E::ParameterValue),
        ("ETRN", E::Arguments),
        ("ETRN #", E::Arguments),
        ("ETRN @", E::Arguments),
        ("ETRN a b", E::Arguments),
        ("XCLIENT", E::Arguments),
        ("XCLIENT NAME", E::Arguments),
        ("XCLIENT NAME=", E::ParameterValue),
        ("XCLIENT IDENT=a", E::Arguments),
        ("XCLIENT NAME=a NAME=b", E::ParameterTwice),
        ("XCLIENT NAME=a+0Ab", E::ParameterValue),
        ("XFORWARD LOGIN=a", E::Arguments),
    ] {
        assert_eq!(parse(line), Err(error), "{line:?}");
    }
}

#[test]
fn bytes_that_are_no_utf8_are_no_address() {
    for line in [
        &b"MAIL FROM:<a\xff@x.test> SMTPUTF8"[..],
        b"RCPT TO:<a@\xff>",
    ] {
        assert!(Command::parse(line, &Syntax::ALL).is_err());
    }
}

#[test]
fn what_is_not_offered_is_unknown() {
    let extensions = Extensions {
        dsn: false,
        smtputf8: false,
        chunking: false,
        binarymime: true,
        auth: false,
        ..Extensions::USUAL
    };
    let syntax = Syntax {
        extensions,
        unbracketed_paths: true,
        utf8_transaction: false,
    };
    for (line, error) in [
        (
            "MAIL FROM:<a@x.test> RET=FULL",
            CommandError::ParameterUnknown,
        ),
        (
            "MAIL FROM:<a@x.test> SMTPUTF8",
            CommandError::ParameterUnknown,
        ),
        (
            "MAIL FROM:<a@x.test> AUTH=<>",
            CommandError::ParameterUnknown,
        ),
        (
            "MAIL FROM:<a@x.test> BODY=BINARYMIME",
            CommandError::ParameterValue,
        ),
        (
            "MAIL FROM:<a@x.test> REQUIRETLS",
            CommandError::ParameterUnknown,
        ),
        (
            "MAIL FROM:<a@x.test> MT-PRIORITY=1",
            CommandError::ParameterUnknown,
        ),
        (
            "MAIL FROM:<a@x.test> BY=5;R",
            CommandError::ParameterUnknown,
        ),
        (
            "MAIL FROM:<a@x.test> HOLDFOR=5",
            CommandError::ParameterUnknown,
        ),
        (
            "RCPT TO:<a@x.test> NOTIFY=NEVER",
            CommandError::ParameterUnknown,
        ),
        ("RCPT TO:<jörg@x.test>", CommandError::Utf8),
    ] {
        assert_eq!(
            Command::parse(line.as_bytes(), &syntax),
            Err(error),
            "{line}"
        );
    }
    let bare = Command::parse(b"MAIL FROM:a@x.test SIZE=3", &syntax).unwrap();
    assert_eq!(bare.to_string(), "MAIL FROM:<a@x.test> SIZE=3");
}

#[test]
fn original_recipients_show_the_address_meant() {
    let orcpt = OriginalRecipient::parse("rfc822;a+2Bb@x.test").unwrap();
    assert_eq!(
        (orcpt.kind(), orcpt.address().as_str()),
        ("rfc822", "a+b@x.test")
    );
    let utf8 = OriginalRecipient::for_address("jörg@x.test");
    assert_eq!(OriginalRecipient::parse(&utf8.to_string()), Some(utf8));
}

proptest! {
    #[test]
    fn any_line_that_parses_prints_to_the_same_command(line in "(?i)(MAIL FROM:|RCPT TO:|EHLO|BDAT|AUTH|VRFY)? ?<?[a-z\"\\\\@.:,é +<>]{0,20}(@x.test>)?( (SIZE|BODY|NOTIFY|ORCPT|ENVID|RET|SMTPUTF8|AUTH)(=[!-~é]{0,12})?){0,3}") {
        if let Ok(command) = parse(&line) {
            prop_assert_eq!(parse(&command.to_string()), Ok(command));
        }
    }

    #[test]
    fn any_demand_that_parses_prints_to_the_same_command(
        line in "MAIL FROM:<>( (REQUIRETLS|MT-PRIORITY=-?[0-9]{1,2}|BY=[+-]?[0-9]{1,10};[RN]T?|HOLDFOR=[0-9]{1,10}|HOLDUNTIL=[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](Z|[+-][0-2][0-9]:[0-5][0-9]))){0,4}|ETRN [@#]?[a-z.#@-]{0,9}|X(CLIENT|FORWARD)( (NAME|ADDR|HELO|LOGIN|IDENT)=[!-~]{0,16}){0,3}|RCPT TO:<a@x.test> ORCPT=(utf-8|rfc822);[!-~é]{0,16}",
    ) {
        if let Ok(command) = parse(&line) {
            prop_assert_eq!(parse(&command.to_string()), Ok(command));
        }
    }

    #[test]
    fn envelopes_survive_printing(
        local in "[a-z.]{1,8}|\"[ -!#-\\[\\]-~]{0,12}\"",
        size in proptest::option::of(any::<u64>()),
        envid in "[ -~]{1,30}",
        utf8: bool,
        notify in proptest::option::of(any::<(bool, bool, bool)>()),
    ) {
        let Ok(address) = nightmail_core::Address::parse(&format!("{local}@x.test")) else { return Ok(()) };
        let mail = Command::Mail(Mail {
            reverse_path: nightmail_core::ReversePath::Address(address.clone()),
            params: MailParams { size, smtputf8: utf8, envid: Some(Xtext::encode(&envid)), ret: Some(Return::Full), ..MailParams::default() },
        });
        let rcpt = Command::Rcpt(Rcpt {
            params: RcptParams {
                notify: notify.map(|(success, failure, delay)| Notify { success, failure, delay }),
                orcpt: Some(OriginalRecipient::for_address(&address.to_string())),
            },
            forward_path: nightmail_core::ForwardPath::Address(address),
        });
        for command in [mail, rcpt] {
            prop_assert_eq!(parse(&command.to_string()), Ok(command));
        }
        prop_assert_eq!(Xtext::encode(&envid).decode(), envid);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(line: Vec<u8>) {
        let _ = Command::parse(&line, &Syntax::ALL);
    }
}
