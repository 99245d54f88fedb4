//! Which names from a network or an archive become names of files.

/// Longest name with its folders. Linux takes 4,096 bytes for a whole path, the cache's included.
const NAME_BYTES_MAX: usize = 1024;
/// Longest part between two `/`: what Linux's file systems take.
const PART_BYTES_MAX: usize = 255;
/// Folders within folders: removing a tree takes a file descriptor for each.
const DEPTH_MAX: usize = 32;

/// Checks a relative name of a file; what is wrong with it otherwise.
///
/// A name that is accepted lies below the folder that it is joined to, whatever it is.
pub(crate) fn check(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return Err("is longer than 1024 bytes");
    }
    if name.starts_with('/') {
        return Err("is absolute");
    }
    if name.contains('\\') {
        return Err("has a backslash");
    }
    if name.contains(char::is_control) {
        return Err("has a control character");
    }
    if name.split('/').count() > DEPTH_MAX {
        return Err("lies more than 32 folders deep");
    }
    for part in name.split('/') {
        match part {
            "" => return Err("has an empty part"),
            "." | ".." => return Err("has a part of dots"),
            _ if part.len() > PART_BYTES_MAX => return Err("has a part of more than 255 bytes"),
            _ => {}
        }
    }
    Ok(())
}

/// The name as an error shows it.
pub(crate) fn shown(name: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 100;
    let mut clipped: String = name.chars().take(SHOWN_CHARS_MAX).collect();
    if clipped.len() < name.len() {
        clipped.push('…');
    }
    format!("{clipped:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        let long = "a/".repeat(600);
        let deep = format!("{}a", "a/".repeat(32));
        let part = "a".repeat(256);
        for name in [
            "", "/a", "..", "a/..", "a/../b", "./a", "a//b", "a/", "a\\b", "..\\a", "a\0b", "a\nb",
            &long, &deep, &part,
        ] {
            assert!(check(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn names_of_models_are_accepted() {
        let part = "a".repeat(255);
        for name in [
            "config.json",
            "onnx/model.onnx",
            ".gitattributes",
            "a/..b/c..",
            "模型.gguf",
            "a b",
            &part,
        ] {
            assert_eq!(check(name), Ok(()), "{name:?}");
        }
    }

    #[test]
    fn a_long_name_is_shown_clipped_and_without_raw_control_characters() {
        assert_eq!(shown("a\nb"), "\"a\\nb\"");
        assert!(shown(&"é".repeat(5000)).len() < 300);
    }
}
