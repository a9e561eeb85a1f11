//! `cargo xtask tidy`: layers, sources and licences, also run as tests.

use std::path::Path;

use crate::error::TaskError;
use crate::{layers, licences, rules};

/// Prints what is wrong; fails when anything is.
pub(crate) fn run(root: &Path) -> Result<(), TaskError> {
    let mut findings = layers::check(root)?;
    findings.extend(rules::check(root)?);
    let licences = licences::check(root)?;
    for told in &licences.flagged {
        println!("note: {told}");
    }
    findings.extend(licences.refused);
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => Err(TaskError::Found(format!("tidy: {count} findings"))),
    }
}

#[cfg(test)]
mod tests {
    use crate::{layers, licences, root, rules};

    #[test]
    fn arrows_between_crates_point_down_only() {
        assert_eq!(layers::check(&root()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn sources_keep_to_the_rules() {
        assert_eq!(rules::check(&root()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn dependencies_are_permissive() {
        assert_eq!(
            licences::check(&root()).unwrap().refused,
            Vec::<String>::new()
        );
    }
}
