//! The program `meridian`. Everything is in the crates under `src/`; see ARCHITECTURE.md.

/// jemalloc keeps memory from fragmenting under many connections, where glibc's arenas do not.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    meridian_server::cli::main()
}
