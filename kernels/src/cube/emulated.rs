//! What CUDA devices alone run, run on a processor: a kernel's CUDA source, compiled as C++, with the units of a cube
//! taking turns (`tests/plane`). Slow, but it computes what a GPU is to compute, matrix units included.
//!
//! Where there is no C++ compiler, the tests say that they test nothing; with `LATEWOOD_REQUIRE_GPU_TESTS=1` they fail.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says what it skips")]

use std::path::Path;
use std::process::Command;

use cubecl::prelude::CubeDim;
use latewood_simd::code_bytes;
use tempfile::TempDir;

use super::emit::{self, Source};
use super::narrow::step;
use super::{LANES, TOKENS};
use crate::layout::{Arranged, Deal, in_lanes, outlines, pad_rows, plan, reach};
use reference::{Coded, Score, query, rng};

#[path = "../../tests/kernels/reference.rs"]
mod reference;

/// A kernel that a processor runs.
struct Emulated {
    folder: TempDir,
    units: CubeDim,
}

impl Emulated {
    fn new(source: &Source) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        // What a unit of a plane does in inline assembly, in words.
        let text = match (source.text.find("asm volatile("), source.text.find("    }\n    \n")) {
            (Some(start), Some(end)) if start < end => format!("{}{MULTIPLY}{}", &source.text[..start], &source.text[end..]),
            _ => source.text.clone(),
        };
        let main = format!("int main(int, char **arguments) {{ return emulated::run({}, arguments); }}\n", source.name);
        std::fs::write(folder.path().join("kernel.cpp"), text + &main).unwrap();
        let headers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plane");
        let mut compiler = Command::new("c++");
        compiler.args(["-std=c++17", "-O1", "-w", "-ffp-contract=off", "-o", "kernel", "kernel.cpp", "-I"]).arg(headers);
        let Ok(made) = compiler.current_dir(&folder).output() else {
            assert!(std::env::var_os("LATEWOOD_REQUIRE_GPU_TESTS").is_none_or(|x| x != "1"), "no C++ compiler");
            eprintln!("NOT TESTED, there is no C++ compiler");
            return None;
        };
        assert!(made.status.success(), "{}: {}", source.name, String::from_utf8_lossy(&made.stderr));
        Some(Self { folder, units: source.cube_dim })
    }

    /// Runs so many cubes, by dimension; `buffers` are the kernel's, in order, of values of so many words each.
    fn run(&self, cubes: (usize, usize), floats: &[f32], numbers: &[usize], buffers: &mut [(Vec<u32>, usize)]) {
        // As CubeCL lays them out: floats, numbers, and the lengths of the buffers, each of them twice.
        let padded = |words: &mut Vec<u32>| words.resize(words.len().next_multiple_of(2), 0);
        let mut info: Vec<u32> = floats.iter().map(|x| x.to_bits()).collect();
        padded(&mut info);
        info.extend(numbers.iter().map(|&n| n as u32));
        padded(&mut info);
        for _ in 0..2 {
            info.extend(buffers.iter().map(|(words, width)| (words.len() / width) as u32));
        }
        let path = |name: String| self.folder.path().join(name);
        std::fs::write(path("info".into()), bytemuck::cast_slice::<u32, u8>(&info)).unwrap();
        for (i, (words, _)) in buffers.iter().enumerate() {
            std::fs::write(path(i.to_string()), bytemuck::cast_slice::<u32, u8>(words)).unwrap();
        }
        let mut kernel = Command::new(path("kernel".into()));
        let [x, y] = [self.units.x, self.units.y].map(|n| n.to_string());
        kernel.arg(".").args([x, y, cubes.0.to_string(), cubes.1.to_string()]);
        let ran = kernel.current_dir(&self.folder).output().unwrap();
        assert!(ran.status.success(), "{:?}: {}", ran.status, String::from_utf8_lossy(&ran.stderr));
        for (i, (words, _)) in buffers.iter_mut().enumerate() {
            bytemuck::cast_slice_mut::<u32, u8>(words).copy_from_slice(&std::fs::read(path(i.to_string())).unwrap());
        }
    }
}

const MULTIPLY: &str = "const uint32 a[4] = {reg_a_0, reg_a_1, reg_a_2, reg_a_3}, b[2] = {reg_b_0, reg_b_1};
const float c[4] = {reg_c_0, reg_c_1, reg_c_2, reg_c_3};
float *d[4] = {&reg_d_0, &reg_d_1, &reg_d_2, &reg_d_3};
emulated::multiply(a, b, c, d);
";

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Documents and queries, as the kernels are given them.
struct Case {
    coded: Coded,
    docs: Vec<u32>,
    queries: Vec<Vec<f32>>,
    arranged: Arranged,
}

impl Case {
    fn new(seed: u64, dim: usize, bits: u32, lens: &[usize], rows: &[usize]) -> Self {
        let mut rng = rng(seed);
        let coded = Coded::random(&mut rng, dim, bits, 70, lens);
        let queries: Vec<Vec<f32>> = rows.iter().map(|&rows| query(&mut rng, rows, dim)).collect();
        let arranged = Arranged::new(&queries.concat(), dim, bits);
        Self { coded, docs: (0..lens.len() as u32).rev().collect(), queries, arranged }
    }

