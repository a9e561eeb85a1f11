//! Access control lists (RFC 4314): each command with and without each right, and nothing told of what is not shared.

use crate::harness::{Client, Server};

const WORK: &str = "\"Other Users/ann@test/Work\"";

/// Ann with the mailbox Work of two messages, and Bob.
fn world() -> (Server, Client, Client) {
    let server = Server::start();
    server.add("bob@test");
    let mut ann = server.client();
    ann.ok("CREATE Work");
    ann.fill("Work", 2);
    let bob = server.client_of("bob@test");
    (server, ann, bob)
}

fn grant(ann: &mut Client, rights: &str) {
    ann.ok(&format!("SETACL Work bob@test \"{rights}\""));
}

#[test]
fn lists_are_kept_and_told() {
    let (_server, mut ann, _) = world();
    let owner = "ann@test lrswipkxteacd";
    assert_eq!(ann.texts("GETACL Work"), [format!("* ACL Work {owner}")]);
    ann.ok("SETACL Work bob lrs");
    ann.ok("SETACL Work bob@test +t");
    ann.ok("SETACL Work anyone l");
    ann.ok("SETACL Work -bob@test s");
    assert_eq!(
        ann.texts("GETACL Work"),
        [format!(
            "* ACL Work {owner} anyone l bob@test lrstd -bob@test s"
        )]
    );
    ann.ok("SETACL Work bob@test -rs");
    ann.ok("DELETEACL Work anyone");
    ann.ok("DELETEACL Work -bob@test");
    assert_eq!(
        ann.texts("GETACL Work"),
        [format!("* ACL Work {owner} bob@test ltd")]
    );
    assert_eq!(
        ann.texts("LISTRIGHTS Work bob@test"),
        ["* LISTRIGHTS Work bob@test \"\" l r s w i p k x t e a c d"]
    );
    assert_eq!(
        ann.texts("LISTRIGHTS Work ann@test"),
        ["* LISTRIGHTS Work ann@test lrswipkxteacd"]
    );
    assert_eq!(
        ann.texts("MYRIGHTS Work"),
        ["* MYRIGHTS Work lrswipkxteacd"]
    );
}

#[test]
fn an_owner_loses_no_right_and_strangers_cannot_be_named() {
    let (_server, mut ann, _) = world();
    for refused in [
        "SETACL Work ann@test lr",
        "SETACL Work ann@test -a",
        "SETACL Work -ann@test r",
        "DELETEACL Work ann@test",
        "SETACL Work nobody@test lr",
    ] {
        assert!(ann.tagged(refused).starts_with("NO [CANNOT]"), "{refused}");
    }
    ann.ok("SETACL Work ann@test +a");
    assert!(ann.tagged("SETACL Work bob@test lrz").starts_with("BAD"));
    assert!(
        ann.tagged("SETACL none bob@test lr")
            .starts_with("NO [NONEXISTENT]")
    );
}

#[test]
fn rights_outlive_a_rename_and_are_handed_down_and_end_with_the_mailbox() {
    let (_server, mut ann, mut bob) = world();
    grant(&mut ann, "lr");
    ann.ok("CREATE Work/2024");
    bob.ok("EXAMINE \"Other Users/ann@test/Work/2024\"");
    ann.ok("RENAME Work Old");
    bob.ok("EXAMINE \"Other Users/ann@test/Old\"");
    bob.ok("EXAMINE \"Other Users/ann@test/Old/2024\"");
    ann.ok("DELETE Old/2024");
    ann.ok("DELETE Old");
    ann.ok("CREATE Old");
    let gone = bob.tagged("EXAMINE \"Other Users/ann@test/Old\"");
    assert!(gone.starts_with("NO [NONEXISTENT]"), "{gone}");
    let listed = bob.texts("LIST \"\" \"Other Users/*\"");
    assert!(listed.is_empty(), "{listed:?}");
}

/// One command, the rights it needs beside `l`, and what makes it possible to send it.
struct Case {
    command: &'static str,
    needs: &'static str,
    selected: bool,
}

const fn by_name(command: &'static str, needs: &'static str) -> Case {
    Case {
        command,
        needs,
        selected: false,
    }
}

const fn selected(command: &'static str, needs: &'static str) -> Case {
    Case {
        command,
        needs,
        selected: true,
    }
}

