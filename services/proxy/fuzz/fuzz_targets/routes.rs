#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| valerix_gateway::fuzz::routes(bytes));
