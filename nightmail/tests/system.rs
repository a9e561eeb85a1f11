//! What the process takes from the system and gives up: sockets of systemd, its user, files (Landlock).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod program;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nightmail_testbed::programs;
use program::{Configured, Running, deliver, stderr, subjects};

/// Ann's account, by commands on the store.
fn add_ann(site: &Configured) {
    site.admin(&["domain", "add", "x.test"]);
    site.admin(&["account", "add", "ann@x.test", "--password", "pw"]);
}

/// Puts other text into the configuration.
fn configure(site: &Configured, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(site.config_path()).unwrap();
    fs::write(site.config_path(), change(text)).unwrap();
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn sockets_are_taken_from_systemd_by_their_names() {
    let Some(activate) = programs::find("systemd-socket-activate", &[]) else {
        return programs::skip("systemd-socket-activate is not installed");
    };
    let site = Configured::new();
    let (lmtp, pop3) = (site.lmtp, site.pop3);
    configure(&site, |text| {
        let text = text.replace(&format!("127.0.0.1:{lmtp}"), "systemd:lmtp");
        text.replace(&format!("127.0.0.1:{pop3}"), "systemd:pop3")
    });
    let mut command = Command::new(activate);
    // The second socket comes first, so that only the name can tell which is which.
    command
        .args([format!("--listen=127.0.0.1:{pop3}")])
        .args([format!("--listen=127.0.0.1:{lmtp}")])
        .args(["--fdname=pop3:lmtp"])
        .arg(env!("CARGO_BIN_EXE_nightmail"))
        .args(["serve", "--config"])
        .arg(site.config_path());
    let server = Running::spawn(&mut command);
    // The first connection starts the server.
    let knock = (0..600).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        std::net::TcpStream::connect(("127.0.0.1", lmtp)).ok()
    });
    server.wait_for_socket(&site.data());
    drop(knock);
    add_ann(&site);
    deliver(lmtp, "ann@x.test", "through systemd");
    assert_eq!(subjects(pop3, "ann@x.test", "pw"), ["through systemd"]);
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_socket_that_systemd_does_not_pass_is_named() {
    let site = Configured::new();
    let lmtp = site.lmtp;
    configure(&site, |text| {
        text.replace(&format!("127.0.0.1:{lmtp}"), "systemd:absent")
    });
    let config = site.config_path().display().to_string();
    let output = program::run(&["serve", "--config", &config]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("FileDescriptorName=absent"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn root_is_given_up_once_ports_are_bound() {
    if !is_root() {
        return programs::skip_always("only root can become somebody else");
    }
    let site = Configured::new();
    fs::set_permissions(site.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    configure(&site, |text| {
        let socket = site.dir.path().join("lmtp.sock");
        format!(
            "{text}\n[[listener]]\nprotocol = \"lmtp\"\naddress = \"unix:{}\"\n\n[system]\nuser = \"nobody\"\n",
            socket.display()
        )
    });
    let server = site.serve();
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let of = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap();
    let ids: Vec<&str> = of("Uid:").split_whitespace().skip(1).collect();
    assert!(
        ids.len() == 4 && ids.iter().all(|id| *id == ids[0] && *id != "0"),
        "{ids:?}"
    );
    assert!(of("CapEff:").ends_with("0000000000000000"), "{status}");
    for path in [site.data(), site.dir.path().join("lmtp.sock")] {
        let owner = fs::metadata(&path).unwrap().uid().to_string();
        assert_eq!(owner, ids[0], "{}", path.display());
    }
    add_ann(&site);
    deliver(site.lmtp, "ann@x.test", "as nobody");
    assert_eq!(subjects(site.pop3, "ann@x.test", "pw"), ["as nobody"]);
    assert_eq!(server.stop().code(), Some(0));
}

/// Makes a certificate for the name, and its key, in a directory.
fn certificate(dir: &Path, name: &str) {
    fs::create_dir_all(dir).unwrap();
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

/// Whether a server reloads a certificate that has come to lie where its configuration does not lead.
fn reloads_from_elsewhere(landlock: bool) -> bool {
    let site = Configured::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let tls = site.dir.path().join("tls");
    certificate(&tls, "one.x.test");
    certificate(elsewhere.path(), "two.x.test");
    configure(&site, |text| {
        let path = |name: &str| tls.join(name).display().to_string();
        format!(
            "{text}\n[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n\n[system]\nlandlock = {landlock}\n",
            path("cert.pem"),
            path("key.pem")
        )
    });
    let mut server = site.serve();
    for name in ["cert.pem", "key.pem"] {
        fs::remove_file(tls.join(name)).unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join(name), tls.join(name)).unwrap();
    }
    server.signal("-HUP");
    !server.line_with("reloaded").contains("those in use stay")
}

#[test]
fn files_that_the_configuration_does_not_name_are_out_of_reach() {
    assert!(reloads_from_elsewhere(false), "without Landlock it can");
    let landlock = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = landlock
        .split('.')
        .map_while(|part| part.parse::<u32>().ok());
    if (parts.next(), parts.next()) < (Some(5), Some(13)) {
        return programs::skip_always("this kernel has no Landlock");
    }
    assert!(!reloads_from_elsewhere(true), "with Landlock it cannot");
}

#[test]
fn the_service_manager_is_told() {
    let site = Configured::new();
    let path = site.dir.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightmail"));
    let config = site.config_path();
    command.args(["serve", "--config"]).arg(config);
    let server = Running::spawn(command.env("NOTIFY_SOCKET", &path));
    let heard = || {
        let mut text = [0; 64];
        let octets = manager.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..octets]).into_owned()
    };
    assert_eq!(heard(), "READY=1");
    server.signal("-TERM");
    assert_eq!(heard(), "STOPPING=1");
    assert_eq!(server.end().0, 0);
}
