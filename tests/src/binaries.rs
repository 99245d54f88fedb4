//! Finds the binaries under test: beside the test itself, where cargo put both.

use std::path::{Path, PathBuf};

/// The binary of that name, built in the same profile as the caller.
pub fn binary(name: &str) -> PathBuf {
    let path = folder().join(name);
    assert!(path.exists(), "{} is not built: run the tests by make e2e", path.display());
    path
}

/// The folder of the binaries.
pub fn folder() -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    let folder = own.parent().expect("a program lies in a folder");
    // A test lies in deps/, a binary beside it.
    if folder.ends_with("deps") {
        folder.join("..").canonicalize().expect("deps/ has a parent")
    } else {
        folder.to_path_buf()
    }
}

/// The root of the source tree.
pub fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root")
}
