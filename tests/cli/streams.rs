//! What reaches the program as bytes and signals: closed pipes, full disks, Ctrl-C, arguments
//! that are not UTF-8.
#![cfg(unix)]

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::folder::Folder;
use crate::program::{Done, bert, command, cpu, device, finish, text};

#[test]
fn arguments_that_are_not_utf_8_are_refused() {
    let (bert, bad) = (bert(), OsStr::from_bytes(b"\xff\xfe"));
    let arg = OsStr::new;
    for name in ["embed", "tokenize"] {
        cpu([arg(name), arg("--model"), arg(&bert), bad]).misused("invalid UTF-8");
    }
    cpu([arg("--device"), bad, arg("devices")]).misused("invalid UTF-8");
    // A path may be any bytes.
    cpu([arg("plan"), arg("--model"), bad]).fails(&["no such folder"]);
    let mut command = command(["devices"]);
    command.env("TILEWRIGHT_DEVICE", bad);
    finish(command).misused("UTF-8");
}

#[test]
fn files_that_are_not_lines_of_text_are_refused() {
    let folder = Folder::new();
    let bert = bert();
    let bad = text(folder.file("bad.txt", b"fine\nnot \xff fine\n"));
    let here = text(&folder.0);
    let missing = text(folder.0.join("missing"));
    let cases: [(&str, &[&str]); 3] = [
        (&bad, &["is not UTF-8 text: invalid byte at offset 9"]),
        (&here, &["directory"]),
        (&missing, &["No such file"]),
    ];
    for (file, wants) in cases {
        let wants: Vec<_> = wants.iter().copied().chain([file]).collect();
        cpu(["embed", "--model", &bert, "--file", file]).fails(&wants);
    }
    if cfg!(target_os = "linux") {
        for args in [&["embed", "--file"][..], &["score", "--file"], &["tag", "--file"]] {
            let args = args.iter().copied().chain(["/dev/zero", "--model", &bert]);
            cpu(args).fails(&["/dev/zero: is longer than 256 MiB"]);
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let bert = bert();
    let many = "rain ".repeat(20_000);
    for args in [
        &["graph", "--model", &bert, "--unfused", "-o", "svg"][..],
        &["tokenize", "--model", &bert, &many],
        &["devices", "--help"],
    ] {
        let mut command = command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        // The pipe may hold all there is: either way nothing is to be said.
        out.read_exact(&mut [0]).unwrap();
        drop(out);
        let done = Done::from(child.wait_with_output().unwrap());
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let bert = bert();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let embed = ["embed", "--model", &bert, "Rain"];
    for format in ["json", "jsonl", "csv", "npy", "safetensors"] {
        let more = ["--format", format, "-o", "/dev/full"];
        cpu(embed.iter().chain(&more)).fails(&["/dev/full", "No space left"]);
    }
    cpu(["graph", "--model", &bert, "--file", "/dev/full"]).fails(&["/dev/full", "No space left"]);
    let to_full = |args: &[&str]| {
        let mut to_stdout = command(args);
        let done = to_stdout.stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
        Done::from(done.wait_with_output().unwrap())
    };
    to_full(&["tokenize", "--model", &bert, "Rain"]).fails(&["stdout", "No space left"]);
    to_full(&["--help"]).fails(&["stdout", "No space left"]);
    // Notices that cannot be written do not stop the answer.
    let mut to_stderr = command(embed);
    to_stderr.env("TILEWRIGHT_DEVICE", "cpu").stderr(full());
    assert_eq!(finish(to_stderr).jsonl().len(), 1);
}

#[test]
fn output_files_appear_whole_or_not_at_all() {
    let folder = Folder::new();
    let bert = bert();
    let path = folder.file("out.csv", "precious");
    let embed = ["embed", "--model", &bert, "Rain", "--format", "csv", "-o"];
    cpu(embed.iter().copied().chain([&*text(&path)])).ok();
    assert!(!std::fs::read_to_string(&path).unwrap().contains("precious"));
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1, "no temporary file is left");
    let nowhere = text(folder.0.join("nowhere/out.csv"));
    cpu(embed.iter().copied().chain([&*nowhere])).fails(&[&nowhere, "No such file"]);
    cpu(embed.iter().copied().chain([&*text(&folder.0)])).fails(&[&text(&folder.0), "is a folder"]);
}

fn send(signal: &str, to: u32) {
    let status = Command::new("kill").args([signal, &to.to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn ctrl_c_ends_long_work_within_two_seconds() {
    let folder = Folder::new();
    let mut lines = String::new();
    for i in 0..60_000 {
        writeln!(lines, "{i} {}", "rain fell on the house ".repeat(15)).unwrap();
    }
    let lines = text(folder.file("lines.txt", lines));
    let output = folder.0.join("out.npy");
    let (bert, out, device) = (bert(), text(&output), device());
    // The first moments tokenise, the later ones run the model.
    for (device, wait, signal) in [
        ("cpu", 300, "-INT"),
        ("cpu", 4000, "-INT"),
        ("cpu", 2000, "-TERM"),
        (&device, 4000, "-INT"),
    ] {
        let args = ["embed", "--model", &bert, "--file", &lines, "--format", "npy", "-o", &out];
        let mut command = command(args);
        command.env("TILEWRIGHT_DEVICE", device);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        send(signal, child.id());
        let asked = Instant::now();
        let finished = child.wait_with_output().unwrap();
        let took = asked.elapsed();
        assert_eq!(finished.status.signal(), None);
        Done::from(finished).fails(&["error: cancelled"]);
        assert!(took < Duration::from_secs(2), "{device} {wait} ms: took {took:?}");
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1, "only lines.txt is there");
        assert!(!output.exists());
    }
}
