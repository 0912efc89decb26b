use std::process::ExitCode;

fn main() -> ExitCode {
    cskpi::cli::main()
}
