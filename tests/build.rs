//! Tells the tests which servers are not installed here, so that they show as ignored: `cfg(missing = "redis")`.
//!
//! With `QTASKS_REQUIRE_SERVERS=1` none is missing, and tests fail where they find no server.

use std::{
    env, fs,
    path::{Path, PathBuf},
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