    fn centroids(&self) -> usize {
        self.coded.centroid_scales.len()
    }

    fn blocks(&self) -> usize {
        self.arranged.factors.len() / LANES
    }

    fn plan(&self) -> Vec<u32> {
        let ends = self.queries.iter().scan(0, |rows, query| {
            *rows += (query.len() / self.coded.dim) as u32;
            Some(*rows)
        });
        plan(std::iter::once(0).chain(ends).collect())
    }

    /// `[blocks, c, LANES]`
    fn table(&self, kernel: &Emulated) -> Vec<u32> {
        let Coded { dim, centroids, centroid_scales, .. } = &self.coded;
        let order: Vec<Option<usize>> = (0..*dim).map(Some).collect();
        let query = bits(&in_lanes(&self.queries.concat(), *dim, &order));
        let mut buffers = [
            (pad_rows(centroids, *dim), 1),
            (bits(centroid_scales), 1),
            (query, 4),
            (vec![0; self.blocks() * self.centroids() * LANES], 4),
        ];
        let cubes = (self.centroids().div_ceil(TOKENS), self.blocks());
        kernel.run(cubes, &[], &[*dim, self.centroids(), 0], &mut buffers);
        buffers[3].0.clone()
    }

    /// `[blocks, c, LANES / 2]`
    fn narrow(&self, kernel: &Emulated, table: Vec<u32>) -> Vec<u32> {
        let n = table.len() / 4;
        let mut buffers = [(table, 4), (bits(&self.arranged.factors), 4), (vec![0; 2 * n], 2)];
        let steps = 1.0 / step(reach(&self.coded.codec()));
        kernel.run((n.div_ceil(256), 1), &[steps], &[self.centroids(), 0, n], &mut buffers);
        buffers[2].0.clone()
    }

    /// `[queries, docs]`
    fn matrix(&self, kernel: &Emulated, narrow: Vec<u32>) -> Vec<u32> {
        let Coded { dim, bits: own_bits, levels, scales, offsets, ids, factors, codes, .. } = &self.coded;
        let codes = pad_rows(codes, code_bytes(*dim, *own_bits));
        let constants: Vec<f32> = levels.iter().map(|&level| f32::from(level)).chain(scales.iter().copied()).collect();
        let width = Deal::new(codes.len() / ids.len(), *own_bits as usize).width;
        let scores = vec![f32::NAN.to_bits(); self.queries.len() * self.docs.len()];
        let mut buffers = [
            (codes, width),
            (outlines(ids, factors), 1),
            (offsets.clone(), 1),
            (self.docs.clone(), 1),
            (self.arranged.values.clone(), 1),
            (narrow, 4),
            (bits(&constants), 1),
            (bits(&self.arranged.units), 1),
            (self.plan(), 1),
            (scores, 1),
        ];
        let step = step(reach(&self.coded.codec()));
        let numbers = [self.centroids(), self.docs.len(), 0, self.blocks(), self.queries.len(), 0];
        // Fewer cubes than documents ask for: each plane takes several.
        kernel.run((2, 1), &[step], &numbers, &mut buffers);
        buffers[9].0.clone()
    }

    fn check(&self, kernel: &str, got: &[u32], want: impl Fn(usize, &[f32]) -> Score) {
        assert_eq!(got.len(), self.queries.len() * self.docs.len());
        for (q, (query, got)) in self.queries.iter().zip(got.chunks(self.docs.len())).enumerate() {
            for (&doc, &got) in self.docs.iter().zip(got) {
                let Coded { dim, bits, .. } = self.coded;
                let what = || format!("{kernel}, {dim} dimensions of {bits} bits, document {doc}, query {q}");
                want(doc as usize, query).check(f32::from_bits(got), what);
            }
        }
    }
}

const LENS: &[usize] = &[1, 40, 1, 5, 15, 16, 17, 31, 32, 33, 65, 2, 3, 4, 80, 6, 7, 8, 9, 1];

#[test]
fn codes_are_scored_with_matrix_units() {
    let (Some(table), Some(narrow)) = (Emulated::new(&emit::table()), Emulated::new(&emit::narrow())) else { return };
    // Rows that are held in registers and rows that are not, tokens that fill their words and tokens that do not.
    for (dim, bits) in [(128, 4), (128, 2), (128, 1), (96, 4), (24, 1), (256, 4)] {
        let Some(kernel) = Emulated::new(&emit::matrix(dim, bits as usize)) else { return };
        for (seed, rows) in (0..).zip([&[32][..], &[1], &[33, 7, 64], &[1; 40]]) {
            let case = Case::new(seed, dim, bits, LENS, rows);
            let scores = case.matrix(&kernel, case.narrow(&narrow, case.table(&table)));
            let coded = &case.coded;
            case.check("codes", &scores, |doc, query| coded.score(doc, query).with_slack(coded.rounding(doc, query)));
        }
    }
}
