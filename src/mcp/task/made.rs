//! Which tasks each client has made through this process, so that `tasks/list` shows it these and no other's: to a server all clients
//! are one, the gateway, and it lists the tasks of all of them.

use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use runtime_api::{Principal, TargetId};
use tokio::time::Instant;

/// Tasks that are remembered of one client. Servers of the SDKs list ten on a page: a client that has more looks for the latest ones.
/// Clients are those of the configuration, so this bounds all.
const TASKS_MAX: usize = 1_000;

/// Longest id of a target that is remembered. SDKs use UUIDs.
const ID_BYTES_MAX: usize = 256;

/// How long a task is remembered that lives shorter or as long: servers keep results for longer than they promise.
const LIFE_MIN: Duration = Duration::from_secs(24 * 60 * 60);

/// The same of one that lives longer, or for ever.
const LIFE_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The tasks of all clients.
#[derive(Debug)]
pub(in super::super) struct Made {
    /// No client is configured: whoever asks is the one that made everything.
    by_one_client: AtomicBool,
    clients: Mutex<HashMap<Principal, Own>>,
}

/// A target, and its own id of a task.
type Key = (TargetId, Box<str>);

/// The tasks of one client.
#[derive(Debug, Default)]
struct Own {
    /// Until when each is remembered.
    known: HashMap<Key, Instant>,
    in_order: VecDeque<Key>,
}

impl Made {
    pub(in super::super) fn new(by_one_client: bool) -> Self {
        Self { by_one_client: AtomicBool::new(by_one_client), clients: Mutex::default() }
    }

    /// Says whether there is but one client from now on.
    pub(in super::super) fn set_by_one_client(&self, by_one_client: bool) {
        self.by_one_client.store(by_one_client, Ordering::Relaxed);
    }

    /// This client has made that task, which lives as long as its server says; `None` for as long as the server does.
    pub(super) fn note(&self, principal: &Principal, target: &TargetId, own: &str, ttl: Option<Duration>) {
        if own.len() > ID_BYTES_MAX {
            return;
        }
        let until = Instant::now() + ttl.map_or(LIFE_MAX, |ttl| ttl.clamp(LIFE_MIN, LIFE_MAX));
        self.clients.lock().entry(principal.clone()).or_default().note((target.clone(), own.into()), until);
    }

    /// Whether that task may be shown to this client.
    pub(super) fn is_of(&self, principal: &Principal, target: &TargetId, own: &str) -> bool {
        if self.by_one_client.load(Ordering::Relaxed) {
            return true;
        }
        let key = (target.clone(), Box::from(own));
        let clients = self.clients.lock();
        clients.get(principal).and_then(|tasks| tasks.known.get(&key)).is_some_and(|until| *until > Instant::now())
    }

    /// Forgets what was remembered long enough.
    pub(in super::super) fn sweep(&self) {
        let now = Instant::now();
        self.clients.lock().retain(|_, own| {
            own.known.retain(|_, until| *until > now);
            let Own { known, in_order } = own;
            in_order.retain(|key| known.contains_key(key));
            !known.is_empty()
        });
    }
}

impl Own {
    fn note(&mut self, key: Key, until: Instant) {
        if self.known.insert(key.clone(), until).is_none() {
            self.in_order.push_back(key);
        }
        if self.in_order.len() > TASKS_MAX
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Principal {
        Principal(name.into())
    }

    #[test]
    fn a_task_is_shown_to_the_client_that_made_it_at_its_own_server() {
        let made = Made::new(false);
        made.note(&of("ann"), &"up".into(), "t-1", None);

        let shown = |principal, target: &str| made.is_of(&of(principal), &target.into(), "t-1");

        assert!(shown("ann", "up"));
        assert!(!shown("bob", "up"));
        assert!(!shown("ann", "other"), "two servers may use the same ids");
        made.set_by_one_client(true);
        assert!(shown("bob", "other"));
    }

    #[test]
    fn the_oldest_tasks_of_a_client_make_room_for_its_own_and_for_nobody_else_s() {
        let made = Made::new(false);
        made.note(&of("bob"), &"up".into(), "first", None);
        for number in 0..=TASKS_MAX {
            made.note(&of("ann"), &"up".into(), &number.to_string(), None);
        }
        made.note(&of("ann"), &"up".into(), &"x".repeat(ID_BYTES_MAX + 1), None);

        let shown = |principal, own: &str| made.is_of(&of(principal), &"up".into(), own);

        assert!(!shown("ann", "0") && shown("ann", "1") && shown("ann", &TASKS_MAX.to_string()));
        assert!(!shown("ann", &"x".repeat(ID_BYTES_MAX + 1)));
        assert!(shown("bob", "first"));
        assert_eq!(made.clients.lock()[&of("ann")].known.len(), TASKS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_is_remembered_for_as_long_as_it_lives_within_bounds() {
        let made = Made::new(false);
        let hours = |hours: u64| Some(Duration::from_secs(hours * 60 * 60));
        for (own, ttl) in [("short", hours(1)), ("long", hours(48)), ("longest", hours(24 * 365)), ("unbounded", None)] {
            made.note(&of("ann"), &"up".into(), own, ttl);
        }
        let shown = || ["short", "long", "longest", "unbounded"].map(|own| made.is_of(&of("ann"), &"up".into(), own));

        tokio::time::advance(Duration::from_secs(23 * 60 * 60)).await;
        assert_eq!(shown(), [true; 4]);
        tokio::time::advance(Duration::from_secs(24 * 60 * 60)).await;
        assert_eq!(shown(), [false, true, true, true]);
        tokio::time::advance(LIFE_MAX).await;
        assert_eq!(shown(), [false; 4]);

        made.sweep();

        assert!(made.clients.lock().is_empty());
    }
}
