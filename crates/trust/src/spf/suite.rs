//! The published suite.
