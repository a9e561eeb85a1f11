//! Every schedule of a scene: depth first over whose call comes next.
//!
//! Of schedules that differ only in the order of calls that commute, one is run (sleep sets, Godefroid 1996): an
//! actor whose call was tried here before sleeps until a call comes that its own does not commute with.

use super::gate::Footprint;
use super::scene::{Scene, Stage};

/// Schedules run of one scene, unless `NIGHTMAIL_SCHEDULES` says otherwise.
const SCHEDULES_MAX: usize = 4000;
/// Failures kept.
const FAILURES_MAX: usize = 3;

/// What came of a scene.
#[derive(Debug, Default)]
pub struct Findings {
    /// Schedules run to their end.
    pub schedules: usize,
    /// Schedules given up because another stands for them.
    pub redundant: usize,
    /// Whether none was left when this ended.
    pub complete: bool,
    /// The first schedules after which something was wrong, and what.
    pub failures: Vec<String>,
}

impl Findings {
    /// Prints the counts; panics when anything was wrong or nothing was interleaved.
    pub fn assert_clean(&self) {
        assert!(self.failures.is_empty(), "{}", self.failures.join("\n"));
        assert!(self.schedules > 1, "{self:?}");
    }
}

/// A point of a schedule: who waits, who sleeps, who was let go.
struct Choice {
    waiting: Vec<(usize, Footprint)>,
    asleep: Vec<usize>,
    chosen: usize,
}

impl Choice {
    fn new(waiting: Vec<(usize, Footprint)>, asleep: Vec<usize>) -> Option<Self> {
        let chosen = awake(&waiting, &asleep)?;
        Some(Self {
            waiting,
            asleep,
            chosen,
        })
    }

    /// The next actor to try here.
    fn turn(&mut self) -> bool {
        self.asleep.push(self.chosen);
        let next = awake(&self.waiting, &self.asleep);
        self.chosen = next.unwrap_or(self.chosen);
        next.is_some()
    }

    /// Who still sleeps after the chosen call.
    fn asleep_after(&self) -> Vec<usize> {
        let footprint = |actor| {
            let found = self.waiting.iter().find(|(waiting, _)| *waiting == actor);
            &found.expect("who sleeps waits").1
        };
        let chosen = footprint(self.chosen);
        let still = |actor: &usize| footprint(*actor).commutes_with(chosen);
        self.asleep.iter().copied().filter(still).collect()
    }
}

fn awake(waiting: &[(usize, Footprint)], asleep: &[usize]) -> Option<usize> {
    let mut actors = waiting.iter().map(|(actor, _)| *actor);
    actors.find(|actor| !asleep.contains(actor))
}

/// Runs all schedules of `scene`.
pub fn explore(scene: &Scene) -> Findings {
    let max = std::env::var("NIGHTMAIL_SCHEDULES").ok();
    let max = max
        .and_then(|max| max.parse().ok())
        .unwrap_or(SCHEDULES_MAX);
    let mut findings = Findings::default();
    let mut path: Vec<Choice> = Vec::new();
    while findings.schedules < max && findings.failures.len() < FAILURES_MAX {
        run(scene, &mut path, &mut findings);
        while path.last_mut().is_some_and(|choice| !choice.turn()) {
            path.pop();
        }
        if path.is_empty() {
            findings.complete = true;
            break;
        }
    }
    println!(
        "{}: {} schedules, {} redundant, {}",
        scene.name,
        findings.schedules,
        findings.redundant,
        if findings.complete { "all" } else { "not all" }
    );
    findings
}

/// Follows `path` and goes on to the end of a schedule, noting each choice in `path`.
fn run(scene: &Scene, path: &mut Vec<Choice>, findings: &mut Findings) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stage = Stage::new(scene).await;
        let mut depth = 0;
        loop {
            let waiting = stage.gate.rest().await;
            if waiting.is_empty() {
                break;
            }
            if depth == path.len() {
                let asleep = match scene.reduced {
                    true => path.last().map_or_else(Vec::new, Choice::asleep_after),
                    false => Vec::new(),
                };
                let Some(choice) = Choice::new(waiting, asleep) else {
                    findings.redundant += 1;
                    return;
                };
                path.push(choice);
            }
            stage.gate.release(path[depth].chosen);
            depth += 1;
        }
        findings.schedules += 1;
        if let Err(wrong) = stage.judge().await {
            let schedule: Vec<usize> = path.iter().map(|choice| choice.chosen).collect();
            findings
                .failures
                .push(format!("{}, schedule {schedule:?}: {wrong}", scene.name));
        }
    });
}
