//! The sites in use, and which destination goes to which.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nightmail_pace::Settings;
use nightmail_queue::Destination;
use parking_lot::Mutex;

use crate::route::Route;
use crate::site::Site;

/// Sites that nobody has used for that long are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// What sites that are shared have in common: the way, and the settings by where they are kept.
type Key = (String, usize);

/// The way to a destination, as it was found.
struct Known {
    site: Arc<Site>,
    until: Instant,
}

#[derive(Default)]
struct State {
    sites: HashMap<Key, Arc<Site>>,
    known: HashMap<Destination, Known>,
    /// Destinations whose mail somebody fetches now.
    fetched: HashSet<Destination>,
}

/// The sites.
#[derive(Default)]
pub(crate) struct Sites {
    state: Mutex<State>,
}

impl Sites {
    /// The site of a destination, as far as that has been found out lately.
    pub fn find(&self, destination: &Destination) -> Option<Arc<Site>> {
        let state = self.state.lock();
        let known = state.known.get(destination)?;
        (known.until > Instant::now()).then(|| Arc::clone(&known.site))
    }

    /// Takes note of the way to a destination, which holds for `lifetime`, and gives its site.
    pub fn enter(
        &self,
        destination: &Destination,
        route: Route,
        settings: Arc<Settings>,
        lifetime: Duration,
    ) -> Arc<Site> {
        let lifetime = match route {
            Route::Nowhere(_) => Duration::ZERO,
            Route::Hosts(_) | Route::Literal(_) | Route::Relay(_) => lifetime,
        };
        let key = (route.key(), Arc::as_ptr(&settings) as usize);
        let mut state = self.state.lock();
        let site = state
            .sites
            .entry(key)
            .or_insert_with(|| Arc::new(Site::new(route, settings)));
        let site = Arc::clone(site);
        let until = Instant::now() + lifetime;
        let known = Known {
            site: Arc::clone(&site),
            until,
        };
        state.known.insert(destination.clone(), known);
        site
    }

    /// Forgets what is not of use any more.
    pub fn tidy(&self) {
        let mut state = self.state.lock();
        let now = Instant::now();
        state.known.retain(|_, known| known.until > now);
        // One that a destination is known to go to stays, or another would be made beside it for the same hosts.
        let in_use = |site: &Arc<Site>| Arc::strong_count(site) > 1 || !site.is_idle(FORGET_AFTER);
        state.sites.retain(|_, site| in_use(site));
    }

    /// The destinations whose way is known, and their sites.
    pub fn known(&self) -> Vec<(Destination, Arc<Site>)> {
        let state = self.state.lock();
        let known = state.known.iter();
        known
            .map(|(destination, known)| (destination.clone(), Arc::clone(&known.site)))
            .collect()
    }

    /// Every site.
    pub fn all(&self) -> Vec<Arc<Site>> {
        self.state.lock().sites.values().cloned().collect()
    }

    /// Somebody fetches the mail of these destinations: they are left alone. Gives those that nobody else fetches.
    pub fn fetch(self: &Arc<Self>, destinations: Vec<Destination>) -> Fetched {
        let mut state = self.state.lock();
        let fresh = |destination: &Destination| state.fetched.insert(destination.clone());
        let destinations = destinations.into_iter().filter(fresh).collect();
        Fetched {
            sites: Arc::clone(self),
            destinations,
        }
    }

    /// Whether somebody fetches the mail of that destination now.
    pub fn is_fetched(&self, destination: &Destination) -> bool {
        self.state.lock().fetched.contains(destination)
    }
}

/// Destinations whose mail is fetched for as long as this is kept.
pub(crate) struct Fetched {
    sites: Arc<Sites>,
    pub destinations: Vec<Destination>,
}

impl Drop for Fetched {
    fn drop(&mut self) {
        let mut state = self.sites.state.lock();
        for destination in &self.destinations {
            state.fetched.remove(destination);
        }
    }
}
