//! A SQLite file that changes under a running program, stands where it may not be written to, under two names, or on a volume
//! that is full.

mod changes;
mod child;
mod places;
mod signs;
mod volume;

// The rest of both is for other tests.
#[allow(dead_code)]
#[path = "../../chaos/peers/scene.rs"]
mod scene;
#[allow(dead_code)]
#[path = "../../chaos/peers/tasks.rs"]
mod tasks;

use std::process::ExitCode;

/// Each of some waits most of its time.
const AT_ONCE: usize = 4;

fn main() -> ExitCode {
    if child::is_one() {
        return child::play();
    }
    let trials = [changes::trials(), places::trials(), signs::trials(), volume::trials()];
    scene::run(AT_ONCE, trials.into_iter().flatten().collect())
}
