//! See `nightmail_fuzz::pop3_stuffer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightmail_fuzz::pop3_stuffer(data));
