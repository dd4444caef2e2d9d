//! Altered, cut and forged files: an index that is damaged says so or answers as before, and no content, whatever its
//! checksums say, brings the engine down.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/sealed.rs"]
mod sealed;
#[path = "common/small.rs"]
mod small;
#[path = "common/spoil.rs"]
mod spoil;

use std::panic::{AssertUnwindSafe, catch_unwind};

use latewood_engine::{Directory, Error, Index, RamDirectory};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use sealed::{Files, Sealed, open_all, redigest, relink, seal_all, sections};
use small::{Answers, Change, ask, directory, larger, tiny};
use spoil::{spoil_index, spoil_table};

/// An index and its undamaged answers.
struct Sound {
    files: Files,
    directory: RamDirectory,
    answers: Answers,
}

impl Sound {
    fn new(files: Files) -> Self {
        let directory = directory(&files);
        let answers = ask(&directory).unwrap();
        Self { files, directory, answers }
    }

    /// Puts `altered` in the place of a file: whoever verifies must notice, who searches must be told or see no
    /// difference.
    fn check(&self, name: &str, altered: &[u8], what: impl Fn() -> String) {
        self.directory.atomic_replace(name, altered).unwrap();
        match ask(&self.directory) {
            Ok(answers) => assert_eq!(answers, self.answers, "{name}, {}", what()),
            Err(error) => assert_names(&error, name, &what),
        }
        let wrong = match Index::open(self.directory.clone()) {
            Ok(index) => index.verify(&()),
            Err(error) => vec![error],
        };
        assert!(!wrong.is_empty(), "{name}, {}: not noticed", what());
        wrong.iter().for_each(|error| assert_names(error, name, &what));
    }

    /// Flips one bit or more of each byte.
    fn alter(&self, name: &str, bytes: impl IntoIterator<Item = usize>) {
        let mut altered = self.files[name].clone();
        for at in bytes {
            let old = altered[at];
            // Each bit has its turn, and now and then the whole byte.
            altered[at] ^= if at % 9 == 8 { 0xff } else { 1 << (at % 9) };
            self.check(name, &altered, || format!("byte {at} altered from {old:#x}"));
            altered[at] = old;
        }
        self.restore(name);
    }

    /// Cuts the file to each length.
    fn cut(&self, name: &str, lengths: impl IntoIterator<Item = usize>) {
        let file = &self.files[name];
        lengths.into_iter().for_each(|len| self.check(name, &file[..len], || format!("cut to {len} bytes")));
        self.restore(name);
    }

    fn restore(&self, name: &str) {
        self.directory.atomic_replace(name, &self.files[name]).unwrap();
    }
}

fn assert_names(error: &Error, name: &str, what: impl Fn() -> String) {
    let file = match error {
        Error::Damaged { file, .. } | Error::Unsupported { file, .. } => file,
        other => panic!("{name}, {}: {other}", what()),
    };
    assert!(file.ends_with(name), "{name}, {}: {error}", what());
}

#[test]
fn every_byte_altered_and_every_cut_of_a_tiny_index() {
    let sound = Sound::new(tiny());
    for (name, file) in &sound.files {
        sound.alter(name, 0..file.len());
        sound.cut(name, 0..file.len());
    }
    assert_eq!(ask(&sound.directory).unwrap(), sound.answers);
}

/// The bytes outside of content: header, padding, checksums of blocks, table, trailer; and where sections begin and end.
fn structure(file: &[u8]) -> Vec<usize> {
    let mut structural = vec![true; file.len()];
    for (tag, range) in sections(file) {
        if tag != *b"SUMS" && tag != *b"META" && range.len() > 16 {
            structural[range.start + 8..range.end - 8].fill(false);
        }
    }
    (0..file.len()).filter(|&at| structural[at]).collect()
}

fn check_larger(files: Files, alterations: usize) {
    let sound = Sound::new(files);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (name, file) in &sound.files {
        sound.alter(name, structure(file));
        // A section has as many as another, whatever its length: the long ones are all alike.
        let all: Vec<_> = sections(file).map(|(_, range)| range).collect();
        let each = alterations / all.len();
        let sampled = all.iter().filter(|range| !range.is_empty()).flat_map(|range| vec![range.clone(); each]);
        sound.alter(name, sampled.map(|range| rng.random_range(range)).collect::<Vec<_>>());
        sound.cut(name, (0..100).map(|_| rng.random_range(0..file.len())).collect::<Vec<_>>());
        sound.cut(name, all.iter().flat_map(|range| [range.start, range.end]).filter(|&len| len < file.len()));
    }
    assert_eq!(ask(&sound.directory).unwrap(), sound.answers);
}

