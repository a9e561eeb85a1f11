//! SASL mechanisms as machines without I/O (RFC 4422): what a client says, what the server has to ask, what it answers.
