//! Guards the five systems that this crate came from: each runs, as `examples/` has it, on the
//! store, and a browser sees what it saw of the original.
//!
//! Each test names the behaviours that it shows, by their ids: `RB-1` and so on, all listed in
//! `ids.txt`. `tests/run systems` counts them. Where ours differs on purpose the test says `OURS`,
//! and `docs/comparison.md` says why.

mod browser;
mod flask;
mod justpy;
mod notebook;
mod oxygen;
mod rails;

#[path = "../../../examples/systems/page.rs"]
mod page;
