//! Encoders on a device that is lost, or whose memory is full: an emulated one (kernels/emulator), which fails as the environment
//! says. So each runs in a process of its own.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says what it skips")]

#[expect(dead_code, reason = "other tests compare with references")]
mod reference;

use std::process::{Command, Output};

use latewood_encoder::{ColbertEncoder, Compute, EncoderDevice, Error, Precision, Side};
use latewood_kernels::{Client, Device};

/// Whether the processor may take over, and whether others take all memory that is left once the model is there.
const FALLS_BACK: &str = "LATEWOOD_TEST_FALLS_BACK";
const FULL: &str = "LATEWOOD_TEST_FULL";

const UNUSABLE: &str = "the device cannot be used";
const FAILED: &str = "encoding failed";
const WELL: &str = "all went well";

/// Encoders give the rows that the processor gives, or fail; where that may take over they do not.
#[test]
#[ignore = "for a process whose device fails"]
fn encodes() {
    let dir = reference::golden().join("models/pylate-default");
    let falls_back = std::env::var_os(FALLS_BACK).is_some();
    let device = Device::Cuda(0).resolve().unwrap().cuda().unwrap();
    let compute = Compute::on(EncoderDevice::Cuda(device.clone())).in_precision(Precision::F32);
    let encoder = match ColbertEncoder::open(&dir, if falls_back { compute.or_processor() } else { compute }) {
        Err(Error::Device { .. }) if !falls_back => return println!("{UNUSABLE}"),
        opened => opened.unwrap(),
    };
    let _taken = std::env::var_os(FULL).map(|_| {
        let others = Client::<cubecl::cuda::CudaRuntime>::connect(&device).unwrap();
        let pieces = std::iter::repeat_with(|| others.keep("what others have", &[0_u8; 1 << 14]).unwrap());
        pieces.take_while(|_| others.check().is_ok()).collect::<Vec<_>>()
    });
    let text = "A wide ring means a wet spring, a narrow one a dry summer. ".repeat(20);
    let count = if std::env::var_os("EMULATOR_MEMORY").is_some() { 160 } else { 8 };
    let texts: Vec<&str> = (0..count).map(|i| &text[..text.len() - i]).collect();
    match encoder.encode_raw(Side::Document, &texts) {
        Err(Error::Device { .. }) if !falls_back => println!("{FAILED}"),
        made => {
            let processor = ColbertEncoder::open(&dir, Precision::F32).unwrap();
            let expected = processor.encode_raw(Side::Document, &texts).unwrap();
            for (a, b) in made.unwrap().iter().zip(&expected) {
                assert_eq!(a.values.len(), b.values.len());
                let most = a.values.iter().zip(&b.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(most <= 5e-3, "{most}");
            }
            println!("{WELL}");
        }
    }
}

/// [`encodes`] in a process of its own; none where there is no emulated device.
fn process(falls_back: bool, variables: &[(&str, u64)]) -> Option<Output> {
    if std::env::var_os("EMULATOR_PROGRAMS").is_none() {
        eprintln!("NOT TESTED, there is no emulated device");
        return None;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "encodes", "--ignored", "--nocapture"]).env("EMULATOR_TRACE", "1");
    command.envs(variables.iter().map(|(name, value)| (name, value.to_string())));
    if falls_back {
        command.env(FALLS_BACK, "1");
    }
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{falls_back}, {variables:?}: {errors}");
    // CubeCL panics where memory is full: that is an error, and not printed.
    assert!(!errors.contains("panicked"), "{falls_back}, {variables:?}: {errors}");
    Some(output)
}

fn told(output: &Output, what: &str) -> bool {
    String::from_utf8_lossy(&output.stdout).contains(what)
}

fn launches(output: &Output) -> u64 {
    String::from_utf8_lossy(&output.stderr).lines().filter(|line| line.contains("cubes,")).count() as u64
}

#[test]
fn a_lost_device_fails_or_the_processor_takes_over() {
    let Some(well) = process(false, &[]) else { return };
    assert!(told(&well, WELL));
    for falls_back in [false, true] {
        let lost = |launches| process(falls_back, &[("EMULATOR_LOST", launches)]).unwrap();
        assert!(told(&lost(0), if falls_back { WELL } else { UNUSABLE }));
        for last in [1, 2, 5] {
            assert!(told(&lost(launches(&well) - last), if falls_back { WELL } else { FAILED }));
        }
    }
}

#[test]
fn what_a_full_device_has_no_room_for_is_encoded_in_parts() {
    let memory = ("EMULATOR_MEMORY", 8 << 20);
    let Some(roomy) = process(false, &[memory]) else { return };
    let full = process(false, &[memory, (FULL, 1)]).unwrap();
    assert!(told(&roomy, WELL) && told(&full, WELL));
    assert!(launches(&full) > 2 * launches(&roomy), "{} and {}", launches(&full), launches(&roomy));
}
