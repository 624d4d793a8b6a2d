//! A 64-bit checksum for files and weights: FNV-1a over words of eight bytes, with a finish that spreads every bit.
//!
//! For each little-endian word w (the last one padded with zeros): h = (h ⊕ w) · p, then h = h ⊕ (h ≫ 32); at the
//! end the number of bytes is the last word. Every step is a bijection of h for a given w and of w for a given h, so
//! two inputs that differ within a single word never have the same sum; others do with a chance of 2⁻⁶⁴. It finds
//! faults, not forgeries. Constants: Fowler, Noll, Vo, FNV-1a of 64 bits.

/// The offset basis and the prime of 64-bit FNV.
const BASIS: u64 = 0xCBF2_9CE4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01B3;

/// The checksum of bytes given in pieces; how they are cut does not matter.
#[derive(Clone, Debug)]
pub struct Hasher {
    state: u64,
    /// Bytes that do not fill a word yet.
    tail: [u8; 8],
    filled: usize,
    len: u64,
}

impl Default for Hasher {
    fn default() -> Self {
        Hasher::new()
    }
}

impl Hasher {
    /// The checksum of nothing.
    pub fn new() -> Hasher {
        Hasher { state: BASIS, tail: [0; 8], filled: 0, len: 0 }
    }

    /// Adds bytes.
    pub fn bytes(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len() as u64;
        if self.filled > 0 {
            let n = bytes.len().min(8 - self.filled);
            self.tail[self.filled..self.filled + n].copy_from_slice(&bytes[..n]);
            self.filled += n;
            bytes = &bytes[n..];
            if self.filled < 8 {
                return;
            }
            self.word(u64::from_le_bytes(self.tail));
            self.filled = 0;
        }
        let mut words = bytes.chunks_exact(8);
        for w in &mut words {
            self.word(u64::from_le_bytes([w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]]));
        }
        let rest = words.remainder();
        self.tail[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    /// Adds the bits of numbers, little-endian.
    pub fn f32s(&mut self, numbers: &[f32]) {
        let mut bytes = [0; 4096];
        for chunk in numbers.chunks(1024) {
            for (to, x) in bytes.chunks_exact_mut(4).zip(chunk) {
                to.copy_from_slice(&x.to_bits().to_le_bytes());
            }
            self.bytes(&bytes[..chunk.len() * 4]);
        }
    }

    /// The checksum of everything added.
    pub fn finish(&self) -> u64 {
        let mut end = self.clone();
        if end.filled > 0 {
            end.tail[end.filled..].fill(0);
            end.word(u64::from_le_bytes(end.tail));
        }
        end.word(self.len);
        end.word(0);
        end.state
    }

    #[inline(always)]
    fn word(&mut self, w: u64) {
        let h = (self.state ^ w).wrapping_mul(PRIME);
        self.state = h ^ (h >> 32);
    }
}

/// The hash of a model's weights: every tensor's name and numbers, in the order given. Shown as 16 hex digits.
///
/// Equal hashes mean equal bits. Cost: one pass, about 4 bytes a cycle.
pub fn weights_hash<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [f32])>) -> u64 {
    let mut hash = Hasher::new();
    for (name, numbers) in tensors {
        hash.bytes(&(name.len() as u64).to_le_bytes());
        hash.bytes(name.as_bytes());
        hash.bytes(&(numbers.len() as u64).to_le_bytes());
        hash.f32s(numbers);
    }
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> u64 {
        let mut h = Hasher::new();
        h.bytes(bytes);
        h.finish()
    }

    #[test]
    fn pieces_do_not_matter_and_every_bit_does() {
        let bytes: Vec<u8> = (0..100u8).map(|i| i.wrapping_mul(37)).collect();
        for cut in 0..100 {
            for next in [cut, cut + (100 - cut) / 2] {
                let mut h = Hasher::new();
                h.bytes(&bytes[..cut]);
                h.bytes(&bytes[cut..next]);
                h.bytes(&bytes[next..]);
                assert_eq!(h.finish(), of(&bytes));
            }
        }
        let mut seen = std::collections::HashSet::from([of(&bytes)]);
        for bit in 0..800 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(of(&flipped)));
        }
        for len in 2..100 {
            assert!(seen.insert(of(&bytes[..len])) && seen.insert(of(&vec![0; len])));
        }
    }

    #[test]
    fn the_sum_is_pinned() {
        assert_eq!(format!("{:016x}", of(b"")), "68853b6a3912cca3");
        assert_eq!(format!("{:016x}", of(b"longhand checksum")), "2f8edbf34a091738");
        assert_eq!(format!("{:016x}", weights_hash([("wte", &[1.0, -0.0][..])])), "26b6f607c3292416");
    }

    #[test]
    fn names_order_and_sign_of_zero_are_part_of_a_models_hash() {
        let a = weights_hash([("a", &[0.0f32][..]), ("b", &[1.0][..])]);
        assert_ne!(a, weights_hash([("b", &[1.0f32][..]), ("a", &[0.0][..])]));
        assert_ne!(a, weights_hash([("a", &[-0.0f32][..]), ("b", &[1.0][..])]));
        assert_ne!(a, weights_hash([("a", &[0.0f32, 1.0][..]), ("b", &[][..])]));
        let many: Vec<f32> = (0..3000).map(|i| i as f32).collect();
        let mut h = Hasher::new();
        many.iter().for_each(|x| h.bytes(&x.to_le_bytes()));
        let mut whole = Hasher::new();
        whole.f32s(&many);
        assert_eq!(h.finish(), whole.finish());
    }
}
