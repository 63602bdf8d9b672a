//! Free lists by size class, the same for host vectors and GPU buffers.

use super::hasher::QuickMap;

/// Rounds a size in words up to its class: eight classes per power of two, so at most 12.5 % is wasted, and always a
/// multiple of four words, so that kernels may read whole `vec4`s.
pub fn size_class(words: usize) -> usize {
    let words = words.max(64);
    let step = (words.next_power_of_two() / 16).max(4);
    words.div_ceil(step) * step
}

/// Buffers that wait for their next use, most recently freed first.
#[derive(Debug)]
pub struct FreeLists<T>(QuickMap<usize, Vec<T>>);

impl<T> Default for FreeLists<T> {
    fn default() -> Self {
        FreeLists(QuickMap::default())
    }
}

impl<T> FreeLists<T> {
    /// Takes a buffer of exactly this class.
    pub fn take(&mut self, class: usize) -> Option<T> {
        self.0.get_mut(&class)?.pop()
    }

    /// Takes the buffer of this class with the smallest key, `None` meaning that it cannot be had now. What is taken
    /// then depends on the set of waiting buffers, not on the order of their return: steps of a training loop soon find
    /// the same buffers, and with them the same bind groups.
    pub fn take_smallest(&mut self, class: usize, key: impl Fn(&T) -> Option<u64>) -> Option<T> {
        let list = self.0.get_mut(&class)?;
        let keys = list.iter().enumerate().filter_map(|(at, buffer)| Some((key(buffer)?, at)));
        let (_, at) = keys.min()?;
        Some(list.swap_remove(at))
    }

    /// Gives a buffer back.
    pub fn give(&mut self, class: usize, buffer: T) {
        self.0.entry(class).or_default().push(buffer);
    }

    /// Forgets every waiting buffer and returns them.
    pub fn drain(&mut self) -> Vec<T> {
        self.0.drain().flat_map(|(_, list)| list).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::size_class;

    #[test]
    fn classes_waste_at_most_an_eighth() {
        for words in (64..5_000).chain([65_535, 65_536, 65_537, 1_000_003, 33_554_431]) {
            let class = size_class(words);
            assert!(class >= words && class.is_multiple_of(4), "{words} -> {class}");
            assert!((class - words) as f64 <= 0.125 * words as f64 + 4.0, "{words} -> {class}");
            assert_eq!(size_class(class), class);
        }
    }
}
