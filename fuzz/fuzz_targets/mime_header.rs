//! See `nightmail_fuzz::mime_header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightmail_fuzz::mime_header(data));
