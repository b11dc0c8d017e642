//! The journal: what makes sessions survive the process.
#![cfg_attr(not(test), allow(dead_code, reason = "nothing opens a journal yet"))]

mod files;
