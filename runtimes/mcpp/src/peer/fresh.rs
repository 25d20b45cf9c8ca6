//! A stream that no lane has yet.

use std::ops::Deref;

use runtime_mcp::stream::Connection;

/// Ends its conversation when dropped: a handshake that fails or is cut off leaves no stream and no tasks behind.
#[derive(Debug)]
pub(super) struct Fresh {
    /// None once it is kept.
    connection: Option<Connection>,
}

impl Fresh {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection: Some(connection) }
    }

    /// From here on somebody else ends it.
    pub(super) fn keep(mut self) -> Connection {
        self.connection.take().expect("it is kept once")
    }
}

impl Deref for Fresh {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("it is not kept yet")
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, num::NonZeroUsize};

    use bytes::Bytes;
    use futures_util::{sink, stream};
    use runtime_mcp::stream::{Conversation, Settings};
    use tokio_util::task::TaskTracker;

    use super::*;

    fn fresh(tasks: &TaskTracker) -> Fresh {
        let silent = stream::pending::<Result<Bytes, Infallible>>();
        Fresh::new(Conversation::new(silent, sink::drain(), Settings::new(NonZeroUsize::MIN, 1024)).spawn(tasks))
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_dropped_before_it_is_kept_ends_with_its_tasks() {
        let tasks = TaskTracker::new();

        drop(fresh(&tasks));

        tasks.close();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(60), tasks.wait()).await;
        assert!(ended.is_ok(), "{} tasks are left", tasks.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_kept_goes_on() {
        let connection = fresh(&TaskTracker::new()).keep();

        assert!(!connection.is_ended());
    }
}
