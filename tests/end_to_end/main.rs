//! The gateway as its users meet it: a real process, real sockets, foreign clients and servers.

mod support;
mod lifecycle;
mod lists;
mod calls;
mod fidelity;
mod cancel;
mod faults;
mod foreign;
mod limits;
mod configuration;
mod extension;
mod hostile;
mod p2p;
mod trace;
