//! What a queue full of deferred mail costs: starting, memory, an idle server's time, and picking what is due.

use std::io::{BufRead, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nightmail_bench::procfs::ProcessSample;
use nightmail_testbed::dns::NameServer;
use serde_json::Value;

use super::load::{Figures, Scale, figure};
use super::nightmail::{Node, folder, launch, write};
use super::relay::{HOST, OPEN};
use super::subject::{Subject, succeed};
use crate::error::TaskError;

pub(super) const FIRST_SEND: &str = "start to first send with a full queue, s";
pub(super) const QUEUED_RSS: &str = "memory with a full queue, MB";
pub(super) const CPU: &str = "CPU of an idle server with a full queue, %";
/// How much longer picking a message takes from a large queue than from a small one.
pub(super) const PICK: &str = "picking from a large queue, times that from a small one";

const PORT: u16 = 13_601;
const DOMAINS: u32 = 10_000;
/// Messages that are due when the server starts.
const DUE_NOW: u32 = 20;
/// After the first send everything that a start brings with it is over.
const QUIET: Duration = Duration::from_secs(15);
/// How long the first send is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures Nightmail.
pub(super) fn measure(program: &Path, scale: &Scale) -> Result<Figures, TaskError> {
    let [large, small] = scale.deferred;
    println!("queue of {large} messages for {DOMAINS} domains");
    let mut figures = Figures::new();
    let picked = pick(program, small)?;
    figures.insert(PICK, pick(program, large)? / picked);
    let full = Filled::new(program, large, DUE_NOW)?;
    full.serve(program, scale, &mut figures)?;
    Ok(figures)
}

/// Microseconds for picking a message from a queue of so many.
fn pick(program: &Path, messages: u32) -> Result<f64, TaskError> {
    let queue = Filled::new(program, messages, 0)?;
    let output = queue.rehearse(program, &["pick"])?;
    let told: Value = serde_json::from_slice(&output).map_err(|source| TaskError::Json {
        program: "rehearse pick".to_owned(),
        source,
    })?;
    println!("    {messages} messages: {told}");
    figure(&told, "/median_micros").ok_or_else(|| TaskError::Found("no message was due".to_owned()))
}

/// A store whose queue is full.
struct Filled {
    folder: tempfile::TempDir,
    config: std::path::PathBuf,
    _names: NameServer,
}

const NAME: &str = "nightmail";

impl Filled {
    fn new(program: &Path, messages: u32, due_now: u32) -> Result<Self, TaskError> {
        let names = NameServer::start();
        names.a("mx.far.test", HOST);
        for number in 1..=DOMAINS {
            names.mx(&format!("d{number:05}.far.test"), 10, "mx.far.test");
        }
        let settings = format!(
            "{OPEN}\n[delivery]\nport = {PORT}\ndns_servers = [\"{}\"]\n",
            names.address()
        );
        let folder = folder()?;
        let node = Node {
            name: NAME,
            host: "127.0.0.1",
            settings: &settings,
        };
        let filled = Self {
            config: write(&node, folder.path())?,
            folder,
            _names: names,
        };
        let (messages, due_now) = (messages.to_string(), due_now.to_string());
        let domains = DOMAINS.to_string();
        let began = Instant::now();
        filled.rehearse(
            program,
            &[
                "fill",
                "--messages",
                &messages,
                "--domains",
                &domains,
                "--due-now",
                &due_now,
            ],
        )?;
        println!("    filled in {:.1} s", began.elapsed().as_secs_f64());
        Ok(filled)
    }

    fn rehearse(&self, program: &Path, arguments: &[&str]) -> Result<Vec<u8>, TaskError> {
        let mut command = Command::new(program);
        command.arg("rehearse").args(arguments);
        command.arg("--config").arg(&self.config);
        Ok(succeed(&mut command, "rehearse")?.stdout)
    }

    /// Starts a server on the store and watches it.
    fn serve(self, program: &Path, scale: &Scale, figures: &mut Figures) -> Result<(), TaskError> {
        let node = Node {
            name: NAME,
            host: "127.0.0.1",
            settings: "",
        };
        let address = SocketAddr::new(IpAddr::V4(HOST), PORT);
        let host = TcpListener::bind(address).map_err(|source| TaskError::Start {
            program: format!("a host on {address}"),
            source,
        })?;
        let began = Instant::now();
        let first = std::thread::spawn(move || first_mail(host, began));
        let mut subject = launch(program, &node, &self.config)?;
        subject.keep(self.folder);
        let first = match first.join() {
            Ok(Some(first)) => first,
            _ => return Err(TaskError::Found("the first message never came".to_owned())),
        };
        figures.insert(FIRST_SEND, first.as_secs_f64());
        sleep(QUIET);
        let before = sample(&subject)?;
        sleep(Duration::from_secs(u64::from(scale.watch)));
        let after = sample(&subject)?;
        let busy = after.cpu_seconds - before.cpu_seconds;
        figures.insert(CPU, 100.0 * busy / f64::from(scale.watch));
        figures.insert(QUEUED_RSS, after.rss_peak_bytes as f64 / 1e6);
        Ok(())
    }
}

fn sample(subject: &Subject) -> Result<ProcessSample, TaskError> {
    let pid = subject.pid.unwrap_or_default();
    ProcessSample::read(pid).map_err(|error| TaskError::Found(error.to_string()))
}

/// How long it took until a client began a mail transaction here. Everything is taken, now and later.
fn first_mail(host: TcpListener, began: Instant) -> Option<Duration> {
    let (told, first) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in host.incoming().flatten() {
            let told = told.clone();
            // A client may close at any time, and a second message is nobody's to hear of.
            std::thread::spawn(move || take(stream, || told.send(began.elapsed())).is_ok());
        }
    });
    first.recv_timeout(PATIENCE).ok()
}

/// Takes everything on one connection.
fn take<T>(stream: std::net::TcpStream, mut mail: impl FnMut() -> T) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream);
    lines.get_mut().write_all(b"220 mx.far.test\r\n")?;
    let (mut line, mut in_text) = (String::new(), false);
    while lines.read_line(&mut line)? > 0 {
        let reply: &[u8] = match line.trim_end() {
            "." => {
                in_text = false;
                b"250 Ok\r\n"
            }
            _ if in_text => b"",
            "DATA" => {
                in_text = true;
                b"354 Go on\r\n"
            }
            command => {
                if command.starts_with("MAIL") {
                    mail();
                }
                b"250 Ok\r\n"
            }
        };
        lines.get_mut().write_all(reply)?;
        line.clear();
    }
    Ok(())
}
