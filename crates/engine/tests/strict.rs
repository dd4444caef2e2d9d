//! Files that break the format's rules under right checksums are refused: when they are opened or, where that would read
//! all there is, when the index is verified.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/sealed.rs"]
mod sealed;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "common/small.rs"]
mod small;

use latewood_engine::{
    DocId, Error, Index, IndexOptions, QueryEmbeddings, RamDirectory, SearchParams, TokenEmbeddings,
};
use roaring::RoaringBitmap;
use sealed::{Files, Parts, Sealed, open_all, redigest, relink, seal_all, sections};
use small::{Change, directory, files, larger, tiny};

const MANIFEST: &str = "manifest.lw";
const CODEC: &str = "codec-000001.lwc";
const SHARD: &str = "shard-000002.lws";

fn open(files: &Files) -> Result<Index, Error> {
    let index = Index::open(directory(files))?;
    index.searcher().map(|_| index)
}

fn assert_says(error: &Error, name: &str, part: &str) {
    let Error::Damaged { file, what, .. } = error else { panic!("{name}, {part}: {error}") };
    assert!(file.ends_with(name) && *what == part, "{name}, {part}: {error}");
}

/// The tiny index with what `forge` does to one file.
fn forged(name: &str, forge: impl FnOnce(&mut Sealed)) -> Files {
    let mut parts: Parts = open_all(&tiny());
    forge(parts.get_mut(name).unwrap());
    relink(&mut parts);
    seal_all(&parts)
}

/// The content of a section is altered: opening must name file and part.
fn opening_refuses(name: &str, tag: &[u8; 4], part: &str, alter: impl FnOnce(&mut Vec<u8>)) {
    let files = forged(name, |file| alter(file.section(tag).unwrap()));
    assert_says(&open(&files).unwrap_err(), name, part);
}

