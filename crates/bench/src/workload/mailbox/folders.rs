//! What a client asks at its start: the state of every folder.

use super::{MailboxArgs, Timings};
use crate::error::BenchError;

const ITEMS: &str = "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN)";

/// Makes the folders that are missing, and asks for the state of all of them.
pub(super) fn folders(args: &MailboxArgs) -> Result<Timings, BenchError> {
    let mut raw = args.login()?;
    let count = args.load.count;
    let names: Vec<String> = (0..count)
        .map(|number| format!("Folder{number:05}"))
        .collect();
    let there = raw.command("LIST", "\"\" \"Folder*\"")?;
    if there.lines <= count {
        for name in &names {
            // Some may be there.
            let _ = raw.command("CREATE", name);
        }
    }
    let mut timings = Timings::default();
    for _ in 0..args.repeat {
        for name in &names {
            raw.queue("STATUS", &format!("{name} {ITEMS}"));
        }
        let told = raw.run("STATUS")?;
        if told.lines < 2 * count || told.has(" NO ") {
            return Err(BenchError::Unexpected("a STATUS was not answered".into()));
        }
        timings.add("STATUS of every folder", told.took, count);
        if raw.can("LIST-STATUS") {
            let all = format!("\"\" \"Folder*\" RETURN (STATUS {ITEMS})");
            let told = raw.command("LIST", &all)?;
            timings.add("LIST with STATUS", told.took, count);
        }
        let told = raw.command("LIST", "\"\" \"*\"")?;
        timings.add("LIST", told.took, count);
    }
    Ok(timings)
}
