//! Deliveries, removals, reclaiming and compaction by several nodes at once, in every order of their calls.
//!
//! After each schedule every message has its link, its blob row and its bytes; and once everything unreferenced has
//! been reclaimed, no row of a blob is left that nothing refers to. `NIGHTMAIL_SCHEDULES` sets how many schedules of
//! each scene are run at most.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod interleavings {
    pub mod acts;
    pub mod explore;
    pub mod gate;
    pub mod scene;
}

use interleavings::acts::Act::{
    Compact, Copy, CopyBeside, Deliver, Reclaim, ReclaimInOneStep, ReclaimUnchecked, Remove,
    RemoveAt,
};
use interleavings::explore::explore;
use interleavings::scene::Scene;

const X: &str = "the bytes that everybody sends";
const Y: &str = "other bytes";

#[test]
fn bytes_delivered_while_they_are_reclaimed_stay() {
    explore(&Scene {
        name: "delivery, both steps of reclaiming, removal of the last link",
        before: vec![Deliver(vec![(1, X)])],
        actors: vec![
            vec![Deliver(vec![(2, X)])],
            vec![Reclaim(1), Reclaim(2)],
            vec![Remove(1)],
        ],
        reduced: true,
    })
    .assert_clean();
}

#[test]
fn bytes_marked_for_deletion_are_taken_back_by_a_delivery() {
    explore(&Scene {
        name: "delivery, second step of reclaiming",
        before: vec![Deliver(vec![(1, X)]), Remove(1), Reclaim(1)],
        actors: vec![vec![Deliver(vec![(2, X)])], vec![Reclaim(2), Reclaim(3)]],
        reduced: false,
    })
    .assert_clean();
}

#[test]
fn two_deliveries_of_the_same_bytes_and_a_reclaimer_agree() {
    explore(&Scene {
        name: "two deliveries, both steps of reclaiming",
        before: vec![Deliver(vec![(1, X)]), Remove(1)],
        actors: vec![
            vec![Deliver(vec![(2, X)])],
            vec![Deliver(vec![(3, X)])],
            vec![Reclaim(1), Reclaim(2)],
        ],
        reduced: true,
    })
    .assert_clean();
}

/// A reclaimer may be held up between its look and its commit for longer than the grace period. By then the blob may
/// have been marked by another, taken back by a delivery, and looked at for deletion by a third.
#[test]
fn a_mark_that_comes_late_does_not_revive_a_deletion() {
    explore(&Scene {
        name: "delivery, two reclaimers",
        before: vec![Deliver(vec![(1, X)]), Remove(1)],
        actors: vec![
            vec![Reclaim(1)],
            vec![Reclaim(1), Reclaim(2)],
            vec![Deliver(vec![(2, X)])],
        ],
        reduced: true,
    })
    .assert_clean();
}

/// A group holds bytes that are stored and bytes that turn out to have been reclaimed since it was gathered.
#[test]
fn a_group_that_appends_bytes_again_still_checks_the_others() {
    explore(&Scene {
        name: "a group of two, second step of reclaiming",
        before: vec![
            Deliver(vec![(1, X), (2, Y)]),
            Remove(1),
            Remove(2),
            Reclaim(1),
        ],
        actors: vec![vec![Deliver(vec![(3, X), (4, Y)])], vec![Reclaim(2)]],
        reduced: false,
    })
    .assert_clean();
}

#[test]
fn removal_and_copy_at_once_leave_a_link_or_nothing() {
    explore(&Scene {
        name: "removal, copy, both steps of reclaiming",
        before: vec![Deliver(vec![(1, X)])],
        actors: vec![
            vec![Remove(1)],
            vec![Copy(1, 2)],
            vec![Reclaim(1), Reclaim(2)],
        ],
        reduced: true,
    })
    .assert_clean();
}

/// A copy of what is there reads nothing of the blob.
#[test]
fn a_copy_beside_its_original_keeps_the_bytes() {
    explore(&Scene {
        name: "removal, copy beside, both steps of reclaiming",
        before: vec![Deliver(vec![(1, X)])],
        actors: vec![
            vec![Remove(1)],
            vec![CopyBeside(1, 2)],
            vec![Reclaim(1), Reclaim(2)],
        ],
        reduced: true,
    })
    .assert_clean();
    explore(&Scene {
        name: "delivery of what is condemned, a copy beside it, reclaiming",
        before: vec![Deliver(vec![(1, X)]), Remove(1), Reclaim(1)],
        actors: vec![
            vec![Deliver(vec![(2, X)]), CopyBeside(2, 3), Remove(2)],
            vec![Reclaim(2), Reclaim(3)],
        ],
        reduced: true,
    })
    .assert_clean();
}

/// Clocks of nodes differ, so the same blob can be listed twice under one time.
#[test]
fn a_removal_listed_under_the_same_time_is_not_forgotten() {
    explore(&Scene {
        name: "removal under the time of another, reclaiming",
        before: vec![Deliver(vec![(1, X), (2, X)]), RemoveAt(1, 5)],
        actors: vec![vec![RemoveAt(2, 5)], vec![Reclaim(1), Reclaim(2)]],
        reduced: false,
    })
    .assert_clean();
}

#[test]
fn bytes_delivered_while_they_are_moved_are_found() {
    explore(&Scene {
        name: "delivery, compaction, removal",
        before: vec![Deliver(vec![(1, X)]), Deliver(vec![(2, Y)])],
        actors: vec![
            vec![Deliver(vec![(3, X)])],
            vec![Compact(101)],
            vec![Remove(1)],
        ],
        reduced: false,
    })
    .assert_clean();
}

#[test]
fn bytes_moved_while_they_are_reclaimed_are_gone_or_found() {
    explore(&Scene {
        name: "compaction, second step of reclaiming, delivery",
        before: vec![
            Deliver(vec![(1, X)]),
            Deliver(vec![(2, Y)]),
            Remove(1),
            Reclaim(1),
        ],
        actors: vec![
            vec![Compact(101)],
            vec![Reclaim(2)],
            vec![Deliver(vec![(3, X)])],
        ],
        reduced: false,
    })
    .assert_clean();
}

/// What one compaction has moved and not yet entered in the rows is nobody's to another, and old.
#[test]
fn two_compactions_do_not_take_each_others_copies() {
    explore(&Scene {
        name: "two compactions, delivery of other bytes",
        before: vec![Deliver(vec![(1, X)]), Deliver(vec![(2, Y)])],
        actors: vec![
            vec![Compact(101)],
            vec![Deliver(vec![(3, "more")]), Compact(1)],
        ],
        reduced: false,
    })
    .assert_clean();
}

#[test]
fn a_reclaimer_that_does_not_check_the_row_is_caught() {
    let findings = explore(&Scene {
        name: "delivery, a reclaimer without its check",
        before: vec![Deliver(vec![(1, X)]), Remove(1), Reclaim(1)],
        actors: vec![vec![Deliver(vec![(2, X)])], vec![ReclaimUnchecked]],
        reduced: true,
    });
    assert!(!findings.failures.is_empty(), "{findings:?}");
}

#[test]
fn a_reclaimer_that_does_not_mark_first_is_caught() {
    let findings = explore(&Scene {
        name: "delivery, a reclaimer with one step",
        before: vec![Deliver(vec![(1, X)]), Remove(1)],
        actors: vec![vec![Deliver(vec![(2, X)])], vec![ReclaimInOneStep]],
        reduced: true,
    });
    assert!(!findings.failures.is_empty(), "{findings:?}");
}
