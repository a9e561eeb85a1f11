//! A TCP proxy that cuts, stalls and delays connections.
