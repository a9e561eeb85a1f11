//! How fast, when and by which way mail leaves: decisions without I/O.