/// Every command on a mailbox with the rights of RFC 4314 §4; `W` is the mailbox. They do not stand in each other's way.
const CASES: &[Case] = &[
    by_name("SELECT W", "r"),
    by_name("EXAMINE W", "r"),
    by_name("STATUS W (MESSAGES)", "r"),
    by_name("GETQUOTAROOT W", "r"),
    by_name("MYRIGHTS W", ""),
    by_name("GETACL W", "a"),
    by_name("LISTRIGHTS W bob@test", "a"),
    by_name("SETACL W carl@test l", "a"),
    by_name("DELETEACL W carl@test", "a"),
    by_name("SETMETADATA W (/shared/comment \"x\")", "w"),
    by_name("APPEND W {3+}\r\nabc", "i"),
    by_name("CREATE W/below", "k"),
    by_name("RENAME W/below W/under", "kx"),
    selected("COPY 1 W", "i"),
    selected("STORE 1 +FLAGS (\\Seen)", "s"),
    selected("STORE 1 +FLAGS (\\Flagged)", "w"),
    selected("STORE 1 +FLAGS (word)", "w"),
    selected("STORE 1 +FLAGS (\\Deleted)", "t"),
    selected("EXPUNGE", "e"),
    selected("UID EXPUNGE 1:*", "e"),
    selected("MOVE 1 INBOX", "te"),
    by_name("DELETE W/under", "x"),
    by_name("DELETE W", "x"),
];

/// Sends a command as Bob; whether it was done.
fn is_done(bob: &mut Client, case: &Case) -> bool {
    if case.selected {
        bob.ok(&format!("SELECT {WORK}"));
    }
    let quoted = case.command.replace("W/", "\"Other Users/ann@test/Work/");
    let mut command = quoted.replace(" W", &format!(" {WORK}"));
    // A name that goes on below Work needs its closing quote.
    for below in ["Work/below", "Work/under"] {
        command = command.replace(below, &format!("{below}\""));
    }
    let answer = bob.tagged(&command);
    let opens = command.starts_with("SELECT") || command.starts_with("EXAMINE");
    if case.selected || opens && answer.starts_with("OK") {
        bob.ok("UNSELECT");
    }
    assert!(
        answer.starts_with("OK")
            || answer.starts_with("NO [NOPERM]")
            || answer.starts_with("NO [READ-ONLY]"),
        "{command}: {answer}"
    );
    answer.starts_with("OK")
}

#[test]
fn each_command_needs_its_rights_and_no_others() {
    let (server, mut ann, mut bob) = world();
    server.add("carl@test");
    for case in CASES {
        // What is asked for is refused while one of its rights is missing, whatever others are there.
        for missing in case.needs.chars() {
            let rights: String = "lrswipkxtea".chars().filter(|c| *c != missing).collect();
            if case.selected && missing == 'r' {
                continue;
            }
            grant(&mut ann, &rights);
            if case.command.starts_with("RENAME") || case.command.starts_with("DELETE W/") {
                ann.command(&format!("SETACL Work/below bob@test {rights}"));
                ann.command(&format!("SETACL Work/under bob@test {rights}"));
            }
            assert!(
                !is_done(&mut bob, case),
                "{} without {missing}",
                case.command
            );
        }
        let reading = if case.selected { "r" } else { "" };
        let rights = format!("l{reading}{}", case.needs);
        grant(&mut ann, &rights);
        ann.command(&format!("SETACL Work/below bob@test {rights}"));
        ann.command(&format!("SETACL Work/under bob@test {rights}"));
        assert!(is_done(&mut bob, case), "{} with {rights}", case.command);
    }
}

#[test]
fn what_may_not_be_looked_up_is_not_there() {
    let (_server, mut ann, mut bob) = world();
    let answers = |bob: &mut Client, name: &str| -> Vec<String> {
        let commands = [
            "SELECT W",
            "EXAMINE W",
            "STATUS W (MESSAGES)",
            "GETACL W",
            "MYRIGHTS W",
            "LISTRIGHTS W bob@test",
            "SETACL W bob@test l",
            "DELETEACL W bob@test",
            "GETQUOTAROOT W",
            "GETMETADATA W /shared/comment",
            "SETMETADATA W (/shared/comment \"x\")",
            "DELETE W",
            "RENAME W \"Other Users/ann@test/x\"",
            "CREATE W",
            "APPEND W {3+}\r\nabc",
            "SUBSCRIBE W",
        ];
        let commands = commands.iter().map(|command| {
            let command = command.replace('W', name);
            bob.tagged(&command).replace(name, "W")
        });
        commands.collect()
    };
    grant(&mut ann, "rswipkxtea");
    let hidden = answers(&mut bob, WORK);
    let missing = answers(&mut bob, "\"Other Users/ann@test/None\"");
    let nobody = answers(&mut bob, "\"Other Users/zoe@test/None\"");
    assert_eq!(hidden, missing);
    assert_eq!(hidden, nobody);
    assert!(
        hidden
            .iter()
            .all(|answer| answer.starts_with("NO [") || answer.starts_with("OK Subscribed")),
        "{hidden:?}"
    );
    assert_eq!(ann.texts("GETACL Work").len(), 1);
    assert!(ann.texts("GETACL Work")[0].ends_with("bob@test rswipkxteacd"));
}

