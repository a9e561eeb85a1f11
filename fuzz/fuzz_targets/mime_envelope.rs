//! See `nightmail_fuzz::mime_envelope`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightmail_fuzz::mime_envelope(data));
