//! Products of rows with a layer's weights, for planes of 32 units and matrix units, in half precision; bias, GELU and rounding
//! are done before anything is written.
//!
//! A cube makes [`TILE`] rows by [`TILE`] columns, and each of its planes a quarter of them, from sums in registers. Of both
//! factors it holds [`STEP`] values of each row and column in shared memory, twice: while matrix units take the one, the
//! next is on its way from memory, in registers. Rows there are parted into eights, and these lie so that a plane that
//! reads eight rows, or writes them, meets each bank once.
//!
//! CubeCL's own choice on such devices (256 by 256, one stage) spills registers and stands still while it loads; see
//! BENCHMARKS.md. Small products are left to it. On a GPU this kernel has not run yet: `probe.rs` compares it first.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cmma::{MatrixIdent, MmaDefinition};
use cubecl::prelude::*;

use super::attention;
use super::kernels::gelu_of;

const PLANE: usize = 32;
/// Planes of a cube: two by two.
const PLANES: usize = 4;
const UNITS: usize = PLANE * PLANES;
/// Rows of a cube, and columns.
pub(super) const TILE: usize = 128;
/// Rows of a plane, and columns.
const PART: usize = TILE / 2;
/// Values of a row at a time.
pub(super) const STEP: usize = 32;
/// Values that are moved together.
const EIGHT: usize = 8;
/// Eights of a row at a time.
const CHUNKS: usize = STEP / EIGHT;
/// Eights that a unit moves, of each factor at a time.
const MOVES: usize = TILE * CHUNKS / UNITS;
/// Eights of a factor in shared memory.
const STAGE: usize = TILE * CHUNKS;
/// Blocks of 16 rows of a plane, and of 8 columns.
const BLOCKS: [usize; 2] = [PART / 16, PART / 8];

type Eight<F> = Vector<F, Const<8>>;
/// An eight as it is moved: halves by themselves cost instructions.
type Words = Vector<u32, Const<4>>;
type Two<F> = Vector<F, Const<2>>;
type Sums = Array<Vector<f32, Const<2>>>;

/// What is done with sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Finish {
    adds: bool,
    gelu: bool,
}

/// Whether the device has what the kernel takes, for factors in `numbers`.
pub(super) fn offered<R: CubeRuntime>(client: &ComputeClient<R>, numbers: DType) -> bool {
    let properties = client.properties();
    let loads = properties.features.matmul.ldmatrix.contains(&numbers.into());
    let shared = 4 * STAGE * EIGHT * size_of::<half::f16>();
    // The rest is what attention takes, whatever the width.
    loads && properties.hardware.max_shared_memory_size >= shared && attention::offered(client, 16, numbers)
}

/// Whether so many rows are worth it: with fewer than those of two tiles most of a large GPU would have nothing to do.
pub(super) fn pays(rows: usize) -> bool {
    rows >= 2 * TILE
}

/// Whether the kernel can do it: `x`, `[n, k]`, and `weight`, `[m, k]`, have rows that begin where an eight may.
pub(crate) fn takes<R: CubeRuntime>(x: &CubeTensor<R>, weight: &CubeTensor<R>) -> bool {
    let [(_, k), (m, _)] = [x, weight].map(|x| (x.meta.shape()[0], x.meta.shape()[1]));
    let whole = |x: &CubeTensor<R>| x.meta.strides()[1] == 1 && x.meta.strides()[0].is_multiple_of(EIGHT);
    k >= STEP && k.is_multiple_of(STEP) && m.is_multiple_of(EIGHT) && whole(x) && whole(weight)
}

/// `x weight^T + bias`, `[n, m]` as `numbers`, of what the kernel [`takes`]; `bias` `[m]`.
pub(crate) fn product<R: CubeRuntime>(
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
    gelu: bool,
    numbers: DType,
) -> CubeTensor<R> {
    let ([n, k], m) = ([0, 1].map(|at| x.meta.shape()[at]), weight.meta.shape()[0]);
    let make = |shape, numbers| empty_device_dtype(x.client.clone(), x.device.clone(), shape, numbers);
    let out: CubeTensor<R> = make(Shape::from([n, m]), numbers);
    let finish = Finish { adds: bias.is_some(), gelu };
    // What stands for no bias is read by nobody.
    let bias = bias.unwrap_or_else(|| make(Shape::from([1]), DType::F32));
    let [row, column, out_row] = [&x, &weight, &out].map(|x| x.meta.strides()[0]);
    let factors = x.dtype;
    product_kernel::launch::<R>(
        &out.client,
        CubeCount::Static(m.div_ceil(TILE) as u32, n.div_ceil(TILE) as u32, 1),
        CubeDim::new_2d(PLANE as u32, PLANES as u32),
        x.into_array_arg(),
        weight.into_array_arg(),
        bias.into_array_arg(),
        out.clone().into_array_arg(),
        n,
        m,
        k / STEP,
        row / EIGHT,
        column / EIGHT,
        out_row / 2,
        finish,
        factors.into(),
        numbers.into(),
    );
    out
}

