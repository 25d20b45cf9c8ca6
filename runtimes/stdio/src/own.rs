//! Processes of which each belongs to one principal or one session.
//!
//! ```text
//!   (none) ── first call, or first subscription ──► there ── its session is over, nobody has called it for long, ──► ends ──► (none)
//!                                                            or it gives way to another principal's
//! ```

use std::{
    cell::LazyCell,
    collections::{BTreeSet, HashMap, HashSet},
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use runtime_api::{Arrivals, CallError, ClientSession, Era, ErrorCode, Interest, Party, Principal};
use runtime_mcp::stream::{
    Met,
    listening::{self, Uris},
};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    seat::{Busy, Seat, State},
    settings::{Server, Share},
};

/// When there may be room: a process that is told to end has two seconds for it, and most take none.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Whose a process is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// All of a principal's calls that belong to nobody else.
    Principal(Principal),
    /// Those of the session with that number.
    Session(u128),
}

impl Owner {
    /// Whose process answers a party; nobody's where everybody shares one.
    pub(crate) fn of(share: Share, party: &Party) -> Option<Self> {
        match (share, &party.session) {
            (Share::All, _) => None,
            (Share::Session, Some(session)) => Some(Self::Session(session.number())),
            (Share::Principal | Share::Session, _) => Some(Self::Principal(party.principal.clone())),
        }
    }
}

/// A process that nobody drives yet.
#[derive(Debug)]
pub(crate) struct Fresh {
    owner: Owner,
    /// It is over when this is.
    session: Option<ClientSession>,
    seat: Arc<Seat>,
}

impl Fresh {
    /// Waits until its owner has no more use for it. Never ends for a principal.
    async fn over(&self) {
        match &self.session {
            Some(session) => session.over().await,
            None => std::future::pending().await,
        }
    }
}

/// The processes of one server that are somebody's own.
#[derive(Debug)]
pub(crate) struct Own {
    server: Arc<Server>,
    seats: Mutex<HashMap<Owner, Arc<Seat>>>,
    /// A process that is ending has its place still, so that there are never more than may be.
    places: Semaphore,
    fresh: Arrivals<Fresh>,
    /// What clients want to hear of, once that is known.
    interest: OnceLock<Interest>,
    /// One of them says that its lists are others.
    lists_changed: Notify,
    /// One of them has ended: there may be room for another.
    freed: Notify,
    stop: CancellationToken,
}

impl Own {
    /// None yet. All end with `stop`.
    pub(crate) fn new(server: Arc<Server>, stop: CancellationToken) -> Self {
        let places = Semaphore::new(server.processes_max.min(Semaphore::MAX_PERMITS));
        Self {
            server,
            seats: Mutex::default(),
            places,
            fresh: Arrivals::default(),
            interest: OnceLock::new(),
            lists_changed: Notify::new(),
            freed: Notify::new(),
            stop,
        }
    }

    /// Serves those who want to hear of something from now on.
    pub(crate) fn serve(&self, interest: Interest) {
        self.interest.set(interest).ok();
    }

    /// The process of a party, begun if there is none. It does not end for being idle as long as what is returned is there.
    ///
    /// # Errors
    /// `Overloaded` when there are as many as may be, and none of them gives way.
    pub(crate) fn enter(&self, owner: Owner, session: Option<&ClientSession>) -> Result<Busy, CallError> {
        self.enter_beside(&LazyCell::new(|| self.subscribed()), owner, session)
    }

    /// The same beside those who have subscribed to something. Who they are is asked only where it matters.
    fn enter_beside(
        &self,
        subscribed: &LazyCell<HashSet<Owner>, impl FnOnce() -> HashSet<Owner>>,
        owner: Owner,
        session: Option<&ClientSession>,
    ) -> Result<Busy, CallError> {
        let mut seats = self.seats.lock();
        if let Some(seat) = seats.get(&owner) {
            return Ok(Busy::new(seat));
        }
        let processes_max = self.server.processes_max;
        if seats.len() >= processes_max && !give_way(&mut seats, subscribed) {
            let message = format!("{processes_max} processes of this server run, as many as may, and each is somebody's own");
            return Err(CallError::gateway(ErrorCode::Overloaded, message).with_retry_after(RETRY_AFTER));
        }
        let seat = Arc::new(Seat::new(Arc::clone(&self.server), self.stop.child_token()));
        let busy = Busy::new(&seat);
        seats.insert(owner.clone(), Arc::clone(&seat));
        let session = session.filter(|_| matches!(owner, Owner::Session(_))).cloned();
        self.fresh.add([Fresh { owner, session, seat }]);
        Ok(busy)
    }

