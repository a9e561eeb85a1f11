//! A bus inside one process that loses, doubles, delays and reorders, for tests.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::bus::{Bus, BusError, Connectivity, Inlet, Received};

/// What happens to messages on their way. The default is nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// Messages of a hundred that never arrive.
    pub lost_percent: u8,
    /// Messages of a hundred that arrive twice.
    pub doubled_percent: u8,
    /// How long a message may take; those sent after it overtake it.
    pub delay_max: Duration,
}

/// Connects the buses of one process.
#[derive(Clone)]
pub struct MemoryNetwork {
    state: Arc<Mutex<State>>,
}

struct State {
    faults: Faults,
    random: u64,
    members: Vec<Arc<Member>>,
}

struct Member {
    inlet: Inlet,
}

impl MemoryNetwork {
    /// A network whose faults follow from `seed`.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                faults,
                random: seed,
                members: Vec::new(),
            })),
        }
    }

    /// From now on other things happen to messages.
    pub fn set_faults(&self, faults: Faults) {
        self.state.lock().faults = faults;
    }

    /// A bus for one more node, connected.
    pub fn join(&self) -> Arc<MemoryBus> {
        let member = Arc::new(Member {
            inlet: Inlet::new(),
        });
        member.inlet.connected();
        self.state.lock().members.push(Arc::clone(&member));
        Arc::new(MemoryBus {
            network: self.clone(),
            member,
        })
    }

    fn spread(&self, message: &Bytes) {
        for (member, delay) in self.state.lock().arrivals() {
            let message = message.clone();
            if delay.is_zero() {
                member.receive(message);
                continue;
            }
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                member.receive(message);
            });
        }
    }
}

impl State {
    /// Where one message arrives, and after how long.
    fn arrivals(&mut self) -> Vec<(Arc<Member>, Duration)> {
        let mut arrivals = Vec::new();
        for member in self.members.clone() {
            let copies = match (
                self.happens(self.faults.lost_percent),
                self.happens(self.faults.doubled_percent),
            ) {
                (true, _) => 0,
                (false, true) => 2,
                (false, false) => 1,
            };
            for _ in 0..copies {
                let delay_max = self.faults.delay_max.as_micros() as u64;
                let delay = Duration::from_micros(self.draw() % (delay_max + 1));
                arrivals.push((Arc::clone(&member), delay));
            }
        }
        arrivals
    }

    fn happens(&mut self, percent: u8) -> bool {
        self.draw() % 100 < u64::from(percent)
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

impl Member {
    fn receive(&self, message: Bytes) {
        if self.inlet.connectivity().connected {
            self.inlet.deliver(Received::Message(message));
        }
    }
}

/// One node's end of a [`MemoryNetwork`]. Its own messages come back to it, as from PostgreSQL.
pub struct MemoryBus {
    network: MemoryNetwork,
    member: Arc<Member>,
}

impl MemoryBus {
    /// Cuts it off: sending fails, and what others send does not arrive.
    pub fn cut(&self) {
        self.member.inlet.disconnected();
    }

    /// Mends it and reports that.
    pub fn mend(&self) {
        self.member.inlet.connected();
    }
}

impl Drop for MemoryBus {
    fn drop(&mut self) {
        let mut state = self.network.state.lock();
        state
            .members
            .retain(|member| !Arc::ptr_eq(member, &self.member));
    }
}

impl Bus for MemoryBus {
    fn send(&self, message: Bytes) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(async move {
            if !self.connectivity().connected {
                return Err(BusError::Away);
            }
            self.network.spread(&message);
            Ok(())
        })
    }

    fn incoming(&self) -> mpsc::Receiver<Received> {
        self.member.inlet.open()
    }

    fn connectivity(&self) -> Connectivity {
        self.member.inlet.connectivity()
    }
}
