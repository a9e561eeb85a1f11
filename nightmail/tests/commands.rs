//! Commands on a store that no server holds, and what they exit with.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod program;

use program::{fail, run, run_with_input, stderr, stdout, succeed};

struct Data {
    dir: tempfile::TempDir,
}

impl Data {
    fn with_domain() -> Self {
        let data = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        data.succeed(&["domain", "add", "x.test"]);
        data
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [&["--data", self.dir.path().to_str().unwrap()], args].concat()
    }

    fn succeed(&self, args: &[&str]) -> String {
        succeed(&self.args(args))
    }

    fn fail(&self, args: &[&str]) -> (i32, String) {
        fail(&self.args(args))
    }
}

#[test]
fn a_store_is_filled_and_emptied_without_a_server() {
    let data = Data::with_domain();
    data.succeed(&[
        "account",
        "add",
        "ann@x.test",
        "--password",
        "pw",
        "--quota",
        "1G",
        "--admin",
    ]);
    data.succeed(&["alias", "add", "team@x.test", "ann@x.test", "far@z.test"]);
    data.succeed(&["mailbox", "create", "ann@x.test", "Work/2026"]);
    data.succeed(&["account", "disable", "ann@x.test", "--defer"]);
    let list = data.succeed(&["account", "list"]);
    assert!(
        list.contains("ann@x.test  a1  deferred  1.0 GiB  yes"),
        "{list}"
    );
    assert!(
        data.succeed(&["mailbox", "list", "a1"])
            .contains("Work/2026")
    );
    assert!(
        data.succeed(&["resolve", "team@x.test"])
            .contains("deferred")
    );
    data.succeed(&["account", "enable", "ann@x.test"]);
    data.succeed(&[
        "account",
        "rename",
        "ann@x.test",
        "ann.b@x.test",
        "--keep-old",
    ]);
    assert!(
        data.succeed(&["alias", "show", "ann@x.test"])
            .contains("ann.b@x.test")
    );
    data.succeed(&["quota", "set", "ann.b@x.test", "--messages", "10"]);
    let quota = data.succeed(&["quota", "show", "ann.b@x.test"]);
    assert!(quota.contains("1.0 GiB, 10 messages"), "{quota}");
    data.succeed(&["account", "remove", "ann.b@x.test"]);
    data.succeed(&["alias", "remove", "team@x.test"]);
    data.succeed(&["alias", "remove", "ann@x.test"]);
    assert!(
        data.succeed(&["check", "--read-messages"])
            .starts_with("0 problem(s)")
    );
    data.succeed(&["domain", "remove", "x.test"]);
    assert_eq!(data.succeed(&["queue", "list"]).lines().count(), 1);
    assert!(data.succeed(&["status"]).contains("domains"));
    data.succeed(&["reclaim"]);
}

#[test]
fn json_answers_and_errors_are_json() {
    let data = Data::with_domain();
    let text = data.succeed(&["domain", "show", "x.test", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&value["kind"], &value["name"]),
        (&"domain".into(), &"x.test".into())
    );
    let (code, text) = data.fail(&["domain", "add", "x.test", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &value["exit_code"]), (1, &1.into()));
}

#[test]
fn a_password_comes_from_standard_input_where_none_is_given() {
    let data = Data::with_domain();
    let args = data.args(&["account", "add", "ann@x.test"]);
    let output = run_with_input(&args, "secret\n");
    assert!(
        stdout(&output).contains("password        set"),
        "{}",
        stderr(&output)
    );
    let output = run_with_input(&data.args(&["account", "passwd", "ann@x.test"]), "\n");
    assert_eq!(output.status.code(), Some(2));
    let shown = data.succeed(&["account", "passwd", "ann@x.test", "--no-password"]);
    assert!(shown.contains("password        none"), "{shown}");
}

#[test]
fn what_is_refused_exits_with_1_and_what_is_to_be_mended_with_2() {
    let data = Data::with_domain();
    data.succeed(&["account", "add", "ann@x.test", "--no-password"]);
    for (args, code, says) in [
        (&["domain", "add", "x.test"][..], 1, "already"),
        (&["domain", "remove", "x.test"], 1, "1 account(s)"),
        (&["account", "show", "bob@x.test"], 1, "no account"),
        (
            &["account", "add", "bob@y.test", "--no-password"],
            2,
            "add it first",
        ),
        (
            &["account", "add", "bob", "--no-password"],
            2,
            "user@domain",
        ),
        (
            &["account", "add", "bob@x.test", "--quota", "5X"],
            2,
            "expected a number",
        ),
        (&["nonsense"], 2, "unrecognized subcommand"),
    ] {
        let (found, said) = data.fail(args);
        assert_eq!(found, code, "{args:?}: {said}");
        assert!(said.contains(says), "{args:?}: {said}");
    }
}

#[test]
fn a_wrong_path_makes_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("typo");
    let (code, said) = fail(&["--data", path.to_str().unwrap(), "account", "list"]);
    assert_eq!(code, 2);
    assert!(said.contains("there is no store in"), "{said}");
    assert!(!path.exists());
    let socket = dir.path().join("admin.sock");
    let (code, said) = fail(&["--socket", socket.to_str().unwrap(), "status"]);
    assert_eq!(code, 2);
    assert!(said.contains("no server listens at"), "{said}");
}

#[test]
fn the_example_configuration_is_good_and_a_wrong_key_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nightmail.toml");
    let data = dir.path().join("data");
    let example =
        succeed(&["config", "example"]).replace("/var/lib/nightmail", data.to_str().unwrap());
    std::fs::write(&file, &example).unwrap();
    let output = run(&["config", "check", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("the configuration is good"));
    std::fs::write(&file, example.replacen("hostname =", "hostnam =", 1)).unwrap();
    let (code, said) = fail(&["config", "check", "--config", file.to_str().unwrap()]);
    assert_eq!(code, 2);
    assert!(said.contains("hostname"), "{said}");
}

#[test]
fn an_account_is_given_addresses_to_send_as() {
    let data = Data::with_domain();
    data.succeed(&["account", "add", "ann@x.test", "--no-password"]);
    for sender in ["team@x.test", "@far.test"] {
        data.succeed(&["account", "sender", "add", "ann@x.test", sender]);
    }
    let list = data.succeed(&["account", "sender", "list", "ann@x.test"]);
    assert_eq!(list, "team@x.test\n@far.test\n");
    let shown = data.succeed(&["account", "show", "ann@x.test"]);
    assert!(
        shown.contains("sends also as   team@x.test, @far.test"),
        "{shown}"
    );
    data.succeed(&["account", "sender", "remove", "ann@x.test", "Team@x.test"]);
    let json = data.succeed(&["account", "show", "ann@x.test", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["senders"], serde_json::json!(["@far.test"]));
    for (args, code, says) in [
        (["remove", "ann@x.test", "team@x.test"], 1, "was not given"),
        (["add", "ann@x.test", "team"], 2, "@domain"),
        (["add", "bob@x.test", "@x.test"], 1, "no account"),
    ] {
        let (found, said) = data.fail(&[&["account", "sender"], &args[..]].concat());
        assert_eq!(found, code, "{args:?}: {said}");
        assert!(said.contains(says), "{args:?}: {said}");
    }
}
