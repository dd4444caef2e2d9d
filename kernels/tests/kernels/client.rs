//! Memory and limits.

use cubecl::prelude::Runtime;
use latewood_kernels::{Client, Codec, GpuError, Queries, Shard, copy, outline, residual, table, top};

use crate::gpus::{Test, on_every_gpu};
use crate::reference::{Coded, query, rng};

struct Memory;

impl Test for Memory {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        for len in [0, 1, 3, 1000, 1_000_003] {
            let values: Vec<u32> = (0..len).map(|i| i * 7).collect();
            assert_eq!(client.read(&client.keep("values", &values).unwrap()).unwrap(), values);
            assert_eq!(client.read(&client.upload("values", &values).unwrap()).unwrap(), values);
        }
    }
}

struct Copy;

impl Test for Copy {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        for len in [0usize, 4, 1024, 1028, 100_000] {
            let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let copied = copy(client, &client.upload("values", &values).unwrap()).unwrap();
            assert_eq!(client.read(&copied).unwrap(), values);
        }
        let odd = client.upload("values", &[1.0f32; 5]).unwrap();
        assert!(matches!(copy(client, &odd), Err(GpuError::Mismatch(_))));
    }
}

#[test]
fn copies_are_alike() {
    on_every_gpu(&Copy);
}

#[test]
fn what_is_written_is_read() {
    on_every_gpu(&Memory);
}

struct Release;

impl Test for Release {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        client.release().unwrap();
        let before = client.memory().unwrap();
        let kept = client.keep("bytes", &vec![1u8; 9_000_000]).unwrap();
        let with = client.memory().unwrap();
        assert!(with.used >= before.used + 9_000_000, "{before:?}, then {with:?}");
        drop(kept);
        client.release().unwrap();
        let after = client.memory().unwrap();
        assert_eq!(after.used, before.used);
        assert!(after.reserved + 9_000_000 <= with.reserved, "{with:?}, then {after:?}");
    }
}

#[test]
fn memory_is_given_back() {
    on_every_gpu(&Release);
}

struct Errors;

impl Test for Errors {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        let mut rng = rng(1);
        let coded = Coded::random(&mut rng, 24, 4, 5, &[3, 4]);
        let other = Coded::random(&mut rng, 24, 2, 5, &[3]);
        let (codec, other_codec) =
            (Codec::new(client, &coded.codec()).unwrap(), Codec::new(client, &other.codec()).unwrap());
        let shard = Shard::new(client, &codec, &coded.shard()).unwrap();
        let rows = query(&mut rng, 3, 24);
        let queries = Queries::rotated(client, &codec, &[&rows]).unwrap();
        let many = Queries::rotated(client, &codec, &[&rows[..]; 20]).unwrap();
        let scored = table(client, &codec, &queries).unwrap();
        let docs = client.upload("documents", &[0u32]).unwrap();

        let mismatch = |error: GpuError| assert!(matches!(error, GpuError::Mismatch(_)), "{error}");
        mismatch(residual(client, &other_codec, &shard, &queries, &scored, &docs).unwrap_err());
        mismatch(residual(client, &codec, &shard, &many, &scored, &docs).unwrap_err());
        mismatch(
            residual(client, &codec, &shard, &Queries::new(client, 24, &[&rows]).unwrap(), &scored, &docs).unwrap_err(),
        );
        mismatch(outline(client, &codec, &shard, &many, &scored, &docs).unwrap_err());
        mismatch(Shard::new(client, &other_codec, &coded.shard()).unwrap_err());
        mismatch(Queries::new(client, 24, &[]).unwrap_err());
        mismatch(Queries::new(client, 24, &[&[]]).unwrap_err());
        mismatch(Queries::new(client, 12, &[&rows]).unwrap_err());
        mismatch(top(client, &client.upload("scores", &[1.0f32]).unwrap(), 1, 1025).unwrap_err());

        // A position outside the shard reads nothing outside of it, and ranks last.
        let docs = client.upload("documents", &[1u32, 2, 3, u32::MAX, 0]).unwrap();
        let got = client.read(&residual(client, &codec, &shard, &queries, &scored, &docs).unwrap()).unwrap();
        coded.score(1, &rows).check(got[0], || "inside".into());
        coded.score(0, &rows).check(got[4], || "inside".into());
        assert!(got[1..4].iter().all(|&score| score < -1e20), "{got:?}");
    }
}

#[test]
fn what_does_not_belong_together_is_refused() {
    on_every_gpu(&Errors);
}

struct TooLarge;

impl Test for TooLarge {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        let client = client.clone().with_allocations_up_to(1 << 20);
        let limit = client.limits().allocation;
        let error = client.upload("bytes", &vec![0u8; limit as usize + 1]).unwrap_err();
        assert!(matches!(error, GpuError::TooLarge { .. }), "{error}");
        assert!(client.upload("bytes", &[1u8; 7]).is_ok());
    }
}

#[test]
fn what_is_too_large_is_refused() {
    on_every_gpu(&TooLarge);
}

#[test]
fn what_lies_on_a_device_goes_between_threads() {
    fn goes<T: Send + Sync>() {}
    goes::<Codec>();
    goes::<Shard>();
    goes::<Queries>();
    goes::<latewood_kernels::Table>();
    goes::<latewood_kernels::DenseTokens<half::f16>>();
    #[cfg(feature = "wgpu")]
    goes::<Client<cubecl::wgpu::WgpuRuntime>>();
    #[cfg(feature = "cuda")]
    goes::<Client<cubecl::cuda::CudaRuntime>>();
}
