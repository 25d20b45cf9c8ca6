//! The MCP++ runtime: calls tools on libp2p peers, and takes the streams of peers that call ours.
//!
//! [`Node`] owns the swarm; [`McppRuntime`] makes calls on configured peers over pooled streams; [`framed()`] turns a stream
//! into messages; [`Authority`] and [`quotas`] say what a peer that calls us may do. Layers are never inferred from one
//! another: an open stream is no session, and a PeerId is no permission.

pub mod authority;
mod behaviour;
mod carrier;
pub mod config;
mod control;
mod directory;
pub mod framed;
pub mod identity;
mod mcp_stream;
mod node;
mod peer;
mod presence;
pub mod quotas;
mod refusals;
mod runtime;
mod text;

pub use authority::Authority;
pub use carrier::Carrier;
pub use config::{Config, PeerConfig};
pub use control::{PeersControl, PeersPlan};
pub use directory::{Directory, KnownPeer};
pub use framed::{FrameReader, FrameWriter, framed};
pub use identity::Identity;
pub use mcp_stream::{InboundStream, IncomingStreams, OpenError, OutboundStream};
pub use node::{BindError, Node, NodeHandle};
pub use presence::{Link, Sighting};
pub use refusals::{Refusal, RefusalCounters};
pub use runtime::McppRuntime;

pub use libp2p::{Multiaddr, PeerId, Stream};
