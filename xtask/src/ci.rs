//! `cargo xtask ci`: everything that must pass, in order, up to the first failure.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::error::TaskError;
use crate::tidy;

const FORMAT: &[&str] = &["fmt", "--all", "--check"];
const LINTS: &[&str] = &[
    "clippy",
    "--workspace",
    "--all-targets",
    "--",
    "-D",
    "warnings",
];
const NEXTEST: &[&str] = &["nextest", "run", "--workspace", "--no-fail-fast"];
/// nextest does not run the examples in documentation.
const DOC_TESTS: &[&str] = &["test", "--workspace", "--doc"];
const TESTS: &[&str] = &["test", "--workspace", "--no-fail-fast"];

/// Runs every step.
pub(crate) fn run(root: &Path) -> Result<(), TaskError> {
    cargo(root, FORMAT)?;
    cargo(root, LINTS)?;
    step("tidy", || tidy::run(root))?;
    if has_nextest(root) {
        cargo(root, NEXTEST)?;
        cargo(root, DOC_TESTS)?;
    } else {
        cargo(root, TESTS)?;
    }
    println!("==> all passed");
    Ok(())
}

fn step(name: &str, run: impl FnOnce() -> Result<(), TaskError>) -> Result<(), TaskError> {
    println!("==> {name}");
    let began = Instant::now();
    run()?;
    println!(
        "==> {name}: passed in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<(), TaskError> {
    let program = format!("cargo {}", arguments.join(" "));
    step(&program, || {
        let status = Command::new(env!("CARGO"))
            .args(arguments)
            .current_dir(root)
            .status()
            .map_err(|source| TaskError::Start {
                program: program.clone(),
                source,
            })?;
        match status.success() {
            true => Ok(()),
            false => Err(TaskError::Program {
                program: program.clone(),
                detail: String::new(),
            }),
        }
    })
}

fn has_nextest(root: &Path) -> bool {
    let asked = Command::new(env!("CARGO"))
        .args(["nextest", "--version"])
        .current_dir(root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    asked.is_ok_and(|status| status.success())
}
