//! The server at a glance.

use std::collections::BTreeMap;

use super::{Answer, PAGE};
use crate::context::AdminContext;
use crate::error::AdminError;
use crate::response::{AdminResponse, StatusView};

pub(super) async fn status(context: &AdminContext) -> Answer {
    let committer = context.store.committer();
    let queue = context.queue.stats(nightmail_commit::now()).await?;
    let (engine, heap) = (committer.engine().stats(), committer.heap().stats());
    let mut view = StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: context.uptime_seconds(),
        queued: queue.messages,
        queue_due: queue.due,
        queue_next: queue.earliest_due.map(|due| due.to_string()),
        segments: heap.segments,
        segment_bytes: heap.segment_bytes,
        commits: engine.commits,
        syncs: engine.syncs + heap.syncs,
        failures: engine.failures + heap.failures,
        metrics: excerpt(&context.metrics()),
        ..StatusView::default()
    };
    count_directory(context, &mut view).await?;
    Ok(AdminResponse::Status(view))
}

async fn count_directory(context: &AdminContext, view: &mut StatusView) -> Result<(), AdminError> {
    let mut after = None;
    loop {
        let page = context
            .directory
            .list_domains(after.as_deref(), PAGE)
            .await?;
        view.domains += page.items.len() as u64;
        view.accounts += page.items.iter().map(|domain| domain.accounts).sum::<u64>();
        view.aliases += page.items.iter().map(|domain| domain.aliases).sum::<u64>();
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Counters and gauges, without comments and without the buckets of distributions.
fn excerpt(rendered: &str) -> BTreeMap<String, String> {
    rendered
        .lines()
        .filter(|line| {
            !line.starts_with('#') && !line.contains("_bucket{") && !line.contains("quantile=")
        })
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_excerpt_leaves_comments_and_buckets_out() {
        let text = "# HELP a b\n# TYPE a counter\na{x=\"y z\"} 3\nh_bucket{le=\"1\"} 2\nh_sum 5\n";
        let excerpt = excerpt(text);
        assert_eq!(excerpt.get("a{x=\"y z\"}").map(String::as_str), Some("3"));
        assert_eq!(excerpt.len(), 2);
    }
}
