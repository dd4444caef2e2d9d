//! Content altered in the ways that damage, mistakes and malice do.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::sealed::{Parts, Sealed, relink};

/// Alters an index in one to three places; the digests that its files know each other by are right after it. Says what
/// was done.
pub(crate) fn spoil_index(parts: &mut Parts, rng: &mut ChaCha8Rng) -> Vec<String> {
    let names: Vec<String> = parts.keys().cloned().collect();
    let (manifests, others): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| name.starts_with("manifest"));
    let mut done = Vec::new();
    let mut spoil = |names: &[&String], parts: &mut Parts, rng: &mut ChaCha8Rng| {
        let name = names[rng.random_range(0..names.len())];
        let part = parts.get_mut(name).expect("it is there");
        done.push(format!("{name}: {}", spoil_file(part, name, rng)));
    };
    let of_manifest = rng.random_bool(0.2);
    if !of_manifest || rng.random_bool(0.2) {
        (0..rng.random_range(1..=3)).for_each(|_| spoil(&others, parts, rng));
    }
    relink(parts);
    if of_manifest {
        (0..rng.random_range(1..=2)).for_each(|_| spoil(&manifests, parts, rng));
    }
    done
}

fn spoil_file(part: &mut Sealed, name: &str, rng: &mut ChaCha8Rng) -> String {
    let at = rng.random_range(0..part.sections.len());
    let tag = String::from_utf8_lossy(&part.sections[at].0).into_owned();
    match rng.random_range(0..60) {
        0 => {
            part.sections.remove(at);
            format!("{tag} gone")
        }
        1 => {
            let copy = part.sections[at].clone();
            part.sections.push(copy);
            format!("{tag} twice")
        }
        2 => {
            part.sections[at].0 = *b"WHAT";
            format!("{tag} renamed")
        }
        3 => {
            part.header[16 + rng.random_range(0..8)] = 1;
            "a flag".into()
        }
        4 => {
            let to = rng.random_range(0..part.sections.len());
            part.sections.swap(at, to);
            format!("{tag} moved")
        }
        _ if name.starts_with("manifest") && tag == "META" && rng.random_bool(0.8) => {
            spoil_number(&mut part.sections[at].1, rng)
        }
        _ => format!("{tag} {}", spoil(&mut part.sections[at].1, rng)),
    }
}

/// Alters one field of a table or trailer: by a little, to a limit, or to that of another.
pub(crate) fn spoil_table(table: &mut [u8], rng: &mut ChaCha8Rng) -> String {
    let mut place = || rng.random_range(0..table.len() / 8) * 8;
    let (at, other) = (place(), place());
    let mut field = [0; 8];
    field.copy_from_slice(&table[at..at + 8]);
    let old = u64::from_le_bytes(field);
    let step = 64 * rng.random_range(0..4) + rng.random_range(0..2);
    field = match rng.random_range(0..4) {
        0 => old.wrapping_add(step).to_le_bytes(),
        1 => old.wrapping_sub(step).to_le_bytes(),
        2 => value(rng.random_range(0..=3), rng),
        _ => std::array::from_fn(|i| table[other + i]),
    };
    table[at..at + 8].copy_from_slice(&field);
    format!("{} for {old} at {at}", u64::from_le_bytes(field))
}

/// Puts another number in the place of one in a text.
fn spoil_number(text: &mut Vec<u8>, rng: &mut ChaCha8Rng) -> String {
    let is_start = |at: &usize| text[*at].is_ascii_digit() && (*at == 0 || !text[*at - 1].is_ascii_digit());
    let starts: Vec<usize> = (0..text.len()).filter(is_start).collect();
    let Some(&start) = starts.choose(rng) else { return "no number".into() };
    let end = start + text[start..].iter().take_while(|b| b.is_ascii_digit()).count();
    let width = rng.random_range(0..=3);
    let number = u64::from_le_bytes(value(width, rng)) & u64::MAX >> (64 - (8 << width));
    text.splice(start..end, number.to_string().into_bytes());
    format!("number at {start} is {number}")
}

/// Alters bytes: mostly one value, of a width that sections have.
fn spoil(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) -> String {
    let len = bytes.len();
    let width = rng.random_range(0..=3);
    let size = 1 << width;
    let kind = if len < 2 * size { 0 } else { rng.random_range(0..20) };
    let mut place = || rng.random_range(0..=len / size - 1) * size;
    match kind {
        0 => {
            let more = rng.random_range(1..80);
            bytes.extend((0..more).map(|_| rng.random::<u8>()));
            format!("longer by {more}")
        }
        1 => {
            let cut = place();
            bytes.truncate(cut);
            format!("cut to {cut}")
        }
        2 => {
            let at = place();
            bytes[at..].fill_with(|| rng.random());
            format!("random from {at}")
        }
        3 | 4 => {
            let (from, to) = (place(), place());
            bytes.copy_within(from..from + size, to);
            format!("{size} bytes from {from} to {to}")
        }
        5 => {
            let at = place();
            bytes[at] ^= 1 << rng.random_range(0..8);
            format!("a bit at {at}")
        }
        _ => {
            let at = place();
            let value = value(width, rng);
            bytes[at..at + size].copy_from_slice(&value[..size]);
            format!("{:x?} at {at}", &value[..size])
        }
    }
}

/// A value of `1 << width` bytes, of those that limits are made of.
fn value(width: u32, rng: &mut ChaCha8Rng) -> [u8; 8] {
    const FLOATS: [f32; 10] =
        [0.0, -0.0, 1e-45, f32::MIN_POSITIVE, f32::MAX, f32::MIN, f32::INFINITY, f32::NAN, -1.0, 1e18];
    if width == 2 && rng.random_bool(0.4) {
        return u64::from(FLOATS[rng.random_range(0..FLOATS.len())].to_bits()).to_le_bytes();
    }
    let half = 1u64 << ((8 << width) - 1);
    let limits = [
        0,
        1,
        2,
        half - 1,
        half,
        half + 1,
        u64::MAX,
        u64::MAX - 1,
        u64::MAX / 4,
        rng.random(),
        rng.random_range(0..300),
    ];
    limits[rng.random_range(0..limits.len())].to_le_bytes()
}
