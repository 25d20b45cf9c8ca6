//! One configured server: its processes, its callers, and what it offers.

use std::{sync::Arc, time::Duration};

use runtime_api::{Board, Call, CallError, Demand, Era, Eras, Heard, Interest, Member, Party, Reply, Slots, Support, TargetId};
use runtime_mcp::{
    Incoming,
    stream::{
        Met, listening,
        opening::{self, Listed},
    },
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    own::{Own, Owner},
    seat::{Busy, Seat, State},
    settings::{Server, Share},
};

/// How often it is looked whether a process of somebody's own is idle, at least.
const SWEEP: Duration = Duration::from_secs(30);

/// A process may be idle for no time at all, but a clock cannot tick all the time.
const SWEEP_MIN: Duration = Duration::from_millis(10);

/// Shortest pause between two lists: a server that changes all the time is not asked more often.
const LIST_PAUSE_MIN: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) server: Arc<Server>,
    retired: CancellationToken,
    slots: Slots,
    /// The process that everybody shares, and that is asked for the lists. Where each principal or session has its own, it is for the
    /// lists alone.
    shared: Arc<Seat>,
    own: Arc<Own>,
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
        let own = Arc::new(Own::new(Arc::clone(&server), stop.clone()));
        let slots = Slots::new(server.concurrency);
        Self { server, retired: CancellationToken::new(), slots, shared, own, stop }
    }

    /// Makes a call. Dropping the future withdraws it.
    pub(crate) async fn call(&self, call: Call) -> Result<Reply, CallError> {
        let _place = self.slots.enter(call.deadline).await?;
        let seat = self.seat(&call)?;
        seat.call(&call).await.map(Incoming::into_reply)
    }

    fn seat(&self, call: &Call) -> Result<Busy, CallError> {
        let party = Party { principal: call.principal.clone(), session: call.session.clone() };
        match Owner::of(self.server.share, &party) {
            Some(owner) => self.own.enter(owner, party.session.as_ref()),
            None => Ok(Busy::new(&self.shared)),
        }
    }

    /// Runs its processes until `stop`, or until it is retired and its last call has ended; none is left afterwards.
    pub(crate) async fn run(self: Arc<Self>, board: Board, stop: CancellationToken) {
        self.own.serve(board.interest(&self.server.target));
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
        let shared = Arc::clone(&self.shared);
        seats.spawn(async move { shared.run().await });
        let seating = self.own.seat_subscribers();
        tokio::pin!(seating);
        // However much comes in between, it is time in the end.
        let mut sweeps = interval(SWEEP.min(self.server.process_idle).max(SWEEP_MIN));
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            for fresh in self.own.take_fresh() {
                let own = Arc::clone(&self.own);
                seats.spawn(async move { own.run(fresh).await });
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = self.own.come() => {}
                Some(_) = seats.join_next() => {}
                never = &mut seating => match never {},
                _ = sweeps.tick() => self.own.sweep(),
            }
        }
        while seats.join_next().await.is_some() {}
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
        // Where processes are somebody's own, each is told what its owner wants to hear of.
        let (demand, watched) = match self.server.share {
            Share::All => (interest.demand(), interest.tasks(Era::Modern).wanted()),
            Share::Principal | Share::Session => (Demand::of_nobody(), listening::none()),
        };
        let telling = listening::keep(&up.connection, up.era, &up.facts, demand, watched);
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
                        () = self.own.lists_changed() => list_at = list_at.min(listed_at + LIST_PAUSE_MIN),
                        changed = changes.next() => match changed {
                            Some(changed) => {
                                changed.updated.iter().for_each(|uri| interest.updated(uri));
                                let tasks = interest.tasks(up.era);
                                changed.tasks.iter().for_each(|(own, task)| tasks.told(|_| true, own, task));
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

#[cfg(test)]
mod tests {
    use runtime_api::Principal;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_idle_ends_in_time_however_often_something_else_comes() {
        let share = Share::Principal;
        let target = Target::new(Server { share, process_idle: SWEEP, ..Server::new("s".into(), "/no/such/program") });
        let enter = |name: &str| target.own.enter(Owner::Principal(Principal(name.into())), None).expect("room");
        let idle = enter("idle").state();

        let coming = async {
            for number in 0..12 {
                tokio::time::sleep(SWEEP / 4).await;
                drop(enter(&number.to_string()));
            }
        };
        tokio::select! {
            () = target.drive() => {}
            () = coming => {}
        }

        assert!(matches!(*idle.borrow(), State::Over));
    }
}
