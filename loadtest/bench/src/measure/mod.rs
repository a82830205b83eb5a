//! CPU time and memory of processes, from the kernel's own books. Linux only, as the whole bench is.

mod memory;
mod process;
mod readings;

pub(crate) use memory::resident_bytes;
pub(crate) use process::{is_debug_build, with_descendants};
pub(crate) use readings::{Readings, Role, Spent, Watched};
