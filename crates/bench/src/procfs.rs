//! What a server process costs, read from `/proc`.

use std::fs;
use std::io;

use serde::Serialize;

use crate::error::BenchError;

/// Ticks of processor time in a second, as `/proc/PID/stat` counts them on every Linux architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// One reading of one process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ProcessSample {
    /// Resident memory, in bytes.
    pub rss_bytes: u64,
    /// The most resident memory there has been, in bytes.
    pub rss_peak_bytes: u64,
    /// Bytes sent towards the disk so far.
    pub write_bytes: u64,
    /// Processor time so far, user and system, in seconds.
    pub cpu_seconds: f64,
}

impl ProcessSample {
    /// Reads `/proc/PID/status`, `io` and `stat`. Fails when there is no such process; a file that only its
    /// owner may read counts as zero.
    pub fn read(pid: u32) -> Result<Self, BenchError> {
        let status = read(pid, "status")?;
        let io = readable(read(pid, "io"))?;
        let stat = readable(read(pid, "stat"))?;
        Ok(Self {
            rss_bytes: field(&status, "VmRSS:") * 1024,
            rss_peak_bytes: field(&status, "VmHWM:") * 1024,
            write_bytes: field(&io, "write_bytes:"),
            cpu_seconds: cpu_ticks(&stat) as f64 / TICKS_PER_SECOND,
        })
    }
}

fn read(pid: u32, file: &str) -> Result<String, BenchError> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).map_err(|source| BenchError::Process { path, source })
}

fn readable(text: Result<String, BenchError>) -> Result<String, BenchError> {
    match text {
        Err(BenchError::Process { source, .. })
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            Ok(String::new())
        }
        other => other,
    }
}

/// The number after `name` at the start of a line; 0 when there is none.
fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// Fields 14 and 15 of `stat`, counted behind the name, which may hold spaces.
fn cpu_ticks(stat: &str) -> u64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum()
}

/// What one process cost over a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerCost {
    /// The process.
    pub pid: u32,
    /// Before the first connection.
    pub before: ProcessSample,
    /// After the last operation, before connections are closed where the workload holds them.
    pub after: ProcessSample,
}

impl ServerCost {
    /// Bytes sent towards the disk in the run.
    pub fn written_bytes(&self) -> u64 {
        self.after
            .write_bytes
            .saturating_sub(self.before.write_bytes)
    }

    /// Processor time in the run, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        self.after.cpu_seconds - self.before.cpu_seconds
    }

    /// Growth of resident memory, in bytes; 0 when it shrank.
    pub fn rss_growth_bytes(&self) -> u64 {
        self.after.rss_bytes.saturating_sub(self.before.rss_bytes)
    }
}

/// The server's processes, sampled once at the start.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    before: Vec<(u32, ProcessSample)>,
}

impl Watch {
    pub(crate) fn start(pids: &[u32]) -> Result<Self, BenchError> {
        let before = pids
            .iter()
            .map(|pid| Ok((*pid, ProcessSample::read(*pid)?)))
            .collect::<Result<_, BenchError>>()?;
        Ok(Self { before })
    }

    pub(crate) fn finish(self) -> Result<Vec<ServerCost>, BenchError> {
        let cost = |(pid, before)| {
            let after = ProcessSample::read(pid)?;
            Ok(ServerCost { pid, before, after })
        };
        self.before.into_iter().map(cost).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory() {
        let sample = ProcessSample::read(std::process::id()).unwrap();
        assert!(sample.rss_bytes > 1 << 20);
        assert!(sample.rss_peak_bytes >= sample.rss_bytes);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(ProcessSample::read(u32::MAX).is_err());
    }

    #[test]
    fn a_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 12 30 0 0 20 0 1 0";
        assert_eq!(cpu_ticks(stat), 42);
    }

    #[test]
    fn a_field_is_read_by_its_whole_name() {
        let text = "VmHWM:\t  20 kB\nVmRSS:\t  10 kB\n";
        assert_eq!(field(text, "VmRSS:"), 10);
        assert_eq!(field(text, "VmSwap:"), 0);
    }
}
