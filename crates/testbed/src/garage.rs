//! An S3 object store: Garage, one node.
