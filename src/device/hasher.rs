//! A quick hash for the keys of a launch: addresses, buffer numbers, sizes. They come from the program itself, so nobody can
//! choose them to collide, and the standard library's guarded hash would cost more than the rest of a launch.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by such keys.
pub type QuickMap<K, V> = HashMap<K, V, BuildHasherDefault<WordHasher>>;

/// Multiplies word by word, and stirs once at the end: the map looks at the lowest and the highest bits.
#[derive(Default)]
pub struct WordHasher(u64);

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn finish(&self) -> u64 {
        (self.0 ^ (self.0 >> 32)).wrapping_mul(FACTOR)
    }
}
