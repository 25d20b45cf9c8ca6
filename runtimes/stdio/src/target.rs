//! One configured server: its processes, its callers, and what it offers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use runtime_api::{
    Arrivals, Board, Call, CallError, Era, Eras, ErrorCode, Heard, Interest, Member, Principal, Reply, Slots, Support, TargetId,
};
use runtime_mcp::{
    Incoming,
    stream::{
        Met, listening,
        opening::{self, Listed},
    },
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    seat::{Seat, State},
    settings::{Server, Share},
};

/// Processes of one server at one time, where each principal has one. Each is an interpreter with its libraries: some 50 MB.
const SEATS_MAX: usize = 32;

/// A process of one principal that nobody has called for so long is ended.
const IDLE_MAX: Duration = Duration::from_secs(10 * 60);

/// How often they are looked at.
const SWEEP: Duration = Duration::from_secs(30);

/// Shortest pause between two lists: a server that changes all the time is not asked more often.
const LIST_PAUSE_MIN: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) server: Arc<Server>,
    retired: CancellationToken,
    slots: Slots,
    /// The process that everybody shares, and that is asked for the lists.
    shared: Arc<Seat>,
    /// Those of single principals.
    own: Mutex<HashMap<Principal, Arc<Seat>>>,
    /// Those that nobody drives yet.
    fresh: Arrivals<Arc<Seat>>,
    stop: CancellationToken,
}

impl Member for Target {
    fn target(&self) -> &TargetId {
        &self.server.target
    }

    fn retire(&self) {
        self.retired.cancel();
    }
}

impl Target {
    pub(crate) fn new(server: Server) -> Self {
        let (server, stop) = (Arc::new(server), CancellationToken::new());
        let shared = Arc::new(Seat::new(Arc::clone(&server), stop.child_token()));
        let fresh = Arrivals::default();
        fresh.add([Arc::clone(&shared)]);
        let slots = Slots::new(server.concurrency);
        Self { server, retired: CancellationToken::new(), slots, shared, own: Mutex::default(), fresh, stop }
    }

    /// Makes a call. Dropping the future withdraws it.
    pub(crate) async fn call(&self, call: Call) -> Result<Reply, CallError> {
        let _place = self.slots.enter(call.deadline).await?;
        let seat = self.seat(&call.principal)?;
        seat.call(&call).await.map(Incoming::into_reply)
    }

    fn seat(&self, principal: &Principal) -> Result<Arc<Seat>, CallError> {
        if self.server.share == Share::All {
            return Ok(Arc::clone(&self.shared));
        }
        let mut own = self.own.lock();
        if let Some(seat) = own.get(principal) {
            return Ok(Arc::clone(seat));
        }
        if own.len() >= SEATS_MAX {
            let idle = own.iter().filter_map(|(principal, seat)| Some((seat.idle()?, principal)));
            let Some(oldest) = idle.max_by_key(|(idle, _)| *idle).map(|(_, principal)| principal.clone()) else {
                let message = format!("{SEATS_MAX} principals have a process of this server each, and all are busy");
                return Err(CallError::gateway(ErrorCode::Overloaded, message).with_retry_after(Duration::from_secs(1)));
            };
            own.remove(&oldest).into_iter().for_each(|seat| seat.end());
        }
        let seat = Arc::new(Seat::new(Arc::clone(&self.server), self.stop.child_token()));
        own.insert(principal.clone(), Arc::clone(&seat));
        self.fresh.add([Arc::clone(&seat)]);
        Ok(seat)
    }

