//! Whether a device's matrix units are used: it must say that it has them, and they must get right what the other
//! kernel gets right, or they are left alone.

use cubecl::features::{MmaConfig, Plane};
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::Runtime;

use super::{Client, GpuError};
use crate::cube::{MATRIX_BUFFERS, MATRIX_SHARED, PLANES, nearest, outline, residual, table};
use crate::layout::{Centroids, Codec, CodecParts, PLANE, Queries, Shard, ShardParts};

/// Whether the device says that it has what the kernels for matrix units and planes use, or what it lacks.
pub(super) fn claimed<R: Runtime>(client: &Client<R>) -> Result<(), String> {
    let properties = client.raw().properties();
    let (half, single) = (ElemType::Float(FloatKind::F16), ElemType::Float(FloatKind::F32));
    let product = MmaConfig { a_type: half.into(), b_type: half.into(), cd_type: single.into(), m: 16, n: 8, k: 16 };
    let hardware = &properties.hardware;
    let limits = client.limits();
    let needs = [
        ("products of 16 by 16 with 16 by 8 halves", properties.features.matmul.mma.contains(&product)),
        ("exchange within planes", properties.features.plane.contains(Plane::Ops)),
        ("planes of 32 units", [hardware.plane_size_min, hardware.plane_size_max] == [PLANE as u32; 2]),
        ("256 units in a cube", limits.units as usize >= PLANE * PLANES),
        ("32 KiB of shared memory", limits.shared >= MATRIX_SHARED),
        ("11 buffers in a kernel", limits.buffers as usize >= MATRIX_BUFFERS),
    ];
    let lacking: Vec<&str> = needs.into_iter().filter(|(_, has)| !has).map(|(what, _)| what).collect();
    if lacking.is_empty() { Ok(()) } else { Err(format!("the device does not offer {}", lacking.join(", "))) }
}

/// Whether the kernels for planes score some documents as the others do.
pub(super) fn agrees<R: Runtime>(client: &Client<R>) -> Result<(), String> {
    // Rows that are held in registers and rows that are not, tokens that fill their words and tokens that do not.
    for (dim, bits) in [(128, 4), (96, 2), (256, 1)] {
        let with = scores(client, dim, bits).map_err(|error| error.to_string())?;
        let without = scores(&client.clone().without_matrix_units(), dim, bits).map_err(|error| error.to_string())?;
        // Rounding the rows makes some thousandths, and bytes some hundredths; two values that trade places make ten
        // times more.
        for ((with, without), off) in with.iter().zip(&without).zip([0.01, 0.1]) {
            let alike = |(a, b): (&f32, &f32)| (a - b).abs() <= off + 1e-6 * b.abs();
            if !with.iter().zip(without).all(alike) {
                return Err(format!("{dim} dimensions of {bits} bits came out as {with:?}, not {without:?}"));
            }
        }
    }
    nearest_agrees(client).map_err(|error| error.to_string())?
}

/// Whether rows find centroids as near; the error is the device's own.
fn nearest_agrees<R: Runtime>(client: &Client<R>) -> Result<Result<(), String>, GpuError> {
    const DIM: usize = 24;
    let mut state = 3u32;
    let mut values = |count: usize| -> Vec<f32> {
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 16) as f32 / 32768.0 - 1.0) / 3.0
        };
        std::iter::repeat_with(next).take(count).collect()
    };
    let (rows, centroids) = (values(41 * DIM), values(19 * DIM));
    let there = Centroids::new(client, DIM, &centroids)?;
    let found = client.read(&nearest(client, &there, &client.upload("rows", &rows)?)?)?;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    for (row, &id) in rows.chunks_exact(DIM).zip(&found) {
        let best = centroids.chunks_exact(DIM).map(|centroid| dot(row, centroid)).fold(f32::MIN, f32::max);
        let own = centroids.chunks_exact(DIM).nth(id as usize).map_or(f32::MIN, |centroid| dot(row, centroid));
        if own < best - 5e-3 {
            return Ok(Err(format!("the nearest centroid of a row came out as {id}, at {own}, not {best}")));
        }
    }
    Ok(Ok(()))
}

