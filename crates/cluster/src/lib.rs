//! The nodes of a cluster: who is there, who holds which lease, and the fence that keeps out those who are not.
