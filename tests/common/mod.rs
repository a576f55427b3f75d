//! What the integration tests share: a device, or a failure that says how to get one.

use std::sync::OnceLock;

use tilewright::gpu::{Gpu, GpuOptions, NO_ADAPTER_HELP, Selector, adapters};

/// Opens the adapter the test run is pointed at (`TILEWRIGHT_DEVICE`, else the first one).
/// Tests never skip for want of an adapter: they fail and say what to install. They fail too on
/// another adapter than the one `tools/test.sh` announces in `TILEWRIGHT_TEST_DRIVER`.
pub fn open(options: GpuOptions) -> Gpu {
    let wanted = std::env::var("TILEWRIGHT_DEVICE").unwrap_or_default();
    let found = adapters();
    let adapter = match wanted.parse().unwrap_or_default() {
        Selector::Index(i) => found.get(i),
        Selector::Name(part) => {
            found.iter().find(|a| a.name().to_lowercase().contains(&part.to_lowercase()))
        }
        Selector::Auto | Selector::Cpu => found.first(),
    };
    let adapter = adapter.unwrap_or_else(|| panic!("no adapter to test on: {NO_ADAPTER_HELP}"));
    let announced = std::env::var("TILEWRIGHT_TEST_DRIVER").unwrap_or_default();
    let name = adapter.name();
    assert!(name.contains(&announced), "expected an adapter named {announced}, found {name}");
    adapter.open(options).unwrap_or_else(|e| panic!("{}: {e}", adapter.name()))
}

/// The one device that tests share unless they count what it does or open it in a way of their own:
/// what one has compiled and certified serves the others, which is most of what a test costs.
pub fn shared() -> Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| open(GpuOptions::default())).clone()
}