/// The scores of five documents, made up but always the same, for two queries: by codes, then by outlines.
fn scores<R: Runtime>(client: &Client<R>, dim: usize, bits: u32) -> Result<[Vec<f32>; 2], GpuError> {
    const CENTROIDS: usize = 9;
    const OFFSETS: [u32; 6] = [0, 1, 1, 41, 57, 74];
    let tokens = OFFSETS[5] as usize;
    let mut state = 1u32;
    let mut next = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    let mut bytes = |count: usize| -> Vec<u8> { (0..count).map(|_| next(127) as u8 + 1).collect() };
    let (centroids, rows) = (bytes(CENTROIDS * dim), bytes(38 * dim));
    let codes: Vec<u8> = (0..tokens * dim * bits as usize / 8).map(|_| next(256) as u8).collect();
    let codec = CodecParts {
        dim,
        bits,
        levels: &std::array::from_fn(|i| (i as i8 - 7) * 7 + 3),
        scales: &std::array::from_fn(|i| i as f32 * 6e-5),
        centroids: &centroids,
        centroid_scales: &[0.002; CENTROIDS],
        weights: &std::array::from_fn(|i| 1.0 - i as f32 * 0.005),
        leans: &std::array::from_fn(|i| i as f32 * 0.003),
    };
    let codec = Codec::new(client, &codec)?;
    let shard = ShardParts {
        offsets: &OFFSETS,
        centroids: &(0..tokens).map(|_| next(CENTROIDS as u32) as u16).collect::<Vec<_>>(),
        factors: &(0..tokens).map(|_| next(1 << 16) as u16).collect::<Vec<_>>(),
        codes: &codes,
    };
    let shard = Shard::new(client, &codec, &shard)?;
    let rows: Vec<f32> = rows.into_iter().map(|byte| (f32::from(byte) - 64.0) / 600.0).collect();
    let (one, other) = rows.split_at(33 * dim);
    let queries = Queries::rotated(client, &codec, &[one, other])?;
    let table = table(client, &codec, &queries)?;
    let docs = client.upload("documents", &[4u32, 0, 1, 2, 3])?;
    let codes = client.read(&residual(client, &codec, &shard, &queries, &table, &docs)?)?;
    Ok([codes, client.read(&outline(client, &codec, &shard, &queries, &table, &docs)?)?])
}

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use super::super::tests::gpu;
    use super::*;

    #[test]
    fn rows_are_compared_by_what_they_find() {
        let Some(gpu) = gpu() else { return };
        let client = Client::<burn_wgpu::WgpuRuntime>::connect(&gpu).unwrap();
        assert_eq!(nearest_agrees(&client).unwrap(), Ok(()));
    }

    #[test]
    fn the_documents_score_apart() {
        let Some(gpu) = gpu() else { return };
        let client = Client::<burn_wgpu::WgpuRuntime>::connect(&gpu).unwrap().without_matrix_units();
        for (dim, bits) in [(128, 4), (96, 2), (256, 1)] {
            let scores = scores(&client, dim, bits).unwrap();
            assert_eq!(scores.each_ref().map(Vec::len), [10, 10]);
            for scores in scores.iter().flat_map(|scores| scores.chunks(5)) {
                assert!(scores[2] < -1e30, "the document without tokens: {scores:?}");
                let others = [scores[0], scores[1], scores[3], scores[4]];
                assert!(others.iter().all(|x| x.abs() < 100.0), "{scores:?}");
                let (least, most) = others.iter().fold((f32::MAX, f32::MIN), |(a, b), &x| (a.min(x), b.max(x)));
                assert!(most - least > 0.3, "{scores:?}");
            }
        }
    }
}
