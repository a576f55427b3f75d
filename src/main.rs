//! Entry point: parse, run, exit code.

fn main() -> std::process::ExitCode {
    tilewright::cli::run()
}
