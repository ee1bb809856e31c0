//! The house stands: folders import downwards only, no files import each other in a circle, below the environment
//! nothing reads a clock, and no file is longer than a reader likes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use syn::visit::{self, Visit};

/// From the ground up: what each folder or root file may import besides itself.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("runtime", &[]),
    ("model", &["runtime"]),
    ("error", &["model"]),
    ("clock", &["runtime", "model"]),
    ("telemetry", &["model", "error"]),
    ("schema", &["model", "error"]),
    ("execution", &["runtime", "model", "error", "telemetry", "schema"]),
    ("task", &["model", "error", "schema", "execution"]),
    ("store", &["runtime", "model", "error"]),
    ("around", &["model", "error", "execution"]),
    (
        "environment",
        &["runtime", "model", "error", "clock", "telemetry", "schema", "execution", "task", "store", "around"],
    ),
    (
        "worker",
        &[
            "runtime",
            "model",
            "error",
            "clock",
            "telemetry",
            "schema",
            "execution",
            "task",
            "store",
            "around",
            "environment",
        ],
    ),
    (
        "client",
        &[
            "runtime",
            "model",
            "error",
            "clock",
            "telemetry",
            "schema",
            "execution",
            "task",
            "store",
            "around",
            "environment",
            "worker",
        ],
    ),
];
/// Tables of contents: the only files that import from the crate's root, and none imports them.
const LISTS: [&str; 4] = ["lib", "prelude", "macro_support", "documents"];
/// The only files that see both a task and the inside of a store.
const BRIDGES: [&str; 2] = ["store/postgres/handler", "store/sqlite/handler"];
/// What a bridge may import besides.
const BEYOND_A_BRIDGE: [&str; 2] = ["execution", "schema"];
/// What shares the environment reads the clock there; below it, times come in as arguments.
const READS_CLOCKS: [&str; 4] = ["clock", "environment", "worker", "client"];
const CLOCKS: [&str; 4] = ["Timestamp::now(", "SystemTime::", "UNIX_EPOCH.elapsed(", "Zoned::now("];

/// The path of a module or of something in it, from the crate's root on.
type Names = Vec<String>;

/// One file of the crate, without its tests.
struct Source {
    module: Names,
    text: String,
    imports: BTreeSet<Names>,
    /// What it gives on under its own name.
    exports: BTreeMap<String, Names>,
}

/// All files by the path of their modules.
type Sources = BTreeMap<Names, Source>;

/// The files of the crate.
fn sources() -> Sources {
    fn gather(root: &Path, folder: &Path, into: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                gather(root, &path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().with_extension("");
                into.push((name.to_str().unwrap().replace('\\', "/"), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../qtasks/src");
    let mut files = Vec::new();
    gather(&root, &root, &mut files);
    read(files.iter().map(|(name, text)| (name.as_str(), text.as_str())))
}

/// The same of any files: names like `store/mod`, and what stands in them.
fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Sources {
    let sources = files.into_iter().map(|(name, text)| source(name, text));
    sources.map(|source| (source.module.clone(), source)).collect()
}

fn source(name: &str, text: &str) -> Source {
    let module = match name {
        "lib" => Names::new(),
        _ => name.strip_suffix("/mod").unwrap_or(name).split('/').map(str::to_owned).collect(),
    };
    let mut found = Found { module: module.clone(), ..Found::default() };
    let file = syn::parse_file(text).unwrap();
    found.children = file.items.iter().filter_map(child).collect();
    found.visit_file(&file);
    let Found { imports, exports, .. } = found;
    Source { module, text: text.to_owned(), imports, exports }
}

/// The name of a module that stands in a file of its own.
fn child(item: &syn::Item) -> Option<String> {
    match item {
        syn::Item::Mod(item) if item.content.is_none() => Some(item.ident.to_string()),
        _ => None,
    }
}

/// Collects what a file names of others, outside of its tests.
#[derive(Default)]
struct Found {
    /// The module that is being read, which may stand inside the file.
    module: Names,
    children: BTreeSet<String>,
    imports: BTreeSet<Names>,
    exports: BTreeMap<String, Names>,
}

impl Found {
    /// Where a path leads that begins with `crate`, `self`, `super` or a module beside which it stands.
    fn resolve(&self, path: &[String]) -> Option<Names> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" | "super" => {
                let ups = path.iter().take_while(|name| *name == "super").count();
                let names = path.iter().filter(|name| !matches!(name.as_str(), "self" | "super"));
                Some(self.module[..self.module.len() - ups].iter().chain(names).cloned().collect())
            }
            child if self.children.contains(child) && !rest.is_empty() => {
                Some(self.module.iter().chain(path).cloned().collect())
            }
            _ => None,
        }
    }

    fn tree(&mut self, tree: &syn::UseTree, mut path: Names, exported: bool) {
        match tree {
            syn::UseTree::Path(inner) => {
                path.push(inner.ident.to_string());
                self.tree(&inner.tree, path, exported);
            }
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.tree(tree, path.clone(), exported));
            }
            syn::UseTree::Glob(_) => self.import(&path, None),
            syn::UseTree::Name(name) => {
                let name = name.ident.to_string();
                let known_as = if name == "self" { path.last().cloned() } else { Some(name.clone()) };
                path.extend((name != "self").then_some(name));
                self.import(&path, known_as.filter(|_| exported));
            }
            syn::UseTree::Rename(rename) => {
                path.push(rename.ident.to_string());
                self.import(&path, exported.then(|| rename.rename.to_string()));
            }
        }
    }

    fn import(&mut self, path: &[String], exported_as: Option<String>) {
        if let Some(target) = self.resolve(path) {
            self.exports.extend(exported_as.map(|name| (name, target.clone())));
            self.imports.insert(target);
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|ident| ident == "test")
    })
}

