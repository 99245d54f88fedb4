//! Archives: what comes out of good ones, and that hostile ones leave nothing.

use std::io::{Cursor, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::process::{Cache, until};
use crate::server::{Server, noise};
use crate::web::source;

/// A tar file of entries: kind, name as it is, bytes.
fn tarred(entries: &[(EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (kind, name, bytes) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o6755);
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        if *kind == EntryType::Symlink {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        archive.append(&header, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// A zip file of names as they are, with a Unix mode.
fn zipped(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, mode, bytes) in entries {
        let options = SimpleFileOptions::default().unix_permissions(*mode);
        archive.start_file(*name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

async fn fetched(server: &Server, path: &str, archive: Vec<u8>) -> (Cache, crate::process::Ended) {
    server.put(path, archive.clone());
    let cache = Cache::new();
    let ended = cache.run(&source(server, path, &archive)).await;
    (cache, ended)
}

#[tokio::test]
async fn archives_are_unpacked_without_their_rights() {
    let server = Server::start().await;
    let weights = noise(300_000, 1);
    let entries: &[(EntryType, &str, &[u8])] = &[
        (EntryType::Directory, "./", b""),
        (EntryType::Directory, "./sub/", b""),
        (EntryType::Regular, "./config.json", b"{}"),
        (EntryType::Regular, "sub/w.bin", &weights),
    ];
    let tar = tarred(entries);
    let zip = zipped(&[("config.json", 0o755, b"{}"), ("sub/w.bin", 0o777, &weights)]);
    for (path, archive) in [
        ("/m.tar", tar.clone()),
        ("/m.tar.gz", gzipped(&tar)),
        ("/m.tgz", gzipped(&tar)),
        ("/m.zip", zip),
    ] {
        let (cache, ended) = fetched(&server, path, archive.clone()).await;
        ended.done();
        assert_eq!(cache.file("config.json"), b"{}", "{path}");
        assert_eq!(cache.file("sub/w.bin"), weights, "{path}");
        let mode =
            |name: &str| std::fs::metadata(cache.model().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("sub/w.bin") & 0o7777, 0o644);
        assert_eq!(mode("sub") & 0o7777, 0o755);
        assert_eq!(cache.json(".json")["files"].as_array().unwrap().len(), 2);
        assert_eq!(cache.begun(), 0, "the archive stays");
        let before = server.seen().len();
        cache.run(&source(&server, path, &archive)).await.done();
        assert_eq!(server.seen().len(), before);
    }
}

#[tokio::test]
async fn hostile_archives_are_refused_by_the_name_of_the_entry() {
    let server = Server::start().await;
    let file = EntryType::Regular;
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("/m.tar", tarred(&[(file, "ok", b"x"), (file, "../escaped", b"x")]), "../escaped"),
        ("/m.tar", tarred(&[(file, "/absolute", b"x")]), "/absolute"),
        ("/m.tar", tarred(&[(file, "a/../../b", b"x")]), "a/../../b"),
        ("/m.tar", tarred(&[(EntryType::Symlink, "passwd", b"")]), "passwd"),
        ("/m.tar", tarred(&[(EntryType::Link, "hard", b"")]), "hard"),
        ("/m.tar", tarred(&[(EntryType::Char, "device", b"")]), "device"),
        ("/m.tar", tarred(&[(EntryType::Fifo, "pipe", b"")]), "pipe"),
        ("/m.tar", tarred(&[(file, "twice", b"x"), (file, "twice", b"y")]), "twice"),
        ("/m.tar", tarred(&[(file, "a", b"x"), (file, "a/b", b"y")]), "a"),
        ("/m.tgz", gzipped(&tarred(&[(file, "../escaped", b"x")])), "../escaped"),
        ("/m.zip", zipped(&[("..\\escaped", 0o644, b"x")]), "escaped"),
        ("/m.zip", zipped(&[("../escaped", 0o644, b"x")]), "../escaped"),
        ("/m.zip", zipped(&[("/absolute", 0o644, b"x")]), "/absolute"),
        ("/m.zip", zipped_link(), "link"),
    ];
    for (path, archive, name) in cases {
        let (cache, ended) = fetched(&server, path, archive).await;
        let last = ended.failed(1);
        assert!(last.contains("the archive's entry") && last.contains(name), "{name}: {last}");
        assert_eq!(cache.keys(), Vec::<String>::new(), "{name}");
        // One folder above that of the model.
        assert!(!cache.path().join("escaped").exists(), "{name}");
    }
}

fn zipped_link() -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    archive.add_symlink("link", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    archive.finish().unwrap().into_inner()
}

#[tokio::test]
async fn archives_that_are_damaged_or_unpack_to_too_much_leave_nothing() {
    let server = Server::start().await;
    let whole = tarred(&[(EntryType::Regular, "w.bin", &noise(100_000, 1))]);
    let (cache, ended) = fetched(&server, "/m.tar", whole[..50_000].to_vec()).await;
    assert!(ended.failed(1).contains("cannot be read"), "{}", ended.output);
    assert_eq!(cache.keys(), Vec::<String>::new());

    let bomb = gzipped(&tarred(&[(EntryType::Regular, "zeros", &vec![0; 8 << 20])]));
    server.put("/bomb.tgz", bomb.clone());
    let limit = ["--allow-network", "127.0.0.0/8", "--limit", "1Mi"];
    let cache = Cache::new();
    let last = cache.run_with(&source(&server, "/bomb.tgz", &bomb), &limit).await.failed(1);
    assert!(last.contains("may hold 1Mi"), "{last}");
    assert_eq!(cache.keys(), Vec::<String>::new());

    let names: Vec<_> = (0..20_001).map(|number| format!("{number}/")).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), 0o755, &b""[..])).collect();
    let (cache, ended) = fetched(&server, "/many.zip", zipped(&entries)).await;
    assert!(ended.failed(1).contains("20001 entries"), "{}", ended.output);
    assert_eq!(cache.keys(), Vec::<String>::new());

    let many: Vec<_> = (0..10_001).map(|number| number.to_string()).collect();
    let many: Vec<_> =
        many.iter().map(|name| (EntryType::Regular, name.as_str(), &b""[..])).collect();
    let (cache, ended) = fetched(&server, "/many.tar", tarred(&many)).await;
    assert!(ended.failed(1).contains("10000 files"), "{}", ended.output);
    assert_eq!(cache.keys(), Vec::<String>::new());
}

/// A header that makes the reader of the archive take a name of gigabytes into memory.
#[tokio::test]
async fn a_name_of_many_bytes_is_refused_before_it_is_read() {
    let server = Server::start().await;
    let name = vec![b'a'; 1 << 20];
    let archive = tarred(&[
        (EntryType::GNULongName, "././@LongLink", &name),
        (EntryType::Regular, "a", b"x"),
    ]);
    let (_, ended) = fetched(&server, "/m.tar", archive).await;
    assert!(ended.failed(1).contains("longer name than any file"), "{}", ended.output);
}

/// Python's tarfile writes sizes of 8 GiB and more like this, with zero in the file's own header.
#[tokio::test]
async fn a_size_in_a_header_of_its_own_is_read() {
    let server = Server::start().await;
    let weights = noise(70_000, 1);
    let mut archive = tarred(&[
        (EntryType::XHeader, "pax", b"14 size=70000\n"),
        (EntryType::Regular, "w.bin", b""),
    ]);
    archive.truncate(3 * 512);
    archive.extend(&weights);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    let (cache, ended) = fetched(&server, "/m.tar", archive).await;
    ended.done();
    assert_eq!(cache.file("w.bin"), weights);
}

/// What one reader of a tar file skips another one takes: the bytes of a file would be headers.
#[tokio::test]
async fn attributes_that_may_be_read_in_two_ways_are_refused() {
    let server = Server::start().await;
    for attributes in [
        &b"broken\n10 size=0\n"[..],
        b"10 size=0\nbroken\n",
        b"10 size=0\n10 size=9\n",
        b"10 size=x\n",
        b"11 size=-1\n",
        b"99 size=0\n",
    ] {
        let archive = tarred(&[
            (EntryType::XHeader, "pax", attributes),
            (EntryType::Regular, "w.bin", b"weights"),
        ]);
        let (cache, ended) = fetched(&server, "/m.tar", archive).await;
        let shown = String::from_utf8_lossy(attributes).into_owned();
        assert!(ended.failed(1).contains("attributes that cannot be read"), "{shown}");
        assert_eq!(cache.keys(), Vec::<String>::new(), "{shown}");
    }
}

/// The crate gives the size to the global header, and the file after it has its own: what the survey took
/// for contents would be read as headers.
#[tokio::test]
async fn a_global_header_after_attributes_is_refused() {
    let server = Server::start().await;
    let archive = tarred(&[
        (EntryType::XHeader, "pax", b"10 size=7\n"),
        (EntryType::XGlobalHeader, "pax", b"13 comment=x\n"),
        (EntryType::Regular, "w.bin", b"weights"),
    ]);
    let (cache, ended) = fetched(&server, "/m.tar", archive).await;
    assert!(ended.failed(1).contains("follows another header for one entry"));
    assert_eq!(cache.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn a_fetch_that_was_killed_goes_on_with_its_archive() {
    let server = Server::start().await;
    let weights = noise(12 << 20, 1);
    let archive = tarred(&[(EntryType::Regular, "w.bin", &weights)]);
    server.put("/m.tar", archive.clone());
    server.pace(Duration::from_millis(5));
    let source = source(&server, "/m.tar", &archive);
    let cache = Cache::new();
    let mut child = cache.start(&source);
    until("some megabytes", || cache.begun() >= 6 << 20).await;
    child.kill().await.unwrap();
    cache.run(&source).await.done();
    assert!(cache.file("w.bin") == weights);
    assert!(server.served() < 15 << 20, "{}", server.served());
}
