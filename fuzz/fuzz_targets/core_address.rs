//! See `nightmail_fuzz::core_address`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightmail_fuzz::core_address(data));
