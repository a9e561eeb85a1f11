//! What the operator is told when something is wrong, and how the server stops.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use common::site::{PROGRAM, private_dir};
use common::{Imap, Pop3, Service, Site, Smtp, message, skip, text};

fn run(mut command: Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

/// The command must fail with 2 and say each of these.
#[track_caller]
fn complains(output: &Output, words: &[&str]) {
    let says = text(&output.stderr) + &text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{says}");
    for word in words {
        assert!(says.contains(word), "{word:?} is not in: {says}");
    }
}

#[test]
fn the_example_configuration_passes_the_check() {
    let dir = private_dir();
    let example = run({
        let mut command = Command::new(PROGRAM);
        command.args(["config", "example"]);
        command
    });
    assert!(example.status.success());
    let file = dir.path().join("example.toml");
    // The check makes the data directory, which is to be this test's own.
    let data = dir.path().join("data");
    let toml = text(&example.stdout).replace("/var/lib/nightmail", data.to_str().unwrap());
    std::fs::write(&file, toml).unwrap();
    let mut check = Command::new(PROGRAM);
    check.args(["config", "check"]).arg(&file);
    let checked = run(check);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    assert!(text(&checked.stdout).contains("the configuration is good"));
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_key() {
    let site = Site::bare("[limits]\nrecipents_max = 500\n");
    let toml = std::fs::read_to_string(site.config()).unwrap();
    let line = toml
        .lines()
        .position(|line| line.starts_with("recipents"))
        .unwrap()
        + 1;
    for arguments in [&["config", "check"][..], &["serve"], &["account", "list"]] {
        let output = run(site.command(arguments));
        complains(
            &output,
            &["recipents_max", "recipients_max", &format!(":{line}:")],
        );
    }
}

#[test]
fn a_value_out_of_range_says_what_is_expected() {
    let site = Site::bare("[limits]\nrecipients_max = 5\nmessage_size_max = \"large\"\n");
    let output = run(site.command(&["config", "check"]));
    complains(
        &output,
        &["recipients_max", "100", "message_size_max", "large"],
    );
}

#[test]
fn a_missing_configuration_says_how_to_write_one() {
    let mut command = Command::new(PROGRAM);
    command.args(["--config", "/nonexistent/nightmail.toml", "serve"]);
    complains(
        &run(command),
        &["/nonexistent/nightmail.toml", "config example"],
    );
}

#[test]
fn an_occupied_port_is_named_with_what_to_do() {
    let site = Site::new("");
    let address = site.address(Service::Imap);
    let _occupant = std::net::TcpListener::bind(address).unwrap();
    let output = run(site.command(&["serve"]));
    complains(&output, &[&address.to_string(), "another"]);
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let site = Site::started("");
    let other = Site::on(private_dir(), site.data.clone(), "");
    let output = run(other.command(&["serve"]));
    complains(&output, &["in use", "admin socket"]);
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named_with_the_remedy() {
    let dir = private_dir();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let data = file.join("data");
    let shown = data.display().to_string();
    let site = Site::on(dir, data, "");
    let output = run(site.command(&["serve"]));
    complains(&output, &[&shown, "`data` in [server]"]);
}

#[test]
fn another_users_data_directory_is_refused_with_the_command_to_use() {
    let site = Site::new("");
    let mut chown = Command::new("chown");
    let owned = chown
        .args(["-R", "65534"])
        .arg(&site.data)
        .output()
        .unwrap();
    if !owned.status.success() {
        return skip("only root can give a directory away");
    }
    let output = run(site.command(&["account", "list"]));
    complains(&output, &["65534", "sudo -u"]);
}

#[test]
fn a_data_directory_open_to_all_is_warned_about() {
    let site = Site::new("");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&site.data, open).unwrap();
    let output = run(site.command(&["config", "check"]));
    assert_eq!(output.status.code(), Some(0));
    assert!(
        text(&output.stdout).contains("chmod 0750"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn a_data_directory_that_the_program_makes_is_closed_to_others() {
    let site = Site::new("");
    let mode = std::fs::metadata(&site.data).unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0, "{mode:o}");
    let output = run(site.command(&["config", "check"]));
    assert!(
        !text(&output.stdout).contains("warning"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn an_account_of_an_unknown_domain_is_refused_with_the_command_to_use() {
    let mut site = Site::new("");
    let add = ["account", "add", "ann@other.test", "--password", "x"];
    complains(&run(site.command(&add)), &["other.test", "domain add"]);
    site.start();
    complains(&run(site.command(&add)), &["other.test", "domain add"]);
    site.stop();
}

#[test]
fn a_server_told_to_stop_finishes_the_message_it_is_reading() {
    let mut site = Site::started("");
    let mut smtp = Smtp::connect(site.address(Service::Smtp)).unwrap();
    let begun = smtp
        .begin("a@far.test", "", &["alice@example.test"])
        .unwrap();
    assert_eq!(begun.code, 354);
    smtp.lines
        .write(b"Subject: unfinished\r\n\r\nfirst half\r\n")
        .unwrap();
    // A second session that ends shows that the server has taken notice of the signal.
    let mut idle = Smtp::connect(site.address(Service::Smtp)).unwrap();
    site.terminate();
    assert_eq!(idle.reply().unwrap().code, 421);
    smtp.lines.write(b"second half\r\n.\r\n").unwrap();
    assert_eq!(smtp.reply().unwrap().code, 250);
    let rest = smtp.lines.rest().unwrap();
    assert!(
        rest.is_empty() || rest.starts_with(b"421 "),
        "{}",
        text(&rest)
    );
    assert_eq!(site.ended().code(), Some(0));
    site.start();
    let mut pop3 = Pop3::login(site.address(Service::Pop3), "alice", "demo").unwrap();
    assert!(text(&pop3.read("RETR 1").unwrap()).contains("second half"));
    site.stop();
}

#[test]
fn a_server_told_to_stop_says_bye_to_idle_readers() {
    let mut site = Site::started("");
    let mut imap = Imap::open(site.address(Service::Imap), "alice", "demo", "INBOX").unwrap();
    imap.start("IDLE").unwrap();
    assert!(imap.response().unwrap().text.starts_with('+'));
    let mut waiting = Imap::connect(site.address(Service::Imap)).unwrap();
    site.terminate();
    for imap in [&mut imap, &mut waiting] {
        let rest = text(&imap.lines.rest().unwrap());
        assert!(rest.contains("* BYE"), "{rest:?}");
    }
    assert_eq!(site.ended().code(), Some(0));
}

#[test]
fn a_server_told_to_stop_twice_stops_at_once() {
    let mut site = Site::started("");
    let mut smtp = Smtp::connect(site.address(Service::Smtp)).unwrap();
    smtp.begin("a@far.test", "", &["alice@example.test"])
        .unwrap();
    let mut idle = Smtp::connect(site.address(Service::Smtp)).unwrap();
    site.terminate();
    assert_eq!(idle.reply().unwrap().code, 421);
    site.terminate();
    assert_eq!(site.ended().code(), Some(0));
    assert!(
        smtp.lines
            .rest()
            .is_ok_and(|rest| !text(&rest).contains("250"))
    );
}

#[test]
fn what_was_accepted_is_there_after_a_restart() {
    let mut site = Site::started("");
    let mut smtp = Smtp::connect(site.address(Service::Smtp)).unwrap();
    let sent = message("restart", "still here");
    let reply = smtp
        .send(
            "a@far.test",
            &["alice@example.test", "bob@example.test"],
            &sent,
        )
        .unwrap();
    assert_eq!(reply.code, 250);
    site.stop();
    site.start();
    for user in ["alice", "bob"] {
        let mut pop3 = Pop3::login(site.address(Service::Pop3), user, "demo").unwrap();
        assert!(pop3.read("RETR 1").unwrap().ends_with(&sent));
    }
    let checked = site.admin(&["check", "--read-messages"]);
    assert_eq!(checked["problems"], serde_json::json!([]), "{checked}");
    site.stop();
}