impl Visit<'_> for Found {
    fn visit_item(&mut self, item: &syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &syn::ItemMod) {
        if item.content.is_some() {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        self.tree(&item.tree, Names::new(), !matches!(item.vis, syn::Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let names: Names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if names.len() > 1 {
            self.import(&names, None);
        }
        visit::visit_path(self, path);
    }
}

/// The module of the file in which something stands, however many others give it on.
fn home(sources: &Sources, path: &[String]) -> Names {
    let mut path = path.to_vec();
    for _ in 0..16 {
        let module = (0..=path.len()).rev().map(|length| &path[..length]).find(|module| sources.contains_key(*module));
        let module = module.expect("the root is a module").to_vec();
        let given_on = path.get(module.len()).and_then(|name| sources[&module].exports.get(name));
        match given_on {
            Some(target) => path = target.iter().chain(&path[module.len() + 1..]).cloned().collect(),
            None => return module,
        }
    }
    panic!("{path:?} is given on for ever");
}

/// The files that a file imports from.
fn imported(sources: &Sources, source: &Source) -> BTreeSet<Names> {
    let homes = source.imports.iter().map(|import| home(sources, import));
    homes.filter(|home| *home != source.module).collect()
}

fn name(module: &[String]) -> String {
    module.join("/")
}

fn is_list(module: &[String]) -> bool {
    module.is_empty() || LISTS.contains(&name(module).as_str())
}

fn may_import(module: &[String], target: &str) -> bool {
    let own = module[0].as_str();
    let folder = MAY_IMPORT.iter().find(|(folder, _)| *folder == own);
    let bridges = BRIDGES.contains(&name(module).as_str()) && BEYOND_A_BRIDGE.contains(&target);
    target == own || bridges || folder.is_some_and(|(_, allowed)| allowed.contains(&target))
}

/// What is wrong with the imports of all files, by the table.
fn wrong_imports(sources: &Sources) -> Vec<String> {
    let mut wrong = BTreeSet::new();
    for source in sources.values().filter(|source| !is_list(&source.module)) {
        for target in imported(sources, source) {
            if is_list(&target) {
                wrong.insert(format!("{} imports from the crate's root or a list", name(&source.module)));
            } else if !may_import(&source.module, &target[0]) {
                wrong.insert(format!("{} may not import {}", name(&source.module), name(&target)));
            }
        }
        // Also what the root only gives on.
        if source.imports.iter().any(|import| {
            !import.is_empty()
                && !sources.contains_key(&import[..1])
                && !MAY_IMPORT.iter().any(|(folder, _)| import[0] == *folder)
        }) {
            wrong.insert(format!("{} imports from the crate's root or a list", name(&source.module)));
        }
    }
    wrong.into_iter().collect()
}

/// The files that import each other, directly or by way of others: one list for each circle.
fn circles(sources: &Sources) -> Vec<Vec<String>> {
    let next: BTreeMap<&Names, BTreeSet<Names>> = sources
        .values()
        .filter(|source| !is_list(&source.module))
        .map(|source| (&source.module, imported(sources, source).into_iter().filter(|home| !is_list(home)).collect()))
        .collect();
    let reached: BTreeMap<&Names, BTreeSet<&Names>> = next.keys().map(|from| (*from, reach(&next, from))).collect();
    let circle = |module: &&Names| -> Vec<String> {
        let together = reached[*module].iter().filter(|other| reached[**other].contains(*module));
        together.map(|other| name(other)).collect()
    };
    let circles: BTreeSet<Vec<String>> = next.keys().map(circle).filter(|circle| !circle.is_empty()).collect();
    circles.into_iter().collect()
}

fn reach<'a>(next: &'a BTreeMap<&Names, BTreeSet<Names>>, from: &Names) -> BTreeSet<&'a Names> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        for other in &next[module] {
            if reached.insert(other) {
                open.push(other);
            }
        }
    }
    reached
}

