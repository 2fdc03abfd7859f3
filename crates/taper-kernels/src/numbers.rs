//! Numbers in one of the formats that weights are kept in.

use half::bf16;

/// The numbers of a weight: f32, or bf16, which products and look-ups widen as they read them.
#[derive(Clone, Copy, Debug)]
pub enum Numbers<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

impl Numbers<'_> {
    /// Returns how many there are.
    #[expect(clippy::len_without_is_empty, reason = "no weight is empty")]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(numbers) => numbers.len(),
            Self::Bf16(numbers) => numbers.len(),
        }
    }

    /// Returns all but the first `count`.
    pub(crate) fn skip(self, count: usize) -> Self {
        match self {
            Self::F32(numbers) => Numbers::F32(&numbers[count..]),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widens_every_number_exactly() {
        for x in (0..=u16::MAX).map(bf16::from_bits) {
            let got = x.widen();
            assert!(got == x.to_f32() || got.is_nan() && x.is_nan(), "{x}");
        }
    }
}
