//! What goes wrong: picked by the seed, one node at a time, with faults of the database and of other sites meanwhile.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::common::cluster::ClusterSite;
use super::common::eventually;
use super::common::sink::Sink;
use super::rng::Rng;
use super::world::World;

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    NodeKilled,
    NodeTerminated,
    NodePaused,
    NodeCutFromDatabase,
    NodeStalledFromDatabase,
    NodeConnectionsCut,
    NodeCutFromObjects,
    DatabaseCrashed,
    DatabasePaused,
    ReplicaPaused,
    FailedOver,
    BusAway,
    OtherSiteRefuses,
    Reclaimed,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}

/// What a fault concerns; two faults of one kind never overlap.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Node,
    Database,
    Bus,
    OtherSite,
    Nothing,
}

impl Fault {
    const fn scope(self) -> Scope {
        match self {
            Self::NodeKilled
            | Self::NodeTerminated
            | Self::NodePaused
            | Self::NodeCutFromDatabase
            | Self::NodeStalledFromDatabase
            | Self::NodeConnectionsCut
            | Self::NodeCutFromObjects => Scope::Node,
            Self::DatabaseCrashed
            | Self::DatabasePaused
            | Self::ReplicaPaused
            | Self::FailedOver => Scope::Database,
            Self::BusAway => Scope::Bus,
            Self::OtherSiteRefuses => Scope::OtherSite,
            Self::Reclaimed => Scope::Nothing,
        }
    }
}

/// The number of the signal.
const SIGTERM: i32 = 15;

/// A fault that has not been mended.
struct Active {
    fault: Fault,
    node: usize,
    until: Instant,
}

/// Makes faults and mends them.
pub struct Faults<'a> {
    cluster: &'a mut ClusterSite,
    world: &'a World,
    sink: &'a Sink,
    rng: Rng,
    active: Vec<Active>,
    reclaiming: Vec<Child>,
    /// How often each was made.
    pub made: BTreeMap<Fault, usize>,
    /// When and where, for those who look for a mistake.
    pub diary: Vec<String>,
}

impl<'a> Faults<'a> {
    pub fn new(cluster: &'a mut ClusterSite, world: &'a World, sink: &'a Sink) -> Self {
        Self {
            cluster,
            world,
            sink,
            rng: Rng::new(world.seed, "faults"),
            active: Vec::new(),
            reclaiming: Vec::new(),
            made: BTreeMap::new(),
            diary: Vec::new(),
        }
    }

    /// Lets things go wrong for so long; at least one failover comes in the middle where there is a replica.
    pub fn run(&mut self, time: Duration) {
        let began = Instant::now();
        let mut next = Duration::from_secs(2);
        let mut must_fail_over = self.cluster.hosts.len() > 1;
        while began.elapsed() < time {
            std::thread::sleep(Duration::from_millis(50));
            self.mend(Instant::now());
            self.revive();
            if began.elapsed() < next {
                continue;
            }
            next = began.elapsed() + Duration::from_millis(self.rng.within(600..2_500));
            if must_fail_over && began.elapsed() > time / 2 && !self.is_affected(Scope::Database) {
                must_fail_over = false;
                self.make(Fault::FailedOver);
            } else {
                let fault = *self.rng.pick(&self.possible());
                self.make(fault);
            }
        }
        eventually("what was told to stop has ended", || {
            self.mend(Instant::now() + Duration::from_secs(3600));
            self.active.is_empty().then_some(())
        });
        for node in &mut self.cluster.nodes {
            node.mend();
        }
        self.revive();
        for child in &mut self.reclaiming {
            eventually("reclaiming ends", || child.try_wait().unwrap());
        }
    }

    fn is_affected(&self, scope: Scope) -> bool {
        self.active
            .iter()
            .any(|active| active.fault.scope() == scope)
    }

    fn possible(&self) -> Vec<Fault> {
        let mut all = vec![
            Fault::NodeKilled,
            Fault::NodeKilled,
            Fault::NodeTerminated,
            Fault::NodePaused,
            Fault::OtherSiteRefuses,
            Fault::Reclaimed,
        ];
        if self.cluster.hosts.is_empty() {
            all.extend([Fault::NodeKilled; 4]);
        } else {
            all.extend([
                Fault::NodeCutFromDatabase,
                Fault::NodeStalledFromDatabase,
                Fault::NodeConnectionsCut,
                Fault::DatabaseCrashed,
                Fault::DatabasePaused,
            ]);
        }
        if self.cluster.hosts.len() > 1 {
            all.push(Fault::ReplicaPaused);
        }
        if self.cluster.garage.is_some() {
            all.push(Fault::NodeCutFromObjects);
        }
        if self.cluster.nats.is_some() {
            all.push(Fault::BusAway);
        }
        all.retain(|fault| fault.scope() == Scope::Nothing || !self.is_affected(fault.scope()));
        all
    }

