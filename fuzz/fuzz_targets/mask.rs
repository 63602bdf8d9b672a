#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    harness::read_mask(bytes);
});
