//! The nearest centroids of rows.

use cubecl::prelude::Runtime;
use latewood_engine::{Backend, Error};
use latewood_kernels::{Centroids, Client, Device, GpuBackend, GpuError, GpuOptions, nearest};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::gpus::{Test, on_every_gpu};
use crate::reference::rng;

/// How far the product with the centroid found may lie below the best one: rows and centroids have unit length. Matrix
/// units take them rounded to 11 bits.
pub(crate) fn tolerance<R: Runtime>(client: &Client<R>) -> f64 {
    if client.matrix_units().is_ok() { 2e-3 } else { 1e-5 }
}

pub(crate) fn unit_rows(rng: &mut ChaCha8Rng, count: usize, dim: usize) -> Vec<f32> {
    let rows: Vec<f32> = (0..count * dim).map(|_| rng.random_range(-1.0..1.0)).collect();
    let unit = |row: &[f32]| {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter().map(|x| x / norm).collect::<Vec<f32>>()
    };
    rows.chunks_exact(dim).flat_map(unit).collect()
}

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Checks that each of `ids` names the nearest of `centroids`, or one as near but for `off`.
fn check(rows: &[f32], centroids: &[f32], dim: usize, ids: impl ExactSizeIterator<Item = usize>, off: f64) {
    assert_eq!(ids.len(), rows.len() / dim);
    for (at, (row, id)) in rows.chunks_exact(dim).zip(ids).enumerate() {
        let dots: Vec<f64> = centroids.chunks_exact(dim).map(|centroid| dot(row, centroid)).collect();
        let best = dots.iter().copied().fold(f64::MIN, f64::max);
        let what = format!("row {at} of {}, {dim} dimensions, {} centroids", rows.len() / dim, dots.len());
        assert!(id < dots.len() && dots[id] >= best - off, "{what}: centroid {id}, not one of {best}");
    }
}

struct Case {
    dim: usize,
    rows: usize,
    centroids: usize,
}

impl Test for Case {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        let mut rng = rng((self.dim * 31 + self.rows * 7 + self.centroids) as u64);
        let (rows, centroids) =
            (unit_rows(&mut rng, self.rows, self.dim), unit_rows(&mut rng, self.centroids, self.dim));
        let uploaded = client.upload("rows", &rows).unwrap();
        let there = Centroids::new(client, self.dim, &centroids).unwrap();
        let got = client.read(&nearest(client, &there, &uploaded).unwrap()).unwrap();
        check(&rows, &centroids, self.dim, got.iter().map(|&id| id as usize), tolerance(client));
        // In several allocations the answers are the same.
        let small = client.clone().with_allocations_up_to(4 * 32 * 3 * self.dim as u64);
        let cut = Centroids::new(&small, self.dim, &centroids).unwrap();
        assert_eq!(client.read(&nearest(client, &cut, &uploaded).unwrap()).unwrap(), got);
    }
}

#[test]
fn any_number_of_rows_and_centroids() {
    for dim in [8, 24, 64, 96, 128, 384, 768, 1024] {
        for (rows, centroids) in [(1, 1), (31, 3), (32, 33), (33, 600), (70, 97)] {
            on_every_gpu(&Case { dim, rows, centroids });
        }
    }
    for dim in [8, 128] {
        on_every_gpu(&Case { dim, rows: 3001, centroids: 600 });
        on_every_gpu(&Case { dim, rows: 150, centroids: 4096 });
        on_every_gpu(&Case { dim, rows: 150, centroids: 4097 });
    }
    on_every_gpu(&Case { dim: 16, rows: 0, centroids: 5 });
}

struct Ties;

impl Test for Ties {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        const DIM: usize = 16;
        let mut rng = rng(4);
        // Each centroid several times, in any order: the first is meant.
        let distinct = unit_rows(&mut rng, 11, DIM);
        let order: Vec<usize> = (0..307).map(|_| rng.random_range(0..11)).collect();
        let centroids: Vec<f32> = order.iter().flat_map(|&at| &distinct[at * DIM..][..DIM]).copied().collect();
        let rows: Vec<f32> = [unit_rows(&mut rng, 200, DIM), vec![0.0; 3 * DIM]].concat();
        let uploaded = client.upload("rows", &rows).unwrap();
        for client in [client.clone(), client.clone().with_allocations_up_to(4 * 32 * 2 * DIM as u64)] {
            let there = Centroids::new(&client, DIM, &centroids).unwrap();
            let got = client.read(&nearest(&client, &there, &uploaded).unwrap()).unwrap();
            for &id in &got[..200] {
                let first = order.iter().position(|&at| at == order[id as usize]).unwrap();
                assert_eq!(id as usize, first);
            }
            assert_eq!(got[200..], [0; 3], "all are equal");
        }
    }
}

#[test]
fn of_equals_the_first() {
    on_every_gpu(&Ties);
}

pub(crate) fn backend<R: Runtime>(client: &Client<R>, asked: Device) -> GpuBackend {
    GpuBackend::connect(client.clone(), &Device::Cpu.resolve().unwrap(), &GpuOptions::new(asked)).unwrap()
}

struct Training;

impl Test for Training {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        const DIM: usize = 24;
        let mut rng = rng(8);
        let (rows, centroids) = (unit_rows(&mut rng, 500, DIM), unit_rows(&mut rng, 70, DIM));
        // In one batch, and in many.
        for client in [client.clone(), client.clone().with_allocations_up_to(4 * DIM as u64 * 100)] {
            let gpu = backend(&client, Device::Wgpu(0));
            let before = gpu.status().resident;
            let held = gpu.nearest(&centroids, DIM).unwrap().unwrap();
            for rows in [&rows[..], &rows[..7 * DIM], &[]] {
                let ids = held.assign(rows).unwrap().unwrap();
                check(rows, &centroids, DIM, ids.into_iter().map(usize::from), tolerance(&client));
            }
            assert!(gpu.status().resident > before);
            drop(held);
            let other = gpu.nearest(&centroids[..DIM], DIM).unwrap().unwrap();
            assert_eq!(other.assign(&rows[..3 * DIM]).unwrap().unwrap(), [0; 3]);
            assert!(gpu.status().resident < before + 2 * 4 * 32 * DIM as u64, "the first centroids are gone");
        }
    }
}

#[test]
fn centroids_stay_as_long_as_they_are_held() {
    on_every_gpu(&Training);
}

struct Failing;

impl Test for Failing {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        let small = client.clone().with_allocations_up_to(256);
        let rows = unit_rows(&mut rng(1), 5, 16);
        let named = backend(&small, Device::Wgpu(0));
        let error = named.nearest(&rows, 16).unwrap().unwrap().assign(&rows).unwrap_err();
        assert!(matches!(error, Error::Device { .. }), "{error}");
        let auto = backend(&small, Device::Auto);
        let held = auto.nearest(&rows, 16).unwrap().unwrap();
        assert!(held.assign(&rows).unwrap().is_none() && held.assign(&rows).unwrap().is_none());
        assert!(auto.nearest(&rows, 16).unwrap().is_none(), "the processor has taken over");
        let odd = client.upload("rows", &rows[1..]).unwrap();
        let there = Centroids::new(client, 16, &rows).unwrap();
        assert!(matches!(nearest(client, &there, &odd), Err(GpuError::Mismatch(_))));
        assert!(matches!(Centroids::new(client, 16, &[]), Err(GpuError::Mismatch(_))));
    }
}

#[test]
fn a_device_too_small_for_centroids() {
    on_every_gpu(&Failing);
}
