#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use latewood_engine::{DocId, RamDirectory};
use proptest::prelude::*;

use super::*;

fn file(path: &str, first_doc: u64, passages: usize) -> FileRecord {
    FileRecord {
        path: path.into(),
        size: 1,
        modified_ns: 2,
        hash: "00".into(),
        kind: "markdown".into(),
        title: None,
        metadata: Metadata::new(),
        first_doc,
        passages: vec![PassageRecord { span: (0, 1), lines: (1, 1), page: None, headings: vec![], bytes: 1 }; passages],
        block: Block { blob: 0, start: 0, len: 1, hash: 0 },
    }
}

fn catalog(files: impl IntoIterator<Item = FileRecord>) -> Catalog {
    let mut catalog = Catalog::new(Source::Folder, None);
    catalog.files = files.into_iter().collect();
    catalog.next_doc =
        catalog.files.iter().map(|file| file.first_doc.saturating_add(file.passages.len() as u64)).max().unwrap_or(0);
    catalog
}

/// Writes a commit's parts; returns its payload and how many documents were written.
fn commit(catalog: &mut Catalog, directory: &dyn Directory) -> Vec<u8> {
    let mut writer = BlockWriter::new(Kind::Catalog, directory, catalog.next_blob);
    catalog.write_parts(directory, &mut writer).unwrap();
    catalog.next_blob += u32::from(writer.finish().unwrap());
    let payload = catalog.to_payload().unwrap();
    blocks::remove_unused(Kind::Catalog, directory, catalog.part_blocks());
    payload
}

fn many(count: u64) -> impl Iterator<Item = FileRecord> {
    (0..count).map(|at| file(&format!("{:06}", at * 10), at * 3, 3))
}

#[test]
fn commits_round_trip_and_passages_are_found() {
    let directory = RamDirectory::new();
    let mut catalog = catalog([file("b", 10, 2), file("a", 4, 3)]);
    let payload = commit(&mut catalog, &directory);
    let back = Catalog::read(&payload, &directory, None).unwrap().unwrap();
    assert_eq!(back, catalog);
    let runs = Runs::new(&back);
    let found = |doc| runs.find(&back, DocId(doc)).map(|(file, at)| (file.path.as_str(), at));
    assert_eq!((found(4), found(6), found(11)), (Some(("a", 0)), Some(("a", 2)), Some(("b", 1))));
    assert_eq!((found(3), found(7), found(12)), (None, None, None));
}

#[test]
fn a_commit_writes_what_has_changed() {
    let directory = RamDirectory::new();
    let mut catalog = catalog(many(5000));
    commit(&mut catalog, &directory);
    let written =
        |directory: &RamDirectory, number| directory.open(&Kind::Catalog.name(number)).map_or(0, |bytes| bytes.len());
    let (whole, mut total) = (written(&directory, 0), 0);
    for round in 1..100 {
        let known = catalog.clone();
        catalog.files.insert(file(&format!("{:06}x", round * 371 % 50_000), 15_000 + u64::from(round), 1));
        catalog.next_doc += 10;
        let payload = commit(&mut catalog, &directory);
        // Now and then what is used of worn files is copied as well.
        total += written(&directory, round);
        let read = Catalog::read(&payload, &directory, Some(&known)).unwrap().unwrap();
        assert_eq!(read, catalog);
        assert_eq!(Catalog::read(&payload, &directory, None).unwrap().unwrap(), catalog);
        assert!(directory.list().unwrap().len() <= 24, "{:?}", directory.list().unwrap());
    }
    assert!(total < 99 * whole / 5, "{total} of 99 times {whole}");
    // The same again writes nothing.
    let before = directory.list().unwrap();
    commit(&mut catalog, &directory);
    assert_eq!(directory.list().unwrap(), before);
}

#[test]
fn damage_is_an_error_and_not_a_panic() {
    let directory = RamDirectory::new();
    let read = |payload: &[u8]| Catalog::read(payload, &directory, None);
    let overlapping = commit(&mut catalog([file("a", 0, 3), file("b", 2, 1)]), &directory);
    assert!(read(&overlapping).unwrap_err().to_string().contains("two files"));
    let mut far = catalog([file("a", u64::MAX, 3)]);
    assert!(read(&commit(&mut far, &directory)).is_err());
    assert!(read(b"not zstd").is_err());
    assert!(read(&overlapping[..20]).is_err());
    let sound = commit(&mut catalog([file("a", 0, 3), file("b", 3, 1)]), &directory);
    let name = Kind::Catalog.name(0);
    let mut bytes = directory.open(&name).unwrap().to_vec();
    bytes[9] ^= 1;
    directory.atomic_replace(&name, &bytes).unwrap();
    let error = read(&sound).unwrap_err().to_string();
    assert!(error.contains(&name) && error.contains("checksum"), "{error}");
    directory.delete(&name).unwrap();
    assert!(read(&sound).unwrap_err().to_string().contains(&name));
}

#[test]
fn another_version_says_what_to_do() {
    let payload = zstd::bulk::compress(br#"{"version":1,"files":[]}"#, 3).unwrap();
    let error = Catalog::read(&payload, &RamDirectory::new(), None).unwrap_err().to_string();
    assert!(error.contains("version 1") && error.contains("index again"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn files_are_an_ordered_map(steps in prop::collection::vec((0..600u32, 0..90usize, any::<bool>()), 0..1500)) {
        let (mut files, mut map) = (Files::default(), BTreeMap::new());
        for (name, passages, adds) in steps {
            let path = format!("{name:04}");
            if adds || passages < 30 {
                prop_assert_eq!(files.insert(file(&path, 0, passages)), map.insert(path, file(&format!("{name:04}"), 0, passages)));
            } else {
                prop_assert_eq!(files.remove(&path), map.remove(&path));
            }
        }
        prop_assert_eq!(files.len(), map.len());
        prop_assert!(files.iter().eq(map.values()));
        prop_assert!(map.keys().all(|path| files.get(path) == map.get(path)));
        prop_assert!(files.get("none").is_none());
    }
}
