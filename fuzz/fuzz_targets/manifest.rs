//! Manifests of any content, under right checksums or not: opened, verified, searched, and read by a writer.

#![no_main]

#[path = "patch.rs"]
mod patch;
#[path = "../../crates/engine/tests/common/sealed.rs"]
#[allow(dead_code, reason = "shared with tests")]
mod sealed;
#[path = "../../crates/engine/tests/common/small.rs"]
#[allow(dead_code, reason = "shared with tests")]
mod small;

use std::sync::LazyLock;

use latewood_engine::{Directory, Index};
use libfuzzer_sys::fuzz_target;
use patch::Input;
use sealed::{Files, Sealed, redigest};
use small::{Change, ask, directory, tiny};

static SOUND: LazyLock<Files> = LazyLock::new(tiny);

const MANIFEST: &str = "manifest.lw";

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let how = input.byte();
    let mut manifest = Sealed::open(&SOUND[MANIFEST]);
    let file = match how % 4 {
        0 => {
            let mut file = SOUND[MANIFEST].clone();
            while !input.is_empty() {
                input.patch(&mut file);
            }
            if how >= 128 && file.len() >= 128 {
                redigest(&mut file);
            }
            file
        }
        1 => {
            tombstones(&mut manifest, input.take(usize::MAX));
            manifest.seal()
        }
        _ => {
            while !input.is_empty() {
                let at = usize::from(input.byte()) % manifest.sections.len();
                input.patch(&mut manifest.sections[at].1);
            }
            manifest.seal()
        }
    };
    let directory = directory(&SOUND);
    directory.atomic_replace(MANIFEST, &file).expect("memory takes all");
    let _ = ask(&directory);
    let _ = Index::open(directory.clone()).map(|index| index.verify(&()));
    let _ = Change::ALL[usize::from(how / 4) % Change::ALL.len()].make(&directory);
    let _ = ask(&directory);
});

/// Makes `set` the deleted documents of the last shard, whatever it holds.
fn tombstones(manifest: &mut Sealed, set: &[u8]) {
    let meta = manifest.section(b"META").expect("a manifest has it");
    let mut json: serde_json::Value = serde_json::from_slice(meta).expect("it is JSON");
    let mut len = set.len();
    for shard in json["shards"].as_array_mut().into_iter().flatten().rev() {
        shard["tombstone_bytes"] = std::mem::take(&mut len).into();
    }
    *meta = serde_json::to_vec(&json).expect("it was JSON");
    *manifest.section(b"DELS").expect("a manifest has it") = set.into();
}
