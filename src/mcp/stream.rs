//! Event streams over HTTP: a call, or the changes of a session, driven by a task of its own, whether its client reads or not; and how
//! a client of a legacy session takes up a stream that it has lost (2025-11-25, transports).

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::FutureExt;
use runtime_api::{CallError, Delivery, Era, ErrorCode};
use tokio::{sync::mpsc, task::coop::unconstrained, time::timeout_at};
use tokio_util::sync::CancellationToken;

use super::{
    Running, Server, Session, Sight, Step, answer,
    listen::Since,
    replay::{EventId, Followed, Kept, Origin, RETRY, Said, Speaker},
};

/// What is written on one event stream: what its client has missed, then what comes.
#[derive(Debug, Default)]
pub struct EventStream {
    missed: VecDeque<Said>,
    live: Option<mpsc::Receiver<Said>>,
}

/// Why there is no stream for whoever asks for one.
#[derive(Debug)]
pub enum NoStream {
    /// `Last-Event-ID` is none of ours.
    NotAnEventId,
    /// The call that it belongs to is not known here (any more).
    Gone,
    /// All of it was said, and the client has heard it.
    Over,
    /// There is no room.
    Full(CallError),
}

impl EventStream {
    pub(super) const fn new(missed: VecDeque<Said>, live: Option<mpsc::Receiver<Said>>) -> Self {
        Self { missed, live }
    }

    /// What comes next; `None` at the end. Cancel-safe.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Said>> {
        if let Some(missed) = self.missed.pop_front() {
            return Poll::Ready(Some(missed));
        }
        let Some(live) = &mut self.live else { return Poll::Ready(None) };
        let said = ready!(live.poll_recv(cx));
        if said.is_none() {
            self.live = None;
        }
        Poll::Ready(said)
    }
}

impl Running {
    /// Drives the call in a task of its own, behind what is its first step already. A client with a session that loses the stream can
    /// take it up again; dropping that of any other client drops the call.
    #[must_use]
    pub fn into_stream(self, first: Option<Step>) -> EventStream {
        let begun = self.left_to().and_then(|(session, requests)| {
            let begun = session.kept()?.begin(Origin::Post, requests)?;
            Some((Arc::clone(session), begun))
        });
        let Some((session, (speaker, mut stream))) = begun else { return self.into_passing(first) };
        let mut away = None;
        match first {
            Some(Step::Event(message)) => stream.missed.push_back(speaker.say(message).0),
            Some(Step::Away(retry)) => away = Some(retry),
            _ => {}
        }
        self.left_behind().spawn(async move {
            if let Some(retry) = away {
                speaker.send_away(retry).await;
            }
            speak(self, &speaker).await;
            // Its client has so long to come back for what it missed.
            session.touch();
        });
        stream
    }

    fn into_passing(mut self, first: Option<Step>) -> EventStream {
        let (said, live) = mpsc::channel(1);
        self.left_behind().spawn(async move {
            loop {
                let step = tokio::select! {
                    biased;
                    () = said.closed() => return,
                    step = self.next() => step,
                };
                if let Step::Away(_) = step {
                    // There is nothing to come back for.
                    continue;
                }
                let given_up_at = self.given_up_at();
                let Some((message, is_last)) = step.said() else { return };
                let sent = tokio::select! {
                    biased;
                    sent = timeout_at(given_up_at, said.send(Said::Passing(message))) => sent,
                    () = self.withdrawn_unread() => return,
                };
                if is_last || !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
        });
        let first = first.and_then(Step::said).map(|(message, _)| Said::Passing(message));
        EventStream::new(first.into_iter().collect(), Some(live))
    }
}

/// Says everything to the end, to whoever reads meanwhile.
async fn speak(mut running: Running, speaker: &Speaker) {
    loop {
        let step = tokio::select! {
            biased;
            step = running.next() => step,
            () = speaker.has_been_read_long() => Step::Away(RETRY),
        };
        if let Step::Away(retry) = step {
            tokio::select! {
                () = speaker.send_away(retry) => continue,
                () = running.withdrawn_unread() => break,
            }
        }
        let Some((message, is_last)) = step.said() else { break };
        let given_up_at = running.given_up_at();
        let is_over = tokio::select! {
            biased;
            () = speaker.tell(message, given_up_at) => is_last,
            () = running.withdrawn_unread() => true,
        };
        if is_over {
            break;
        }
    }
    speaker.end();
}

/// Tells of changes as long as somebody reads. What was found out until then is kept.
async fn tell_changes(mut changes: Running, speaker: &Speaker, closing: &CancellationToken) {
    loop {
        let Some(reader) = speaker.reader() else {
            // Not to be cut short for the sake of other tasks: what is not kept now is lost.
            while let Some(Step::Event(message)) = unconstrained(changes.next()).now_or_never() {
                speaker.tell(message, changes.given_up_at()).await;
            }
            if speaker.falls_silent_without_reader() {
                return;
            }
            continue;
        };
        let step = tokio::select! {
            biased;
            () = reader.is_gone() => {
                speaker.dismiss(&reader);
                continue;
            }
            step = changes.next() => step,
            () = speaker.has_been_read_long() => {
                speaker.send_away(RETRY).await;
                continue;
            }
        };
        let Step::Event(message) = step else { return speaker.end() };
        let given_up_at = changes.given_up_at();
        tokio::select! {
            biased;
            () = speaker.tell(message, given_up_at) => {}
            // A client that does not read holds neither its session nor the gateway.
            () = changes.withdrawn_unread() => return speaker.end(),
            () = closing.cancelled() => return speaker.end(),
        }
    }
}

impl Server {
    /// The stream that a legacy session opens with GET: a new one of changes, or that one which the client lost after the event
    /// `last`.
    ///
    /// # Errors
    /// [`NoStream`].
    pub fn open_stream(&self, session: &Arc<Session>, sight: Sight<'_>, last: Option<&str>) -> Result<EventStream, NoStream> {
        match (session.kept(), last) {
            (None, _) => self.pass_changes(session, sight, Since::Now),
            (Some(kept), None) => self.tell_anew(session, kept, sight, Since::Now),
            (Some(kept), Some(last)) => {
                let last = EventId::parse(last).ok_or(NoStream::NotAnEventId)?;
                self.take_up(session, kept, sight, last)
            }
        }
    }

