//! The CUDA source of every kernel, made without a device, so that a machine without one can compile it
//! (`tests/nvrtc.py`), and run it on its processor ([`super::emulated`]).

use cubecl::prelude::*;
use half::f16;

use super::plane::{Build, Source};
use super::{Four, copy, cube_dim, dense, nearest, quantise, residual, rotate, select, top};
use crate::layout::Deal;

define_size!(Width);

pub(super) fn table() -> Source {
    let mut b = Build::new();
    let (rows, scales, query, table) = (b.input::<u32>(), b.input::<f32>(), b.input::<Four<f32>>(), b.output());
    let [dim, centroids, first] = std::array::from_fn(|_| b.number());
    super::table::table_kernel::expand(&mut b.0.scope, rows, scales, query, table, dim, centroids, first);
    b.source("table", cube_dim())
}

#[test]
fn table_has_a_source() {
    table().write();
}

#[test]
fn residual_has_a_source() {
    for bits in [1usize, 2, 4] {
        let mut b = Build::new();
        let [codes, outlines, offsets, docs] = std::array::from_fn(|_| b.input::<u32>());
        let [query, table] = std::array::from_fn(|_| b.input::<Four<f32>>());
        let (constants, plan, scores) = (b.input::<f32>(), b.input::<u32>(), b.output::<f32>());
        let [words, centroids, n, first, blocks, queries] = std::array::from_fn(|_| b.number());
        residual::residual_kernel::expand(
            &mut b.0.scope,
            codes,
            outlines,
            offsets,
            docs,
            query,
            table,
            constants,
            plan,
            scores,
            words,
            centroids,
            n,
            first,
            blocks,
            queries,
            bits,
        );
        b.source(&format!("residual_{bits}"), cube_dim()).write();
    }
}

pub(super) fn matrix(dim: usize, bits: usize) -> Source {
    let words = (dim * bits).div_ceil(32);
    let deal = Deal::new(words, bits);
    let mut b = Build::new();
    b.0.scope.register_size::<Width>(deal.width);
    let codes = b.input::<Vector<u32, Width>>();
    let [outlines, offsets, docs] = std::array::from_fn(|_| b.input::<u32>());
    let (query, table) = (b.input::<u32>(), b.input::<Four<u32>>());
    let (constants, units, plan) = (b.input::<f32>(), b.input::<f32>(), b.input::<u32>());
    let (scores, step, one) = (b.output::<f32>(), b.float(), b.float());
    let [centroids, n, first, blocks, queries, from] = std::array::from_fn(|_| b.number());
    super::matrix::matrix_kernel::expand::<Width>(
        &mut b.0.scope,
        deal.width,
        codes,
        outlines,
        offsets,
        docs,
        query,
        table,
        constants,
        units,
        plan,
        scores,
        step,
        one,
        centroids,
        n,
        first,
        blocks,
        queries,
        from,
        words,
        deal,
        bits,
    );
    b.source(&format!("matrix_{dim}_{bits}"), super::matrix::cube_dim())
}

#[test]
fn matrix_has_a_source() {
    for dim in [16usize, 96, 128, 1024] {
        for bits in [1usize, 2, 4] {
            matrix(dim, bits).write();
        }
    }
}

pub(super) fn narrow() -> Source {
    let mut b = Build::new();
    let (table, factors) = (b.input::<Four<f32>>(), b.input::<Four<f32>>());
    let (narrow, steps) = (b.output::<Vector<u32, Const<2>>>(), b.float());
    let [centroids, first, n] = std::array::from_fn(|_| b.number());
    super::narrow::narrow_kernel::expand(&mut b.0.scope, table, factors, narrow, steps, centroids, first, n);
    b.source("narrow", CubeDim::new_1d(256))
}

#[test]
fn narrow_has_a_source() {
    narrow().write();
}

