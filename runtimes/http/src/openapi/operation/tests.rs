//! Documents and the tools they become.
