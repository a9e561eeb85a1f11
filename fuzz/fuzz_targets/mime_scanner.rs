//! See `nightmail_fuzz::mime_scanner`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightmail_fuzz::mime_scanner(data));