pub(super) fn bytes() -> Source {
    let mut b = Build::new();
    let (table, lengths) = (b.input::<Four<f32>>(), b.input::<Four<f32>>());
    let (bytes, steps) = (b.output::<u32>(), b.float());
    let [centroids, first, n] = std::array::from_fn(|_| b.number());
    super::narrow::bytes_kernel::expand(&mut b.0.scope, table, lengths, bytes, steps, centroids, first, n);
    b.source("bytes", CubeDim::new_1d(256))
}

#[test]
fn bytes_has_a_source() {
    bytes().write();
}

pub(super) fn sketch() -> Source {
    let mut b = Build::new();
    let [outlines, offsets, docs] = std::array::from_fn(|_| b.input::<u32>());
    let (table, guesses) = (b.input::<Four<u32>>(), b.input::<Vector<u32, Const<2>>>());
    let (lengths, plan, scores, unit) = (b.input::<f32>(), b.input::<u32>(), b.output::<f32>(), b.float());
    let [centroids, n, first, blocks, queries] = std::array::from_fn(|_| b.number());
    super::sketch::sketch_kernel::expand(
        &mut b.0.scope,
        outlines,
        offsets,
        docs,
        table,
        guesses,
        lengths,
        plan,
        scores,
        unit,
        centroids,
        n,
        first,
        blocks,
        queries,
    );
    b.source("sketch", super::matrix::cube_dim())
}

#[test]
fn sketch_has_a_source() {
    sketch().write();
}

pub(super) fn outline() -> Source {
    let mut b = Build::new();
    let [outlines, offsets, docs] = std::array::from_fn(|_| b.input::<u32>());
    let (table, estimates, lengths) = (b.input::<Four<f32>>(), b.input::<f32>(), b.input::<Four<f32>>());
    let (plan, scores) = (b.input::<u32>(), b.output::<f32>());
    let [centroids, n, first, blocks, queries] = std::array::from_fn(|_| b.number());
    super::outline::outline_kernel::expand(
        &mut b.0.scope,
        outlines,
        offsets,
        docs,
        table,
        estimates,
        lengths,
        plan,
        scores,
        centroids,
        n,
        first,
        blocks,
        queries,
    );
    b.source("outline", cube_dim())
}

#[test]
fn outline_has_a_source() {
    outline().write();
}

#[test]
fn copy_has_a_source() {
    let mut b = Build::new();
    let (from, to, n) = (b.input::<Four<f32>>(), b.output::<Four<f32>>(), b.number());
    copy::copy_kernel::expand(&mut b.0.scope, from, to, n);
    b.source("copy", CubeDim::new_1d(256)).write();
}

fn write_dense<F: Float>(name: &str) {
    let mut b = Build::new();
    let (tokens, offsets, docs) = (b.input::<Four<F>>(), b.input::<u32>(), b.input::<u32>());
    let (query, plan, scores) = (b.input::<Four<f32>>(), b.input::<u32>(), b.output::<f32>());
    let [dim, n, blocks, queries] = std::array::from_fn(|_| b.number());
    let scope = &mut b.0.scope;
    dense::dense_kernel::expand::<F>(scope, tokens, offsets, docs, query, plan, scores, dim, n, blocks, queries);
    b.source(name, cube_dim()).write();
}

#[test]
fn dense_has_a_source() {
    write_dense::<f32>("dense_f32");
    write_dense::<f16>("dense_f16");
}

#[test]
fn nearest_has_a_source() {
    for (name, goes_on) in [("nearest_first", false), ("nearest_next", true)] {
        let mut b = Build::new();
        let (rows, centroids) = (b.input::<Four<f32>>(), b.input::<Four<f32>>());
        let (dots, best) = (b.output::<f32>(), b.output::<u32>());
        let [dim, n, blocks, first] = std::array::from_fn(|_| b.number());
        let scope = &mut b.0.scope;
        nearest::nearest_kernel::expand(scope, rows, centroids, dots, best, dim, n, blocks, first, goes_on);
        b.source(name, cube_dim()).write();
    }
}

