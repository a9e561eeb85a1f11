//! See `nightmail_fuzz::pop3_session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightmail_fuzz::pop3_session(data));
