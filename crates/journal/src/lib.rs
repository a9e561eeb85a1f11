//! The log of what became of messages, kept in the store.