/// One cube a tile: its columns in `x`, its rows in `y`. `x` `[n, k]` and `weight` `[m, k]` in eights, whose rows are `row` and
/// `column` eights apart; `out` `[n, m]` in pairs, rows `out_row` pairs apart.
#[cube(launch)]
fn product_kernel<F: Float, O: Float>(
    x: &Array<Words>,
    weight: &Array<Words>,
    bias: &Array<f32>,
    out: &mut Array<Two<O>>,
    n: usize,
    m: usize,
    steps: usize,
    row: usize,
    column: usize,
    out_row: usize,
    #[comptime] finish: Finish,
    #[define(F)] _factors: StorageType,
    #[define(O)] _numbers: StorageType,
) {
    let (first_row, first_column) = (CUBE_POS_Y as usize * TILE, CUBE_POS_X as usize * TILE);
    let mut rows = SharedMemory::<Eight<F>>::new(comptime!(2 * STAGE));
    let mut columns = SharedMemory::<Eight<F>>::new(comptime!(2 * STAGE));
    let mut sums = Sequence::<Sums>::new();
    #[unroll]
    for _ in 0..comptime!(BLOCKS[0] * BLOCKS[1]) {
        let mut none = Array::<Vector<f32, Const<2>>>::new(2usize);
        none[0] = Vector::new(0.0f32);
        none[1] = Vector::new(0.0f32);
        sums.push(none);
    }
    // Where this unit's eights come from, and where they go.
    let unit = UNIT_POS as usize;
    let (own, chunk) = (unit / CHUNKS, unit % CHUNKS);
    let to = place(own, chunk);
    let of_rows = starts(first_row + own, n, row, chunk);
    let of_columns = starts(first_column + own, m, column, chunk);
    // And where it reads: of four matrices of eight rows by eight values each unit tells where a row begins.
    let (plane, other) = (UNIT_POS_Y as usize, UNIT_POS_X as usize);
    let left = place(plane / 2 * PART + other % 16, other / 16);
    let right = place(plane % 2 * PART + other / 16 * 8 + other % 8, other / 8 % 2);

    let mut next_rows = Array::<Words>::new(MOVES);
    let mut next_columns = Array::<Words>::new(MOVES);
    fetch(x, &of_rows, 0, &mut next_rows);
    fetch(weight, &of_columns, 0, &mut next_columns);
    put::<F>(&mut rows, to, &next_rows);
    put::<F>(&mut columns, to, &next_columns);
    sync_cube();
    let mut stage = 0usize;
    for step in 0..steps {
        let more = step + 1 < steps;
        if more {
            fetch(x, &of_rows, (step + 1) * CHUNKS, &mut next_rows);
            fetch(weight, &of_columns, (step + 1) * CHUNKS, &mut next_columns);
        }
        #[unroll]
        for half in 0..comptime!(STEP / 16) {
            // The place of the next eights but one differs in a bit.
            let (left, right) = ((stage + left) ^ comptime!(half * 2), (stage + right) ^ comptime!(half * 2));
            multiply::<F>(&rows, &columns, left, right, &mut sums);
        }
        stage = STAGE - stage;
        if more {
            put::<F>(&mut rows, stage + to, &next_rows);
            put::<F>(&mut columns, stage + to, &next_columns);
        }
        sync_cube();
    }
    let from = (first_row + UNIT_POS_Y as usize / 2 * PART, first_column + UNIT_POS_Y as usize % 2 * PART);
    write::<O>(out, bias, &sums, from, (n, m), out_row, finish);
}

