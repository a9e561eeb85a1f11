//! Every metric that any crate records stands in the one table that names and explains them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use nightmail_server::metrics::METRICS;

fn sources(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(std::fs::read_to_string(path).unwrap());
        }
    }
}

/// The metric names that stand as literals in a source.
fn recorded(source: &str) -> impl Iterator<Item = &str> {
    let literals = source.split("\"nightmail_").skip(1);
    let names = literals.filter_map(|rest| rest.split('"').next());
    names.filter(|name| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    })
}

#[test]
fn every_metric_recorded_is_in_the_table() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut all = Vec::new();
    for entry in std::fs::read_dir(crates).unwrap() {
        sources(&entry.unwrap().path().join("src"), &mut all);
    }
    let names: Vec<&str> = all.iter().flat_map(|source| recorded(source)).collect();
    assert!(names.len() > 5, "the search found only {names:?}");
    for name in names {
        let known = METRICS
            .iter()
            .any(|metric| metric.name.strip_prefix("nightmail_") == Some(name));
        assert!(known, "nightmail_{name} is not in the table of metrics");
    }
}
