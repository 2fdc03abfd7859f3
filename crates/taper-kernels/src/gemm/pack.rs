//! Brings a part of an operand into the order in which it is read.

use super::View;
use super::turn::{Kernel, Turn};
use crate::numbers::Numbers;

/// Writes a view row by row as f32, `width` numbers a row with zeros behind its own, into `room`.
#[inline(always)]
pub(super) fn pack<'a>(room: &'a mut Vec<f32>, view: View<'_>, width: usize) -> &'a mut [f32] {
    let len = view.rows * width;
    room.resize(room.len().max(len), 0.0);
    let out = &mut room[..len];
    if view.cols < width {
        out.chunks_exact_mut(width)
            .for_each(|row| row[view.cols..].fill(0.0));
    }
    match view.data {
        Numbers::F32(data) => pack_numbers(out, data, view, width),
        Numbers::F16(data) => pack_numbers(out, data, view, width),
        Numbers::Bf16(data) => pack_numbers(out, data, view, width),
    }
    out
}

#[inline(always)]
fn pack_numbers<T: Turn>(out: &mut [f32], data: &[T], view: View<'_>, width: usize) {
    if view.col_stride == 1 {
        for (row, out) in out.chunks_exact_mut(width).enumerate() {
            copy(
                &mut out[..view.cols],
                &data[row * view.row_stride..][..view.cols],
            );
        }
        return;
    }
    let turned = if view.row_stride == 1 {
        turn(out, data, view, width)
    } else {
        (0, 0)
    };
    for row in 0..view.rows {
        let first = if row < turned.0 { turned.1 } else { 0 };
        for col in first..view.cols {
            out[row * width + col] = data[row * view.row_stride + col * view.col_stride].widen();
        }
    }
}

/// Numbers that are copied at a time.
const RUN: usize = 16;

#[inline(always)]
fn copy<T: Turn>(out: &mut [f32], numbers: &[T]) {
    let (out, out_rest) = out.as_chunks_mut::<RUN>();
    let (runs, rest) = numbers.as_chunks::<RUN>();
    for (out, run) in out.iter_mut().zip(runs) {
        for (out, number) in out.iter_mut().zip(run) {
            *out = number.widen();
        }
    }
    for (out, number) in out_rest.iter_mut().zip(rest) {
        *out = number.widen();
    }
}

/// Turns columns, which lie side by side, into rows, as far as there are whole blocks and a kernel
/// for them; returns how many rows and columns are done.
#[inline(always)]
fn turn<T: Turn>(out: &mut [f32], data: &[T], view: View<'_>, width: usize) -> (usize, usize) {
    let fits = |kernel: &Kernel<T>| view.rows >= kernel.rows && view.cols >= kernel.columns;
    let Some(kernel) = T::kernels().into_iter().flatten().find(fits) else {
        return (0, 0);
    };
    let rows = view.rows / kernel.rows * kernel.rows;
    let cols = view.cols / kernel.columns * kernel.columns;
    for col in (0..cols).step_by(kernel.columns) {
        for row in (0..rows).step_by(kernel.rows) {
            let data = &data[row + col * view.col_stride..];
            (kernel.turn)(&mut out[row * width + col..], width, data, view.col_stride);
        }
    }
    (rows, cols)
}