    fn take_up(
        &self,
        session: &Arc<Session>,
        kept: &Arc<Kept>,
        sight: Sight<'_>,
        last: EventId,
    ) -> Result<EventStream, NoStream> {
        match kept.follow(last) {
            Followed::Stream(stream) => Ok(stream),
            Followed::Left(stream, speaker) => self.tell_on(session, sight, Since::Seen(kept.seen()), (speaker, stream)),
            // That anything may be another says it all.
            Followed::Unknown | Followed::Gap(..) if last.is_of_changes() => self.tell_anew(session, kept, sight, Since::Unknown),
            Followed::Gap(requests, newest) => {
                let lost = requests.iter().map(|id| Said::Kept(newest, answer::failed(id, &gap(), Era::Legacy).message));
                Ok(EventStream::new(lost.collect(), None))
            }
            Followed::Over => Err(NoStream::Over),
            Followed::Unknown => Err(NoStream::Gone),
        }
    }

    /// A stream of changes that begins, and takes the place of an older one: a client that opens a second has lost the first.
    fn tell_anew(
        &self,
        session: &Arc<Session>,
        kept: &Arc<Kept>,
        sight: Sight<'_>,
        since: Since,
    ) -> Result<EventStream, NoStream> {
        match kept.begin(Origin::Get, Vec::new()) {
            Some(begun) => self.tell_on(session, sight, since, begun),
            // As many calls have streams as may be known.
            None => self.pass_changes(session, sight, since),
        }
    }

    /// Speaks on a stream of changes.
    fn tell_on(
        &self,
        session: &Arc<Session>,
        sight: Sight<'_>,
        since: Since,
        (speaker, stream): (Speaker, EventStream),
    ) -> Result<EventStream, NoStream> {
        match self.changes_of(session, sight, since, session.kept().cloned()) {
            Ok(changes) => {
                let (session, closing) = (Arc::clone(session), self.shared.closing.clone());
                changes.left_behind().spawn(async move {
                    tell_changes(changes, &speaker, &closing).await;
                    // Its client has so long to come back for what it missed.
                    session.touch();
                });
                Ok(stream)
            }
            Err(full) => {
                speaker.end();
                Err(NoStream::Full(full))
            }
        }
    }

    /// A stream of changes of which nothing is kept.
    fn pass_changes(&self, session: &Session, sight: Sight<'_>, since: Since) -> Result<EventStream, NoStream> {
        self.changes_of(session, sight, since, None).map(|changes| changes.into_passing(None)).map_err(NoStream::Full)
    }
}

/// What a call is answered of whose stream something is not kept any more. It may be running still.
fn gap() -> CallError {
    let message = "what was said on this stream after the event with that id is not kept any more";
    CallError::gateway(ErrorCode::Disconnected, message).with_delivery(Delivery::Unknown)
}

#[cfg(test)]
mod tests;
