//! Finding adapters and choosing one.

use super::precision::refusal;
use super::{Device, Gpu, Precision, Trace};
use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use wgpu::{Backend, Backends, DeviceType};

/// An adapter that wgpu found.
#[derive(Clone)]
pub struct Adapter {
    pub(super) raw: wgpu::Adapter,
    /// What the driver says: name, kind, backend.
    pub info: wgpu::AdapterInfo,
}

impl Adapter {
    /// True for a rasteriser that runs on the processor, such as lavapipe.
    pub fn is_software(&self) -> bool {
        self.info.device_type == DeviceType::Cpu
    }

    /// `discrete GPU`, `software`, …
    pub fn kind(&self) -> &'static str {
        match self.info.device_type {
            DeviceType::DiscreteGpu => "discrete GPU",
            DeviceType::IntegratedGpu => "integrated GPU",
            DeviceType::VirtualGpu => "virtual GPU",
            DeviceType::Cpu => "software",
            DeviceType::Other => "other",
        }
    }

    /// The largest tensor the adapter can bind, in bytes.
    pub fn tensor_limit(&self) -> u64 {
        let limits = self.raw.limits();
        limits.max_storage_buffer_binding_size.min(limits.max_buffer_size)
    }

    fn rank(&self) -> (u8, u8) {
        let kind = match self.info.device_type {
            DeviceType::DiscreteGpu => 0,
            DeviceType::IntegratedGpu => 1,
            DeviceType::VirtualGpu => 2,
            DeviceType::Other => 3,
            DeviceType::Cpu => 4,
        };
        let backend = match self.info.backend {
            Backend::Vulkan | Backend::Metal => 0,
            _ => 1,
        };
        (kind, backend)
    }
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {:?})", self.info.name, self.kind(), self.info.backend)
    }
}

/// How an adapter is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Compiles shaders with bounds checks.
    pub checked: bool,
    /// What to keep a record of.
    pub trace: Trace,
    /// Takes a software adapter for hardware: it gets the kernels and workgroups of a GPU, so that those can be tested
    /// where there is none.
    pub as_hardware: bool,
    /// Keeps compiled kernels in the user's folder for caches (`ENGRAM_CACHE_DIR` moves it; empty, it turns this off).
    pub cache: bool,
    /// How products are computed. Anything but [`Precision::Full`] is refused where it is not possible; a software adapter
    /// that is opened `as_hardware` emulates it.
    pub precision: Precision,
}

/// Every adapter, best first: discrete before integrated before virtual before software, one entry per physical GPU
/// (Vulkan or Metal before DX12). The order of equals is the driver's.
pub fn list() -> Vec<Adapter> {
    let backends = Backends::VULKAN | Backends::METAL | Backends::DX12;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let mut adapters: Vec<Adapter> = pollster::block_on(instance.enumerate_adapters(backends))
        .into_iter()
        .map(|raw| Adapter { info: raw.get_info(), raw })
        .collect();
    adapters.sort_by_key(Adapter::rank);
    let mut seen = Vec::new();
    adapters.retain(|adapter| {
        let info = &adapter.info;
        let same_gpu = |other: &wgpu::AdapterInfo| {
            other.backend != info.backend && (other.vendor, other.device) == (info.vendor, info.device)
        };
        let first = !seen.iter().any(same_gpu);
        seen.push(info.clone());
        first
    });
    adapters
}

/// What `--device` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The best hardware adapter, else the CPU; never a software adapter.
    Auto,
    /// The processor.
    Cpu,
    /// The best adapter of all; a software adapter with a warning.
    Gpu,
    /// An index into the list of `engram devices`.
    Index(usize),
    /// A part of the adapter's name, in any case.
    Name(String),
}

impl FromStr for Selection {
    type Err = Error;
    fn from_str(text: &str) -> Result<Selection> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Selection::Auto),
            None if text == "cpu" => Ok(Selection::Cpu),
            None if text == "gpu" => Ok(Selection::Gpu),
            Some(("gpu", which)) if !which.is_empty() => {
                Ok(which.parse().map_or_else(|_| Selection::Name(which.to_lowercase()), Selection::Index))
            }
            _ => Err(Error::usage(format!("unknown device '{text}': use auto, cpu, gpu, gpu:INDEX or gpu:NAME"))),
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selection::Auto => f.write_str("auto"),
            Selection::Cpu => f.write_str("cpu"),
            Selection::Gpu => f.write_str("gpu"),
            Selection::Index(index) => write!(f, "gpu:{index}"),
            Selection::Name(name) => write!(f, "gpu:{name}"),
        }
    }
}

