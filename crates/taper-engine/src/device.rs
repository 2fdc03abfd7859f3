use taper_core::Device;

use crate::Result;

/// Opens the device of a worker.
///
/// # Errors
/// A CUDA device in a build without CUDA, or one that is not there.
pub(crate) fn open(device: Device) -> Result<candle_core::Device> {
    match device {
        Device::Cpu => Ok(candle_core::Device::Cpu),
        Device::Cuda(index) => Ok(candle_core::Device::new_cuda(index)?),
    }
}
