//! Parses the arguments, starts logging, and maps the outcome to an exit code.

fn main() -> std::process::ExitCode {
    debvisor::cli::main()
}
