//! FETCH of flags, modification sequences and sizes: answered from memory, without a look at any row.

use std::time::Instant;

use nightmail_core::Uid;
use nightmail_imap::command::fetch::FetchPlan;
use nightmail_imap::io::FetchRow;
use nightmail_imap::{Answer, Input};
use nightmail_store::Snapshot;

use super::super::ImapSession;
use super::super::failure::Failure;
use crate::net::Transport;

/// Messages of which the keywords are looked through at once.
const MARKS_AT_ONCE: usize = 4096;

/// Whether a snapshot knows all that a plan asks of each message.
pub(super) fn know(plan: &FetchPlan) -> bool {
    // The size of a message is in memory too, but for messages that hardly exist; they are left to `fetch`.
    let rows = plan.internal_date || plan.save_date || plan.object_ids || plan.preview;
    let structures = plan.envelope || plan.body || plan.body_structure;
    let contents = plan.set_seen || !plan.sections.is_empty() || !plan.binaries.is_empty();
    !(rows || structures || contents)
}

impl ImapSession {
    /// Tells what a snapshot knows of messages. Those that are not in it are gone.
    pub(super) async fn fetch_marks(
        &mut self,
        wanted: &[u32],
        snapshot: &Snapshot,
        transport: &mut Transport,
    ) -> Result<Answer, Failure> {
        let mut missing = 0;
        for uids in wanted.chunks(MARKS_AT_ONCE) {
            let marks = uids.iter().filter_map(|uid| snapshot.mark(*uid));
            let ids = marks.flat_map(|mark| mark.keywords);
            let table = self.keywords_with(ids.copied()).await?;
            let now = Instant::now();
            for uid in uids {
                let (Some(mark), Some(uid)) = (snapshot.mark(*uid), Uid::new(*uid)) else {
                    missing += 1;
                    continue;
                };
                let row = FetchRow {
                    flags: table.flag_list(mark.flags, mark.keywords),
                    modseq: mark.modseq,
                    octets: mark.size().unwrap_or_default(),
                    ..FetchRow::new(uid)
                };
                self.machine
                    .handle(now, Input::Answer(Answer::FetchRow(row)));
                if self.machine.output_is_full() {
                    self.drain(transport).await?;
                }
            }
        }
        Ok(Answer::FetchDone { gone: missing > 0 })
    }
}