/// The same where opening does not look: verifying must, and nothing else is found wrong.
fn verifying_refuses(name: &str, tag: &[u8; 4], part: &str, alter: impl FnOnce(&mut Vec<u8>)) {
    let files = forged(name, |file| alter(file.section(tag).unwrap()));
    let wrong = open(&files).unwrap().verify(&());
    assert!(wrong.len() == 1, "{name}, {part}: {wrong:?}");
    assert_says(&wrong[0], name, part);
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn add(bytes: &mut [u8], at: usize, by: i32) {
    let sum = u32_at(bytes, at).wrapping_add_signed(by);
    put(bytes, at, sum.to_le_bytes());
}

#[test]
fn what_is_only_taken_apart_and_put_together_is_sound() {
    assert_eq!(open(&forged(CODEC, |_| ())).unwrap().verify(&()).len(), 0);
}

#[test]
fn reserved_bytes_are_zero() {
    for name in [MANIFEST, CODEC, SHARD] {
        for at in [24, 63] {
            assert_says(&open(&forged(name, |file| file.header[at] = 1)).unwrap_err(), name, "header");
        }
    }
    let sound = tiny();
    let len = sound[MANIFEST].len();
    let first_row = len - 64 - 3 * 32;
    for (at, part) in [
        (first_row + 4, "section table"),
        (first_row + 64 + 7, "section table"),
        (len - 32, "trailer"),
        (len - 9, "trailer"),
    ] {
        let mut files = sound.clone();
        let file = files.get_mut(MANIFEST).unwrap();
        file[at] = 1;
        redigest(file);
        assert_says(&open(&files).unwrap_err(), MANIFEST, part);
    }
}

#[test]
fn sections_are_there_once_and_the_table_is_right_after_them() {
    for name in [MANIFEST, CODEC, SHARD] {
        let twice = forged(name, |file| file.sections.push(file.sections[0].clone()));
        assert_says(&open(&twice).unwrap_err(), name, "section table");
        for content in [vec![], vec![0; 8]] {
            let sums = forged(name, |file| file.sections.push((*b"SUMS", content)));
            assert!(matches!(open(&sums), Err(Error::Damaged { .. })), "{name}: checksums of no blocks");
        }
    }
    // 64 zeros more than belong between sections and table.
    let mut files = tiny();
    let file = files.get_mut(MANIFEST).unwrap();
    let table = file.len() - 64 - 32 * sections(file).count();
    file.splice(table..table, [0; 64]);
    let (trailer, len) = (file.len() - 64, file.len() as u64);
    put(file, trailer, (table as u64 + 64).to_le_bytes());
    put(file, trailer + 16, len.to_le_bytes());
    redigest(file);
    assert_says(&open(&files).unwrap_err(), MANIFEST, "section table");
}

/// Fine codes and their steps are there if the codec has a fine unit, and only then.
#[test]
fn sections_that_do_not_belong_are_refused() {
    for (name, tag, part) in [(CODEC, b"FSTP", "fine steps"), (SHARD, b"FINE", "fine codes")] {
        let gone = forged(name, |file| file.sections.retain(|(own, _)| own != tag));
        assert_says(&open(&gone).unwrap_err(), name, part);
        let mut parts = open_all(&tiny_of_two_bits());
        parts.get_mut(name).unwrap().sections.push((*tag, vec![1; 16]));
        relink(&mut parts);
        assert_says(&open(&seal_all(&parts)).unwrap_err(), name, part);
    }
}

/// The groups of centroids are runs that leave none out, and their means are rows as the centroids are.
#[test]
fn groups_of_centroids_are_whole() {
    type Alter = fn(&mut Vec<u8>);
    let sound = larger(300, false);
    let alterations: [(&[u8; 4], &str, Alter); 8] = [
        (b"GRPS", "groups of centroids", |bytes| add(bytes, 0, 1)),
        (b"GRPS", "groups of centroids", |bytes| add(bytes, 4, 100_000)),
        (b"GRPS", "groups of centroids", |bytes| {
            let first = u32_at(bytes, 4);
            put(bytes, 8, first.to_le_bytes());
        }),
        (b"GRPS", "groups of centroids", |bytes| bytes.truncate(bytes.len() - 4)),
        (b"GRPS", "groups of centroids", Vec::clear),
        (b"GMEA", "means of groups", |bytes| bytes[3] = 0),
        (b"GMEA", "means of groups", |bytes| bytes.truncate(16)),
        (b"GSCA", "scales of means", |bytes| put(bytes, 0, f32::NAN.to_le_bytes())),
    ];
    let altered = |alter: &dyn Fn(&mut Sealed)| {
        let mut parts = open_all(&sound);
        alter(parts.get_mut(CODEC).unwrap());
        relink(&mut parts);
        open(&seal_all(&parts))
    };
    for (tag, part, alter) in alterations {
        assert_says(&altered(&|file| alter(file.section(tag).unwrap())).unwrap_err(), CODEC, part);
    }
    for (tag, part) in [(b"GRPS", "means of groups"), (b"GMEA", "means of groups"), (b"GSCA", "scales of means")] {
        assert_says(&altered(&|file| file.sections.retain(|(own, _)| own != tag)).unwrap_err(), CODEC, part);
    }
    // Without any of the three there is one group.
    let plain = altered(&|file| file.sections.retain(|(own, _)| ![*b"GRPS", *b"GMEA", *b"GSCA"].contains(own)));
    assert_eq!(plain.unwrap().verify(&()).len(), 0);
}

#[test]
fn files_have_names_and_numbers_of_their_own() {
    let named = |from: &str, to: &str| {
        let mut files = forged(MANIFEST, |manifest| {
            let meta = manifest.section(b"META").unwrap();
            *meta = String::from_utf8(meta.clone()).unwrap().replace(from, to).into();
        });
        // The file is there under the other name too, so that nothing is missing.
        let file = files[from].clone();
        files.entry(to.into()).or_insert(file);
        open(&files)
    };
    for to in [
        "shard-000001.lws",
        "shard-00002.lws",
        "shard-+00002.lws",
        "shard-000002.lwt",
        "shard-000099.lws",
        "x/shard-000002.lws",
    ] {
        assert_says(&named(SHARD, to).unwrap_err(), MANIFEST, "metadata");
    }
    assert_says(&named(CODEC, "shard-000001.lws").unwrap_err(), MANIFEST, "metadata");
}

#[test]
fn levels_ascend_within_their_range() {
    // 4 bits: all of them count.
    for (at, level) in [(0, -64), (15, 64), (3, 63), (15, -63)] {
        opening_refuses(CODEC, b"LEVL", "levels", |levels| levels[at] = level as u8);
    }
    let of_two_bits = |unused: u8| {
        let mut parts = open_all(&tiny_of_two_bits());
        let levels = parts.get_mut(CODEC).unwrap().section(b"LEVL").unwrap();
        levels[4] = unused;
        relink(&mut parts);
        open(&seal_all(&parts))
    };
    assert!(of_two_bits(0).is_ok());
    assert_says(&of_two_bits(63).unwrap_err(), CODEC, "levels");
}

fn tiny_of_two_bits() -> Files {
    let index = Index::create(RamDirectory::new(), IndexOptions::new(8).bits(2)).unwrap();
    let mut writer = index.writer().unwrap();
    writer
        .add(DocId(1), TokenEmbeddings::new([[0.6, 0.8], [0.0; 2], [0.0; 2], [0.0; 2]].concat(), 8).unwrap().view())
        .unwrap();
    writer.commit(None, &()).unwrap();
    files(index.directory()).unwrap()
}

#[test]
fn scales_ascend_from_zero() {
    opening_refuses(CODEC, b"SCAL", "scales", |scales| put(scales, 0, 1e-9f32.to_le_bytes()));
    opening_refuses(CODEC, b"SCAL", "scales", |scales| scales.copy_within(40..44, 80));
}

/// Not only what is not finite: what is so large that scores would not be.
#[test]
fn floats_are_within_their_limits() {
    let sections: [(&[u8; 4], &str, usize, f32, f32); 6] = [
        (b"ROTA", "rotation", 12, -1.0, 1.0),
        (b"SCAL", "scales", 252, 0.0, 1.0),
        (b"CSCA", "centroid scales", 0, 0.0, 1.0),
        (b"META", "metadata", 12, 0.0, 1.0),
        (b"META", "metadata", 16, 0.0, 1e4),
        (b"META", "metadata", 20, 0.0, 1.0),
    ];
    for (tag, part, at, least, most) in sections {
        let beyond = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, most.next_up(), least - 1e-6];
        for x in beyond {
            opening_refuses(CODEC, tag, part, |bytes| put(bytes, at, x.to_le_bytes()));
        }
    }
}

