//! See `nightmail_fuzz::mime_thread`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightmail_fuzz::mime_thread(data));