#[test]
fn flags_that_may_not_be_changed_stay() {
    let (_server, mut ann, mut bob) = world();
    ann.ok("SELECT Work");
    ann.ok("STORE 1 FLAGS (\\Deleted \\Flagged word)");
    grant(&mut ann, "lrs");
    let opened = bob.texts(&format!("SELECT {WORK}"));
    let permanent = "* OK [PERMANENTFLAGS (\\Seen)]";
    assert!(
        opened.iter().any(|text| text.starts_with(permanent)),
        "{opened:?}"
    );
    let flags = bob.texts("STORE 1 FLAGS (\\Seen \\Answered)");
    assert_eq!(
        flags,
        ["* 1 FETCH (FLAGS (\\Flagged \\Deleted \\Seen word))"]
    );
    bob.ok("STORE 1 FLAGS ()");
    let flags = ann.texts("FETCH 1 FLAGS");
    assert!(
        flags[flags.len() - 1].contains("(\\Flagged \\Deleted word"),
        "{flags:?}"
    );
    grant(&mut ann, "lrw");
    bob.ok("STORE 1 FLAGS (\\Seen \\Draft)");
    let flags = bob.texts("FETCH 1 FLAGS");
    assert_eq!(flags, ["* 1 FETCH (FLAGS (\\Deleted \\Draft))"]);
}

#[test]
fn reading_without_the_right_to_mark_marks_nothing() {
    let (_server, mut ann, mut bob) = world();
    grant(&mut ann, "lr");
    assert!(
        bob.tagged(&format!("SELECT {WORK}"))
            .starts_with("OK [READ-ONLY]")
    );
    bob.ok("FETCH 1 BODY[]");
    grant(&mut ann, "lrs");
    assert!(
        bob.tagged(&format!("SELECT {WORK}"))
            .starts_with("OK [READ-WRITE]")
    );
    bob.ok("FETCH 2 BODY[]");
    ann.ok("SELECT Work");
    assert_eq!(
        ann.texts("FETCH 1:2 FLAGS"),
        ["* 1 FETCH (FLAGS ())", "* 2 FETCH (FLAGS (\\Seen))"]
    );
    grant(&mut ann, "lrt");
    bob.ok(&format!("SELECT {WORK}"));
    bob.ok("STORE 1 +FLAGS (\\Deleted)");
    bob.ok("CLOSE");
    assert!(ann.texts("STATUS Work (MESSAGES)")[0].ends_with("(MESSAGES 2)"));
}

#[test]
fn a_right_that_is_taken_ends_what_it_allowed() {
    let (_server, mut ann, mut bob) = world();
    grant(&mut ann, "lrw");
    bob.ok(&format!("SELECT {WORK}"));
    bob.ok("STORE 1 +FLAGS (\\Flagged)");
    grant(&mut ann, "lrs");
    let answer = bob.tagged("STORE 1 +FLAGS (\\Draft)");
    assert!(answer.starts_with("NO [NOPERM]"), "{answer}");
    ann.ok("DELETEACL Work bob@test");
    let told = bob.begin(b"FETCH 1 FLAGS");
    let bye = bob.response().text;
    assert!(bye.starts_with("* BYE"), "{told}: {bye}");
}

#[test]
fn a_right_to_expunge_that_is_taken_ends_with_the_next_command() {
    let (_server, mut ann, mut bob) = world();
    grant(&mut ann, "lrte");
    bob.ok(&format!("SELECT {WORK}"));
    bob.ok("STORE 1 +FLAGS (\\Deleted)");
    grant(&mut ann, "lrt");
    for command in ["EXPUNGE", "UID EXPUNGE 1:*"] {
        let answer = bob.tagged(command);
        assert!(answer.starts_with("NO [NOPERM]"), "{answer}");
    }
    bob.ok("CLOSE");
    assert!(ann.texts("STATUS Work (MESSAGES)")[0].ends_with("(MESSAGES 2)"));
}

#[test]
fn what_is_taken_from_everybody_is_not_listed_to_those_it_is_given_to() {
    let (_server, mut ann, mut bob) = world();
    grant(&mut ann, "lr");
    assert_eq!(bob.ok(&format!("LIST \"\" {WORK}")).len(), 1);
    ann.ok("SETACL Work -anyone lr");
    assert!(
        bob.tagged(&format!("STATUS {WORK} (MESSAGES)"))
            .starts_with("NO [NONEXISTENT]")
    );
    let listed = bob.texts("LIST \"\" * RETURN (STATUS (MESSAGES))");
    assert!(
        !listed.iter().any(|text| text.contains("Work")),
        "{listed:?}"
    );
}