/// The files that read a clock although times are to come in as their arguments.
fn clock_readers(sources: &Sources) -> Vec<String> {
    let below = sources
        .values()
        .filter(|source| source.module.first().is_some_and(|folder| !READS_CLOCKS.contains(&folder.as_str())));
    let reads = below.filter(|source| {
        let code = source.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        CLOCKS.iter().any(|clock| code.contains(clock))
    });
    reads.map(|source| name(&source.module)).collect()
}

fn nothing<T: std::fmt::Debug>(wrong: &[T]) {
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_folder_imports_only_what_it_may() {
    nothing(&wrong_imports(&sources()));
}

#[test]
fn nothing_below_the_environment_reads_a_clock() {
    nothing(&clock_readers(&sources()));
}

#[test]
fn each_folder_stands_in_the_table_and_each_row_has_one() {
    let sources = sources();
    let folders: BTreeSet<&str> =
        sources.keys().filter(|module| !is_list(module)).map(|module| module[0].as_str()).collect();
    assert_eq!(folders, MAY_IMPORT.iter().map(|(folder, _)| *folder).collect());
    for (row, (_, allowed)) in MAY_IMPORT.iter().enumerate() {
        let above: Vec<_> = MAY_IMPORT[row..].iter().filter(|(folder, _)| allowed.contains(folder)).collect();
        assert!(above.is_empty(), "the table stands from the ground up: {above:?}");
    }
}

#[test]
fn a_planted_import_is_found_however_it_is_written() {
    let ground =
        [("lib", "pub use self::model::job;"), ("model/mod", "pub mod job;"), ("model/job", "pub struct Job;")];
    for planted in [
        "use crate::worker::Worker;",
        "use crate::{model::job::Job, worker::shared::WorkerShared};",
        "fn f() { crate::worker::start(); }",
        "fn f(worker: &crate::worker::Worker) {}",
        "mod inner { use super::super::super::worker::Worker; }",
        "fn f() { use crate::worker::Worker; }",
        "use crate::job;",
        "fn f() -> crate::Result<()> {}",
    ] {
        let files =
            [("worker/mod", ""), ("worker/shared", ""), ("store/mod", "mod memory;"), ("store/memory", planted)];
        let wrong = wrong_imports(&read(ground.into_iter().chain(files)));
        assert_eq!(wrong.len(), 1, "{planted}: {wrong:?}");
    }
    let tests = "#[cfg(test)] mod tests { use crate::worker::Worker; }";
    let files = [("worker/mod", ""), ("store/mod", tests)];
    nothing(&wrong_imports(&read(ground.into_iter().chain(files))));
}

#[test]
fn only_a_bridge_sees_a_task_and_the_inside_of_a_store() {
    let sees = "use crate::execution::attempt::Attempt; use super::Transaction;";
    let files = |name| {
        [
            ("lib", ""),
            ("execution/mod", ""),
            ("execution/attempt", ""),
            ("store/mod", ""),
            ("store/sqlite/mod", ""),
            (name, sees),
        ]
    };
    nothing(&wrong_imports(&read(files("store/sqlite/handler"))));
    assert_eq!(wrong_imports(&read(files("store/sqlite/calls/settle"))).len(), 1);
}

#[test]
fn a_clock_below_the_environment_would_be_found() {
    let reads = "fn f() { Timestamp::now(); }";
    let files = [("lib", ""), ("clock", reads), ("store/memory", reads)];
    assert_eq!(clock_readers(&read(files)), ["store/memory"]);
}

/// How many lines a file may have.
const LONGEST: usize = 450;

/// The files of source below a folder that are longer than that.
fn long_files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of_entry = |path: std::path::PathBuf| match path.extension().and_then(|extension| extension.to_str()) {
        _ if path.is_dir() => long_files(&path),
        Some("rs") if fs::read_to_string(&path).unwrap().lines().count() > LONGEST => vec![path.display().to_string()],
        _ => Vec::new(),
    };
    entries.flat_map(of_entry).collect()
}

#[test]
fn no_file_is_longer_than_a_reader_likes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = ["qtasks/src", "qtasks-macros/src", "tests", "examples", "bench/src"];
    nothing(&folders.iter().flat_map(|folder| long_files(&root.join(folder))).collect::<Vec<_>>());
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    nothing(&circles(&sources()));
}

#[test]
fn a_circle_of_files_is_found_through_what_others_give_on() {
    let files = [
        ("lib", ""),
        ("store/mod", "mod lease; mod url; pub use self::url::open;"),
        ("store/url", "pub fn open() {} fn f() { super::lease::lease(); }"),
        ("store/lease", "use crate::store::open; pub fn lease() {}"),
        ("model/mod", "mod job; pub use self::job::Job;"),
        ("model/job", "pub struct Job; #[cfg(test)] mod tests { use crate::model::Job; }"),
    ];
    assert_eq!(circles(&read(files)), [["store/lease", "store/url"]]);
}
