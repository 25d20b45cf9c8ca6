//! Twinway: one MCP endpoint for every tool its user owns.
