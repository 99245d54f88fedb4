//! Which files of a list make up a model, and where each goes.

use std::collections::BTreeSet;

use crate::digest::Expected;
use crate::names;

/// Most files of a model: the largest repositories have hundreds. It bounds the record and the
/// memory of a list.
pub(crate) const FILES_MAX: usize = 10_000;

/// A file as a server lists it.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// Its name there.
    pub(crate) path: String,
    pub(crate) size: Option<u64>,
    pub(crate) expected: Expected,
    /// What the server calls this state of the file, if it says.
    pub(crate) validator: Option<String>,
}

/// A file to fetch.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Its name within the model's folder.
    pub(crate) name: String,
    pub(crate) listed: Listed,
}

/// All that makes up a model.
#[derive(Clone, Debug)]
pub(crate) struct FetchPlan {
    /// The commit of a repository.
    pub(crate) version: Option<String>,
    pub(crate) items: Vec<Item>,
}

// === impl FetchPlan ===

impl FetchPlan {
    /// Bytes of all files; `None` if one's size is not known.
    pub(crate) fn total(&self) -> Option<u64> {
        self.items.iter().try_fold(0_u64, |sum, item| Some(sum.saturating_add(item.listed.size?)))
    }
}

/// The files of the list that are wanted: all (`None` or empty), those below a folder (it ends with
/// `/`), or one, with the other parts of a split GGUF file.
///
/// # Errors
///
/// What follows the name of the source in a sentence.
pub(crate) fn choose(list: Vec<Listed>, wanted: Option<&str>) -> Result<Vec<Item>, String> {
    let wanted = wanted.unwrap_or("");
    let items: Vec<Item> = if wanted.is_empty() || wanted.ends_with('/') {
        let below = |listed: Listed| {
            let name = listed.path.strip_prefix(wanted)?.to_owned();
            // S3 consoles make an empty object for a folder.
            (!name.is_empty() && !name.ends_with('/')).then_some(Item { name, listed })
        };
        list.into_iter().filter_map(below).collect()
    } else {
        one(&list, wanted)?
    };
    if items.is_empty() {
        let place = if wanted.is_empty() {
            String::new()
        } else {
            format!(" below {}", names::shown(wanted))
        };
        return Err(format!("has no file{place}: check the name"));
    }
    if items.len() > FILES_MAX {
        return Err(format!(
            "has {} files, and a model may have {FILES_MAX}: name a folder or a file of it",
            items.len()
        ));
    }
    check_names(&items)?;
    Ok(items)
}

/// The list without the empty objects that S3 consoles make for folders, where the slash at their end
/// is lost: those whose name is a folder of another file.
pub(crate) fn without_folders(list: Vec<Listed>) -> Vec<Listed> {
    let above = |listed: &Listed| {
        let ends = listed.path.match_indices('/');
        ends.map(|(end, _)| listed.path[..end].to_owned()).collect::<Vec<_>>()
    };
    let folders: BTreeSet<String> = list.iter().flat_map(above).collect();
    let is_file = |listed: &Listed| listed.size != Some(0) || !folders.contains(&listed.path);
    list.into_iter().filter(is_file).collect()
}

/// One file, or all parts of it.
fn one(list: &[Listed], wanted: &str) -> Result<Vec<Item>, String> {
    let parts = parts(wanted).unwrap_or_else(|| vec![wanted.to_owned()]);
    let mut items = Vec::with_capacity(parts.len());
    for path in parts {
        let Some(listed) = list.iter().find(|listed| listed.path == path) else {
            return Err(format!("has no file {}: check the name", names::shown(&path)));
        };
        let name = path.rsplit('/').next().unwrap_or(&path).to_owned();
        items.push(Item { name, listed: listed.clone() });
    }
    Ok(items)
}

/// The names of all parts of a model that llama.cpp's `gguf-split` wrote: `NAME-00001-of-00003.gguf`.
pub(crate) fn parts(path: &str) -> Option<Vec<String>> {
    let stem = path.strip_suffix(".gguf")?;
    let (stem, count) = stem.rsplit_once("-of-")?;
    let (stem, number) = stem.rsplit_once('-')?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let total: usize = count.parse().ok().filter(|_| is_number(count) && is_number(number))?;
    let name = |part: usize| format!("{stem}-{part:05}-of-{count}.gguf");
    (1..=FILES_MAX).contains(&total).then(|| (1..=total).map(name).collect())
}

fn check_names(items: &[Item]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for Item { name, .. } in items {
        if let Err(why) = names::check(name) {
            return Err(format!("names a file {}, which {why}", names::shown(name)));
        }
        if !seen.insert(name.as_str()) {
            return Err(format!("names the file {} twice", names::shown(name)));
        }
    }
    for name in &seen {
        let inside = name.match_indices('/').map(|(end, _)| &name[..end]);
        if let Some(folder) = inside.into_iter().find(|folder| seen.contains(folder)) {
            return Err(format!("has {} both as a file and as a folder", names::shown(folder)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(paths: &[&str]) -> Vec<Listed> {
        let listed = |path: &&str| Listed {
            path: (*path).to_owned(),
            size: Some(1),
            expected: Expected::Nothing,
            validator: None,
        };
        paths.iter().map(listed).collect()
    }

    fn chosen(paths: &[&str], wanted: Option<&str>) -> Result<Vec<String>, String> {
        let items = choose(list(paths), wanted)?;
        Ok(items.into_iter().map(|item| item.name).collect())
    }

    #[test]
    fn all_files_are_taken_or_those_of_a_folder_or_one() {
        let paths = ["config.json", "onnx/model.onnx", "onnx/a/b.bin", "onnx2/x", "onnx/"];
        let all = ["config.json", "onnx/model.onnx", "onnx/a/b.bin", "onnx2/x"];
        assert_eq!(chosen(&paths, None).unwrap(), all);
        assert_eq!(chosen(&paths, Some("onnx/")).unwrap(), ["model.onnx", "a/b.bin"]);
        assert_eq!(chosen(&paths, Some("onnx/a/b.bin")).unwrap(), ["b.bin"]);
        assert!(chosen(&paths, Some("onnx")).unwrap_err().contains("no file \"onnx\""));
        assert!(chosen(&paths, Some("none/")).unwrap_err().contains("below \"none/\""));
    }

    #[test]
    fn one_part_of_a_split_model_brings_all_of_them() {
        let paths = ["q/m-00001-of-00002.gguf", "q/m-00002-of-00002.gguf", "q/other.gguf"];
        let both = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
        assert_eq!(chosen(&paths, Some(paths[0])).unwrap(), both);
        assert_eq!(chosen(&paths, Some(paths[1])).unwrap(), both);
        assert_eq!(chosen(&paths, Some(paths[2])).unwrap(), ["other.gguf"]);
        let missing = chosen(&paths[..1], Some(paths[0])).unwrap_err();
        assert!(missing.contains("m-00002-of-00002.gguf"), "{missing}");
        assert_eq!(parts("m-1-of-2.gguf"), None);
        assert_eq!(parts("m-00001-of-99999.gguf"), None);
        assert_eq!(parts("m-00001-of-00000.gguf"), None);
    }

    #[test]
    fn a_list_with_names_that_make_no_folder_is_refused() {
        for paths in
            [&["../x"][..], &["/x"], &["a", "a/b"], &["a/b", "a"], &["a", "a"], &["a\\..\\b"]]
        {
            assert!(chosen(paths, None).is_err(), "{paths:?}");
        }
        let many: Vec<_> = (0..=FILES_MAX).map(|number| number.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert!(chosen(&many, None).unwrap_err().contains("10001 files"));
    }
}