    /// Runs its processes until `stop`, or until it is retired and its last call has ended; none is left afterwards.
    pub(crate) async fn run(self: Arc<Self>, board: Board, stop: CancellationToken) {
        let driving = self.drive();
        tokio::pin!(driving);
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.retired.cancelled() => {}
            () = self.offer(&board) => {}
            () = &mut driving => {}
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.slots.drain() => debug!(target_name = %self.server.target, "the server is not used any more"),
            () = &mut driving => {}
        }
        self.stop.cancel();
        driving.await;
    }

    /// Runs the processes until they are told to end, and have.
    async fn drive(&self) {
        let mut seats = JoinSet::new();
        loop {
            for seat in self.fresh.take() {
                seats.spawn(async move { seat.run().await });
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = self.fresh.come() => {}
                Some(_) = seats.join_next() => {}
                () = sleep(SWEEP) => self.sweep(),
            }
        }
        while seats.join_next().await.is_some() {}
    }

    fn sweep(&self) {
        self.own.lock().retain(|_, seat| {
            let is_idle = seat.idle().is_some_and(|idle| idle > IDLE_MAX);
            if is_idle {
                seat.end();
            }
            !is_idle
        });
    }

    /// Publishes what the server offers, whenever that changes. Never ends.
    async fn offer(&self, board: &Board) {
        let (mut state, interest) = (self.shared.state(), board.interest(&self.server.target));
        loop {
            let now = state.borrow_and_update().clone();
            match now {
                State::Starting => {}
                State::Down(reason) => self.fails(board, &reason),
                State::Over => return std::future::pending().await,
                State::Up(up) => tokio::select! {
                    biased;
                    changed = state.changed() => {
                        changed.expect("the seat lives as long as this");
                        state.mark_changed();
                    }
                    () = self.follow(board, &up, &interest) => {}
                },
            }
            state.changed().await.expect("the seat lives as long as this");
        }
    }

    /// Lists, and lists again when it is told to or it is time. Never ends.
    async fn follow(&self, board: &Board, up: &Met, interest: &Interest) {
        let telling = listening::keep(&up.connection, up.era, &up.facts, interest);
        let listing = async {
            let changes = up.connection.changes();
            loop {
                let listed_at = Instant::now();
                self.list(board, up).await;
                let mut list_at = listed_at + self.server.refresh;
                loop {
                    tokio::select! {
                        biased;
                        () = sleep_until(list_at) => break,
                        changed = changes.next() => match changed {
                            Some(changed) => {
                                changed.updated.iter().for_each(|uri| interest.updated(uri));
                                let tasks = interest.tasks(up.era);
                                changed.tasks.iter().for_each(|(own, task)| tasks.told(None, own, task));
                                if changed.lists() {
                                    list_at = list_at.min(listed_at + LIST_PAUSE_MIN);
                                }
                            }
                            // The seat says what comes next.
                            None => return std::future::pending::<()>().await,
                        },
                    }
                }
            }
        };
        tokio::select! {
            never = telling => match never {},
            () = listing => {}
        }
    }

    async fn list(&self, board: &Board, up: &Met) {
        let deadline = Instant::now() + self.server.list_timeout;
        match opening::list(&up.connection, up.era, &up.facts, deadline).await {
            Ok(listed) => {
                let eras = match up.era {
                    Era::Modern => Eras { modern: Support::Yes, legacy: Support::No },
                    Era::Legacy => Eras { modern: Support::No, legacy: Support::Yes },
                };
                let tools = listed.items.tools.len();
                let Listed { about, items, hints, .. } = listed;
                let heard = Heard { transport: up.connection.transport(), eras, about, items, hints };
                if let Some(state) = board.answers(&self.server.target, &self.retired, heard) {
                    info!(target_name = %self.server.target, state, tools, "server changed its state");
                }
            }
            Err(error) if up.connection.is_ended() => debug!(%error, "the server has ended while it was asked"),
            Err(error) => self.fails(board, &Arc::from(format!("its lists cannot be had: {error}"))),
        }
    }

    fn fails(&self, board: &Board, reason: &Arc<str>) {
        if let Some(state) = board.fails(&self.server.target, &self.retired, reason) {
            warn!(target_name = %self.server.target, state, %reason, "server cannot be used");
        }
    }
}
