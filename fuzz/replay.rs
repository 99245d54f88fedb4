//! Runs a fuzz target on the inputs that are kept: the test of each crate that has targets.

use std::path::Path;

/// Runs `body` on every file of `fuzz/corpus/TARGET` and of `fuzz/found/TARGET`. The last name that
/// is printed is that of the input at fault.
pub(crate) fn replay(target: &str, body: fn(&[u8])) {
    for folder in ["corpus", "found"] {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(folder).join(target);
        let entries = std::fs::read_dir(&folder).expect("every target has this folder");
        let mut inputs = 0;
        for entry in entries {
            let file = entry.expect("the folder can be read").path();
            println!("{}", file.display());
            body(&std::fs::read(&file).expect("an input is a file"));
            inputs += 1;
        }
        assert!(inputs > 0, "{} is empty", folder.display());
    }
}
