//! The kernels that no software adapter runs, run from their CUDA source on a processor: see `kernels/tests/plane`.

use cubecl::prelude::*;
use half::{bf16, f16};

use super::attention::{Head, attention_kernel, cube_dim, tiles};
use super::kernels::turned_kernel;
use super::probe::expected;
use crate::backbone::Rotary;
use crate::batch::Span;
use plane::{Build, Emulated, Source};

#[path = "../../../../kernels/tests/plane/mod.rs"]
mod plane;

define_size!(Width);

fn attention<F: Float>(head: Head, name: &str) -> Source {
    let mut b = Build::new();
    b.0.scope.register_size::<Width>(head.vector);
    let (qkv, tiles) = (b.input::<Vector<u32, Width>>(), b.input::<u32>());
    let (out, scale) = (b.output::<Vector<u32, Width>>(), b.float());
    let [count, window, row, out_row] = std::array::from_fn(|_| b.number());
    let scope = &mut b.0.scope;
    attention_kernel::expand::<F, Width>(scope, head.vector, qkv, tiles, out, scale, count, window, row, out_row, head);
    b.source(&format!("{name}_{}", head.width), cube_dim())
}

/// Values between -1 and 1 that are always the same, and halves.
fn values(count: usize) -> Vec<f16> {
    let mut state = 7u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f16::from_f32((state >> 16) as f32 / 32768.0 - 1.0)
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn words(values: &[f16]) -> Vec<u32> {
    let word = |pair: &[f16]| u32::from(pair[0].to_bits()) | u32::from(pair[1].to_bits()) << 16;
    values.chunks_exact(2).map(word).collect()
}

fn halves(words: &[u32]) -> impl Iterator<Item = f16> {
    words.iter().flat_map(|&word| [word as u16, (word >> 16) as u16]).map(f16::from_bits)
}

#[test]
fn attention_is_that_of_its_formula() {
    // Texts of many lengths, tokens that are not attended to, and a text of which none is.
    let shapes = [(1, 1), (15, 15), (16, 16), (17, 17), (70, 70), (33, 9), (5, 0), (100, 64)];
    let mut texts: Vec<Span> = Vec::new();
    for (len, attended) in shapes {
        let first = texts.last().map_or(0, |text| text.first + text.len);
        texts.push(Span { first, len, attended });
    }
    let n = texts.iter().map(|text| text.len).sum::<usize>();
    for (heads, width) in [(2, 32), (3, 64), (1, 96), (1, 128), (1, 48)] {
        let head = Head::new(heads, width);
        let Some(kernel) = Emulated::new(&attention::<f16>(head, "attention")) else { return };
        let wide = 3 * heads * width;
        // Long enough that the largest weights stand out.
        let qkv: Vec<f16> = values(n * wide).into_iter().map(|x| x * f16::from_f32(2.0)).collect();
        let exact: Vec<f32> = qkv.iter().map(|x| x.to_f32()).collect();
        let tiles: Vec<u32> = tiles(&texts).into_iter().map(i32::cast_unsigned).collect();
        let count = tiles.len() / 4;
        for window in [1 << 30, 20, 3] {
            let nothing = words(&vec![f16::NAN; n * wide / 3]);
            let mut buffers = [(words(&qkv), head.vector), (tiles.clone(), 1), (nothing, head.vector)];
            let scale = 1.0 / (width as f32).sqrt();
            let numbers = [count, window, wide / 2 / head.vector, wide / 6 / head.vector];
            kernel.run((count.div_ceil(4), heads), &[scale], &numbers, &mut buffers);
            let found: Vec<f64> = halves(&buffers[2].0).map(f64::from).collect();
            for text in &texts {
                for query in 0..text.len {
                    for at in (0..heads).map(|head| head * width) {
                        let own = &found[(text.first + query) * wide / 3 + at..][..width];
                        for (a, b) in own.iter().zip(expected(&exact, text, query, at, [wide, width], window)) {
                            assert!(
                                (a - b).abs() <= 2e-3,
                                "{head:?}, window {window}, {text:?}, token {query}: {a}, not {b}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn queries_and_keys_are_turned() {
    let mut b = Build::new();
    let (x, bias, places) = (b.input::<f32>(), b.input::<f32>(), b.input::<u32>());
    let (cos, sin, out) = (b.input::<f32>(), b.input::<f32>(), b.output::<f16>());
    let [pairs, wide, width, x_row, out_row] = std::array::from_fn(|_| b.number());
    let [single, half] = [f32::as_type_native_unchecked(), f16::as_type_native_unchecked()].map(|x| x.storage_type());
    let scope = &mut b.0.scope;
    turned_kernel::expand::<f32, f16>(
        scope, x, bias, places, cos, sin, out, pairs, wide, width, x_row, out_row, true, single, half,
    );
    let source = b.source("turned", CubeDim::new_1d(64));
    source.write();
    let Some(kernel) = Emulated::new(&source) else { return };

    let (rows, heads, width) = (5, 2, 6);
    let (wide, half, x_row, out_row) = (3 * heads * width, width / 2, 3 * heads * width + 4, 3 * heads * width + 2);
    let x: Vec<f32> = values(rows * x_row).into_iter().map(f32::from).collect();
    let bias: Vec<f32> = values(wide).into_iter().map(f32::from).collect();
    let places = [0u32, 1, 2, 0, 1];
    let angles = Rotary::new(100.0, width).angles(3);
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
    let mut buffers = [
        (bits(&x), 1),
        (bits(&bias), 1),
        (places.to_vec(), 1),
        (bits(&angles.cos), 1),
        (bits(&angles.sin), 1),
        // Twice as long as it must be: its length counts words.
        (vec![0; rows * out_row], 1),
    ];
    let pairs = rows * wide / 2;
    kernel.run((pairs.div_ceil(64), 1), &[], &[pairs, wide, width, x_row, out_row], &mut buffers);
    let found: Vec<f32> = halves(&buffers[5].0).map(f32::from).collect();
    for (row, &place) in places.iter().enumerate() {
        for column in 0..wide {
            let value = |column: usize| x[row * x_row + column] + bias[column];
            let (at, other) =
                (place as usize * half + column % half, column - column % width + (column + half) % width);
            let sign = if column % width < half { -1.0 } else { 1.0 };
            let turned = value(column) * angles.cos[at] + sign * value(other) * angles.sin[at];
            let expected = if column < wide / 3 * 2 { turned } else { value(column) };
            let found = found[row * out_row + column];
            assert!((found - expected).abs() <= 2e-3, "row {row}, column {column}: {found}, not {expected}");
        }
    }
}

#[test]
fn attention_has_a_source() {
    for (heads, width) in [(12, 32), (12, 64), (8, 96)] {
        attention::<f16>(Head::new(heads, width), "attention").write();
        attention::<bf16>(Head::new(heads, width), "attention_bf16").write();
    }
}
