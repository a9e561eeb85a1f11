//! See `nightmail_fuzz::smtp_server`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightmail_fuzz::smtp_server(data));
