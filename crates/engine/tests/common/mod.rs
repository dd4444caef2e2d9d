//! Collections that look like token embeddings: a vocabulary of directions, each use of a word a little off.

use latewood_engine::{DocId, QueryEmbeddings, TokenEmbeddings};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) const DIM: usize = 64;

#[derive(Clone)]
pub(crate) struct Collection {
    pub(crate) docs: Vec<(DocId, TokenEmbeddings)>,
    pub(crate) queries: Vec<QueryEmbeddings>,
}

/// `docs` documents of 5 to 60 tokens, with their ids, and `queries` queries of 4 to 12 rows, each drawn from one document's words.
pub(crate) fn collection(docs: usize, queries: usize, seed: u64) -> Collection {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let vocabulary: Vec<Vec<f32>> = (0..400).map(|_| random(&mut rng)).collect();
    let words: Vec<Vec<usize>> = (0..docs)
        .map(|_| {
            let topic = rng.random_range(0..40) * 10;
            let len = rng.random_range(5..60);
            (0..len)
                .map(|_| if rng.random_bool(0.5) { topic + rng.random_range(0..10) } else { rng.random_range(0..400) })
                .collect()
        })
        .collect();
    let docs = words.iter().zip(0..).map(|(words, id)| {
        let rows = words.iter().flat_map(|&w| near(&vocabulary[w], 0.6, &mut rng)).collect();
        let ids = words.iter().map(|&w| w as u32).collect();
        (DocId(id), TokenEmbeddings::new(rows, DIM).unwrap().with_token_ids(ids).unwrap())
    });
    let docs = docs.collect();
    let queries = (0..queries)
        .map(|_| {
            let words = &words[rng.random_range(0..words.len())];
            let len = rng.random_range(4..12);
            let rows = (0..len)
                .flat_map(|_| near(&vocabulary[words[rng.random_range(0..words.len())]], 0.6, &mut rng))
                .collect();
            QueryEmbeddings::new(rows, DIM).unwrap()
        })
        .collect();
    Collection { docs, queries }
}

fn random(rng: &mut ChaCha8Rng) -> Vec<f32> {
    let row: Vec<f32> = (0..DIM).map(|_| rng.random_range(-1.0..1.0f32) + rng.random_range(-1.0..1.0f32)).collect();
    unit(row)
}

fn near(row: &[f32], noise: f32, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let other = random(rng);
    unit(row.iter().zip(other).map(|(a, b)| a + noise * b).collect())
}

fn unit(mut row: Vec<f32>) -> Vec<f32> {
    let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    row.iter_mut().for_each(|x| *x /= norm);
    row
}
