//! The gateway as its users meet it: a real process, real sockets, foreign clients and servers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admin;
mod batch;
mod bench;
mod bridge;
mod cache;
mod cache_hints;
mod calls;
mod cancel;
mod configuration;
mod conformance;
mod definitions;
mod deploy;
mod deprecation;
mod extension;
mod faults;
mod fidelity;
mod foreign;
mod grpc;
mod hostile;
mod https;
mod injected;
mod lazy;
mod lifecycle;
mod limits;
mod listening;
mod lists;
mod old_servers;
mod openapi;
mod openapi_documents;
mod own_processes;
mod p2p;
mod polling;
#[cfg(feature = "quic")]
mod quic;
mod recovery;
mod reload;
mod rest;
mod rest_entrance;
mod restart;
mod resume;
mod slow_clients;
mod stdio;
mod streaming;
mod subscriptions;
mod support;
mod tasks;
mod trace;
mod vanish;
