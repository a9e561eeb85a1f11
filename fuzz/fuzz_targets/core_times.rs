//! See `nightmail_fuzz::core_times`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightmail_fuzz::core_times(data));
