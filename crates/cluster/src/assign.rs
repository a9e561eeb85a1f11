//! Which node is to hold which lease: rendezvous hashing with an even share for everybody.
//!
//! Every node works this out for itself from the rows it read. Two that read different rows may differ for a moment:
//! the lease rows decide.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::lease::{LeaseName, Shard};
use crate::name::{NodeName, Role};
use crate::view::View;

/// The node that is to hold each lease; a lease that no node may hold is left out.
pub(crate) fn wanted(view: &View) -> BTreeMap<LeaseName, NodeName> {
    let senders = view.at_work(Some(Role::Delivery));
    let mut wanted = shards(&senders);
    let mut workers = view.at_work(Some(Role::Admin));
    if workers.is_empty() {
        workers = view.at_work(None);
    }
    let job = LeaseName::Maintenance;
    if let Some(node) = workers.into_iter().max_by_key(|node| weight(job, node)) {
        wanted.insert(job, node);
    }
    wanted
}

/// The pairs of a shard and a node are taken in the order of their weight, unless the shard has a node already or the
/// node its share. A node that comes or goes moves little more than its own share.
fn shards(nodes: &[NodeName]) -> BTreeMap<LeaseName, NodeName> {
    let share = Shard::all().count().div_ceil(nodes.len().max(1));
    let mut pairs: Vec<(LeaseName, &NodeName)> = Shard::all()
        .flat_map(|shard| {
            nodes
                .iter()
                .map(move |node| (LeaseName::Queue(shard), node))
        })
        .collect();
    pairs.sort_by_key(|(lease, node)| Reverse(weight(*lease, node)));
    let mut taken: BTreeMap<&NodeName, usize> = BTreeMap::new();
    let mut wanted = BTreeMap::new();
    for (lease, node) in pairs {
        let count = taken.entry(node).or_default();
        if *count < share && !wanted.contains_key(&lease) {
            *count += 1;
            wanted.insert(lease, node.clone());
        }
    }
    wanted
}

fn weight(lease: LeaseName, node: &NodeName) -> u64 {
    xxh3_64_with_seed(node.as_str().as_bytes(), lease.seed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<NodeName> {
        (1..=count)
            .map(|number| format!("node{number}").parse().unwrap())
            .collect()
    }

    #[test]
    fn every_shard_has_one_node_and_shares_are_even() {
        for count in 1..20 {
            let names = names(count);
            let wanted = shards(&names);
            assert_eq!(wanted.len(), Shard::all().count());
            let share = Shard::all().count().div_ceil(count);
            for name in &names {
                assert!(wanted.values().filter(|node| *node == name).count() <= share);
            }
        }
        assert!(shards(&[]).is_empty());
    }

    #[test]
    fn a_node_that_comes_moves_less_than_half_of_the_shards() {
        for count in 2..8 {
            let (before, after) = (shards(&names(count)), shards(&names(count + 1)));
            let moved = before
                .iter()
                .filter(|(lease, node)| after.get(lease) != Some(node))
                .count();
            assert!(moved <= 8, "{count} nodes: {moved} moved");
        }
    }
}
