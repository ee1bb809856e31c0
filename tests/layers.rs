//! The layers of the crate hold: imports point downwards only, and nobody below the processes reads a clock.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use syn::visit::{self, Visit};

/// From the lowest on. A module that is none of these is a list of names: the prelude, what macros refer to.
const LAYERS: [(&str, &[&str]); 5] = [
    (
        "meaning",
        &[
            "alarm",
            "clock_hold",
            "error",
            "gather",
            "guard",
            "job",
            "json",
            "lifecycle",
            "limits",
            "pending",
            "retry",
            "telemetry",
            "threads",
        ],
    ),
    (
        "tasks",
        &[
            "call",
            "co",
            "collect",
            "context",
            "end",
            "executor",
            "failure",
            "handler",
            "journal",
            "memo",
            "registry",
            "state",
            "task",
            "transacting",
        ],
    ),
    ("stores", &["store"]),
    // What sees both a task and the inside of a store.
    ("bridges", &["postgres_handlers", "sqlite_handlers"]),
    (
        "processes",
        &[
            "app",
            "attempt",
            "clock",
            "dispatcher",
            "enqueuing",
            "floor",
            "handle",
            "heartbeat",
            "held",
            "later",
            "patience",
            "outage",
            "pool",
            "pruner",
            "recorder",
            "rescue",
            "retrying",
            "signals",
            "stopping",
            "stream",
            "surroundings",
            "suspects",
            "unserved",
            "worker",
        ],
    ),
];
const LISTS: [&str; 4] = ["lib", "prelude", "private", "yielding"];
/// Names of the root that are known to stand in `error`.
const OF_ERROR: [&str; 3] = ["BoxError", "Error", "Result"];

fn sources() -> BTreeMap<PathBuf, String> {
    fn gather(folder: &Path, into: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                gather(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.insert(path.clone(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut sources = BTreeMap::new();
    gather(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../qtasks/src"), &mut sources);
    sources
}

/// The module of the crate's root that a file belongs to.
fn module(path: &Path) -> String {
    let inside = path.components().skip_while(|part| part.as_os_str() != "src").nth(1).unwrap();
    Path::new(inside.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|(_, modules)| modules.contains(&module))
}

/// Collects what stands behind `crate::`, outside of tests.
#[derive(Default)]
struct Imports(Vec<String>);

impl Imports {
    fn tree(&mut self, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => self.0.push(path.ident.to_string()),
            syn::UseTree::Name(name) => self.0.push(name.ident.to_string()),
            syn::UseTree::Rename(rename) => self.0.push(rename.ident.to_string()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree)),
            syn::UseTree::Glob(_) => self.0.push("*".to_owned()),
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|ident| ident == "test")
    })
}

impl Visit<'_> for Imports {
    fn visit_item_mod(&mut self, item: &syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        if let syn::UseTree::Path(path) = &item.tree
            && path.ident == "crate"
            && !is_test(&item.attrs)
        {
            self.tree(&path.tree);
        }
    }

    fn visit_path(&mut self, path: &syn::Path) {
        if path.segments.len() > 1 && path.segments[0].ident == "crate" {
            self.0.push(path.segments[1].ident.to_string());
        }
        visit::visit_path(self, path);
    }
}

fn imports(source: &str) -> Vec<String> {
    let mut imports = Imports::default();
    imports.visit_file(&syn::parse_file(source).unwrap());
    imports.0
}

/// What is wrong with the imports of one file, if anything is.
fn wrong(module: &str, source: &str) -> Vec<String> {
    let Some(own) = layer(module) else {
        return if LISTS.contains(&module) { vec![] } else { vec![format!("`{module}` stands in no layer")] };
    };
    let allowed = |import: &String| {
        let import = if OF_ERROR.contains(&import.as_str()) { "error" } else { import };
        match layer(import) {
            // Stores know no tasks, although those stand below them.
            Some(other) => other == own || other < own && (LAYERS[own].0, LAYERS[other].0) != ("stores", "tasks"),
            None => false,
        }
    };
    let upwards = imports(source).into_iter().filter(|import| !allowed(import));
    upwards.map(|import| format!("`{module}` ({}) imports `crate::{import}`", LAYERS[own].0)).collect()
}

#[test]
fn imports_point_downwards_only() {
    let wrong: Vec<String> = sources().iter().flat_map(|(path, source)| wrong(&module(path), source)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nobody_below_the_processes_reads_the_time_of_day() {
    for (path, source) in sources() {
        let below = layer(&module(&path)).is_some_and(|layer| LAYERS[layer].0 != "processes");
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        let reads = ["Timestamp::now(", "SystemTime::", "UNIX_EPOCH.elapsed(", "Zoned::now("]
            .into_iter()
            .find(|clock| code.contains(clock));
        assert!(!below || reads.is_none(), "{} reads a clock: {reads:?}", path.display());
    }
}

#[test]
fn an_upward_import_would_be_found_however_it_is_written() {
    for source in [
        "use crate::worker::Worker;",
        "use crate::{job::Job, app::App};",
        "fn f() { crate::app::open(); }",
        "fn f(app: &crate::app::App) {}",
    ] {
        assert_eq!(wrong("executor", source).len(), 1, "{source}");
    }
    assert_eq!(wrong("store", "use crate::task::Task;").len(), 1);
    assert_eq!(wrong("somewhere", "").len(), 1);
    assert!(wrong("executor", "#[cfg(test)] mod tests { use crate::app::App; }").is_empty());
}
