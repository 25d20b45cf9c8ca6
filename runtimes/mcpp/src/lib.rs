//! Calls tools on libp2p peers.
