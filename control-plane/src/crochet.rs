//! The same program under its operators' name: `crochet request gw_req_…`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    control_plane::program::run(control_plane::program::CROCHET)
}
