//! The command that sets and removes DNS records.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::AcmeError;

/// How long it may take; it may wait until all name servers have the record.
const HOOK_MAX: Duration = Duration::from_secs(10 * 60);
/// Octets of what it complains that are kept.
const COMPLAINT_OCTETS_MAX: u64 = 1024;

/// What is to be done with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Record {
    Set,
    Remove,
}

/// Calls the command, without a shell: `set` or `remove`, the record's name, its text. It succeeds by exit code 0.
pub(super) async fn call(
    hook: &Path,
    record: Record,
    name: &str,
    text: &str,
) -> Result<(), AcmeError> {
    let word = match record {
        Record::Set => "set",
        Record::Remove => "remove",
    };
    let failed =
        |what: String| AcmeError::Hook(format!("{} {word} {name}: {what}", hook.display()));
    let mut child = Command::new(hook)
        .args([word, name, text])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let mut complaint = Vec::new();
    let ending = async {
        if let Some(errors) = child.stderr.take() {
            let mut first = errors.take(COMPLAINT_OCTETS_MAX);
            first.read_to_end(&mut complaint).await?;
            // What follows is read and dropped, so that the command is not held up.
            tokio::io::copy(&mut first.into_inner(), &mut tokio::io::sink()).await?;
        }
        child.wait().await
    };
    let status = tokio::time::timeout(HOOK_MAX, ending)
        .await
        .map_err(|_| failed("it does not end".to_owned()))?
        .map_err(|error| failed(error.to_string()))?;
    if status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&complaint);
    Err(failed(format!("{status} {}", complaint.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn script(dir: &Path, text: &str) -> std::path::PathBuf {
        let path = dir.join("hook");
        // Moved into place by another process, so that no test that forks meanwhile holds it open for writing.
        let draft = dir.join("draft");
        std::fs::write(&draft, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o700)).unwrap();
        let copied = std::process::Command::new("cp")
            .args(["-p".as_ref(), draft.as_os_str(), path.as_os_str()])
            .status()
            .unwrap();
        assert!(copied.success());
        path
    }

    #[tokio::test]
    async fn the_command_gets_its_words_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let hook = script(dir.path(), "printf '%s|' \"$#\" \"$@\" > \"$0.said\"");
        let text = "a b;$(exit 1)'\"";
        call(&hook, Record::Set, "_acme-challenge.a.test", text)
            .await
            .unwrap();
        let said = std::fs::read_to_string(dir.path().join("hook.said")).unwrap();
        assert_eq!(said, format!("3|set|_acme-challenge.a.test|{text}|"));
    }

    #[tokio::test]
    async fn a_command_that_fails_is_quoted_up_to_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let hook = script(
            dir.path(),
            "echo no such zone >&2; head -c 300000 /dev/zero >&2; exit 3",
        );
        let error = call(&hook, Record::Remove, "n", "t").await.unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("remove n: exit status: 3 no such zone"),
            "{error}"
        );
        assert!(error.len() < 2048);
    }

    #[tokio::test]
    async fn a_missing_command_is_an_error() {
        let error = call(Path::new("/no/such/hook"), Record::Set, "n", "t").await;
        assert!(matches!(error, Err(AcmeError::Hook(_))));
    }
}
