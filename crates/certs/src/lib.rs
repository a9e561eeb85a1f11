//! Certificates: several by name, reloaded without a break, fetched by ACME (RFC 8555).
