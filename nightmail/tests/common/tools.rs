//! Other people's programs: found, run with a bound on their time, judged by exit code.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::require;

/// How long a program may take; some of them are large and slow to start.
const PROGRAM_SECS_MAX: &str = "170s";

/// What a program did.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Done {
    /// Standard output as text.
    pub fn out(&self) -> String {
        super::text(&self.stdout)
    }

    /// Everything it said.
    pub fn all(&self) -> String {
        format!("{}{}", self.out(), super::text(&self.stderr))
    }

    /// It must have exited with 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.all());
        self
    }
}

/// Whether a program is installed; says so when it is not.
pub fn has(program: &str) -> bool {
    let found = nightmail_testbed::programs::find(program, &[]).is_some();
    if !found {
        require(&format!("{program} is not installed"));
    }
    found
}

/// Runs a program to its end, or kills it after [`PROGRAM_SECS_MAX`].
pub fn run(program: &str, arguments: &[&str]) -> Done {
    run_with(program, arguments, b"", &[])
}

/// The same with standard input and environment.
pub fn run_with(program: &str, arguments: &[&str], input: &[u8], env: &[(&str, &Path)]) -> Done {
    let mut command = Command::new("timeout");
    command
        .args(["-k", "5s", PROGRAM_SECS_MAX, program])
        .args(arguments);
    for (name, value) in env {
        command.env(name, value);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A program that reads no further is judged by its exit code.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Done {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: output.stderr,
    }
}

/// Runs one of the scripts in `tests/clients`.
pub fn python(script: &str, arguments: &[&str]) -> Done {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/clients")
        .join(script);
    let mut all = vec![path.to_str().unwrap()];
    all.extend(arguments);
    run("python3", &all)
}

/// Writes a file that only its owner can read, as clients want their configuration.
pub fn private_file(path: &Path, content: &str) -> PathBuf {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(content.as_bytes()).unwrap();
    path.to_owned()
}
