//! See `nightmail_fuzz::imap_mutf7`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightmail_fuzz::imap_mutf7(data));
