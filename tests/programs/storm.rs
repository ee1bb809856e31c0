//! Workers that are killed, frozen and stopped by chance: the short form of what `--bin kills` does at length.

use std::process::Command;

#[test]
fn twenty_five_kills_lose_nothing_and_repeat_nothing_that_is_recorded() {
    let output = Command::new(env!("CARGO_BIN_EXE_kills")).output().unwrap();
    let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{}: {said}{complaints}", output.status);
}