#[test]
fn alterations_and_cuts_of_long_sections() {
    let files = larger(1160, false);
    let long: Vec<_> = sections(&files["shard-000002.lws"]).filter(|(_, range)| range.len() > 65_536).collect();
    assert!(long.len() >= 3, "codes, centroids and factors are checked in blocks: {long:?}");
    check_larger(files, 700);
}

#[test]
fn alterations_and_cuts_of_fine_codes() {
    let files = larger(300, true);
    assert!(sections(&files["shard-000002.lws"]).any(|(tag, range)| tag == *b"FINE" && range.len() > 65_536));
    check_larger(files, 1000);
}

/// What is put together by the specification alone is what the engine wrote.
#[test]
fn the_specification_says_every_byte() {
    for files in [tiny(), larger(1160, false), larger(300, true)] {
        for (name, file) in &files {
            assert_eq!(&Sealed::open(file).seal(), file, "{name}");
        }
        let mut parts = open_all(&files);
        relink(&mut parts);
        let linked = directory(&seal_all(&parts));
        assert_eq!(ask(&linked).unwrap(), ask(&directory(&files)).unwrap());
    }
}

/// Alters content of `files` under right checksums, `cases` times, and has `each` do something with what comes out.
fn forge(files: Files, cases: u64, each: impl Fn(u64, &Files)) {
    let parts = open_all(&files);
    for case in 0..cases {
        let mut rng = ChaCha8Rng::seed_from_u64(case);
        let mut parts = parts.clone();
        let done = spoil_index(&mut parts, &mut rng);
        let forged = seal_all(&parts);
        no_panic(&done, || each(case, &forged));
    }
}

/// Says what was done where `test` panics.
fn no_panic(done: &[String], test: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(test)).is_err() {
        panic!("{done:?}");
    }
}

/// Opens, verifies and searches; what comes out is an error or some result.
fn read(directory: &RamDirectory) {
    let _ = ask(directory);
    let _ = Index::open(directory.clone()).map(|index| index.verify(&()).len());
}

#[test]
fn forged_content_of_a_tiny_index_is_read_and_written() {
    forge(tiny(), 20_000, |case, files| {
        read(&directory(files));
        let change = Change::ALL[case as usize % Change::ALL.len()];
        let changed = directory(files);
        let _ = change.make(&changed);
        read(&changed);
    });
}

#[test]
fn forged_content_of_long_sections_is_read() {
    forge(larger(1160, false), 700, |_, files| read(&directory(files)));
    forge(larger(300, true), 700, |_, files| read(&directory(files)));
}

/// A codec that says it was trained on few tokens is replaced, and all is coded again.
#[test]
fn forged_content_of_long_sections_is_coded_again() {
    let mut parts = open_all(&larger(300, true));
    parts.get_mut("codec-000001.lwc").unwrap().section(b"META").unwrap()[24..32].copy_from_slice(&1u64.to_le_bytes());
    relink(&mut parts);
    forge(seal_all(&parts), 24, |_, files| {
        let directory = directory(files);
        let _ = Change::Recode.make(&directory);
        read(&directory);
    });
}

/// Offsets, lengths, checksums and counts that nothing lies behind, under a right digest.
#[test]
fn forged_tables_are_read() {
    for files in [tiny(), larger(1160, false)] {
        let directory = directory(&files);
        for (name, file) in &files {
            let table = file.len() - 64 - sections(file).count() * 32;
            for case in 0..1000 {
                let (mut forged, mut done) = (file.clone(), vec![format!("{name}, case {case}")]);
                let mut rng = ChaCha8Rng::seed_from_u64(case);
                (0..rng.random_range(1..=2)).for_each(|_| done.push(spoil_table(&mut forged[table..], &mut rng)));
                redigest(&mut forged);
                directory.atomic_replace(name, &forged).unwrap();
                no_panic(&done, || read(&directory));
            }
            directory.atomic_replace(name, file).unwrap();
        }
    }
}

/// Checksums know nothing of what two shards say together.
#[test]
fn a_document_alive_in_two_shards_is_noticed() {
    let mut parts = open_all(&tiny());
    let [.., shard] = &mut parts.values_mut().collect::<Vec<_>>()[..] else { panic!("no files") };
    shard.section(b"DIDS").unwrap()[..8].copy_from_slice(&5u64.to_le_bytes());
    relink(&mut parts);
    let directory = directory(&seal_all(&parts));
    let wrong = Index::open(directory.clone()).unwrap().verify(&());
    assert!(wrong.len() == 1 && wrong[0].to_string().contains("document 5"), "{wrong:?}");
    let error = Change::Join.make(&directory).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}
