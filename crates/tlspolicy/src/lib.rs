//! What other sites say about TLS towards them: MTA-STS, DANE, and the reports on it.
