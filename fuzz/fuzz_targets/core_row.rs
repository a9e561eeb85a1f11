//! See `nightmail_fuzz::core_row`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightmail_fuzz::core_row(data));
