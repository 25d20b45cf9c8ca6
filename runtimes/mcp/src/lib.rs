//! The client side of an MCP conversation.
