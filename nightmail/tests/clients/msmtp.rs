//! msmtp, as `sendmail` of users' programs.

use super::common::site::Service;
use super::common::tools::{has, private_file, run_with};
use super::common::{Site, message};
use super::only;

#[test]
fn msmtp_submits_with_and_without_tls() {
    if !has("msmtp") {
        return;
    }
    let mut site = Site::started("");
    for (name, service, tls) in [
        ("plain", Service::Submission, "tls off\nauth plain\n"),
        (
            "starttls",
            Service::Submission,
            "tls on\ntls_starttls on\ntls_certcheck off\nauth login\n",
        ),
        (
            "tls",
            Service::Submissions,
            "tls on\ntls_starttls off\ntls_certcheck off\nauth plain\n",
        ),
    ] {
        let (host, port) = (site.host(), site.port(service));
        let config = format!(
            "account default\nhost {host}\nport {port}\nfrom alice@example.test\nuser alice\npassword demo\n{tls}"
        );
        let file = private_file(&site.dir().join("msmtprc"), &config);
        let subject = format!("ms-{name}");
        let sent = message(&subject, "one\n.\n..two");
        let unix = String::from_utf8(sent.clone())
            .unwrap()
            .replace("\r\n", "\n");
        let arguments = [
            "-C",
            file.to_str().unwrap(),
            "--",
            "bob@example.test",
            "alice@example.test",
        ];
        run_with("msmtp", &arguments, unix.as_bytes(), &[]).ok();
        for user in ["alice", "bob"] {
            assert!(
                only(&site, user, &subject).ends_with(&sent),
                "{user} {subject}"
            );
        }
    }
    site.stop();
}