    /// Those that nobody drives yet: whoever takes one runs it.
    pub(crate) fn take_fresh(&self) -> Vec<Fresh> {
        self.fresh.take()
    }

    /// Waits until there may be some. For one task; cancel-safe.
    pub(crate) async fn come(&self) {
        self.fresh.come().await;
    }

    /// Waits until one of them says that its lists are others: then the shared one's may be, too. For one task; cancel-safe.
    pub(crate) async fn lists_changed(&self) {
        self.lists_changed.notified().await;
    }

    /// Runs a process until it is not needed any more. None of it is left afterwards.
    pub(crate) async fn run(&self, fresh: Fresh) {
        let Fresh { owner, seat, .. } = &fresh;
        let running = async {
            tokio::select! {
                biased;
                () = seat.ending() => seat.give_up(),
                _place = self.places.acquire() => seat.run().await,
            }
        };
        let caring = async {
            tokio::select! {
                biased;
                () = fresh.over() => seat.end(),
                never = self.hear(owner, seat) => match never {},
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = running => {}
            () = caring => {}
        }
        self.forget(owner, seat);
    }

    /// Ends what nobody has called for long, and from what nobody wants to hear anything.
    pub(crate) fn sweep(&self) {
        let subscribed = self.subscribed();
        self.seats.lock().retain(|owner, seat| {
            let is_idle = seat.idle().is_some_and(|idle| idle >= self.server.process_idle) && !subscribed.contains(owner);
            if is_idle {
                seat.end();
            }
            !is_idle
        });
    }

    /// Starts a process for everybody who has subscribed to something. Never ends.
    pub(crate) async fn seat_subscribers(&self) -> Infallible {
        let Some(interest) = self.interest.get().filter(|_| self.server.share != Share::All) else {
            return std::future::pending().await;
        };
        let mut changes = interest.changes();
        loop {
            changes.borrow_and_update();
            if let Err(error) = self.seat_all(interest) {
                warn!(target_name = %self.server.target, %error, "subscribers hear of nothing");
                let refused = Arc::new(error);
                let seated: HashSet<_> = self.seats.lock().keys().cloned().collect();
                let is_left = |by: &Party| Owner::of(self.server.share, by).is_some_and(|owner| !seated.contains(&owner));
                interest.settle(is_left, |_| Some(Err(Arc::clone(&refused))));
            }
            tokio::select! {
                () = come(&mut changes) => {}
                () = self.freed.notified() => {}
            }
        }
    }

    /// Starts a process for each owner that has none, until one is refused: so would be all others.
    fn seat_all(&self, interest: &Interest) -> Result<(), CallError> {
        let parties = interest.parties().into_iter();
        // What a session that is over still wants is about to go, and a process for it would end at once.
        let there = parties.filter(|party| !party.session.as_ref().is_some_and(ClientSession::is_over));
        let subscribers: HashMap<_, _> =
            there.filter_map(|party| Some((Owner::of(self.server.share, &party)?, party.session))).collect();
        let subscribed = LazyCell::new(|| self.subscribed());
        let mut seating = subscribers.iter();
        seating.try_for_each(|(owner, session)| self.enter_beside(&subscribed, owner.clone(), session.as_ref()).map(drop))
    }

    fn subscribed(&self) -> HashSet<Owner> {
        let Some(interest) = self.interest.get() else { return HashSet::new() };
        // A session is told of its tasks without having asked for that: its own life says how long its process is needed.
        let parties = interest.parties().into_iter().chain(interest.tasks(Era::Modern).parties());
        parties.filter_map(|party| Owner::of(self.server.share, &party)).collect()
    }

    /// Passes on what a process says of changes. Never ends.
    async fn hear(&self, owner: &Owner, seat: &Seat) -> Infallible {
        let mut state = seat.state();
        loop {
            let now = state.borrow_and_update().clone();
            let hearing = async {
                match (now, self.interest.get()) {
                    (State::Up(up), Some(interest)) => self.hear_of(owner, &up, interest).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = state.changed() => changed.expect("the seat lives as long as this"),
                never = hearing => match never {},
            }
        }
    }

    async fn hear_of(&self, owner: &Owner, up: &Met, interest: &Interest) -> Infallible {
        let (share, owner) = (self.server.share, owner.clone());
        let is_theirs = move |party: &Party| Owner::of(share, party).as_ref() == Some(&owner);
        let demand = interest.demand_of(is_theirs.clone());
        let tasks = interest.tasks(Era::Modern);
        let (ids, watched) = watch::channel(Uris::default());
        tokio::select! {
            never = listening::keep(&up.connection, up.era, &up.facts, demand, watched) => match never {},
            never = follow(tasks.changes(), || tasks.wanted_by(&is_theirs), &ids) => match never {},
            never = self.pass_on(up, interest, &is_theirs) => match never {},
        }
    }

    /// What a process says of resources is for its owner only.
    async fn pass_on(&self, up: &Met, interest: &Interest, is_theirs: impl Fn(&Party) -> bool) -> Infallible {
        let changes = up.connection.changes();
        while let Some(changed) = changes.next().await {
            changed.updated.iter().for_each(|uri| interest.updated_for(uri, &is_theirs));
            let tasks = interest.tasks(up.era);
            changed.tasks.iter().for_each(|(own, task)| tasks.told(&is_theirs, own, task));
            if changed.lists() {
                self.lists_changed.notify_one();
            }
        }
        // The seat says what comes next.
        std::future::pending().await
    }

    fn forget(&self, owner: &Owner, ended: &Arc<Seat>) {
        let mut seats = self.seats.lock();
        if seats.get(owner).is_some_and(|seat| Arc::ptr_eq(seat, ended)) {
            seats.remove(owner);
        }
        self.freed.notify_one();
        debug!(target_name = %self.server.target, left = seats.len(), "a process of somebody's own has ended");
    }
}

/// Ends the process of a principal that has been idle the longest. What a process keeps of a session is not lost for another's sake.
fn give_way(seats: &mut HashMap<Owner, Arc<Seat>>, subscribed: &HashSet<Owner>) -> bool {
    let may = |owner: &Owner| matches!(owner, Owner::Principal(_)) && !subscribed.contains(owner);
    let idle = seats.iter().filter(|(owner, _)| may(owner)).filter_map(|(owner, seat)| Some((seat.idle()?, owner)));
    let oldest = idle.max_by_key(|(idle, _)| *idle).map(|(_, owner)| owner.clone());
    let ended = oldest.and_then(|owner| seats.remove(&owner));
    ended.map(|seat| seat.end()).is_some()
}

/// Keeps `theirs` at what is watched of a process, whenever that may be something else. Never ends.
async fn follow(
    mut changes: watch::Receiver<()>,
    wanted: impl Fn() -> BTreeSet<Arc<str>>,
    theirs: &watch::Sender<Uris>,
) -> Infallible {
    loop {
        changes.borrow_and_update();
        let wanted = Uris::new(wanted());
        theirs.send_if_modified(|before| {
            let differs = *before != wanted;
            *before = wanted;
            differs
        });
        come(&mut changes).await;
    }
}

/// Waits for a change; it fails only when nobody can want anything any more.
async fn come(changes: &mut watch::Receiver<()>) {
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use runtime_api::SessionLife;

    use super::*;

    fn own(share: Share, processes_max: usize) -> Own {
        let server = Server { share, processes_max, ..Server::new("s".into(), "/no/such/program") };
        Own::new(Arc::new(server), CancellationToken::new())
    }

    fn party(name: &str, life: Option<&SessionLife>) -> Party {
        Party { principal: Principal(name.into()), session: life.map(SessionLife::session) }
    }

    #[test]
    fn whose_a_process_is_as_a_table() {
        let (one, two) = (SessionLife::new(1), SessionLife::new(2));
        let of = |share, name, life| Owner::of(share, &party(name, life));

        assert_eq!(of(Share::All, "ann", Some(&one)), None);
        assert_eq!(of(Share::Principal, "ann", Some(&one)), of(Share::Principal, "ann", Some(&two)));
        assert_ne!(of(Share::Principal, "ann", None), of(Share::Principal, "bob", None));
        assert_ne!(of(Share::Session, "ann", Some(&one)), of(Share::Session, "ann", Some(&two)));
        assert_ne!(of(Share::Session, "ann", Some(&one)), of(Share::Session, "ann", None));
        assert_eq!(of(Share::Session, "ann", None), of(Share::Principal, "ann", None));
    }

    #[tokio::test]
    async fn an_idle_principal_gives_way_and_neither_a_busy_one_nor_a_subscriber_nor_a_session_does() {
        let lives: Vec<_> = (0..3).map(SessionLife::new).collect();
        let (own, interest, subscriber) = (own(Share::Session, 2), Interest::default(), runtime_api::Subscriber::default());
        own.serve(interest.clone());
        let enter = |life: &SessionLife| own.enter(Owner::Session(life.session().number()), Some(&life.session()));
        drop(enter(&lives[0]).expect("room"));

        let busy = own.enter(Owner::Principal(Principal("ann".into())), None).expect("room");
        assert_eq!(enter(&lives[1]).map(|_| ()).expect_err("full").code(), ErrorCode::Overloaded);
        drop(busy);
        let subscribed = interest.subscribe("x:1", "x:1".into(), party("ann", None), &subscriber);
        assert!(enter(&lives[1]).is_err(), "somebody waits to hear from it");
        drop(subscribed);

        drop(enter(&lives[1]).expect("an idle principal's gives way"));
        assert!(enter(&lives[2]).is_err(), "what a session has left in its process is not lost");
        assert!(enter(&lives[0]).is_ok(), "which has one");
    }

    #[tokio::test(start_paused = true)]
    async fn subscribers_are_seated_once_each_and_one_that_was_refused_is_when_a_process_has_ended() {
        let mut lives: Vec<_> = (0..3).map(SessionLife::new).collect();
        let (own, interest, subscriber) = (own(Share::Session, 2), Interest::default(), runtime_api::Subscriber::default());
        own.serve(interest.clone());
        let subscribe =
            |life: &SessionLife, uri: &str| interest.subscribe(uri, uri.into(), party("ann", Some(life)), &subscriber);
        let _subscribed: Vec<_> = ["x:1", "x:2"].iter().flat_map(|uri| lives.iter().map(|life| subscribe(life, uri))).collect();

        assert_eq!(own.seat_all(&interest).expect_err("full").code(), ErrorCode::Overloaded);
        own.come().await;
        let mut fresh = own.take_fresh();
        assert_eq!(fresh.len(), 2, "each has one");

        let first = fresh.remove(0);
        lives.retain(|life| Owner::Session(life.session().number()) != first.owner);
        tokio::select! {
            biased;
            never = own.seat_subscribers() => match never {},
            () = async { tokio::join!(own.run(first), own.come()); } => {}
            // Nothing else happens any more when the clock gets there.
            () = tokio::time::sleep(own.server.process_idle) => panic!("the one that was refused is not seated"),
        }
        assert_eq!(own.take_fresh().len(), 1, "there is room now");
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_calls_for_long_ends_unless_somebody_wants_to_hear_from_it() {
        let life = SessionLife::new(1);
        let (own, interest, subscriber) = (own(Share::Session, 2), Interest::default(), runtime_api::Subscriber::default());
        own.serve(interest.clone());
        let seat = own.enter(Owner::Session(life.session().number()), Some(&life.session())).expect("room");
        tokio::time::advance(own.server.process_idle).await;

        own.sweep();
        assert_eq!(own.seats.lock().len(), 1, "it is busy");
        drop(seat);
        tokio::time::advance(own.server.process_idle).await;
        let subscribed = interest.subscribe("x:1", "x:1".into(), party("ann", Some(&life)), &subscriber);
        own.sweep();
        assert_eq!(own.seats.lock().len(), 1, "somebody wants to hear from it");
        drop(subscribed);
        own.sweep();

        assert_eq!(own.seats.lock().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_listens_for_a_task_keeps_the_process_in_which_it_goes_on() {
        let (own, interest, watcher) = (own(Share::Principal, 2), Interest::default(), runtime_api::TaskWatcher::default());
        own.serve(interest.clone());
        drop(own.enter(Owner::Principal(Principal("ann".into())), None).expect("room"));
        let watched = interest.tasks(Era::Modern).watch(party("ann", None), "t", "T", &watcher);
        tokio::time::advance(own.server.process_idle).await;

        own.sweep();
        assert_eq!(own.seats.lock().len(), 1);
        drop(watched);
        own.sweep();

        assert_eq!(own.seats.lock().len(), 0);
    }
}
