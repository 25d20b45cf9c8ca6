//! The one who speaks on a stream, to whoever reads it and to the one who comes back.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use twinway_proto::rope::Rope;

use super::{
    EventId, Kept, Said,
    store::Silent,
    streams::{EVENT_BYTES, Reader, Stream},
};

/// How much later than it was told a client may come back that was sent away, before it counts as one that is lost: it has to connect
/// anew.
pub(in super::super) const RETURN_GRACE: Duration = Duration::from_secs(10);

/// The one who speaks on a stream.
pub(in super::super) struct Speaker {
    pub(super) kept: Arc<Kept>,
    pub(super) stream: u32,
    pub(super) came: Arc<Notify>,
}

impl Speaker {
    /// Numbers a message and keeps it. Also returns who reads now.
    pub(in super::super) fn say(&self, message: Rope) -> (Said, Option<Reader>) {
        let (kept, store) = (&self.kept, &self.kept.store);
        let bytes = message.len() + EVENT_BYTES;
        let granted = if bytes <= store.session_bytes_max && store.take(bytes) { bytes } else { 0 };
        let said = kept.change(granted, |streams| streams.say(self.stream, &message, granted, store.session_bytes_max));
        match said {
            Some((origin, event, reader)) => {
                (Said::Kept(EventId { origin, nonce: kept.nonce, stream: self.stream, event }, message), reader)
            }
            // The session is over, or another stream has taken the place of this one.
            None => (Said::Passing(message), None),
        }
    }

    /// Says it to whoever reads now, who may take that long. For a client that was sent away it is kept; for what there is no room for,
    /// that client is waited for.
    pub(in super::super) async fn tell(&self, message: Rope, until: Instant) {
        while let Some(expected) = self.expected_for(message.len() + EVENT_BYTES) {
            if timeout_at(expected.min(until), self.came.notified()).await.is_err() {
                break;
            }
        }
        let (said, reader) = self.say(message);
        let Some(reader) = reader else { return };
        let sent = tokio::select! {
            biased;
            () = reader.replaced.cancelled() => return,
            sent = timeout_at(until, reader.said.send(said)) => sent,
        };
        if !matches!(sent, Ok(Ok(()))) {
            self.dismiss(&reader);
        }
    }

    /// Until when a client that was sent away is waited for, before something of so many bytes is said.
    fn expected_for(&self, bytes: usize) -> Option<Instant> {
        let (kept, store) = (&self.kept, &self.kept.store);
        let mut streams = kept.streams.lock();
        let has_room = streams.bytes + bytes <= store.session_bytes_max && store.has_room(bytes);
        streams.find(self.stream).and_then(|stream| stream.expected).filter(|_| !has_room)
    }

    /// Ends the connection of whoever reads now, who shall come back after so long (2025-11-25, polling). Cancel-safe.
    pub(in super::super) async fn send_away(&self, retry: Duration) {
        let parting = {
            let mut streams = self.kept.streams.lock();
            streams.find(self.stream).and_then(|stream| {
                let id = EventId { origin: stream.origin, nonce: self.kept.nonce, stream: self.stream, event: stream.next() - 1 };
                let reader = stream.reader.take()?;
                stream.expected = Some(Instant::now() + retry + RETURN_GRACE);
                Some((id, reader))
            })
        };
        if let Some((id, reader)) = parting {
            self.kept.store.metrics.sent_away.inc();
            // One that does not read has lost its stream.
            timeout(RETURN_GRACE, reader.said.send(Said::Priming(id, retry))).await.ok();
        }
    }

    /// Waits until a client has read for as long as it shall at one time. Cancel-safe.
    pub(in super::super) async fn has_been_read_long(&self) {
        let Some(read_max) = self.kept.store.read_max.filter(|_| self.kept.primes) else { return std::future::pending().await };
        loop {
            match self.reader() {
                Some(reader) if reader.since.elapsed() >= read_max => return,
                Some(reader) => sleep_until(reader.since + read_max).await,
                None => self.came.notified().await,
            }
        }
    }

    /// Who reads now.
    pub(in super::super) fn reader(&self) -> Option<Reader> {
        self.kept.streams.lock().find(self.stream)?.reader.clone()
    }

    /// It is gone, or does not read.
    pub(in super::super) fn dismiss(&self, reader: &Reader) {
        let mut streams = self.kept.streams.lock();
        if let Some(stream) = streams.find(self.stream) {
            stream.reader.take_if(|now| now.said.same_channel(&reader.said));
        }
    }

    /// Falls silent unless somebody reads.
    pub(in super::super) fn falls_silent_without_reader(&self) -> bool {
        self.falls_silent_if(|stream| stream.reader.is_none())
    }

    /// Everything is said.
    pub(in super::super) fn end(&self) {
        self.falls_silent_if(|_| true);
    }

    fn falls_silent_if(&self, condition: impl FnOnce(&Stream) -> bool) -> bool {
        let since = Instant::now();
        let mut streams = self.kept.streams.lock();
        let Some(stream) = streams.find(self.stream) else { return true };
        if !condition(stream) {
            return false;
        }
        stream.reader = None;
        stream.silent_since = Some(since);
        drop(streams);
        self.kept.store.fell_silent(Silent { kept: Arc::downgrade(&self.kept), stream: self.stream, since });
        true
    }
}