#[test]
fn centroid_bytes_are_within_their_range() {
    for byte in [0, 128, 255] {
        for at in [0, 13] {
            opening_refuses(CODEC, b"CENT", "centroids", |centroids| centroids[at] = byte);
        }
    }
}

#[test]
fn a_rotation_is_one() {
    // Two rows alike.
    verifying_refuses(CODEC, b"ROTA", "rotation", |rotation| rotation.copy_within(0..32, 64));
    // A row too short.
    verifying_refuses(CODEC, b"ROTA", "rotation", |rotation| rotation[32..64].fill(0));
}

/// The files with other bytes as the last shard's deleted documents.
fn with_tombstones(bytes: &[u8]) -> Files {
    forged(MANIFEST, |manifest| {
        let mut meta: serde_json::Value = serde_json::from_slice(manifest.section(b"META").unwrap()).unwrap();
        let shards = meta["shards"].as_array_mut().unwrap();
        shards.iter_mut().for_each(|shard| shard["tombstone_bytes"] = 0.into());
        *shards.last_mut().unwrap() = {
            let mut last = shards.last().unwrap().clone();
            last["tombstone_bytes"] = bytes.len().into();
            last
        };
        *manifest.section(b"META").unwrap() = serde_json::to_vec(&meta).unwrap();
        *manifest.section(b"DELS").unwrap() = bytes.into();
    })
}

#[test]
fn tombstones_are_one_bitmap_and_nothing_more() {
    let bitmap = |docs: &[u32]| {
        let mut bytes = Vec::new();
        docs.iter().copied().collect::<RoaringBitmap>().serialize_into(&mut bytes).unwrap();
        bytes
    };
    assert!(open(&with_tombstones(&bitmap(&[1]))).is_ok() && open(&with_tombstones(&[])).is_ok());
    // A byte after the bitmap, a second bitmap, one of no documents.
    let extended = [&bitmap(&[1])[..], &[0]].concat();
    for bytes in [extended, bitmap(&[1]).repeat(2), bitmap(&[])] {
        assert_says(&open(&with_tombstones(&bytes)).unwrap_err(), MANIFEST, "tombstones");
    }
}

