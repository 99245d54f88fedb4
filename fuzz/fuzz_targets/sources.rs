//! The fuzz target `sources`: its body is in the crate that it is about.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ebb_api::fuzz::sources(input));
