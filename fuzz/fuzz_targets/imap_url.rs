//! See `nightmail_fuzz::imap_url`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightmail_fuzz::imap_url(data));