#[test]
fn postings_are_the_documents_of_the_tokens() {
    let part = "postings";
    // One that has no token there, one twice, one outside of the shard; each is the last of all.
    for doc in [0u16, 1, 2, 3, 4, 5, 500] {
        let mut parts = open_all(&tiny());
        let postings = parts.get_mut(SHARD).unwrap().section(b"POST").unwrap();
        let last = postings.len() - 2;
        if postings[last..] != doc.to_le_bytes() {
            verifying_refuses(SHARD, b"POST", part, |postings| put(postings, last, doc.to_le_bytes()));
        }
    }
    // Lists in order whose borders are not where the tokens are.
    verifying_refuses(SHARD, b"POFF", part, |lists| {
        let moved = (4..lists.len() - 4).step_by(4).find(|&at| u32_at(lists, at) < u32_at(lists, at + 4)).unwrap();
        add(lists, moved, 1);
    });
    // A token at another centroid than the lists say.
    verifying_refuses(SHARD, b"CIDS", part, |ids| {
        let of_first = ids[0];
        ids[..8].iter_mut().step_by(2).for_each(|id| *id = u8::from(of_first == 0));
    });
}

/// A posting too few: the document is found by nobody who comes by way of that list.
#[test]
fn a_posting_that_is_missing_is_noticed() {
    let files = forged(SHARD, |shard| {
        let lists = shard.section(b"POFF").unwrap();
        let end = lists.len() - 4;
        let first = (0..=end).step_by(4).find(|&at| u32_at(lists, at) == u32_at(lists, end)).unwrap();
        (first..=end).step_by(4).for_each(|at| add(lists, at, -1));
        let postings = shard.section(b"POST").unwrap();
        postings.truncate(postings.len() - 2);
        add(shard.section(b"META").unwrap(), 24, -1);
    });
    let wrong = open(&files).unwrap().verify(&());
    assert!(wrong.len() == 1, "{wrong:?}");
    assert_says(&wrong[0], SHARD, "postings");
}

/// The largest values that a codec may have, and the largest query: all documents are found, with scores that are numbers.
#[test]
fn what_is_within_the_limits_gives_finite_scores() {
    const DIM: usize = 256;
    let index = Index::create(RamDirectory::new(), IndexOptions::new(DIM).fine(true)).unwrap();
    let mut writer = index.writer().unwrap();
    for id in 0..5 {
        let mut rows = vec![0.0; 3 * DIM];
        (0..3).for_each(|row| rows[row * DIM + id * 7 + row] = 1.0);
        writer.add(DocId(id as u64), TokenEmbeddings::new(rows, DIM).unwrap().view()).unwrap();
    }
    writer.commit(None, &()).unwrap();
    let mut parts = open_all(&files(index.directory()).unwrap());
    let codec = parts.get_mut(CODEC).unwrap();
    let fill = |codec: &mut Sealed, tag: &[u8; 4], from: usize, x: f32| {
        codec.section(tag).unwrap()[from..]
            .chunks_exact_mut(4)
            .for_each(|value| value.copy_from_slice(&x.to_le_bytes()));
    };
    fill(codec, b"ROTA", 0, 1.0);
    fill(codec, b"SCAL", 4, 1.0);
    fill(codec, b"CSCA", 0, 1.0);
    codec.section(b"CENT").unwrap().fill(127);
    codec.section(b"FSTP").unwrap().fill(255);
    put(codec.section(b"META").unwrap(), 12, 1f32.to_le_bytes());
    put(codec.section(b"META").unwrap(), 16, 1e4f32.to_le_bytes());
    relink(&mut parts);
    let forged = directory(&seal_all(&parts));
    let searcher = Index::open(forged.clone()).unwrap().searcher().unwrap();
    let heaviest = 0.999 * QueryEmbeddings::MAX_NORM / (DIM as f32).sqrt();
    let query = QueryEmbeddings::new(vec![heaviest; QueryEmbeddings::MAX_ROWS * DIM], DIM).unwrap();
    let mut params = SearchParams::new(10);
    for refined in [true, false] {
        params.refined = if refined { None } else { Some(0) };
        let hits = searcher.search(&query, &params).unwrap().hits;
        assert!(hits.len() == 5 && hits.iter().all(|hit| hit.score.is_finite()), "{hits:?}");
    }
    // And what is decoded can be coded again.
    let _ = Change::Recode.make(&forged);
}
