//! Listing and choosing adapters.

use std::str::FromStr;

use super::device::Gpu;
use super::options::GpuOptions;
use crate::error::{Error, Result};
use crate::files::one_line;

/// What to install when no adapter exists.
pub const NO_ADAPTER_HELP: &str = "install your GPU's Vulkan driver, or a software one (Debian and \
     Ubuntu: `apt-get install mesa-vulkan-drivers`), or use `--device cpu`";

/// Which device to use, as `--device` and `TILEWRIGHT_DEVICE` spell it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selector {
    /// A discrete GPU, else an integrated one, else the CPU reference.
    #[default]
    Auto,
    /// The CPU reference.
    Cpu,
    /// By position in the list of [`adapters`].
    Index(usize),
    /// By a part of the adapter's name, ignoring case.
    Name(String),
}

impl FromStr for Selector {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match (text.to_ascii_lowercase().as_str(), text.parse()) {
            ("auto" | "", _) => Self::Auto,
            ("cpu", _) => Self::Cpu,
            (_, Ok(index)) => Self::Index(index),
            _ => Self::Name(text.to_owned()),
        })
    }
}

/// One adapter that wgpu found.
pub struct Adapter {
    pub(super) raw: wgpu::Adapter,
    pub(super) info: wgpu::AdapterInfo,
}

impl Adapter {
    /// The adapter's name, as its driver gives it.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Backend and driver, for people.
    pub fn driver(&self) -> String {
        let info = &self.info;
        format!("{:?}, {} {}", info.backend, info.driver, info.driver_info).trim().to_owned()
    }

    /// `discrete GPU`, `integrated GPU`, `virtual GPU`, `software` or `other`.
    pub fn kind(&self) -> &'static str {
        match self.info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete GPU",
            wgpu::DeviceType::IntegratedGpu => "integrated GPU",
            wgpu::DeviceType::VirtualGpu => "virtual GPU",
            wgpu::DeviceType::Cpu => "software",
            wgpu::DeviceType::Other => "other",
        }
    }

    /// What compiles kernels for DX12 and what that costs; `None` on other backends, whose drivers
    /// compile.
    pub fn compiler(&self) -> Option<&'static str> {
        let dx12 = self.info.backend == wgpu::Backend::Dx12;
        dx12.then(|| dx12_compiler(self.raw.features()))
    }

    /// Whether it runs on the CPU (lavapipe, SwiftShader, WARP).
    pub fn is_software(&self) -> bool {
        self.info.device_type == wgpu::DeviceType::Cpu
    }

    fn rank(&self, low_power: bool) -> u32 {
        match self.info.device_type {
            wgpu::DeviceType::DiscreteGpu => u32::from(low_power),
            wgpu::DeviceType::IntegratedGpu => u32::from(!low_power),
            wgpu::DeviceType::VirtualGpu => 2,
            wgpu::DeviceType::Other => 3,
            wgpu::DeviceType::Cpu => 4,
        }
    }

    /// Opens a device on this adapter.
    pub fn open(&self, options: GpuOptions) -> Result<Gpu> {
        Gpu::from_adapter(&self.raw, options)
    }
}

/// wgpu takes DXC where it is linked in (feature `static-dxc`) or `dxcompiler.dll` is found, beside
/// the program or on the PATH, and FXC otherwise. It does not say which, but subgroups need shader
/// model 6, which every DX12 device that DXC compiles for has and FXC cannot write.
fn dx12_compiler(features: wgpu::Features) -> &'static str {
    if features.contains(wgpu::Features::SUBGROUP) {
        "DXC, shader model 6"
    } else {
        "FXC, shader model 5.1: no subgroups, no f16, kernels compile slowly; put Microsoft's \
         dxcompiler.dll beside the program"
    }
}

