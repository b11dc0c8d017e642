//! A store beside a model of it, step by step. Shared by the property test and the fuzz target.

mod check;
pub(crate) mod ops;
mod run;
mod world;
mod write;

pub(crate) use run::run;
