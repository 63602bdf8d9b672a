#![no_main]

use engram::models::Network;
use std::cell::LazyCell;

thread_local! {
    static NETWORK: LazyCell<Network> = LazyCell::new(harness::network);
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    NETWORK.with(|network| harness::read_weights(bytes, network));
});