/// All adapters with compute shaders, in wgpu's order; `WGPU_BACKEND` is honoured.
pub fn adapters() -> Vec<Adapter> {
    let instance =
        wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let backends = wgpu::Backends::from_env().unwrap_or(wgpu::Backends::PRIMARY);
    pollster::block_on(instance.enumerate_adapters(backends))
        .into_iter()
        .map(|raw| Adapter { info: raw.get_info(), raw })
        .collect()
}

/// That there is no adapter, what to install, and which variable may have hidden one.
pub fn no_adapter() -> String {
    let limit = std::env::var("WGPU_BACKEND").ok().filter(|value| !value.is_empty());
    let limit =
        limit.map_or_else(String::new, |v| format!(" with WGPU_BACKEND=`{}`", one_line(&v)));
    format!("no adapter was found{limit}; {NO_ADAPTER_HELP}")
}

/// What a [`Selector`] led to.
#[derive(Debug)]
pub enum Choice {
    /// A device, opened.
    Gpu(Gpu),
    /// The CPU reference, and why.
    Cpu(String),
}

/// Opens the device that the selector and the environment ask for.
///
/// `Auto` honours `WGPU_ADAPTER_NAME` and `WGPU_POWER_PREF=low`, and answers with the CPU
/// reference when the only adapters are software ones or there is none. Errors with
/// [`Error::NoAdapter`] when a named or numbered adapter does not exist.
pub fn select(selector: &Selector, options: GpuOptions) -> Result<Choice> {
    if *selector == Selector::Cpu {
        return Ok(Choice::Cpu("asked for".to_owned()));
    }
    let found = adapters();
    let listed = || {
        let names = found.iter().enumerate().map(|(i, a)| format!("{i}: {}", a.name()));
        names.collect::<Vec<_>>().join(", ")
    };
    let by_name = |part: &str| {
        let part = part.to_lowercase();
        found.iter().find(|a| a.name().to_lowercase().contains(&part))
    };
    let missing = |what: String| {
        Error::NoAdapter(if found.is_empty() {
            format!("{what}: {}", no_adapter())
        } else {
            format!("{what}: the adapters are {}", listed())
        })
    };
    let adapter = match selector {
        Selector::Index(i) => {
            found.get(*i).ok_or_else(|| missing(format!("no adapter has index {i}")))?
        }
        Selector::Name(part) => {
            by_name(part).ok_or_else(|| missing(format!("no adapter is named like `{part}`")))?
        }
        Selector::Auto | Selector::Cpu => {
            if let Ok(part) = std::env::var("WGPU_ADAPTER_NAME") {
                let what = || missing(format!("WGPU_ADAPTER_NAME=`{part}`: none is named so"));
                return by_name(&part).ok_or_else(what)?.open(options).map(Choice::Gpu);
            }
            let low = std::env::var("WGPU_POWER_PREF").is_ok_and(|v| v.eq_ignore_ascii_case("low"));
            match found.iter().min_by_key(|a| a.rank(low)) {
                None => return Ok(Choice::Cpu(no_adapter())),
                Some(best) if best.is_software() => {
                    let name = best.name();
                    let reason = format!(
                        "the only adapter is a software one ({name}); `--device 0` would use it"
                    );
                    return Ok(Choice::Cpu(reason));
                }
                Some(best) => best,
            }
        }
    };
    adapter.open(options).map(Choice::Gpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_compiler_is_told_with_its_remedy() {
        assert!(dx12_compiler(wgpu::Features::empty()).contains("dxcompiler.dll"));
        assert!(dx12_compiler(wgpu::Features::SUBGROUP).starts_with("DXC"));
    }

    #[test]
    fn selectors_parse() {
        let parse = |s: &str| s.parse::<Selector>().unwrap_or_default();
        assert_eq!(parse("auto"), Selector::Auto);
        assert_eq!(parse("cpu"), Selector::Cpu);
        assert_eq!(parse("CPU"), Selector::Cpu);
        assert_eq!(parse("1"), Selector::Index(1));
        assert_eq!(parse("llvm"), Selector::Name("llvm".into()));
    }
}
