#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    harness::read_run_folder(bytes);
});
