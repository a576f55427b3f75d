//! `--device`, the environment's say in it, and machines without an adapter.

use std::process::Command;

use crate::program::{Done, bert, command, cpu, device, finish};

fn with(args: &[&str], variables: &[(&str, &str)]) -> Done {
    let mut command: Command = command(args);
    command.envs(variables.iter().copied());
    finish(command)
}

#[test]
fn a_device_is_chosen_by_index_or_by_part_of_its_name() {
    let (bert, name) = (bert(), device());
    let upper = name.to_uppercase();
    let embed = |device: &str| with(&["embed", "--model", &bert, "Rain", "--device", device], &[]);
    for device in [name.as_str(), &upper, "0"] {
        let done = embed(device);
        let ran = device == "0" || done.err.contains(&format!("on {name}, loading included"));
        assert!(ran, "{done:?}");
        done.ok();
    }
    for device in ["cpu", "CPU"] {
        let done = embed(device);
        assert!(done.err.contains("on CPU, loading included"), "{done:?}");
    }
    embed("99").fails(&["no adapter has index 99", "the adapters are 0: ", &name]);
    embed("9223372036854775808").fails(&["9223372036854775808", &name]);
    embed("RTX 9999").fails(&["no adapter is named like `RTX 9999`", &name]);
}

#[test]
fn the_environment_chooses_where_no_flag_does() {
    let bert = bert();
    let embed = ["embed", "--model", &bert, "Rain"];
    let unknown = [("TILEWRIGHT_DEVICE", "nonsense")];
    with(&embed, &unknown).fails(&["named like `nonsense`"]);
    let flag = [&embed[..], &["--device", "cpu"]].concat();
    with(&flag, &unknown).ok();
    with(&flag, &[("WGPU_ADAPTER_NAME", "nonsense")]).ok();
    let named = with(&embed, &[("WGPU_ADAPTER_NAME", "nonsense")]);
    named.fails(&["WGPU_ADAPTER_NAME", "`nonsense`", &device()]);
    let done = with(&embed, &[("WGPU_ADAPTER_NAME", &device())]);
    assert!(done.err.contains(&format!("using {}", device())), "{done:?}");
    done.ok();
}

/// An environment in which no driver is found.
const NO_ADAPTER: [(&str, &str); 3] = [
    ("WGPU_BACKEND", "vulkan"),
    ("VK_DRIVER_FILES", "/nonexistent.json"),
    ("VK_ICD_FILENAMES", "/nonexistent.json"),
];

#[test]
fn without_an_adapter_auto_answers_on_the_cpu() {
    let bert = bert();
    let embed = ["embed", "--model", &bert, "Rain"];
    let done = with(&embed, &NO_ADAPTER);
    assert!(done.err.contains("using the CPU: no adapter was found"), "{done:?}");
    assert!(done.err.contains("on CPU, loading included"), "{done:?}");
    assert_eq!(done.ok(), cpu(embed).ok());

    let devices = with(&["devices", "--json"], &NO_ADAPTER).json();
    assert_eq!(devices.to_string(), r#"{"adapters":[]}"#);
    let none = "no adapter was found with WGPU_BACKEND=`vulkan`; install";
    assert!(with(&["devices"], &NO_ADAPTER).ok().contains(none));
    let unknown = with(&["devices"], &[("WGPU_BACKEND", "zork")]).ok();
    assert!(unknown.contains("WGPU_BACKEND=`zork`"), "{unknown}");
    with(&["verify", "ops", "--device", "cpu", "--json"], &NO_ADAPTER).json();
    let limit = ["plan", "--model", &bert, "--max-binding", "1000000"];
    with(&limit, &NO_ADAPTER).ok();

    let needs: [&[&str]; 6] = [
        &["embed", "--model", &bert, "Rain", "--device", "0"],
        &["embed", "--model", &bert, "Rain", "--device", "llvm"],
        &["verify", "ops"],
        &["verify", "model", "--model", &bert],
        &["plan", "--model", &bert],
        &["plan", "--model", &bert, "--device", "cpu"],
    ];
    for args in needs {
        with(args, &NO_ADAPTER).fails(&["no ", "adapter", "install your GPU's Vulkan driver"]);
    }
}
