use super::*;

const SUM: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF";

fn parsed(text: &str) -> ModelSource {
    ModelSource::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_repository_is_taken_whole_by_folder_or_by_file() {
    let place = |revision: &str, path: Option<&str>| ModelPlace::HuggingFace {
        repository: "org/name".to_owned(),
        revision: revision.to_owned(),
        path: path.map(str::to_owned),
    };
    for (text, expected, file) in [
        ("hf://org/name", place("main", None), None),
        ("hf://org/name/", place("main", None), None),
        ("hf://org/name@v1", place("v1", None), None),
        ("hf://org/name@v1/sub/", place("v1", Some("sub/")), None),
        (
            "hf://org/name/sub/x.Q4_1.gguf",
            place("main", Some("sub/x.Q4_1.gguf")),
            Some("x.Q4_1.gguf"),
        ),
    ] {
        let source = parsed(text);
        assert_eq!(source.place, expected, "{text}");
        assert_eq!(source.file_name().as_deref(), file, "{text}");
        assert_eq!(source.archive(), None);
        assert_eq!(parsed(&source.to_string()), source, "{text}");
    }
}

#[test]
fn archives_are_folders_and_other_files_are_files() {
    for (text, file, archive) in [
        ("https://h/a/m.onnx?signature=x", Some("m.onnx"), None),
        ("https://h:8443/m.TAR.gz", None, Some(ArchiveKind::TarGz)),
        ("https://h/m.tgz", None, Some(ArchiveKind::TarGz)),
        ("s3://bucket/a/m.zip", None, Some(ArchiveKind::Zip)),
        ("s3://bucket/a/m.tar", None, Some(ArchiveKind::Tar)),
        ("s3://bucket/a/", None, None),
        ("s3://bucket/", None, None),
        ("s3://bucket/m.gguf", Some("m.gguf"), None),
        ("hf://org/name/m.zip", Some("m.zip"), None),
        ("file:///a b/m.gguf", Some("m.gguf"), None),
        ("file:///models/", None, None),
    ] {
        let source = parsed(text);
        assert_eq!((source.file_name().as_deref(), source.archive()), (file, archive), "{text}");
    }
}

#[test]
fn what_is_no_source_says_what_to_write() {
    use ModelSourceError::{Checksum, ChecksumOfFolder, Long, Path, Plain, Protocol};
    let refused = |text: &str| ModelSource::parse(text).expect_err(text);
    assert_eq!(refused(&"x".repeat(1025)), Long(1025));
    assert_eq!(refused("org/name"), Protocol("org/name".to_owned()));
    assert_eq!(refused("ftp://h/x"), Protocol("ftp://h/x".to_owned()));
    assert_eq!(refused("http://h/x.bin"), Plain);
    assert_eq!(refused("https://h/x#sha256=12"), Checksum);
    assert_eq!(refused("https://h/x#md5=12"), Checksum);
    assert_eq!(refused(&format!("hf://o/n#sha256={SUM}")), ChecksumOfFolder);
    assert_eq!(refused("file://x/y"), Path("file://x/y".to_owned()));
    assert_eq!(refused("file:///x/../y"), Path("file:///x/../y".to_owned()));
    for text in [
        "hf://name",
        "hf://o/",
        "hf:///n",
        "hf://o/n@",
        "hf://o/n@a@b",
        "hf://o/n/../x",
        "hf://o/n//x",
        "hf://o/n/.hidden",
        "hf://o/n/-x",
        "hf://o/n/a b",
        "hf://o/..",
    ] {
        assert!(matches!(refused(text), ModelSourceError::Repository(_)), "{text}");
    }
    for text in [
        "https://",
        "https://h",
        "https://h/",
        "https://h/x/",
        "https://user:secret@h/x",
        "https://h/a b",
        "https://h/..",
        "https://h/%2e%2e",
        "https:///x",
        "https://h:port/x",
        "https://h:x:1/y",
        "https://::1/x",
    ] {
        assert!(matches!(refused(text), ModelSourceError::Url(_)), "{text}");
    }
    for text in ["s3://bucket", "s3://B/x", "s3://ab/x", "s3://bucket/a//b", "s3://bucket/../b"] {
        assert!(matches!(refused(text), ModelSourceError::Object(_)), "{text}");
    }
}

#[test]
fn neither_a_query_nor_a_password_is_shown() {
    let sum = SUM.to_ascii_lowercase();
    let source = parsed(&format!("https://h/x?token=secret#sha256={SUM}"));
    assert_eq!(source.to_string(), format!("https://h/x#sha256={sum}"));
    for text in ["https://h/?token=secret", "ftp://h/x?token=secret", "me:secret@h/x"] {
        let error = ModelSource::parse(text).expect_err(text).to_string();
        assert!(!error.contains("secret"), "{error}");
    }
    for protocol in ["hf", "https", "HTTPS", "s3", "file", "ftp"] {
        for rest in ["me:secret@o/n/x", "secret@o/n/x", "me:se/secret@h/x", "me:s?secret@h/x"] {
            let text = format!("{protocol}://{rest}");
            let error = ModelSource::parse(&text).expect_err(&text).to_string();
            assert!(!error.contains("secret") && !error.contains("me:"), "{text}: {error}");
            assert!(error.starts_with(&format!("\"{protocol}://...@...\"")), "{text}: {error}");
        }
    }
    let error = ModelSource::parse("hf://o/n@a@b").expect_err("two revisions").to_string();
    assert!(error.contains("hf://o/n@a@b"), "{error}");
}

#[test]
fn a_checksum_is_for_one_file_that_is_fetched() {
    use ModelSourceError::{ChecksumOfLocal, ChecksumOfPart};
    let with_sum = |text: &str| ModelSource::parse(&format!("{text}#sha256={SUM}"));
    for text in ["hf://o/n/q/m-00002-of-00003.gguf", "s3://bucket/m-00001-of-00002.gguf"] {
        assert_eq!(with_sum(text), Err(ChecksumOfPart), "{text}");
        parsed(text);
    }
    assert_eq!(with_sum("file:///m.gguf"), Err(ChecksumOfLocal));
    assert_eq!(with_sum("file:///models/"), Err(ChecksumOfLocal));
    for text in [
        "hf://o/n/m.gguf",
        "hf://o/n/m-00001-of-00001.gguf",
        "hf://o/n/m-1-of-2.gguf",
        "s3://bucket/m-00001-of-00002.tar",
        "https://h/m-00001-of-00002.gguf",
    ] {
        assert!(with_sum(text).is_ok(), "{text}");
    }
}

#[test]
fn the_key_is_a_name_that_tells_sources_apart() {
    let keys = [
        "hf://org/name",
        "hf://org/name@v1",
        "hf://org/name/x",
        "https://h/x?a",
        "https://h/x?b",
        "s3://bucket/x",
        "file:///x/y",
        "s3://bucket/",
    ]
    .map(|text| parsed(text).key());
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    for key in &keys {
        assert!(key.len() <= 63 && key.bytes().all(letters) && !key.starts_with('-'), "{key}");
    }
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len());
    // Caches outlive versions of Ebb: a key that changes would fetch every model again.
    assert_eq!(keys[0], "org-name-main-ebd2347d1a92e686");
    assert_eq!(parsed("hf://org/name").key(), parsed("hf://org/name@main/").key());
}
