//! The CUDA source of kernels, made without a device, and run on a processor: compiled as C++, with the units of a cube taking
//! turns. Slow, but it computes what a GPU is to compute, matrix units included, and says where memory is read that is
//! not there.
//!
//! Where there is no C++ compiler (`c++`, with its address sanitizer), tests say that they test nothing.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says what it skips")]
#![allow(clippy::field_reassign_with_default, reason = "CubeCL does not export the type's name")]

use std::path::Path;
use std::process::Command;

use cubecl::Compiler;
use cubecl::cuda::CudaRuntime;
use cubecl::ir::AddressType;
use cubecl::prelude::*;
use tempfile::TempDir;

/// In the place of CUDA's own.
const HEADERS: [(&str, &str); 3] = [
    ("cuda_runtime.h", include_str!("cuda_runtime.h")),
    ("cuda_fp16.h", include_str!("cuda_fp16.h")),
    ("mma.h", include_str!("mma.h")),
];

type CudaCompiler = <CudaRuntime as Runtime>::Compiler;

/// The folder to write to; without it the sources are made and thrown away.
const FOLDER: &str = "LATEWOOD_CUDA_SOURCES";

/// The parts of a kernel while it is built: its buffers and numbers, in order, then its body.
pub(crate) struct Build(pub(crate) KernelBuilder);

impl Build {
    pub(crate) fn new() -> Self {
        let mut builder = KernelBuilder::default();
        builder.runtime_properties(CudaRuntime::target_properties());
        AddressType::U32.register(&mut builder.scope);
        Self(builder)
    }

    pub(crate) fn input<T: CubePrimitive>(&mut self) -> NativeExpand<Array<T>> {
        <Array<T> as LaunchArg>::expand(&ArrayCompilationArg { inplace: None }, &mut self.0)
    }

    pub(crate) fn output<T: CubePrimitive>(&mut self) -> NativeExpand<Array<T>> {
        <Array<T> as LaunchArg>::expand_output(&ArrayCompilationArg { inplace: None }, &mut self.0)
    }

    pub(crate) fn number(&mut self) -> NativeExpand<usize> {
        <usize as LaunchArg>::expand(&Default::default(), &mut self.0)
    }

    pub(crate) fn float(&mut self) -> NativeExpand<f32> {
        <f32 as LaunchArg>::expand(&Default::default(), &mut self.0)
    }

    /// Compiles the kernel as it is launched, with its bounds checked.
    pub(crate) fn source(self, name: &str, cube_dim: CubeDim) -> Source {
        let definition = self.0.build(KernelSettings::default().cube_dim(cube_dim).kernel_name(name));
        let mut options = <CudaCompiler as Compiler>::CompilationOptions::default();
        options.warp_size = 32;
        options.supports_features.fast_math = true;
        options.supports_features.grid_constants = true;
        let address = AddressType::U32.unsigned_type();
        let compiled = CudaCompiler::default().compile(definition, &options, ExecutionMode::Checked, address);
        Source { name: name.into(), text: compiled.unwrap().to_string(), cube_dim }
    }
}

/// A kernel in CUDA's language.
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) cube_dim: CubeDim,
}

impl Source {
    pub(crate) fn write(&self) {
        let Self { name, text, .. } = self;
        assert!(text.contains("__global__") && text.contains(name), "{text}");
        if let Some(folder) = std::env::var_os(FOLDER) {
            std::fs::write(Path::new(&folder).join(format!("{name}.cu")), text).unwrap();
        }
    }
}

/// A kernel that a processor runs.
pub(crate) struct Emulated {
    folder: TempDir,
    units: CubeDim,
}

impl Emulated {
    pub(crate) fn new(source: &Source) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        // What a unit of a plane does in inline assembly, in words.
        let text = match (source.text.find("asm volatile("), source.text.find("    }\n    \n")) {
            (Some(start), Some(end)) if start < end => {
                format!("{}{MULTIPLY}{}", &source.text[..start], &source.text[end..])
            }
            _ => source.text.clone(),
        };
        let main = format!("int main(int, char **arguments) {{ return emulated::run({}, arguments); }}\n", source.name);
        std::fs::write(folder.path().join("kernel.cpp"), text + &main).unwrap();
        for (name, header) in HEADERS {
            std::fs::write(folder.path().join(name), header).unwrap();
        }
        let mut compiler = Command::new("c++");
        compiler.args(["-std=c++17", "-O0", "-w", "-fsanitize=address", "-ffp-contract=off"]);
        compiler.args(["-I.", "-o", "kernel", "kernel.cpp"]);
        let Ok(made) = compiler.current_dir(&folder).output() else {
            eprintln!("NOT TESTED, there is no C++ compiler");
            return None;
        };
        assert!(made.status.success(), "{}: {}", source.name, String::from_utf8_lossy(&made.stderr));
        Some(Self { folder, units: source.cube_dim })
    }

    /// Runs so many cubes, by dimension; `buffers` are the kernel's, in order, of values of so many words each.
    pub(crate) fn run(
        &self,
        cubes: (usize, usize),
        floats: &[f32],
        numbers: &[usize],
        buffers: &mut [(Vec<u32>, usize)],
    ) {
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
        let bytes = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        std::fs::write(path("info".into()), bytes(&info)).unwrap();
        for (i, (words, _)) in buffers.iter().enumerate() {
            std::fs::write(path(i.to_string()), bytes(words)).unwrap();
        }
        let mut kernel = Command::new(path("kernel".into()));
        let [x, y] = [self.units.x, self.units.y].map(|n| n.to_string());
        kernel.arg(".").args([x, y, cubes.0.to_string(), cubes.1.to_string()]);
        let ran = kernel.current_dir(&self.folder).output().unwrap();
        assert!(ran.status.success(), "{:?}: {}", ran.status, String::from_utf8_lossy(&ran.stderr));
        for (i, (words, _)) in buffers.iter_mut().enumerate() {
            let bytes = std::fs::read(path(i.to_string())).unwrap();
            *words = bytes.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect();
        }
    }
}

const MULTIPLY: &str = "const uint32 a[4] = {reg_a_0, reg_a_1, reg_a_2, reg_a_3}, b[2] = {reg_b_0, reg_b_1};
const float c[4] = {reg_c_0, reg_c_1, reg_c_2, reg_c_3};
float *d[4] = {&reg_d_0, &reg_d_1, &reg_d_2, &reg_d_3};
emulated::multiply(a, b, c, d);
";