pub(super) fn nearest_matrix(dim: usize, goes_on: bool) -> Source {
    let mut b = Build::new();
    let (rows, centroids) = (b.input::<Four<f32>>(), b.input::<Vector<u32, Const<2>>>());
    let (dots, best) = (b.output::<f32>(), b.output::<u32>());
    let [n, groups, first] = std::array::from_fn(|_| b.number());
    let scope = &mut b.0.scope;
    super::nearest_matrix::nearest_matrix_kernel::expand(
        scope, rows, centroids, dots, best, n, groups, first, dim, goes_on,
    );
    let name = format!("nearest_matrix_{dim}{}", if goes_on { "_next" } else { "" });
    b.source(&name, super::nearest_matrix::cube_dim())
}

#[test]
fn nearest_matrix_has_a_source() {
    for (dim, goes_on) in [(128, false), (128, true), (96, false), (24, false)] {
        nearest_matrix(dim, goes_on).write();
    }
}

#[test]
fn rotate_has_a_source() {
    let mut b = Build::new();
    let (rows, rotation, rotated) = (b.input::<Four<f32>>(), b.input::<Four<f32>>(), b.output::<Four<f32>>());
    let [dim, n, blocks, first] = std::array::from_fn(|_| b.number());
    rotate::rotate_kernel::expand(&mut b.0.scope, rows, rotation, rotated, dim, n, blocks, first);
    b.source("rotate", cube_dim()).write();
}

#[test]
fn quantise_has_a_source() {
    for bits in [1usize, 2, 4] {
        for fine in [false, true] {
            let mut b = Build::new();
            let (rows, nearest, centroids) = (b.input::<f32>(), b.input::<u32>(), b.input::<u32>());
            let (scales, constants) = (b.input::<f32>(), b.input::<f32>());
            let [outlines, codes, fine_codes] = std::array::from_fn(|_| b.output::<u32>());
            let (scale_per_rms, n) = (b.float(), b.number());
            quantise::quantise_kernel::expand(
                &mut b.0.scope,
                rows,
                nearest,
                centroids,
                scales,
                constants,
                outlines,
                codes,
                fine_codes,
                scale_per_rms,
                n,
                quantise::Share::new(128),
                bits,
                fine,
            );
            let name = format!("quantise_{bits}{}", if fine { "_fine" } else { "" });
            b.source(&name, CubeDim::new_1d(quantise::UNITS as u32)).write();
        }
    }
}

#[test]
fn select_has_a_source() {
    for (name, second) in [("count_first", false), ("count_second", true)] {
        let mut b = Build::new();
        let (scores, firsts, counted) = (b.input::<f32>(), b.input::<u32>(), b.output::<Atomic<u32>>());
        let [n, k] = std::array::from_fn(|_| b.number());
        select::count_kernel::expand(&mut b.0.scope, scores, firsts, counted, n, k, second);
        b.source(name, CubeDim::new_1d(256)).write();
    }
    let mut b = Build::new();
    let (scores, firsts, seconds) = (b.input::<f32>(), b.input::<u32>(), b.input::<u32>());
    let (counts, positions) = (b.output::<Atomic<u32>>(), b.output::<u32>());
    let [n, k] = std::array::from_fn(|_| b.number());
    select::list_kernel::expand(&mut b.0.scope, scores, firsts, seconds, counts, positions, n, k);
    b.source("list", CubeDim::new_1d(256)).write();
}

#[test]
fn top_has_a_source() {
    for (name, selected) in [("top_of_all", false), ("top_of_selected", true)] {
        let mut b = Build::new();
        let (scores, positions, counts) = (b.input::<f32>(), b.input::<u32>(), b.input::<u32>());
        let best = b.output::<u32>();
        let [n, k] = std::array::from_fn(|_| b.number());
        top::top_kernel::expand(&mut b.0.scope, scores, positions, counts, best, n, k, selected);
        b.source(name, CubeDim::new_1d(top::UNITS as u32)).write();
    }
}
