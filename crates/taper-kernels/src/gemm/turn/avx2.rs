//! Transposes in registers of eight numbers.

use std::arch::x86_64::*;

use half::{bf16, f16};

const LANES: usize = 8;

/// Turns eight columns of eight numbers; only where there is AVX2.
pub(super) fn turn_f32(out: &mut [f32], width: usize, data: &[f32], stride: usize) {
    assert!(data.len() >= (LANES - 1) * stride + LANES);
    assert!(out.len() >= (LANES - 1) * width + LANES);
    // SAFETY: the kernel is handed out only where AVX2 was found, and the lengths are
    // checked above.
    #[expect(unsafe_code, reason = "needs an instruction set")]
    unsafe {
        f32_block(out.as_mut_ptr(), width, data.as_ptr(), stride);
    }
}

/// Turns eight columns of sixteen numbers; only where there is AVX2.
pub(super) fn turn_bf16(out: &mut [f32], width: usize, data: &[bf16], stride: usize) {
    assert!(data.len() >= (LANES - 1) * stride + 2 * LANES);
    assert!(out.len() >= (2 * LANES - 1) * width + LANES);
    // SAFETY: as above.
    #[expect(unsafe_code, reason = "needs an instruction set")]
    unsafe {
        bf16_block(out.as_mut_ptr(), width, data.as_ptr(), stride);
    }
}

/// Turns eight columns of sixteen numbers; only where there are AVX2 and F16C.
pub(super) fn turn_f16(out: &mut [f32], width: usize, data: &[f16], stride: usize) {
    assert!(data.len() >= (LANES - 1) * stride + 2 * LANES);
    assert!(out.len() >= (2 * LANES - 1) * width + LANES);
    // SAFETY: as above, and F16C was found too.
    #[expect(unsafe_code, reason = "needs an instruction set")]
    unsafe {
        f16_block(out.as_mut_ptr(), width, data.as_ptr(), stride);
    }
}

/// # Safety
/// `data` has 8 runs of 8 numbers, `out` has room for as many.
#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "reads and writes registers through pointers")]
unsafe fn f32_block(out: *mut f32, width: usize, data: *const f32, stride: usize) {
    // SAFETY: see above.
    let columns = unsafe { load(data.cast(), stride * size_of::<f32>()) };
    for (i, row) in transpose(columns).into_iter().enumerate() {
        // SAFETY: see above.
        unsafe { _mm256_storeu_ps(out.add(i * width), row) };
    }
}

/// # Safety
/// `data` has 8 runs of 16 numbers, `out` has room for as many.
#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "reads and writes registers through pointers")]
unsafe fn bf16_block(out: *mut f32, width: usize, data: *const bf16, stride: usize) {
    // Two neighbours of a column travel as one number.
    // SAFETY: see above.
    let columns = unsafe { load(data.cast(), stride * size_of::<bf16>()) };
    let high = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
    for (i, pairs) in transpose(columns).into_iter().enumerate() {
        let pairs = _mm256_castps_si256(pairs);
        let even = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs));
        let odd = _mm256_castsi256_ps(_mm256_and_si256(pairs, high));
        // SAFETY: see above.
        unsafe {
            _mm256_storeu_ps(out.add(2 * i * width), even);
            _mm256_storeu_ps(out.add((2 * i + 1) * width), odd);
        }
    }
}

/// # Safety
/// `data` has 8 runs of 16 numbers, `out` has room for as many.
#[target_feature(enable = "avx2,f16c")]
#[expect(unsafe_code, reason = "reads and writes registers through pointers")]
unsafe fn f16_block(out: *mut f32, width: usize, data: *const f16, stride: usize) {
    // SAFETY: see above.
    let columns = unsafe { load(data.cast(), stride * size_of::<f16>()) };
    let low = _mm256_set1_epi32(0xffff);
    for (i, pairs) in transpose(columns).into_iter().enumerate() {
        let pairs = _mm256_castps_si256(pairs);
        let (even, odd) = (_mm256_and_si256(pairs, low), _mm256_srli_epi32::<16>(pairs));
        // Packing leaves the halves of both alternating.
        let packed = _mm256_permute4x64_epi64::<0xd8>(_mm256_packus_epi32(even, odd));
        let even = _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
        let odd = _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(packed));
        // SAFETY: see above.
        unsafe {
            _mm256_storeu_ps(out.add(2 * i * width), even);
            _mm256_storeu_ps(out.add((2 * i + 1) * width), odd);
        }
    }
}

/// Reads columns that begin `stride` bytes apart, and calls those behind them, whose turn comes next,
/// into the cache.
///
/// # Safety
/// There are 8 runs of 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "reads registers through pointers")]
unsafe fn load(data: *const u8, stride: usize) -> [__m256; LANES] {
    let (mut columns, mut data) = ([_mm256_setzero_ps(); LANES], data);
    for column in &mut columns {
        // SAFETY: see above; what is called into the cache need not be there.
        unsafe {
            *column = _mm256_loadu_ps(data.cast());
            _mm_prefetch::<_MM_HINT_T0>(data.wrapping_add(LANES * stride).cast());
        }
        data = data.wrapping_add(stride);
    }
    columns
}

#[inline]
#[target_feature(enable = "avx2")]
fn transpose(columns: [__m256; LANES]) -> [__m256; LANES] {
    let mut pairs = columns;
    for i in 0..LANES / 2 {
        let (a, b) = (columns[2 * i], columns[2 * i + 1]);
        pairs[2 * i] = _mm256_unpacklo_ps(a, b);
        pairs[2 * i + 1] = _mm256_unpackhi_ps(a, b);
    }
    // Element `4 l + j` of four columns comes into the half `l` of register `j` of the four.
    let mut fours = pairs;
    for i in 0..LANES / 2 {
        let (first, half) = (i / 2 * 4, i % 2);
        let a = _mm256_castps_pd(pairs[first + half]);
        let b = _mm256_castps_pd(pairs[first + half + 2]);
        fours[first + 2 * half] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
        fours[first + 2 * half + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
    }
    let mut rows = fours;
    for j in 0..LANES / 2 {
        let (a, b) = (fours[j], fours[j + 4]);
        rows[j] = _mm256_permute2f128_ps::<0x20>(a, b);
        rows[j + 4] = _mm256_permute2f128_ps::<0x31>(a, b);
    }
    rows
}
