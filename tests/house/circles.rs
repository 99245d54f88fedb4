//! No file imports itself by way of others: each can be read after the files that it names.
//!
//! Imports are read from the `use` lines that begin with `crate::`, `super::` or `self::`, outside
//! tests. A file may name its children (`use child::X`): such lines and paths within code are not
//! read. Children may name their parent, and that makes no circle here; but in the crates of
//! [`ONE_WAY`] they name their siblings alone. Names in the root of a crate are not read either.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ebb_tests::binaries::source;

use crate::files::{CRATES, code_in, code_of};

/// Crates in which no file imports its parent, and the folders that are left out.
const ONE_WAY: &[(&str, &[&str])] = &[
    // The methods of one type, whose fields are private to its file and its folder; and bodies that
    // hold bodies.
    ("activator", &["revision", "upload"]),
];

/// A file as the path of its module; empty for the root of the crate.
type Module = Vec<String>;
/// What each file imports.
type Imports = BTreeMap<Module, BTreeSet<Module>>;

#[test]
fn no_file_imports_itself_by_way_of_others() {
    for name in CRATES.iter().chain(&["simulation"]) {
        let circle = circle_in(&imports_of(&source().join(name).join("src")));
        assert!(circle.is_none(), "{name}: {}", said(&circle.unwrap_or_default()));
    }
}

#[test]
fn no_file_imports_its_parent() {
    for (name, rooms) in ONE_WAY {
        let imports = imports_of(&source().join(name).join("src"));
        let upward: Vec<_> = upward_in(&imports, rooms).collect();
        assert!(upward.is_empty(), "{name}: {}", upward.join(", "));
    }
}

#[test]
fn a_circle_is_found() {
    let module = |name: &str| vec![name.to_owned()];
    let edges = |names: &[&str]| names.iter().map(|name| module(name)).collect();
    let mut imports: Imports = [
        (module("a"), edges(&["b", "d"])),
        (module("b"), edges(&["c"])),
        (module("c"), edges(&["d"])),
        (module("d"), edges(&[])),
    ]
    .into();
    assert_eq!(circle_in(&imports), None);
    imports.insert(module("d"), edges(&["b"]));
    assert_eq!(said(&circle_in(&imports).unwrap()), "b → c → d → b");
    let text = "use crate::{a, b::{self, C}};\nuse super::d::*;\n\n#[cfg(test)]\nmod tests {\nuse crate::x;";
    let found: Vec<_> = named_in(code_of(text), &["m".to_owned(), "n".to_owned()]).collect();
    let found: Vec<_> = found.iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["a", "b::self", "b::C", "m::d::*"]);
}

#[test]
fn an_import_of_a_parent_is_found() {
    let module = |path: &str| path.split("::").map(str::to_owned).collect::<Module>();
    let mut imports = Imports::new();
    for (from, to) in [("a::b", "a::c"), ("a::d", "a"), ("a::d", "c"), ("r::s", "r")] {
        imports.entry(module(from)).or_default().insert(module(to));
    }
    let upward: Vec<_> = upward_in(&imports, &["r"]).collect();
    assert_eq!(upward, ["a::d → a"]);
}

/// The imports of a parent, except those of the files in the folders `rooms`.
fn upward_in(imports: &Imports, rooms: &[&str]) -> impl Iterator<Item = String> {
    let free = imports
        .iter()
        .filter(|(module, _)| !module.first().is_some_and(|first| rooms.contains(&first.as_str())));
    free.flat_map(|(module, imported)| {
        let parents = imported.iter().filter(move |other| module.starts_with(other));
        parents.map(move |parent| format!("{} → {}", named(module), named(parent)))
    })
}

/// All files of a crate but its tests, with the files that they import.
fn imports_of(source: &Path) -> Imports {
    let mut texts = BTreeMap::<Module, String>::new();
    for (path, code) in code_in(source) {
        texts.entry(module_of(path.strip_prefix(source).unwrap())).or_default().push_str(&code);
    }
    assert!(texts.len() > 10, "only {} files in {}", texts.len(), source.display());
    let file_of = |path: &Module| {
        (1..=path.len())
            .rev()
            .map(|length| path[..length].to_vec())
            .find(|it| texts.contains_key(it))
    };
    let imported = |(module, text): (&Module, &String)| {
        let named = named_in(text, module).collect::<Vec<_>>();
        let files = named.iter().filter_map(file_of).filter(|file| file != module).collect();
        (module.clone(), files)
    };
    texts.iter().map(imported).collect()
}

/// The path of the module that a file is.
fn module_of(file: &Path) -> Module {
    let parts = file.with_extension("");
    let module: Module = parts.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let is_root = ["lib", "main"].iter().any(|name| module == [*name]);
    if is_root { Module::new() } else { module }
}

/// The paths that the `use` lines of a file name, from the root of the crate on.
fn named_in<'a>(text: &'a str, module: &'a [String]) -> impl Iterator<Item = Module> + 'a {
    text.split(';').flat_map(move |statement| {
        let mut found = Vec::new();
        let tree = statement.rsplit_once("use ").map(|(_, tree)| tree).unwrap_or_default();
        let tree: String = tree.split_whitespace().collect();
        let (mut base, mut rest) = (module.to_vec(), tree.as_str());
        if let Some(after) = rest.strip_prefix("crate::") {
            (base, rest) = (Module::new(), after);
        } else if let Some(after) = rest.strip_prefix("self::") {
            rest = after;
        } else if !rest.starts_with("super::") {
            return found;
        }
        while let Some(after) = rest.strip_prefix("super::") {
            base.pop();
            rest = after;
        }
        spread(&base, rest, &mut found);
        found
    })
}

/// `a::{b, c::d}` as the two paths that it stands for.
fn spread(base: &[String], tree: &str, found: &mut Vec<Module>) {
    if let Some(inner) = tree.strip_prefix('{').and_then(|tree| tree.strip_suffix('}')) {
        let (mut depth, mut start) = (0, 0);
        for (at, letter) in inner.char_indices().chain([(inner.len(), ',')]) {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    spread(base, &inner[start..at], found);
                    start = at + 1;
                }
                _ => {}
            }
        }
    } else if let Some((first, rest)) = tree.split_once("::") {
        spread(&[base, &[first.to_owned()]].concat(), rest, found);
    } else if !tree.is_empty() {
        found.push([base, &[tree.to_owned()]].concat());
    }
}

/// The files of a circle, in the order in which each imports the next.
fn circle_in(imports: &Imports) -> Option<Vec<Module>> {
    let mut done = BTreeSet::new();
    imports.keys().find_map(|start| walk(start, imports, &mut Vec::new(), &mut done))
}

fn walk(
    module: &Module,
    imports: &Imports,
    way: &mut Vec<Module>,
    done: &mut BTreeSet<Module>,
) -> Option<Vec<Module>> {
    if let Some(at) = way.iter().position(|before| before == module) {
        return Some(way[at..].to_vec());
    }
    if done.contains(module) {
        return None;
    }
    way.push(module.clone());
    let circle = imports[module].iter().find_map(|next| walk(next, imports, way, done));
    way.pop();
    done.insert(module.clone());
    circle
}

fn said(circle: &[Module]) -> String {
    let around = circle.iter().chain(circle.first());
    around.map(named).collect::<Vec<_>>().join(" → ")
}

fn named(module: &Module) -> String {
    if module.is_empty() { "lib".to_owned() } else { module.join("::") }
}
