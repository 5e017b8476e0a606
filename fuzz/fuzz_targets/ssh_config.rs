#![no_main]

#[path = "../checks/remote.rs"]
#[allow(dead_code)]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::ssh_config(bytes));
