//! ARCHITECTURE.md says what is there: its files, the names in them, and the table that the layers are held to.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document() -> String {
    fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

/// What stands between backticks, one paragraph, item of a list or row of a table at a time.
fn quoted(text: &str) -> Vec<Vec<&str>> {
    let paragraphs = text.split("\n\n").flat_map(items);
    paragraphs.map(|paragraph| paragraph.split('`').skip(1).step_by(2).collect()).collect()
}

fn items(paragraph: &str) -> Vec<&str> {
    let begins = |at: &usize| paragraph[*at..].starts_with(|first: char| first.is_ascii_digit() || first == '|');
    let starts = paragraph.match_indices('\n').map(|(at, _)| at + 1).filter(begins);
    let cuts: Vec<usize> = [0].into_iter().chain(starts).chain([paragraph.len()]).collect();
    cuts.windows(2).map(|cut| &paragraph[cut[0]..cut[1]]).collect()
}

fn path_of(name: &str) -> PathBuf {
    if name.starts_with("tests/") || name.starts_with("qtasks-macros/") {
        root().join(name)
    } else {
        root().join("qtasks/src").join(name)
    }
}

/// The names of a paragraph that none of its files holds, and its files that are not there.
fn missing(names: &[&str]) -> Vec<String> {
    let (files, others): (Vec<&str>, Vec<&str>) = names.iter().copied().partition(|name| name.ends_with(".rs"));
    let texts: Vec<_> = files.iter().map(|file| (*file, fs::read_to_string(path_of(file)).ok())).collect();
    let gone = texts.iter().filter(|(_, text)| text.is_none()).map(|(file, _)| (*file).to_owned());
    let is_held = |name: &str| texts.iter().any(|(_, text)| text.as_ref().is_some_and(|text| text.contains(name)));
    let is_name = |name: &str| name.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
    let unheld = others.into_iter().filter(|name| !files.is_empty() && is_name(name) && !is_held(name));
    gone.chain(unheld.map(|name| format!("{name} in {files:?}"))).collect()
}

#[test]
fn the_files_and_names_of_the_architecture_are_there() {
    let missing: Vec<_> = quoted(&document()).iter().flat_map(|names| missing(names)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn a_name_that_is_not_there_would_be_found() {
    assert_eq!(missing(&["model/lifecycle.rs", "settle"]), Vec::<String>::new());
    assert_eq!(missing(&["model/lifecycle.rs", "unsettle"]).len(), 1);
    assert_eq!(missing(&["model/nothing.rs"]), ["model/nothing.rs"]);
}

#[test]
fn the_table_of_the_architecture_is_the_one_that_the_layers_are_held_to() {
    let document = document();
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let rows: Vec<(String, BTreeSet<String>)> = rows
        .map(|(room, rest)| {
            let allowed = rest.trim_end_matches('|').rsplit('|').next().unwrap();
            (
                room.to_owned(),
                allowed.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            )
        })
        .collect();
    let layers = fs::read_to_string(root().join("tests/structure/layers.rs")).unwrap();
    let file = syn::parse_file(&layers).unwrap();
    assert_eq!(rows, table(&file));
}

/// The rows of `MAY_IMPORT`.
fn table(file: &syn::File) -> Vec<(String, BTreeSet<String>)> {
    let table = file.items.iter().find_map(|item| match item {
        syn::Item::Const(item) if item.ident == "MAY_IMPORT" => Some(&*item.expr),
        _ => None,
    });
    elements(table.expect("the layers have a table")).into_iter().map(row).collect()
}

fn row(row: &syn::Expr) -> (String, BTreeSet<String>) {
    let syn::Expr::Tuple(row) = row else { panic!("a row is a tuple") };
    (text(&row.elems[0]), elements(&row.elems[1]).into_iter().map(text).collect())
}

fn elements(list: &syn::Expr) -> Vec<&syn::Expr> {
    match list {
        syn::Expr::Reference(list) => elements(&list.expr),
        syn::Expr::Array(list) => list.elems.iter().collect(),
        _ => panic!("a list is an array"),
    }
}

fn text(expression: &syn::Expr) -> String {
    match expression {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => text.value(),
        _ => panic!("a name is a text"),
    }
}
