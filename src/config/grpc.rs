//! `[grpc]`: the way in for gRPC clients.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration;

/// The way in for gRPC clients, who show the same tokens as those of `[http]`: each `[[http.client]]` may come here, too.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Grpc {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Lets everybody in on an address that is not loopback, when no client is configured.
    pub allow_anonymous: bool,
    /// Largest message of a request, in bytes.
    pub message_bytes_max: NonZeroUsize,
    /// Requests at one time on one connection.
    pub streams_max: NonZeroU32,
    /// Longest time until a request is answered; a client's own `grpc-timeout` counts when it is shorter.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub request_timeout: Duration,
}

impl Default for Grpc {
    fn default() -> Self {
        Self {
            // Loopback: nothing is offered to a network unless somebody says so.
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 50051)),
            allow_anonymous: false,
            // 4 MiB: what each implementation of gRPC takes by default.
            message_bytes_max: const { NonZeroUsize::new(4 << 20).expect("not zero") },
            // 100: the least that RFC 9113, section 6.5.2, recommends; more wait at the client.
            streams_max: const { NonZeroU32::new(100).expect("not zero") },
            // 30 s: the time of a call; and whoever was admitted can finish within `http.drain_timeout`.
            request_timeout: Duration::from_secs(30),
        }
    }
}
