//! Transposes of small blocks in registers.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use half::{bf16, f16};

use crate::numbers::Number;

/// Turns blocks: columns that begin `stride` numbers apart become rows that begin `width` apart.
#[derive(Clone, Copy)]
pub(super) struct Kernel<T> {
    /// Size of a block in the result.
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) turn: fn(out: &mut [f32], width: usize, data: &[T], stride: usize),
}

/// A number format whose blocks can be turned.
pub(super) trait Turn: Number {
    /// Returns the kernels for this machine, the largest blocks first.
    fn kernels() -> [Option<Kernel<Self>>; 2];
}

impl Turn for f32 {
    #[cfg(target_arch = "x86_64")]
    fn kernels() -> [Option<Kernel<Self>>; 2] {
        x86_kernels(
            Kernel {
                rows: 16,
                columns: 16,
                turn: avx512::turn_f32,
            },
            Kernel {
                rows: 8,
                columns: 8,
                turn: avx2::turn_f32,
            },
        )
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn kernels() -> [Option<Kernel<Self>>; 2] {
        [None, None]
    }
}

impl Turn for f16 {
    #[cfg(target_arch = "x86_64")]
    fn kernels() -> [Option<Kernel<Self>>; 2] {
        let [avx512, avx2] = x86_kernels(
            Kernel {
                rows: 32,
                columns: 16,
                turn: avx512::turn_f16,
            },
            Kernel {
                rows: 16,
                columns: 8,
                turn: avx2::turn_f16,
            },
        );
        let converts = std::arch::is_x86_feature_detected!("f16c");
        [avx512, avx2.filter(|_| converts)]
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn kernels() -> [Option<Kernel<Self>>; 2] {
        [None, None]
    }
}

impl Turn for bf16 {
    #[cfg(target_arch = "x86_64")]
    fn kernels() -> [Option<Kernel<Self>>; 2] {
        x86_kernels(
            Kernel {
                rows: 32,
                columns: 16,
                turn: avx512::turn_bf16,
            },
            Kernel {
                rows: 16,
                columns: 8,
                turn: avx2::turn_bf16,
            },
        )
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn kernels() -> [Option<Kernel<Self>>; 2] {
        [None, None]
    }
}

/// Leaves out what this machine cannot run.
#[cfg(target_arch = "x86_64")]
fn x86_kernels<T>(avx512: Kernel<T>, avx2: Kernel<T>) -> [Option<Kernel<T>>; 2] {
    use std::arch::is_x86_feature_detected;
    [
        is_x86_feature_detected!("avx512f").then_some(avx512),
        is_x86_feature_detected!("avx2").then_some(avx2),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    fn turns_right<T: Turn>(numbers: &[T]) {
        let (stride, width) = (37, 19);
        for kernel in T::kernels().into_iter().flatten() {
            let mut got = vec![0.0; kernel.rows * width];
            (kernel.turn)(&mut got, width, numbers, stride);
            for (i, got) in got.iter().enumerate() {
                let (row, col) = (i / width, i % width);
                let want = if col < kernel.columns {
                    numbers[col * stride + row].widen()
                } else {
                    0.0
                };
                assert_eq!(*got, want, "row {row}, column {col}");
            }
        }
    }

    #[test]
    fn every_kernel_of_this_machine_turns_blocks() {
        let numbers = random(1, 16 * 37);
        turns_right(&numbers);
        turns_right(
            &numbers
                .iter()
                .copied()
                .map(f16::from_f32)
                .collect::<Vec<_>>(),
        );
        turns_right(
            &numbers
                .iter()
                .copied()
                .map(bf16::from_f32)
                .collect::<Vec<_>>(),
        );
    }
}
