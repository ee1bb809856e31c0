//! Tells the tests which servers are not installed here, so that they show as ignored: `cfg(missing = "redis")`.
//!
//! With `QTASKS_REQUIRE_SERVERS=1` none is missing, and tests fail where they find no server. Likewise for the shim with
//! which tests shift the clocks of processes: it is compiled here.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Servers with the programs that they are.
const SERVERS: [(&str, &str); 3] = [("pgbouncer", "pgbouncer"), ("postgres", "postgres"), ("redis", "redis-server")];

fn main() {
    println!("cargo::rerun-if-env-changed=PATH");
    println!("cargo::rerun-if-env-changed=QTASKS_REQUIRE_SERVERS");
    let required = env::var_os("QTASKS_REQUIRE_SERVERS").is_some_and(|set| set == "1");
    for (server, program) in SERVERS {
        println!("cargo::rustc-check-cfg=cfg(missing, values(\"{server}\"))");
        match find(program) {
            Some(found) => println!("cargo::rerun-if-changed={}", found.display()),
            // A file that is not there has this run again each time, so that a server is noticed once it is installed.
            None => println!("cargo::rerun-if-changed={program}"),
        }
        if find(program).is_none() && !required {
            println!("cargo::rustc-cfg=missing=\"{server}\"");
        }
    }
    println!("cargo::rustc-check-cfg=cfg(missing, values(\"shim\"))");
    if !shim_is_made() && !required {
        println!("cargo::rustc-cfg=missing=\"shim\"");
    }
}

/// Compiles the shim, where there are Linux and a C compiler.
fn shim_is_made() -> bool {
    println!("cargo::rerun-if-changed=support/clock/shim.c");
    let shim = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says it")).join("shim.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-o"]).arg(shim).arg("support/clock/shim.c");
    cfg!(target_os = "linux") && compiler.status().is_ok_and(|status| status.success())
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian has each version of Postgres in a folder of its own.
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    env::split_paths(&path)
        .chain([Path::new("/usr/sbin").into()])
        .chain(versions.map(|version| version.path().join("bin")))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
