//! Transposes in registers of sixteen numbers.

use std::arch::x86_64::*;

use half::{bf16, f16};

const LANES: usize = 16;

/// Turns sixteen columns of sixteen numbers; only where there is AVX-512.
pub(super) fn turn_f32(out: &mut [f32], width: usize, data: &[f32], stride: usize) {
    assert!(data.len() >= (LANES - 1) * stride + LANES);
    assert!(out.len() >= (LANES - 1) * width + LANES);
    // SAFETY: the kernel is handed out only where AVX-512 was found, and the lengths are
    // checked above.
    #[expect(unsafe_code, reason = "needs an instruction set")]
    unsafe {
        f32_block(out.as_mut_ptr(), width, data.as_ptr(), stride);
    }
}

/// Turns sixteen columns of 32 numbers; only where there is AVX-512.
pub(super) fn turn_bf16(out: &mut [f32], width: usize, data: &[bf16], stride: usize) {
    assert!(data.len() >= (LANES - 1) * stride + 2 * LANES);
    assert!(out.len() >= (2 * LANES - 1) * width + LANES);
    // SAFETY: as above.
    #[expect(unsafe_code, reason = "needs an instruction set")]
    unsafe {
        bf16_block(out.as_mut_ptr(), width, data.as_ptr(), stride);
    }
}

/// Turns sixteen columns of 32 numbers; only where there is AVX-512.
pub(super) fn turn_f16(out: &mut [f32], width: usize, data: &[f16], stride: usize) {
    assert!(data.len() >= (LANES - 1) * stride + 2 * LANES);
    assert!(out.len() >= (2 * LANES - 1) * width + LANES);
    // SAFETY: as above.
    #[expect(unsafe_code, reason = "needs an instruction set")]
    unsafe {
        f16_block(out.as_mut_ptr(), width, data.as_ptr(), stride);
    }
}

/// # Safety
/// `data` has 16 runs of 16 numbers, `out` has room for as many.
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "reads and writes registers through pointers")]
unsafe fn f32_block(out: *mut f32, width: usize, data: *const f32, stride: usize) {
    // SAFETY: see above.
    let columns = unsafe { load(data.cast(), stride * size_of::<f32>()) };
    for (i, row) in transpose(columns).into_iter().enumerate() {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(out.add(i * width), row) };
    }
}

/// # Safety
/// `data` has 16 runs of 32 numbers, `out` has room for as many.
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "reads and writes registers through pointers")]
unsafe fn bf16_block(out: *mut f32, width: usize, data: *const bf16, stride: usize) {
    // Two neighbours of a column travel as one number.
    // SAFETY: see above.
    let columns = unsafe { load(data.cast(), stride * size_of::<bf16>()) };
    let high = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
    for (i, pairs) in transpose(columns).into_iter().enumerate() {
        let pairs = _mm512_castps_si512(pairs);
        let even = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs));
        let odd = _mm512_castsi512_ps(_mm512_and_si512(pairs, high));
        // SAFETY: see above.
        unsafe {
            _mm512_storeu_ps(out.add(2 * i * width), even);
            _mm512_storeu_ps(out.add((2 * i + 1) * width), odd);
        }
    }
}

/// # Safety
/// `data` has 16 runs of 32 numbers, `out` has room for as many.
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "reads and writes registers through pointers")]
unsafe fn f16_block(out: *mut f32, width: usize, data: *const f16, stride: usize) {
    // SAFETY: see above.
    let columns = unsafe { load(data.cast(), stride * size_of::<f16>()) };
    for (i, pairs) in transpose(columns).into_iter().enumerate() {
        let pairs = _mm512_castps_si512(pairs);
        let odd = _mm512_srli_epi32::<16>(pairs);
        let even = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(pairs));
        let odd = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(odd));
        // SAFETY: see above.
        unsafe {
            _mm512_storeu_ps(out.add(2 * i * width), even);
            _mm512_storeu_ps(out.add((2 * i + 1) * width), odd);
        }
    }
}

/// Reads columns that begin `stride` bytes apart, and calls those behind them, whose turn comes next,
/// into the cache.
///
/// # Safety
/// There are 16 runs of 64 bytes.
#[inline]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "reads registers through pointers")]
unsafe fn load(data: *const u8, stride: usize) -> [__m512; LANES] {
    let (mut columns, mut data) = ([_mm512_setzero_ps(); LANES], data);
    for column in &mut columns {
        // SAFETY: see above; what is called into the cache need not be there.
        unsafe {
            *column = _mm512_loadu_ps(data.cast());
            _mm_prefetch::<_MM_HINT_T0>(data.wrapping_add(LANES * stride).cast());
        }
        data = data.wrapping_add(stride);
    }
    columns
}

#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(columns: [__m512; LANES]) -> [__m512; LANES] {
    let mut pairs = columns;
    for i in 0..LANES / 2 {
        let (a, b) = (columns[2 * i], columns[2 * i + 1]);
        pairs[2 * i] = _mm512_unpacklo_ps(a, b);
        pairs[2 * i + 1] = _mm512_unpackhi_ps(a, b);
    }
    // Element `4 l + j` of four columns comes into the quarter `l` of register `j` of the four.
    let mut fours = pairs;
    for i in 0..LANES / 2 {
        let (first, half) = (i / 2 * 4, i % 2);
        let a = _mm512_castps_pd(pairs[first + half]);
        let b = _mm512_castps_pd(pairs[first + half + 2]);
        fours[first + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
        fours[first + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    }
    // Even quarters of eight columns, then odd ones.
    let mut eights = fours;
    for i in 0..LANES / 2 {
        let (first, j) = (i / 4 * 8, i % 4);
        let (a, b) = (fours[first + j], fours[first + j + 4]);
        eights[first + j] = _mm512_shuffle_f32x4::<0x88>(a, b);
        eights[first + j + 4] = _mm512_shuffle_f32x4::<0xdd>(a, b);
    }
    let mut rows = eights;
    for i in 0..LANES / 2 {
        let (a, b) = (eights[i], eights[i + 8]);
        rows[i] = _mm512_shuffle_f32x4::<0x88>(a, b);
        rows[i + 8] = _mm512_shuffle_f32x4::<0xdd>(a, b);
    }
    rows
}
