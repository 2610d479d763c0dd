#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| valerix_proxy::fuzz::forwarded(text));
