use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use candle_core::{DType, Device, DeviceLocation, Tensor};

use crate::Result;

/// The weights of a model folder that stay as they are: in memory once, however many runs train beside them at the same time, and no
/// longer than one of them does.
#[derive(Debug, Default)]
pub(crate) struct Base(Mutex<Weak<Frozen>>);

/// Weights that nobody changes. They stay as long as somebody holds this.
#[derive(Debug, Default)]
pub(crate) struct Frozen(Mutex<HashMap<Key, Tensor>>);

/// Name, number format and place of a tensor.
type Key = (String, DType, DeviceLocation);

impl Base {
    /// What is in memory now, for one more who holds it.
    pub(crate) fn hold(&self) -> Arc<Frozen> {
        let mut held = lock(&self.0);
        held.upgrade().unwrap_or_else(|| {
            let fresh = Arc::new(Frozen::default());
            *held = Arc::downgrade(&fresh);
            fresh
        })
    }
}

impl Frozen {
    /// The tensor under a name, read now if it is not here. Who else wants one meanwhile waits, so that none is read twice.
    pub(crate) fn get_or_read(
        &self,
        name: &str,
        format: DType,
        device: &Device,
        read: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let key = (name.to_owned(), format, device.location());
        let mut tensors = lock(&self.0);
        if let Some(tensor) = tensors.get(&key) {
            return Ok(tensor.clone());
        }
        let tensor = read()?;
        tensors.insert(key, tensor.clone());
        Ok(tensor)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind it is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(frozen: &Frozen) -> (Tensor, bool) {
        let mut made = false;
        let tensor = frozen.get_or_read("w", DType::F32, &Device::Cpu, || {
            made = true;
            Ok(Tensor::zeros(2, DType::F32, &Device::Cpu)?)
        });
        (tensor.unwrap(), made)
    }

    #[test]
    fn weights_stay_as_long_as_somebody_holds_them() {
        let base = Base::default();
        let first = base.hold();
        assert!(read(&first).1);
        let second = base.hold();
        drop(first);
        assert!(!read(&second).1, "it is still held");
        drop(second);
        assert!(read(&base.hold()).1, "nobody held it any more");
    }
}