/// Where a unit's eights begin, a quarter of the tile apart; the last row stands for those that are not there.
#[cube]
fn starts(first: usize, rows: usize, apart: usize, chunk: usize) -> Array<usize> {
    let mut at = Array::<usize>::new(MOVES);
    #[unroll]
    for i in 0..MOVES {
        at[i] = min(first + comptime!(i * UNITS / CHUNKS), rows - 1) * apart + chunk;
    }
    at
}

#[cube]
fn fetch(from: &Array<Words>, starts: &Array<usize>, further: usize, eights: &mut Array<Words>) {
    #[unroll]
    for i in 0..MOVES {
        eights[i] = from.read_unchecked(starts[i] + further);
    }
}

/// Where an eight of a row lies: two rows fill all banks, and so do the same eights of eight rows. Eight rows further on it is
/// as many places further on.
#[cube]
fn place(row: usize, chunk: usize) -> usize {
    row * CHUNKS + (chunk ^ ((row / 2) % CHUNKS))
}

#[cube]
fn put<F: Float>(to: &mut SharedMemory<Eight<F>>, at: usize, eights: &Array<Words>) {
    #[unroll]
    for i in 0..MOVES {
        to[at + comptime!(i * UNITS)] = Eight::<F>::reinterpret(eights[i]);
    }
}

/// Adds the products of a plane's rows and columns over 16 values, where this unit tells that rows begin at `left` and `right`.
#[cube]
fn multiply<F: Float>(
    rows: &SharedMemory<Eight<F>>,
    columns: &SharedMemory<Eight<F>>,
    left: usize,
    right: usize,
    sums: &mut Sequence<Sums>,
) {
    let unit = MmaDefinition::<F, F, f32>::new(16usize, 8usize, 16usize);
    let mut pairs = Sequence::<Array<Two<F>>>::new();
    #[unroll]
    for block in 0..comptime!(BLOCKS[1] / 2) {
        let at = right + comptime!(block * 16 * CHUNKS);
        let four = unit.load_matrix::<Eight<F>, Const<2>>(&columns.slice(at, at + 1), MatrixIdent::B, 4usize, false);
        #[unroll]
        for i in 0..2usize {
            let mut two = Array::<Two<F>>::new(2usize);
            two[0] = four[comptime!(i * 2)];
            two[1] = four[comptime!(i * 2 + 1)];
            pairs.push(two);
        }
    }
    #[unroll]
    for block in 0..comptime!(BLOCKS[0]) {
        let at = left + comptime!(block * 16 * CHUNKS);
        let four = unit.load_matrix::<Eight<F>, Const<2>>(&rows.slice(at, at + 1), MatrixIdent::A, 4usize, false);
        #[unroll]
        for other in 0..comptime!(BLOCKS[1]) {
            unit.execute_inplace(&four, pairs.index(other), sums.index_mut(comptime!(block * BLOCKS[1] + other)));
        }
    }
}

/// Finishes a plane's sums, from row and column `from` on, and writes those that there are.
#[cube]
fn write<O: Float>(
    out: &mut Array<Two<O>>,
    bias: &Array<f32>,
    sums: &Sequence<Sums>,
    from: (usize, usize),
    shape: (usize, usize),
    out_row: usize,
    #[comptime] finish: Finish,
) {
    let (first_row, first_column) = from;
    let (n, m) = shape;
    let (group, quarter) = (UNIT_POS_X as usize / 4, UNIT_POS_X as usize % 4);
    #[unroll]
    for other in 0..comptime!(BLOCKS[1]) {
        let column = first_column + comptime!(other * 8) + quarter * 2;
        if column < m {
            let mut own = Vector::<f32, Const<2>>::new(0.0);
            if comptime!(finish.adds) {
                own[0] = bias[column];
                own[1] = bias[column + 1];
            }
            #[unroll]
            for block in 0..comptime!(BLOCKS[0]) {
                #[unroll]
                for i in 0..2usize {
                    let row = first_row + comptime!(block * 16 + i * 8) + group;
                    if row < n {
                        let mut sum = sums.index(comptime!(block * BLOCKS[1] + other))[i] + own;
                        if comptime!(finish.gelu) {
                            sum[0] = gelu_of::<f32>(sum[0]);
                            sum[1] = gelu_of::<f32>(sum[1]);
                        }
                        out[row * out_row + column / 2] = Vector::cast_from(sum);
                    }
                }
            }
        }
    }
}
