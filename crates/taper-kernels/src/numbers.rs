//! Numbers in one of the formats that weights are kept in.

use half::{bf16, f16};

/// The numbers of a weight: f32, or a shorter format, which products and look-ups widen as they
/// read them.
#[derive(Clone, Copy, Debug)]
pub enum Numbers<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
}

impl Numbers<'_> {
    /// Returns how many there are.
    #[expect(clippy::len_without_is_empty, reason = "no weight is empty")]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(numbers) => numbers.len(),
            Self::F16(numbers) => numbers.len(),
            Self::Bf16(numbers) => numbers.len(),
        }
    }

    /// Returns all but the first `count`.
    pub(crate) fn skip(self, count: usize) -> Self {
        match self {
            Self::F32(numbers) => Numbers::F32(&numbers[count..]),
            Self::F16(numbers) => Numbers::F16(&numbers[count..]),
            Self::Bf16(numbers) => Numbers::Bf16(&numbers[count..]),
        }
    }
}

impl<'a> From<&'a [f32]> for Numbers<'a> {
    fn from(numbers: &'a [f32]) -> Self {
        Self::F32(numbers)
    }
}

impl<'a> From<&'a Vec<f32>> for Numbers<'a> {
    fn from(numbers: &'a Vec<f32>) -> Self {
        Self::F32(numbers)
    }
}

impl<'a> From<&'a Vec<f16>> for Numbers<'a> {
    fn from(numbers: &'a Vec<f16>) -> Self {
        Self::F16(numbers)
    }
}

impl<'a> From<&'a Vec<bf16>> for Numbers<'a> {
    fn from(numbers: &'a Vec<bf16>) -> Self {
        Self::Bf16(numbers)
    }
}

/// A number format that widens to f32 exactly.
pub(crate) trait Number: Copy + Sync {
    fn widen(self) -> f32;
}

impl Number for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Number for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

impl Number for f16 {
    /// Without a branch or a conversion instruction, so that loops over it are vectorised.
    #[inline(always)]
    fn widen(self) -> f32 {
        const INFINITY: u32 = 0x7c00 << 13;
        // The biases of the two formats' exponents lie 112 apart.
        const SCALE: f32 = f32::from_bits((127 + 112) << 23);
        let bits = u32::from(self.to_bits());
        let magnitude = (bits & 0x7fff) << 13;
        let value = if magnitude < INFINITY {
            (f32::from_bits(magnitude) * SCALE).to_bits()
        } else {
            magnitude | f32::INFINITY.to_bits()
        };
        f32::from_bits(value | (bits & 0x8000) << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widens_every_number_exactly() {
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        for bits in 0..=u16::MAX {
            let (short, long) = (f16::from_bits(bits), bf16::from_bits(bits));
            assert!(same(short.widen(), short.to_f32()), "{short}");
            assert!(same(long.widen(), long.to_f32()), "{long}");
        }
    }
}
