//! Under `cargo fuzz` a fuzzer; otherwise a program that replays the files it is given.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| cloakroom_fuzz::cookie(input));

#[cfg(not(fuzzing))]
fn main() {
    cloakroom_fuzz::replay_arguments(cloakroom_fuzz::cookie);
}
