#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| taper_server::fuzzing::cursor(bytes));
