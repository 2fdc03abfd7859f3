use std::{
    ops::AddAssign,
    sync::{Mutex, PoisonError},
};

use candle_core::Tensor;

use crate::backend::Heads;

/// Arithmetic, by how fast it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Floating-point operations of matrix products.
    pub products: f64,
    /// Floating-point operations of attention.
    pub attention: f64,
    /// Numbers that other operations read or write.
    pub elements: f64,
}

impl Work {
    pub fn plus(self, other: Self) -> Self {
        Self {
            products: self.products + other.products,
            attention: self.attention + other.attention,
            elements: self.elements + other.elements,
        }
    }

    pub fn times(self, factor: f64) -> Self {
        Self {
            products: self.products * factor,
            attention: self.attention * factor,
            elements: self.elements * factor,
        }
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        *self = self.plus(other);
    }
}

/// The work that has been noted.
#[derive(Default)]
pub(super) struct Worked(Mutex<Work>);

impl Worked {
    fn note(&self, work: Work) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += work;
    }

    /// A product of a matrix of `rows` rows.
    pub(super) fn product(&self, rows: usize, inner: usize, columns: usize) {
        self.note(Work {
            products: (2 * rows * inner * columns) as f64,
            ..Work::default()
        });
    }

    /// `products` products of attention over these sequences.
    pub(super) fn attention(&self, products: f64, offsets: &[usize], heads: Heads) {
        let lengths = offsets.windows(2).map(|range| range[1] - range[0]);
        let pairs: f64 = lengths.map(|length| pairs(heads, length)).sum();
        let width = heads.count * heads.dim;
        self.note(Work {
            attention: products * 2.0 * pairs * width as f64,
            ..Work::default()
        });
    }

    /// An operation on single numbers that reads or writes these tensors.
    pub(super) fn elements(&self, tensors: &[&Tensor]) {
        self.numbers(tensors.iter().map(|tensor| tensor.elem_count()).sum());
    }

    /// So many numbers read or written.
    pub(super) fn numbers(&self, count: usize) {
        self.note(Work {
            elements: count as f64,
            ..Work::default()
        });
    }

    pub(super) fn all(&self) -> Work {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pairs of tokens of a sequence of `length` of which one sees the other.
fn pairs(heads: Heads, length: usize) -> f64 {
    let length = length as f64;
    let all = if heads.causal {
        length * (length + 1.0) / 2.0
    } else {
        length * length
    };
    heads
        .window
        .map_or(all, |window| all.min(length * window as f64))
}