impl Selection {
    /// The position in `adapters` of the one that is meant; `None` is the CPU.
    ///
    /// # Errors
    /// If there is no such adapter; the message says what is missing and what to install.
    pub fn choose(&self, adapters: &[Adapter]) -> Result<Option<usize>> {
        if adapters.is_empty() && !matches!(self, Selection::Auto | Selection::Cpu) {
            return Err(Error::Device(no_adapter()));
        }
        let listed = || adapters.iter().enumerate().map(|(i, a)| format!("\n  gpu:{i}  {a:?}")).collect::<String>();
        match self {
            Selection::Auto => Ok((!adapters.is_empty() && !adapters[0].is_software()).then_some(0)),
            Selection::Cpu => Ok(None),
            Selection::Gpu => Ok(Some(0)),
            Selection::Index(index) if *index < adapters.len() => Ok(Some(*index)),
            Selection::Name(name) => match adapters.iter().position(|a| a.info.name.to_lowercase().contains(name)) {
                Some(index) => Ok(Some(index)),
                None => Err(Error::usage(format!("no adapter's name contains '{name}'; there are:{}", listed()))),
            },
            Selection::Index(index) => {
                Err(Error::usage(format!("there is no adapter number {index}; there are:{}", listed())))
            }
        }
    }

    /// Opens the device. The second value is a warning for the user, if there is one.
    ///
    /// # Errors
    /// As [`Selection::choose`], or if the adapter refuses to open.
    pub fn open(&self, options: Options) -> Result<(Device, Option<String>)> {
        let cpu = || match options.precision {
            Precision::Full => Ok((Device::cpu(), None)),
            precision => Err(refusal(precision, "the CPU", "computes in f32")),
        };
        if *self == Selection::Cpu {
            return cpu();
        }
        let adapters = list();
        let Some(index) = self.choose(&adapters)? else { return cpu() };
        let adapter = &adapters[index];
        let warning = (adapter.is_software() && *self == Selection::Gpu).then(|| {
            format!(
                "no hardware GPU was found: {} runs the shaders in software, several times slower than --device cpu",
                adapter.info.name
            )
        });
        Ok((Device::Gpu(Arc::new(Gpu::open(adapter, options)?)), warning))
    }
}

fn no_adapter() -> String {
    let advice = if cfg!(target_os = "linux") {
        "Install the Vulkan driver of your GPU (Debian/Ubuntu: `apt install mesa-vulkan-drivers` for AMD, Intel and \
         software rendering; NVIDIA: the proprietary driver, and in containers NVIDIA_DRIVER_CAPABILITIES=all)"
    } else if cfg!(target_os = "windows") {
        "Update the graphics driver: it brings Vulkan and DirectX 12"
    } else {
        "Metal needs macOS on hardware with a GPU"
    };
    format!("no GPU adapter was found.\n{advice},\nor run on the processor with --device cpu.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_parse_and_print() {
        for text in ["auto", "cpu", "gpu", "gpu:0", "gpu:llvmpipe"] {
            assert_eq!(text.parse::<Selection>().unwrap().to_string(), text);
        }
        for text in ["", "GPU0", "gpu:", "cuda", "cpu:1"] {
            assert!(text.parse::<Selection>().is_err(), "{text}");
        }
    }

    #[test]
    fn without_adapters_auto_is_the_cpu_and_gpu_says_what_to_install() {
        assert_eq!(Selection::Auto.choose(&[]).unwrap(), None);
        assert_eq!(Selection::Cpu.choose(&[]).unwrap(), None);
        for selection in [Selection::Gpu, Selection::Index(0), Selection::Name("x".into())] {
            let message = selection.choose(&[]).unwrap_err().to_string();
            assert!(message.contains("no GPU adapter") && message.contains("--device cpu"), "{message}");
        }
    }
}
