//! See `nightmail_fuzz::mime_text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightmail_fuzz::mime_text(data));
