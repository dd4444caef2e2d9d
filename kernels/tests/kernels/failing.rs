//! Searches on a device that is lost, or whose memory others have filled: an emulated one (kernels/emulator), which fails as the
//! environment says. So each runs in a process of its own.
#![cfg(feature = "cuda")]

use std::process::{Command, Output};

use cubecl::cuda::CudaRuntime;
use latewood_engine::{Error, IndexOptions, Prefilter};
use latewood_kernels::{Client, Device, GpuBackend, GpuOptions};

use crate::searching::{assert_alike, index, params, queries};

const DIM: usize = 128;
/// The device that is asked for, and how many pieces of its memory are taken.
const ASKED: &str = "LATEWOOD_TEST_DEVICE";
const TAKEN: &str = "LATEWOOD_TEST_TAKEN";
const PIECE: usize = 1 << 16;

/// What became of the searches, as their process tells it.
const UNUSABLE: &str = "the device cannot be used";
const FAILED: &str = "a search failed";
const TOOK_OVER: &str = "the processor took over";
const SHRANK: &str = "less stays on the device";
const WELL: &str = "all went well";

/// Its searches find what the processor's find, or fail; with [`Device::Auto`] none does.
#[test]
#[ignore = "for a process whose device fails"]
fn searches() {
    let index = index(IndexOptions::new(DIM), DIM);
    let params = params(10, true, Prefilter::None);
    let cpu = index.searcher().unwrap();
    let from = |name| std::env::var(name).ok();
    let asked: Device = from(ASKED).unwrap().parse().unwrap();
    let device = Device::Cuda(0).resolve().unwrap();
    let _taken = from(TAKEN).map(|pieces| {
        let others = Client::<CudaRuntime>::connect(&device.cuda().unwrap()).unwrap();
        let piece = |_| others.keep("what others have", &[0_u8; PIECE]).unwrap();
        (0..pieces.parse().unwrap()).map(piece).collect::<Vec<_>>()
    });
    let mut options = GpuOptions::new(asked);
    options.budget = Some(1 << 40);
    let Ok(backend) = GpuBackend::open(&device, &options) else { return println!("{UNUSABLE}") };
    let gpu = index.clone().with_backend(backend.clone()).searcher().unwrap();
    let mut failed = false;
    for query in queries(DIM).iter().take(4) {
        match gpu.search(query, &params) {
            Ok(found) => {
                let expected = cpu.search(query, &params).unwrap();
                assert_alike(&found.hits, &expected.hits, query.values().len() / DIM);
            }
            Err(Error::Device { .. }) if asked != Device::Auto => failed = true,
            Err(error) => panic!("{asked}: {error}"),
        }
    }
    let status = backend.status();
    println!(
        "{}",
        if status.failure.is_some() {
            TOOK_OVER
        } else if failed {
            FAILED
        } else {
            WELL
        }
    );
    if status.budget < 1 << 40 {
        println!("{SHRANK}");
    }
}

/// [`searches`] on `asked`, in a process of its own; none where there is no emulated device.
fn process(asked: Device, variables: &[(&str, u64)]) -> Option<Output> {
    if std::env::var_os("EMULATOR_PROGRAMS").is_none() {
        eprintln!("NOT TESTED, there is no emulated device");
        return None;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "failing::searches", "--ignored", "--nocapture"]).env(ASKED, asked.to_string());
    command.envs(variables.iter().map(|(name, value)| (name, value.to_string())));
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{asked}, {variables:?}: {errors}");
    // CubeCL panics where memory is full: that is an error, and not printed.
    assert!(!errors.contains("panicked"), "{asked}, {variables:?}: {errors}");
    Some(output)
}

fn told(output: &Output, what: &str) -> bool {
    String::from_utf8_lossy(&output.stdout).contains(what)
}

#[test]
fn a_lost_device_fails_or_the_processor_takes_over() {
    let Some(well) = process(Device::Cuda(0), &[("EMULATOR_TRACE", 1)]) else { return };
    assert!(told(&well, WELL));
    let launches = String::from_utf8_lossy(&well.stderr).lines().filter(|line| line.contains("cubes,")).count() as u64;
    for asked in [Device::Cuda(0), Device::Auto] {
        let lost = |launches| process(asked, &[("EMULATOR_LOST", launches)]).unwrap();
        assert!(told(&lost(0), UNUSABLE));
        for last in [1, 2, 4] {
            let output = lost(launches - last);
            assert!(told(&output, if asked == Device::Auto { TOOK_OVER } else { FAILED }), "{asked}: {output:?}");
        }
    }
}

#[test]
fn a_full_device_keeps_less_or_fails_or_the_processor_takes_over() {
    // 64 MiB, and what a search takes but for the index has 16 of its own.
    let full = |asked, pieces| process(asked, &[("EMULATOR_MEMORY", 64 << 20), (TAKEN, pieces)]);
    let Some(fails) = full(Device::Cuda(0), 520) else { return };
    assert!(told(&fails, FAILED));
    assert!(told(&full(Device::Auto, 520).unwrap(), TOOK_OVER));
    let fits: Vec<Output> = (488..=504).step_by(4).map(|pieces| full(Device::Cuda(0), pieces).unwrap()).collect();
    assert!(fits.iter().any(|output| told(output, WELL) && told(output, SHRANK)), "{fits:?}");
}
