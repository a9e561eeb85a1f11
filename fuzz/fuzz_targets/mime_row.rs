//! See `nightmail_fuzz::mime_row`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightmail_fuzz::mime_row(data));
