//! Streams on which a client is told when a list of its is another, or a resource that it wants to hear of: `subscriptions/listen`
//! (2026-07-28, subscriptions) and the stream that a legacy session opens with GET (2025-11-25, transports).

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use prometheus_client::metrics::gauge::Gauge;
use runtime_api::{
    CallError, Caller, CallerGone, Era, ErrorCode, Party, Standing, Subscribed, Subscriber, TaskWatcher, Wants, WatchedTask,
};
use runtime_mcp::handshake::part;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use twinway_proto::{
    envelope::{self, Request},
    json,
    meta::key,
};

use super::{
    Answer, Inbound, Outgoing, Running, Server, Session, Sight, Way, answer,
    call::under_way,
    era::Spoken,
    find,
    listing::unknown_view,
    replay::Kept,
    running::Events,
    session::{SUBSCRIPTION_BYTES_MAX, SUBSCRIPTIONS_MAX},
    task::{Listener, declares_tasks, lacks_extension, watch_all},
};
use crate::{
    catalog::{Capabilities, Catalog, Categories, Touched},
    config::Exposure,
};

const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
const UPDATED: &str = "notifications/resources/updated";

/// Longest life of a stream. Whoever still listens opens another, and nothing of ours is kept for years.
const LIFE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a target may take to take note of a subscription. Less than the time for which a gateway before this one waits for an
/// acknowledgement, which is that for a list (`list_timeout`, 10 s by default): so it hears of the resources that do hold.
const NOTED_WITHIN: Duration = Duration::from_secs(8);

/// Sees when one view becomes another, as far as a client is shown it.
struct Watch {
    catalog: Catalog,
    view: Box<str>,
    categories: Categories,
    /// What may be another than its client knows.
    missed: Touched,
    seen: u64,
    numbers: watch::Receiver<u64>,
    /// Where it is noted what was seen, for a client that comes back.
    noted_in: Option<Arc<Kept>>,
}

/// From when on a client is told of changes.
#[derive(Clone, Copy)]
pub(super) enum Since {
    /// From now on.
    Now,
    /// Since the catalogue had that number.
    Seen(u64),
    /// Nobody knows what it was told: all that it wants to hear of may be another.
    Unknown,
}

/// What ends a stream from our side.
struct End {
    closing: CancellationToken,
    at: Instant,
    /// Freed when the stream is over, however it ended.
    _place: Place,
}

