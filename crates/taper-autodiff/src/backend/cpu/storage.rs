//! The values of tensors on the CPU, without copies.

use std::{cell::RefCell, ops::Deref};

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Shape, Storage, Tensor};
use taper_kernels::Numbers;

/// A tensor of these values.
pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}

/// Hands the values of a weight to `read`. A frozen one may be stored in a shorter format than f32.
pub(super) fn with_numbers<T>(tensor: &Tensor, read: impl FnOnce(Numbers<'_>) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F16(values)), Some((start, end))) => {
            Ok(read(Numbers::F16(&values[start..end])))
        }
        (Storage::Cpu(CpuStorage::BF16(values)), Some((start, end))) => {
            Ok(read(Numbers::Bf16(&values[start..end])))
        }
        _ => Ok(read(Numbers::F32(&slice(tensor)?))),
    }
}

/// The values of a contiguous f32 tensor.
pub(super) fn slice(tensor: &Tensor) -> Result<impl Deref<Target = [f32]> + '_> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        return Err(candle_core::Error::RequiresContiguous { op: "slice" });
    };
    match &*storage {
        Storage::Cpu(cpu) => cpu.as_slice::<f32>()?,
        Storage::Cuda(_) | Storage::Metal(_) => {
            candle_core::bail!("the CPU's kernels need their tensors on the CPU")
        }
    };
    Ok(Slice {
        storage,
        start,
        end,
    })
}

/// A borrowed view of a tensor's values, under the lock `G`.
struct Slice<G> {
    storage: G,
    start: usize,
    end: usize,
}

impl<G: Deref<Target = Storage>> Deref for Slice<G> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.start..self.end],
            _ => &[],
        }
    }
}

/// Moves the values of a tensor out of it. Whoever else held the tensor finds it empty, which no kernel takes.
pub(super) fn take(tensor: Tensor) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    edit(&tensor, |storage, (start, end)| {
        if (start, end) == (0, storage.len()) {
            values = std::mem::take(storage);
        } else {
            values = storage[start..end].to_vec();
        }
    })?;
    Ok(values)
}

/// Changes the values of a tensor that is used up.
pub(super) fn in_place(tensor: Tensor, change: impl FnOnce(&mut [f32])) -> Result<Tensor> {
    let shape = tensor.shape().clone();
    let mut values = take(tensor)?;
    change(&mut values);
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Changes the values of three tensors where all who hold them see it.
pub(super) fn write_all(
    [a, b, c]: [&Tensor; 3],
    change: impl FnOnce([&mut [f32]; 3]),
) -> Result<()> {
    let mut result = Ok(());
    let mut inner = Ok(());
    write(a, |a| {
        result = write(b, |b| {
            inner = write(c, |c| change([a, b, c]));
        });
    })?;
    result.and(inner)
}

fn write(tensor: &Tensor, change: impl FnOnce(&mut [f32])) -> Result<()> {
    edit(tensor, |storage, (start, end)| {
        change(&mut storage[start..end]);
    })
}

/// Hands the storage of a contiguous tensor to `change`, and the range in it that is the tensor's.
fn edit(tensor: &Tensor, change: impl FnOnce(&mut Vec<f32>, (usize, usize))) -> Result<()> {
    tensor.inplace_op1(&Edit(RefCell::new(Some(change))))
}

struct Edit<F>(RefCell<Option<F>>);

impl<F: FnOnce(&mut Vec<f32>, (usize, usize))> InplaceOp1 for Edit<F> {
    fn name(&self) -> &'static str {
        "edit"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(values), Some(range)) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("only a contiguous f32 tensor can be changed")
        };
        if let Some(change) = self.0.borrow_mut().take() {
            change(values, range);
        }
        Ok(())
    }
}
