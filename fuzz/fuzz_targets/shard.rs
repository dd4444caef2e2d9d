//! Codecs and shards of any content under right checksums: opened, verified, searched, and read by a writer.

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

use latewood_engine::Index;
use libfuzzer_sys::fuzz_target;
use patch::Input;
use sealed::{Parts, open_all, relink, seal_all};
use small::{Change, ask, directory, tiny};

static SOUND: LazyLock<Parts> = LazyLock::new(|| open_all(&tiny()));

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let change = Change::ALL[input.below(Change::ALL.len())];
    let mut parts = SOUND.clone();
    while !input.is_empty() {
        let others = parts.iter_mut().filter(|(name, _)| *name != "manifest.lw").map(|(_, part)| part);
        let mut sections: Vec<&mut Vec<u8>> =
            others.flat_map(|part| &mut part.sections).map(|(_, bytes)| bytes).collect();
        let at = usize::from(input.byte()) % sections.len();
        input.patch(sections[at]);
    }
    relink(&mut parts);
    let files = seal_all(&parts);
    let directory = directory(&files);
    let _ = ask(&directory);
    let _ = Index::open(directory.clone()).map(|index| index.verify(&()));
    let _ = change.make(&directory);
    let _ = ask(&directory);
});
