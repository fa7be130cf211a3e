//! Parses the arguments, starts logging, and maps the outcome to an exit code.

/// ADR 19: what threads share costs less by it than by the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    debvisor::cli::main()
}
