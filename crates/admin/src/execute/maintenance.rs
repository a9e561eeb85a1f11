//! Checking, repairing and giving space back.

use nightmail_commit::{ReclaimOptions, Reclaimer};
use nightmail_store::CheckOptions;

use super::Answer;
use crate::context::AdminContext;
use crate::response::{AdminResponse, CheckView, ReclaimView};

/// Files of bodies looked at in one step of compaction.
const SEGMENTS_STEP: usize = 16;
/// Problems put into words; more are only counted.
const PROBLEMS_SHOWN_MAX: usize = 10_000;

pub(super) async fn check(context: &AdminContext, read_blobs: bool, repair: bool) -> Answer {
    let directory = context.directory.check().await?;
    let store = context
        .store
        .check(CheckOptions { read_blobs, repair })
        .await?;
    let mut repaired = store.repaired;
    if repair {
        repaired += context.directory.repair().await? as u64;
    }
    let mut problems = directory.problems;
    problems.extend(
        store
            .problems
            .iter()
            .take(PROBLEMS_SHOWN_MAX)
            .map(ToString::to_string),
    );
    if store.problems.len() > PROBLEMS_SHOWN_MAX {
        problems.push(format!(
            "… and {} more",
            store.problems.len() - PROBLEMS_SHOWN_MAX
        ));
    }
    Ok(AdminResponse::Checked(CheckView {
        domains: directory.domains,
        accounts: directory.accounts,
        aliases: directory.aliases,
        mailboxes: store.mailboxes,
        messages: store.messages,
        blobs: store.blobs,
        problems,
        repaired,
    }))
}

/// Messages removed for good in one step.
const PURGED_AT_ONCE: usize = 10_000;

/// Removes deleted messages that can no longer be brought back, deletes bodies whose grace period is over, then rewrites
/// the files that hold little else.
pub(super) async fn reclaim(context: &AdminContext) -> Answer {
    let engine = context.store.committer().engine();
    let options = ReclaimOptions {
        grace_millis: context.maintenance.grace_millis,
        ..ReclaimOptions::default()
    };
    let reclaimer = Reclaimer::new(std::sync::Arc::clone(engine), options);
    let mut view = ReclaimView::default();
    loop {
        let (now, window) = (nightmail_commit::now(), context.maintenance.undelete_window);
        let purging = context.store.purge_expunged(now, window, PURGED_AT_ONCE);
        match purging.await? {
            0 => break,
            purged => view.purged += purged as u64,
        }
    }
    loop {
        let report = reclaimer.run_once(nightmail_commit::now()).await?;
        view.condemned += report.condemned;
        view.reclaimed += report.reclaimed;
        view.reclaimed_bytes += report.reclaimed_bytes;
        if report.kept + report.condemned + report.reclaimed == 0 {
            break;
        }
    }
    compact(context, &mut view).await?;
    Ok(AdminResponse::Reclaimed(view))
}

async fn compact(
    context: &AdminContext,
    view: &mut ReclaimView,
) -> Result<(), crate::error::AdminError> {
    let mut compactor = context.compactor.lock().await;
    compactor.restart();
    loop {
        let report = compactor
            .run_once(nightmail_commit::now(), SEGMENTS_STEP)
            .await?;
        view.segments_examined += report.examined;
        view.segments_removed += report.removed;
        view.freed_bytes += report.reclaimed_bytes;
        if report.complete {
            return Ok(());
        }
    }
}
