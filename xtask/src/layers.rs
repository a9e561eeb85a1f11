//! Which crate may use which: arrows point down only.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::error::TaskError;
use crate::read;

/// One crate: its layer, its folder, and the crates or whole layers it may use.
struct Row {
    name: &'static str,
    layer: u8,
    uses: &'static [&'static str],
}

const fn row(name: &'static str, layer: u8, uses: &'static [&'static str]) -> Row {
    Row { name, layer, uses }
}

/// The table. A new crate gets a row here.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    row("core",      0, &[]),
    row("mime",      0, &["core"]),
    row("sasl",      0, &["core"]),
    row("smtp",      0, &["core", "sasl"]),
    row("imap",      0, &["core", "sasl"]),
    row("pop3",      0, &["core", "sasl"]),
    row("dns",       1, &["core"]),
    row("pace",      1, &["core"]),
    row("engine",    1, &["core"]),
    row("heap",      1, &["core"]),
    row("postgres",  1, &["core", "engine", "heap"]),
    row("commit",    1, &["core", "engine", "heap"]),
    row("events",    1, &["core", "commit", "postgres"]),
    row("cluster",   2, &["core", "L1"]),
    row("access",    2, &["core", "L1"]),
    row("trust",     2, &["core", "mime", "L1"]),
    row("tlspolicy", 2, &["core", "mime", "L1", "cluster", "trust"]),
    row("journal",   2, &["core", "L1"]),
    row("certs",     2, &["core", "L1", "cluster"]),
    row("store",     2, &["L0", "L1"]),
    row("directory", 2, &["core", "L1"]),
    row("queue",     2, &["core", "L1", "cluster", "store"]),
    row("switch",    3, &["L0", "L1", "L2"]),
    row("delivery",  3, &["L0", "L1", "L2", "switch"]),
    row("server",    4, &["L0", "L1", "L2", "L3", "admin"]),
    row("admin",     4, &["L0", "L1", "L2", "L3"]),
    row("bench",     5, &["core"]),
    row("testbed",   5, &[]),
    row("nightmail", 5, &["L0", "L1", "L2", "L3", "L4", "bench"]),
    row("xtask",     5, &["bench", "testbed"]),
];

/// Crates from elsewhere that would bring I/O, clocks or randomness into the lowest layer.
const IMPURE: &[&str] = &[
    "async-nats",
    "fjall",
    "getrandom",
    "hyper",
    "object_store",
    "rand",
    "rustls",
    "socket2",
    "tokio",
    "tokio-postgres",
    "tokio-rustls",
];

fn find(name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.name == name)
}

/// Whether a file, named from the workspace's folder, belongs to a crate of the lowest layer.
pub(crate) fn is_pure(path: &Path) -> bool {
    let mut parts = path.iter().filter_map(|part| part.to_str());
    if parts.next() != Some("crates") {
        return false;
    }
    parts
        .next()
        .and_then(find)
        .is_some_and(|row| row.layer == 0)
}

/// What in the workspace's manifests goes against the table, one line each.
pub(crate) fn check(root: &Path) -> Result<Vec<String>, TaskError> {
    let mut findings = Vec::new();
    for path in manifests(root)? {
        let source = read(&path)?;
        let manifest: Table = toml::from_str(&source).map_err(|source| TaskError::Manifest {
            path: path.clone(),
            source: Box::new(source),
        })?;
        findings.extend(check_manifest(&manifest));
    }
    Ok(findings)
}

fn manifests(root: &Path) -> Result<Vec<PathBuf>, TaskError> {
    let crates = root.join("crates");
    let failed = |source| TaskError::File {
        path: crates.clone(),
        source,
    };
    let mut found = vec![root.join("nightmail"), root.join("xtask")];
    for entry in crates.read_dir().map_err(failed)? {
        found.push(entry.map_err(failed)?.path());
    }
    let manifests = found.iter().map(|folder| folder.join("Cargo.toml"));
    Ok(manifests.filter(|path| path.is_file()).collect())
}

fn check_manifest(manifest: &Table) -> Vec<String> {
    let package = manifest.get("package").and_then(|p| p.get("name"));
    let package = package.and_then(Value::as_str).unwrap_or_default();
    let name = package.strip_prefix("nightmail-").unwrap_or(package);
    let Some(row) = find(name) else {
        return vec![format!("{package} is not in the layer table")];
    };
    dependencies(manifest)
        .filter_map(|used| judge(row, used))
        .collect()
}

/// The names under `dependencies` and `build-dependencies`; tests may use what they like.
fn dependencies(manifest: &Table) -> impl Iterator<Item = &str> {
    ["dependencies", "build-dependencies"]
        .into_iter()
        .filter_map(|section| manifest.get(section)?.as_table())
        .flat_map(|table| table.keys().map(String::as_str))
}

fn judge(row: &Row, used: &str) -> Option<String> {
    let name = row.name;
    let Some(used) = used.strip_prefix("nightmail-") else {
        let impure = row.layer == 0 && IMPURE.contains(&used);
        return impure.then(|| format!("{name} (layer 0) must not use {used}"));
    };
    let Some(target) = find(used) else {
        return Some(format!(
            "{name} uses {used}, which is not in the layer table"
        ));
    };
    let layer = format!("L{}", target.layer);
    let allowed = row.uses.contains(&used) || row.uses.contains(&layer.as_str());
    (!allowed).then(|| {
        let (from, to) = (row.layer, target.layer);
        format!("{name} (layer {from}) must not use {used} (layer {to})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(manifest: &str) -> Vec<String> {
        check_manifest(&toml::from_str(manifest).unwrap())
    }

    #[test]
    fn no_row_points_up() {
        for row in TABLE {
            for used in row.uses {
                let layer = match used.strip_prefix('L') {
                    Some(layer) => layer.parse().unwrap(),
                    None => find(used).unwrap().layer,
                };
                assert!(layer <= row.layer, "{} uses {used}", row.name);
            }
        }
    }

    #[test]
    fn an_arrow_upwards_is_found() {
        let manifest = "[package]\nname = 'nightmail-heap'\n[dependencies]\nnightmail-store = { workspace = true }\n";
        assert_eq!(
            findings(manifest),
            ["heap (layer 1) must not use store (layer 2)"]
        );
    }

    #[test]
    fn the_lowest_layer_has_no_runtime() {
        let manifest = "[package]\nname = 'nightmail-smtp'\n[dependencies]\ntokio = '1'\nbytes = '1'\n[dev-dependencies]\nnightmail-store = '1'\n";
        assert_eq!(findings(manifest), ["smtp (layer 0) must not use tokio"]);
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        assert_eq!(findings("[package]\nname = 'nightmail-odd'\n").len(), 1);
    }

    #[test]
    fn a_layer_stands_for_its_crates() {
        let manifest = "[package]\nname = 'nightmail-server'\n[dependencies]\nnightmail-queue = '1'\nnightmail-imap = '1'\n";
        assert!(findings(manifest).is_empty());
    }

    #[test]
    fn pure_files_are_those_of_the_lowest_layer() {
        assert!(is_pure(Path::new("crates/imap/src/lib.rs")));
        assert!(!is_pure(Path::new("crates/store/src/lib.rs")));
        assert!(!is_pure(Path::new("xtask/src/main.rs")));
    }
}