    fn make(&mut self, fault: Fault) {
        let node = self.rng.below(self.cluster.nodes.len());
        let millis = match fault {
            Fault::NodePaused => self.rng.within(2_500..4_500),
            Fault::DatabasePaused | Fault::ReplicaPaused => self.rng.within(500..4_000),
            Fault::NodeConnectionsCut | Fault::DatabaseCrashed | Fault::FailedOver => 0,
            _ => self.rng.within(300..4_000),
        };
        let until = Instant::now() + Duration::from_millis(millis);
        *self.made.entry(fault).or_default() += 1;
        let which = match fault.scope() {
            Scope::Node | Scope::Nothing => format!(" n{}", node + 1),
            _ => String::new(),
        };
        let when = self.world.clock();
        self.diary
            .push(format!("{when} {fault}{which} {millis} ms"));
        let began = Instant::now();
        match fault.scope() {
            Scope::Node => self.harm_node(fault, node),
            Scope::Database => self.harm_database(fault),
            Scope::Bus => self.cluster.nats.iter_mut().for_each(|nats| nats.stop()),
            Scope::OtherSite => self.sink.answer("451 4.7.1 not now"),
            Scope::Nothing => return self.reclaim(node),
        }
        let took = began.elapsed();
        if took > Duration::from_secs(1) {
            self.diary.push(format!("    which took {took:.1?}"));
        }
        self.active.push(Active { fault, node, until });
    }

    fn harm_node(&mut self, fault: Fault, index: usize) {
        let node = &mut self.cluster.nodes[index];
        match fault {
            Fault::NodeKilled => node.kill(),
            Fault::NodeTerminated => node.terminate(),
            Fault::NodePaused => node.pause(),
            Fault::NodeCutFromDatabase => node.cut_database(),
            Fault::NodeStalledFromDatabase => node.stall_database(),
            Fault::NodeConnectionsCut => node.database.iter().for_each(|it| it.cut_connections()),
            Fault::NodeCutFromObjects => node.objects.iter().for_each(|it| it.cut()),
            other => panic!("{other} is none of a node"),
        }
    }

    fn harm_database(&mut self, fault: Fault) {
        let spare = 1 - self.cluster.primary;
        match fault {
            Fault::DatabaseCrashed => {
                self.cluster.database().kill();
                self.cluster.database().restart();
            }
            Fault::DatabasePaused => self.cluster.database().pause(),
            Fault::ReplicaPaused => self.cluster.hosts[spare].pause(),
            Fault::FailedOver => {
                self.cluster.fail_over();
                self.cluster.replace_replica();
            }
            other => panic!("{other} is none of the database"),
        }
    }

    /// Gives space back in the midst of everything. The node may be away or stand still, so nobody waits for it.
    fn reclaim(&mut self, node: usize) {
        let mut command = self.cluster.nodes[node].site.command(&["reclaim"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.reclaiming.push(command.spawn().unwrap());
    }

    /// Mends what is due by then.
    fn mend(&mut self, by: Instant) {
        let (due, active) = std::mem::take(&mut self.active)
            .into_iter()
            .partition::<Vec<_>, _>(|active| active.until <= by);
        self.active = active;
        for Active {
            fault, node: index, ..
        } in due
        {
            let node = &mut self.cluster.nodes[index];
            match fault {
                Fault::NodeKilled => node.spawn(),
                Fault::NodePaused => node.resume(),
                Fault::NodeTerminated => match node.fell() {
                    Some(status) => {
                        // One that has only just been started may not listen to signals yet.
                        let fell = status.success() || status.signal() == Some(SIGTERM);
                        assert!(fell, "{} when told to stop: {status}", node.name);
                        node.spawn();
                    }
                    // It may be waiting for what only another mending gives it.
                    None => self.active.push(Active {
                        fault,
                        node: index,
                        until: by,
                    }),
                },
                Fault::NodeCutFromDatabase
                | Fault::NodeStalledFromDatabase
                | Fault::NodeConnectionsCut
                | Fault::NodeCutFromObjects => node.mend(),
                Fault::DatabasePaused | Fault::ReplicaPaused => {
                    self.cluster.hosts.iter_mut().for_each(|host| host.resume());
                }
                Fault::BusAway => self.cluster.nats.iter_mut().for_each(|nats| nats.restart()),
                Fault::OtherSiteRefuses => self.sink.answer("250 2.1.5 Ok"),
                Fault::DatabaseCrashed | Fault::FailedOver | Fault::Reclaimed => {}
            }
        }
    }

    /// Starts nodes again that ended by themselves, as whoever runs them would.
    fn revive(&mut self) {
        let terminated: Vec<usize> = self
            .active
            .iter()
            .filter(|active| active.fault == Fault::NodeTerminated)
            .map(|active| active.node)
            .collect();
        for (index, node) in self.cluster.nodes.iter_mut().enumerate() {
            if terminated.contains(&index) {
                continue;
            }
            if let Some(status) = node.fell() {
                let when = self.world.clock();
                self.diary
                    .push(format!("{when} {} ended by itself: {status}", node.name));
                self.world
                    .ledger
                    .lock()
                    .unwrap()
                    .count("nodes that ended by themselves");
                node.spawn();
            }
        }
    }
}

impl Drop for Faults<'_> {
    fn drop(&mut self) {
        for child in &mut self.reclaiming {
            // Most have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
