//! Commands on a store that no server holds, and what they exit with.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod program;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Output;

use nightmail_testbed::dns::NameServer;
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

/// A configuration whose data directory has the domain x.test, and that asks this name server.
struct Asking {
    dir: tempfile::TempDir,
    names: NameServer,
}

impl Asking {
    fn with_rules(rules: &str) -> Self {
        let asking = Self {
            dir: tempfile::tempdir().unwrap(),
            names: NameServer::start(),
        };
        let text = format!(
            "[server]\nhostname = \"mx.x.test\"\ndata = \"{}\"\n\n[delivery]\ndns_servers = [\"{}\"]\n\n{rules}",
            asking.dir.path().join("data").display(),
            asking.names.address()
        );
        std::fs::write(asking.config(), text).unwrap();
        asking.succeed(&["domain", "add", "x.test"]);
        asking
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("nightmail.toml")
    }

    fn run(&self, args: &[&str]) -> Output {
        run(&[&["--config", self.config().to_str().unwrap()], args].concat())
    }

    fn succeed(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        stdout(&output)
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.succeed(&[args, &["--json"]].concat())).unwrap()
    }
}

#[test]
fn a_dkim_key_is_made_published_and_rotated() {
    let asking = Asking::with_rules("");
    let made = asking.succeed(&["dkim", "new", "x.test", "--selector", "s1"]);
    for says in [
        "record     s1._domainkey.x.test\n",
        "value      v=DKIM1; k=rsa; p=",
        "s1._domainkey.x.test. 3600 IN TXT \"v=DKIM1; k=rsa; p=",
        "nightmail dkim rotate x.test",
    ] {
        assert!(made.contains(says), "{says:?} is not in {made}");
    }
    let refused = asking.run(&["dkim", "rotate", "x.test"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("is not published"));

    let listed = asking.json(&["dkim", "list", "x.test"]);
    let key = &listed["items"][0];
    assert_eq!(
        (&key["state"], &key["published"]),
        (&"pending".into(), &"no".into())
    );
    let name = key["name"].as_str().unwrap();
    asking.names.txt(name, key["text"].as_str().unwrap());
    let rotated = asking.succeed(&["dkim", "rotate", "x.test"]);
    assert!(rotated.contains("It signs.\n"), "{rotated}");
    let shown = asking.succeed(&["domain", "show", "x.test"]);
    assert!(shown.contains("s1 (rsa2048, active), s"), "{shown}");
    let kept = asking.run(&["dkim", "remove", "x.test", "s1"]);
    assert_eq!(kept.status.code(), Some(1), "{}", stdout(&kept));
    asking.succeed(&["dkim", "remove", "x.test", "s1", "--force"]);
}

#[test]
fn the_dns_check_exits_with_1_until_everything_is_there() {
    let asking = Asking::with_rules("");
    let ip = Ipv4Addr::new(192, 0, 2, 25);
    let checked = asking.run(&["dns", "check", "x.test"]);
    assert_eq!(checked.status.code(), Some(1));
    let said = stdout(&checked);
    assert!(said.contains("missing   MX"), "{said}");
    assert!(
        said.ends_with("records of x.test are missing, wrong or not known\n"),
        "{said}"
    );

    asking.succeed(&[
        "dkim",
        "new",
        "x.test",
        "--activate",
        "--algorithm",
        "ed25519",
    ]);
    let listed = asking.json(&["dkim", "list"]);
    let key = &listed["items"][0];
    asking
        .names
        .mx("x.test", 10, "mx.x.test")
        .a("mx.x.test", ip)
        .ptr(ip.into(), "mx.x.test")
        .txt("x.test", "v=spf1 mx -all")
        .txt(
            "_dmarc.x.test",
            "v=DMARC1; p=reject; rua=mailto:dmarc@x.test",
        )
        .txt(key["name"].as_str().unwrap(), key["text"].as_str().unwrap());
    let checked = asking.run(&["dns", "check", "x.test"]);
    assert!(checked.status.success(), "{}", stdout(&checked));
    let other = NameServer::start();
    let address = other.address().to_string();
    let elsewhere = asking.run(&["dns", "check", "x.test", "--server", &address]);
    assert_eq!(elsewhere.status.code(), Some(1));
}

#[test]
fn the_access_test_says_which_rule_decides_and_why() {
    let asking = Asking::with_rules(
        "[[access]]\nname = \"partner\"\nstage = \"connect\"\nclient = [\"192.0.2.0/24\"]\naction = \"tag\"\ntag = \"partner\"\n\n\
         [[access]]\nname = \"friends\"\nstage = \"rcpt\"\ntagged = [\"partner\"]\nrecipient = [\"ann@x.test\"]\naction = \"accept\"\n\n\
         [[access]]\nname = \"nobody else\"\nstage = \"rcpt\"\nsender = [\"@far.test\"]\naction = \"reject\"\ntext = \"Not from there\"\n",
    );
    let test = |client: &str, more: &[&str]| {
        let args = ["access", "test", "--client", client, "--from", "a@far.test"];
        asking.json(&[&args, more].concat())
    };
    let decided = |value: &serde_json::Value| {
        let last = value["stages"].as_array().unwrap().last().unwrap().clone();
        (
            last["stage"].clone(),
            last["decision"].clone(),
            last["rule"].clone(),
        )
    };
    let to = ["--to", "ann@x.test"];
    let stranger = test("198.51.100.1", &to);
    assert_eq!(
        decided(&stranger),
        ("rcpt".into(), "reject".into(), "nobody else".into())
    );
    let partner = test("192.0.2.7", &[&to[..], &["--stage", "rcpt"]].concat());
    assert_eq!(
        decided(&partner),
        ("rcpt".into(), "accept".into(), "friends".into())
    );
    assert_eq!(partner["stages"].as_array().unwrap().len(), 1);
    let tagged = test(
        "198.51.100.1",
        &[&to[..], &["--tag", "partner", "--stage", "rcpt"]].concat(),
    );
    assert_eq!(decided(&tagged).2, "friends");
    let early = test("192.0.2.7", &[]);
    assert_eq!(decided(&early).0, "mail");
    assert_eq!(early["stages"][0]["tagged"], serde_json::json!(["partner"]));

    let text = asking.succeed(&[
        "access",
        "test",
        "--client",
        "198.51.100.1",
        "--from",
        "a@far.test",
        "--to",
        "ann@x.test",
    ]);
    assert!(
        text.contains("rcpt: rejected by nobody else: Not from there\n"),
        "{text}"
    );
    assert!(text.contains("nobody else  yes"), "{text}");
}

#[test]
fn the_live_access_test_asks_dns() {
    let asking = Asking::with_rules(
        "[[dns_list]]\nzone = \"list.test\"\n\n\
         [[access]]\nname = \"listed\"\nstage = \"mail\"\ntagged = [\"dns-list\"]\naction = \"defer\"\ntext = \"Later\"\n",
    );
    let ip = Ipv4Addr::new(198, 51, 100, 9);
    asking
        .names
        .ptr(ip.into(), "out.far.test")
        .a("out.far.test", ip)
        .a("9.100.51.198.list.test", Ipv4Addr::new(127, 0, 0, 2))
        .txt("far.test", "v=spf1 ip4:203.0.113.1 -all");
    let said = asking.succeed(&[
        "access",
        "test",
        "--client",
        "198.51.100.9",
        "--from",
        "a@far.test",
        "--live",
    ]);
    for says in [
        "client name: out.far.test\n",
        "list.test: 10 points, 127.0.0.2\n",
        "list.test does not work: the entry that every list has is missing\n",
        "SPF of far.test: fail\n",
        "mail: deferred by listed: Later\n",
    ] {
        assert!(said.contains(says), "{says:?} is not in {said}");
    }
}

#[test]
fn the_greylist_is_looked_at_and_mended() {
    let data = Data::with_domain();
    assert_eq!(data.succeed(&["greylist", "list"]).lines().count(), 1);
    data.succeed(&["greylist", "allow", "192.0.2.9"]);
    let listed = data.succeed(&["greylist", "list"]);
    assert!(listed.contains("192.0.2.0/24"), "{listed}");
    assert!(listed.contains("allowed (5 passed)"), "{listed}");
    data.succeed(&["greylist", "remove", "192.0.2.200"]);
    let (code, said) = data.fail(&["greylist", "remove", "192.0.2.200"]);
    assert_eq!(code, 1, "{said}");
}
