//! See `nightmail_fuzz::imap_command`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightmail_fuzz::imap_command(data));