/// One of the places for those who listen; counted while it is taken.
struct Place {
    gauge: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn new(permit: OwnedSemaphorePermit, gauge: &Gauge) -> Self {
        gauge.inc();
        Self { gauge: gauge.clone(), _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl Watch {
    fn new(catalog: &Catalog, sight: Sight<'_>) -> Self {
        // Of what its client can see already, it is not told: a catalogue is there before its number is.
        let (numbers, seen) = (catalog.changes(), catalog.load().number);
        let (view, categories) = (sight.view.into(), sight.shown.categories.clone());
        Self { catalog: catalog.clone(), view, categories, missed: Touched::default(), seen, numbers, noted_in: None }
    }

    /// Waits until something of this came, went or is not what it was since this was asked last. Cancel-safe; never ends
    /// without a change.
    async fn changed(&mut self, wanted: Touched) -> Touched {
        loop {
            let number = (*self.numbers.borrow_and_update()).max(self.seen);
            let seen = std::mem::replace(&mut self.seen, number);
            if let Some(kept) = &self.noted_in {
                kept.set_seen(number);
            }
            let since = if seen == number {
                Touched::default()
            } else {
                self.catalog.touched_in(seen..=number, &self.view, &self.categories)
            };
            let touched = std::mem::take(&mut self.missed).or(since).and(wanted);
            if touched != Touched::default() {
                return touched;
            }
            if self.numbers.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl End {
    async fn comes(&self) {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => {}
            () = sleep_until(self.at) => {}
        }
    }
}

impl Server {
    /// Ends the streams of notifications: those who listen are told that it is over.
    pub fn close_streams(&self) {
        self.shared.closing.cancel();
    }

    /// `subscriptions/listen`: what is honoured is said first, then each change, and in the end that it is over.
    pub(super) fn listen(&self, inbound: &Inbound<'_>, request: &Request<'_>) -> Answer {
        if self.shared.catalog.load().view(inbound.view).is_none() {
            return unknown_view(request.id, inbound.view);
        }
        let params = request.params.as_ref().map(|params| inbound.message.slice(params.range.clone())).unwrap_or_default();
        let Some(wanted) = part(&params, "notifications").filter(|wanted| wanted.starts_with(b"{")) else {
            let message = "`subscriptions/listen` has no object `notifications` that says what is listened for";
            return answer::error(200, Some(request.id), -32602, message, None);
        };
        // Whoever asks for it has to have declared tasks (2026-07-28, tasks: error handling).
        if part(&wanted, "taskIds").is_some() && !declares_tasks(&request.meta) {
            return lacks_extension(request.id);
        }
        let end = match self.end() {
            Ok(end) => end,
            Err(full) => return Answer::Message(answer::failed(request.id, &full, Era::Modern)),
        };
        let (caller, events) = Caller::channel(Wants::default());
        let watch = Watch::new(&self.shared.catalog, inbound.sight());
        let deadline = end.at;
        let mut wanted = self.wanted(inbound, &wanted);
        let meta = meta_of(request.id);
        let id: Box<str> = request.id.into();
        let answer = Box::pin(async move {
            tokio::select! {
                biased;
                // What is over honours nothing any more.
                () = end.comes() => wanted.subscriptions.clear(),
                () = wanted.noted() => {}
            }
            let acknowledged = format!(r#"{{"notifications":{},{meta}}}"#, wanted.honoured());
            if caller.notify(ACKNOWLEDGED, acknowledged.into()).await.is_ok() {
                let listener = Listener { caller: &caller, subscription: Some(&id) };
                tell(listener, watch, &end, wanted.lists, (&wanted.subscriber, &wanted.watcher)).await;
            }
            let result = format!(r#"{{"resultType":"complete",{meta}}}"#);
            Outgoing::new(200, envelope::response(&id, result.into_bytes().into()))
        });
        let running = Running::new(answer, Some(Events::only(events)), deadline, self.shared.left_behind.clone()).listening();
        Answer::Running(Box::new(match &inbound.way {
            Way::Stream { session, .. } => running.in_session(session, request.id).ends_with_its_holder(),
            Way::Http { .. } => running,
        }))
    }

    /// What of a filter is honoured.
    fn wanted(&self, inbound: &Inbound<'_>, filter: &Bytes) -> Wanted {
        let view = inbound.view;
        let is_true = |name| part(filter, name).is_some_and(|raw| &raw[..] == b"true");
        // Of lists that nobody here has there is nothing to tell.
        let lists = self.lists_of(view).and(Touched {
            tools: is_true("toolsListChanged") && !inbound.is_lazy(),
            prompts: is_true("promptsListChanged"),
            resources: is_true("resourcesListChanged"),
        });
        let subscriber = Subscriber::default();
        let uris = part(filter, "resourceSubscriptions").unwrap_or_default();
        let uris: Vec<String> = serde_json::from_slice(&uris).unwrap_or_default();
        let subscribe = |uri: String| {
            let by = Party { principal: inbound.principal.clone(), session: None };
            let subscribed = self.subscription(view, &uri, by, &subscriber)?;
            Some((uri, subscribed))
        };
        let mut bytes = 0;
        let bounded = uris.into_iter().take(SUBSCRIPTIONS_MAX).take_while(|uri| {
            bytes += uri.len();
            bytes <= SUBSCRIPTION_BYTES_MAX
        });
        let subscriptions = bounded.filter_map(subscribe).collect();
        let (named, watcher) = (part(filter, "taskIds").unwrap_or_default(), TaskWatcher::default());
        let ids = self.task_ids(inbound, Era::Modern);
        let tasks = watch_all(&named, &ids, &self.shared.catalog.load(), view, &watcher);
        Wanted { lists, subscriptions, subscriber, tasks, watcher }
    }

    /// A subscription to a resource of this view; `None` when nobody has it, or whoever has it tells of no updates.
    fn subscription(&self, view: &str, uri: &str, by: Party, subscriber: &Subscriber) -> Option<Subscribed> {
        let snapshot = self.shared.catalog.load();
        let named = find::resource(snapshot.view(view)?, uri)?;
        let target = snapshot.target(&named.entry.chosen().target)?;
        if !Capabilities::of(target).subscribe {
            return None;
        }
        target.interest.subscribe(&named.name, uri.into(), by, subscriber)
    }

    /// `resources/subscribe` and `resources/unsubscribe` of a legacy session.
    pub(super) fn subscribe(&self, inbound: &Inbound<'_>, request: &Request<'_>, spoken: &Spoken, begins: bool) -> Answer {
        let Spoken::Legacy { session, .. } = spoken else {
            return answer::unknown_method(request.id, &request.method, spoken.era());
        };
        let params = request.params.as_ref().map(|params| inbound.message.slice(params.range.clone())).unwrap_or_default();
        let uri = part(&params, "uri").and_then(|raw| json::string(std::str::from_utf8(&raw).ok()?).map(String::from));
        let Some(uri) = uri else {
            return answer::error(200, Some(request.id), -32602, "`params.uri` is not a string", None);
        };
        if !begins {
            session.unsubscribe(&uri);
        } else if !session.may_subscribe(&uri) {
            let message = format!(
                "a session may have {SUBSCRIPTIONS_MAX} subscriptions, whose URIs have {SUBSCRIPTION_BYTES_MAX} bytes together"
            );
            return answer::error(200, Some(request.id), -32603, &message, None);
        } else {
            return self.begin_subscription(inbound, request, (spoken, session), uri);
        }
        answer::result(request.id, b"{}".to_vec().into())
    }

    /// It is there at once, so that nothing goes by, and answered when the target has taken note of it.
    fn begin_subscription(
        &self,
        inbound: &Inbound<'_>,
        request: &Request<'_>,
        (spoken, session): (&Spoken, &Arc<Session>),
        uri: String,
    ) -> Answer {
        let by = Party { principal: inbound.principal.clone(), session: Some(session.life()) };
        let Some(subscribed) = self.subscription(inbound.view, &uri, by, session.subscriber()) else {
            let message = format!("nobody tells of updates of the resource `{uri}`");
            return answer::error(200, Some(request.id), find::no_resource(Era::Legacy), &message, None);
        };
        let begun = Begun::new(session, uri, subscribed);
        let id: Box<str> = request.id.into();
        let answer = Box::pin(async move {
            match begun.noted().await {
                Ok(()) => Outgoing::new(200, envelope::response(&id, b"{}".to_vec().into())),
                Err(error) => not_noted(&id, &error),
            }
        });
        let running = Running::new(answer, None, Instant::now() + NOTED_WITHIN, self.shared.left_behind.clone());
        under_way(running, inbound, request, spoken)
    }

    /// The stream of a legacy session, which takes the place of an older one: a client that opens a second has lost the first.
    /// It ends without a message.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] when there are as many streams as sessions may be.
    pub fn listen_in(&self, session: &Session, sight: Sight<'_>) -> Result<Running, CallError> {
        self.changes_of(session, sight, Since::Now, None)
    }

    /// The same from another moment on; what was seen is noted for a client that comes back.
    pub(super) fn changes_of(
        &self,
        session: &Session,
        sight: Sight<'_>,
        since: Since,
        noted_in: Option<Arc<Kept>>,
    ) -> Result<Running, CallError> {
        let end = self.end()?;
        let (caller, events) = Caller::channel(Wants::default());
        let mut watch = Watch { noted_in, ..Watch::new(&self.shared.catalog, sight) };
        match since {
            Since::Now => {}
            Since::Seen(number) => watch.seen = number,
            Since::Unknown => {
                watch.missed = self.lists_of(sight.view);
                session.subscriber().updated(session.subscribed());
            }
        }
        let deadline = end.at;
        let over = session.listen();
        let (withdrawn, subscriber, watcher) = (over.clone(), session.subscriber().clone(), session.tasks().watcher.clone());
        let lists = Touched { tools: sight.shown.exposure != Exposure::Lazy, ..Touched::ALL };
        // Also when nobody drives this any more, or ever did.
        let over = over.drop_guard();
        let answer = Box::pin(async move {
            tell(Listener { caller: &caller, subscription: None }, watch, &end, lists, (&subscriber, &watcher)).await;
            drop(over);
            std::future::pending().await
        });
        let running = Running::new(answer, Some(Events::only(events)), deadline, self.shared.left_behind.clone());
        Ok(running.until(withdrawn).listening())
    }

    /// The lists that there are in a view. Of tools there is always one.
    fn lists_of(&self, view: &str) -> Touched {
        let offered = self.shared.catalog.load().view(view).map(|view| view.capabilities).unwrap_or_default();
        Touched { tools: true, prompts: offered.prompts, resources: offered.resources }
    }

    fn end(&self) -> Result<End, CallError> {
        let permit = Arc::clone(&self.shared.streams).try_acquire_owned().map_err(|_| {
            let message = "too many clients listen for changes; ask for the list now and then instead";
            CallError::gateway(ErrorCode::Overloaded, message)
        })?;
        let place = Place::new(permit, self.shared.metrics.listening());
        Ok(End { closing: self.shared.closing.clone(), at: Instant::now() + LIFE_MAX, _place: place })
    }
}

/// A subscription of a session that its target has not taken note of yet. Dropped before that, it is none.
struct Begun {
    session: Arc<Session>,
    uri: String,
    subscribed: Arc<Subscribed>,
    holds: bool,
}

impl Begun {
    fn new(session: &Arc<Session>, uri: String, subscribed: Subscribed) -> Self {
        let (session, subscribed) = (Arc::clone(session), Arc::new(subscribed));
        session.subscribe(uri.clone(), Arc::clone(&subscribed));
        Self { session, uri, subscribed, holds: false }
    }

    async fn noted(mut self) -> Standing {
        let standing = noted(&self.subscribed).await;
        self.holds = standing.is_ok();
        standing
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.holds {
            self.session.give_up(&self.uri, &self.subscribed);
        }
    }
}

/// Whether the target has taken note of a subscription, in the time that there is for it.
async fn noted(subscribed: &Subscribed) -> Standing {
    timeout(NOTED_WITHIN, subscribed.standing()).await.unwrap_or_else(|_| {
        let late = "the target has not taken note of the subscription in time; it is given up";
        Err(Arc::new(CallError::gateway(ErrorCode::DeadlineExceeded, late)))
    })
}

/// What a session is told: the target's own error, or why there is none.
fn not_noted(id: &str, error: &CallError) -> Outgoing {
    // Whether anything arrived does not matter: what did not hold is given up.
    let data = answer::error_data(error.code().row().name, error.origin(), error.delivery(), error);
    let ours = || envelope::error_object(error.code().row().json_rpc, &error.to_string(), Some(data.as_bytes()));
    Outgoing::new(200, envelope::failure(Some(id), error.answer().cloned().unwrap_or_else(ours)))
}

/// What a client is told of.
struct Wanted {
    lists: Touched,
    /// By the URIs that the client knows.
    subscriptions: Vec<(String, Subscribed)>,
    subscriber: Subscriber,
    /// By the ids that the client knows.
    tasks: Vec<(String, WatchedTask)>,
    watcher: TaskWatcher,
}

impl Wanted {
    /// The same when its targets have taken note of the subscriptions, without those of which they have not.
    async fn noted(&mut self) {
        let standings = join_all(self.subscriptions.iter().map(|(_, subscribed)| noted(subscribed))).await;
        let mut standings = standings.into_iter();
        self.subscriptions.retain(|_| standings.next().is_some_and(|standing| standing.is_ok()));
    }

    /// As the acknowledgement has it.
    fn honoured(&self) -> String {
        let Touched { tools, prompts, resources } = self.lists;
        let lists = [("toolsListChanged", tools), ("promptsListChanged", prompts), ("resourcesListChanged", resources)];
        let mut honoured: Vec<_> = lists.iter().filter(|(_, told)| *told).map(|(name, _)| format!(r#""{name}":true"#)).collect();
        if !self.subscriptions.is_empty() {
            let uris: Vec<_> = self.subscriptions.iter().map(|(uri, _)| uri).collect();
            honoured.push(format!(r#""resourceSubscriptions":{}"#, serde_json::json!(uris)));
        }
        if !self.tasks.is_empty() {
            let ids: Vec<_> = self.tasks.iter().map(|(id, _)| id).collect();
            honoured.push(format!(r#""taskIds":{}"#, serde_json::json!(ids)));
        }
        format!("{{{}}}", honoured.join(","))
    }
}

/// Tells of each change until the end, or until nobody listens. Changes that come while the client does not read are told
/// as one.
async fn tell(
    listener: Listener<'_>,
    mut watch: Watch,
    end: &End,
    lists: Touched,
    (subscriber, watcher): (&Subscriber, &TaskWatcher),
) {
    let Listener { caller, subscription } = listener;
    let meta = subscription.map(meta_of).unwrap_or_default();
    let telling = async {
        loop {
            tokio::select! {
                touched = watch.changed(lists) => tell_lists(caller, touched, &meta).await?,
                updated = subscriber.next() => tell_updates(caller, updated, &meta).await?,
                told = watcher.next() => listener.tell_tasks(told).await?,
            }
        }
    };
    tokio::select! {
        biased;
        () = end.comes() => {}
        over = telling => {
            let _gone: Result<Infallible, CallerGone> = over;
        }
    }
}

/// The member by which what is told names its subscription.
fn meta_of(subscription: &str) -> String {
    format!(r#""_meta":{{"{}":{subscription}}}"#, key::SUBSCRIPTION_ID)
}

async fn tell_lists(caller: &Caller, touched: Touched, meta: &str) -> Result<(), CallerGone> {
    let Touched { tools, prompts, resources } = touched;
    for (list, is_another) in [("tools", tools), ("prompts", prompts), ("resources", resources)] {
        if is_another {
            caller.notify(&format!("notifications/{list}/list_changed"), format!("{{{meta}}}").into()).await?;
        }
    }
    Ok(())
}

async fn tell_updates(caller: &Caller, updated: BTreeSet<Arc<str>>, meta: &str) -> Result<(), CallerGone> {
    for uri in updated {
        let comma = if meta.is_empty() { "" } else { "," };
        let params = format!(r#"{{"uri":{}{comma}{meta}}}"#, serde_json::json!(&*uri));
        caller.notify(UPDATED, params.into()).await?;
    }
    Ok(())
}
