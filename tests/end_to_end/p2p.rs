//! Calls over libp2p, between gateways and with a foreign peer.
