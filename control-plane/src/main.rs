//! The control plane as its services start it. All of it is in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let _points = crochet_shared::fault::told();
    control_plane::program::run("control-plane")
}
