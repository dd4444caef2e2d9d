//! Searches and builds on a device that is lost, or whose memory others have filled: an emulated one (kernels/emulator), which fails
//! as the environment says. So each runs in a process of its own.
#![cfg(all(feature = "cuda", feature = "wgpu"))]

use std::process::{Command, Output};

use cubecl::cuda::CudaRuntime;
use cubecl::prelude::Runtime;
use cubecl::wgpu::WgpuRuntime;
use latewood_engine::{CpuBackend, DocId, Error, IndexOptions, Prefilter};
use latewood_kernels::{Adapter, Client, Device, GpuBackend, GpuError, GpuOptions, Kind, found};

use crate::building::{self, Collection, empty};
use crate::searching::{assert_alike, index, params, queries};

const DIM: usize = 128;
/// The device that is asked for, and how many pieces of its memory are taken.
const ASKED: &str = "LATEWOOD_TEST_DEVICE";
const TAKEN: &str = "LATEWOOD_TEST_TAKEN";
const PIECE: usize = 1 << 16;

/// What became of the searches, as their process tells it.
const UNUSABLE: &str = "the device cannot be used";
const FAILED: &str = "something failed";
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

/// A commit is whole, or fails and leaves the one before; with [`Device::Auto`] none fails.
#[test]
#[ignore = "for a process whose device fails"]
fn builds() {
    let asked: Device = std::env::var(ASKED).unwrap().parse().unwrap();
    let device = Device::Cuda(0).resolve().unwrap();
    let collection = Collection::new(400, 5);
    let (first, _) = collection.docs[0].clone();
    let before = Collection { docs: vec![(DocId(9999), collection.docs[0].1.clone())], queries: Vec::new() };
    let index = empty(&IndexOptions::new(building::DIM), CpuBackend::new());
    before.add_to(&index, true).unwrap();
    let Ok(backend) = GpuBackend::open(&device, &GpuOptions::new(asked)) else { return println!("{UNUSABLE}") };
    let there = index.clone().with_backend(backend.clone());
    match collection.add_to(&there, true) {
        Ok(()) => println!("{}", if backend.status().failure.is_some() { TOOK_OVER } else { WELL }),
        Err(Error::Device { .. }) if asked != Device::Auto => {
            println!("{FAILED}");
            assert_eq!(index.searcher().unwrap().documents(), [DocId(9999)], "the last commit stays");
            // Whoever opens it elsewhere goes on.
            collection.add_to(&index, true).unwrap();
        }
        Err(error) => panic!("{asked}: {error}"),
    }
    let searcher = index.searcher().unwrap();
    assert_eq!((searcher.documents().len(), index.verify(&()).len()), (collection.docs.len() + 1, 0));
    assert!(searcher.embeddings(first).unwrap().is_some());
}

/// Takes memory until there is no more of it.
#[test]
#[ignore = "for a process of little memory"]
fn fills() {
    let device = software().unwrap().resolve().unwrap().wgpu().unwrap();
    let (client, raw) = (Client::<WgpuRuntime>::connect(&device).unwrap(), WgpuRuntime::client(&device));
    let mut taken = Vec::new();
    let full = (0..200).find_map(|_| {
        taken.push(raw.empty(100 << 20));
        client.check().err()
    });
    assert!(matches!(full, Some(GpuError::Full(_))), "{full:?}");
    // It goes on working, with what it gets back.
    taken.truncate(taken.len() / 2);
    client.release().unwrap();
    assert_eq!(client.read(&client.upload("numbers", &[1u32, 2]).unwrap()).unwrap(), [1, 2]);
    println!("{WELL}");
}

/// An adapter whose memory is the process's: a GPU may have much, and others may need it.
fn software() -> Option<Device> {
    let software = |adapter: &&Adapter| adapter.kind == Kind::Software && matches!(adapter.device, Device::Wgpu(_));
    found().adapters.iter().find(software).map(|adapter| adapter.device)
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_memory_is_noticed_on_vulkan() {
    if software().is_none() {
        return eprintln!("NOT TESTED, there is no software adapter");
    }
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 10000000; exec \"$0\" --exact failing::fills --ignored --nocapture"]);
    let output = command.arg(std::env::current_exe().unwrap()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told(&output, WELL) && !errors.contains("panicked"), "{errors}");
}

/// The test `name` on `asked`, in a process of its own; none where there is no emulated device.
fn process(name: &str, asked: Device, variables: &[(&str, u64)]) -> Option<Output> {
    if std::env::var_os("EMULATOR_PROGRAMS").is_none() {
        eprintln!("NOT TESTED, there is no emulated device");
        return None;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("failing::{name}"), "--ignored", "--nocapture"]).env(ASKED, asked.to_string());
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
    for (name, before_end) in [("searches", [1, 2, 4]), ("builds", [1, 3, 8])] {
        let Some(well) = process(name, Device::Cuda(0), &[("EMULATOR_TRACE", 1)]) else { return };
        assert!(told(&well, WELL));
        let errors = String::from_utf8_lossy(&well.stderr);
        let launches = errors.lines().filter(|line| line.contains("cubes,")).count() as u64;
        for asked in [Device::Cuda(0), Device::Auto] {
            let lost = |launches| process(name, asked, &[("EMULATOR_LOST", launches)]).unwrap();
            assert!(told(&lost(0), UNUSABLE));
            for before_end in before_end {
                let output = lost(launches - before_end);
                let expected = if asked == Device::Auto { TOOK_OVER } else { FAILED };
                assert!(told(&output, expected), "{name}, {asked}, {before_end}: {output:?}");
            }
        }
    }
}

#[test]
fn a_full_device_keeps_less_or_fails_or_the_processor_takes_over() {
    // 64 MiB, and what a search takes but for the index has 16 of its own.
    let full = |asked, pieces| process("searches", asked, &[("EMULATOR_MEMORY", 64 << 20), (TAKEN, pieces)]);
    let Some(fails) = full(Device::Cuda(0), 520) else { return };
    assert!(told(&fails, FAILED));
    assert!(told(&full(Device::Auto, 520).unwrap(), TOOK_OVER));
    let fits: Vec<Output> = (488..=504).step_by(4).map(|pieces| full(Device::Cuda(0), pieces).unwrap()).collect();
    assert!(fits.iter().any(|output| told(output, WELL) && told(output, SHRANK)), "{fits:?}");
}
