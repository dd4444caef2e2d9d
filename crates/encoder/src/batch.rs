//! Which texts go through the network together.
//!
//! A batch is a rectangle, `texts * longest`; what a shorter text does not fill is padding, computed for
//! nothing. So texts are sorted by length before they are cut into batches, and a batch takes texts as
//! long as its rectangle stays within a budget of tokens: memory is bounded whatever the lengths, and
//! padding is a few in a hundred.

use burn::prelude::*;

/// Tokens of a batch, padding included, unless one text alone has more: enough for matrix products to run at
/// full speed, few enough for their results (6 MB at 1536 values a token) to stay in a cache.
pub(crate) const BUDGET: usize = 1024;

/// Cuts texts of the lengths `lens` into batches of indices, shortest texts first.
pub(crate) fn plan(lens: &[usize], budget: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lens.len()).collect();
    order.sort_by_key(|&i| lens[i]);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for i in order {
        match batches.last_mut() {
            // Sorted: text `i` is the longest of the batch it joins.
            Some(batch) if (batch.len() + 1) * lens[i] <= budget => batch.push(i),
            _ => batches.push(vec![i]),
        }
    }
    batches
}

/// The tokens of a text as the network sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) ids: Vec<u32>,
    /// How many of them are attended to, counted from the first; the others attend to these only.
    pub(crate) attended: usize,
}

/// How the tokens of a text are numbered, where the network has a table of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Positions {
    /// From 0, in order.
    Plain,
    /// As RoBERTa's: the number of tokens up to this one that are not padding, plus the id of padding; a token of
    /// padding has that id as its position.
    Behind {
        /// The id of padding.
        padding: u32,
    },
}

/// The input of the network: `b` texts, all padded to the longest, `s`.
pub(crate) struct Batch<B: Backend> {
    /// `[b, s]`, 0 at padding.
    pub(crate) ids: Tensor<B, 2, Int>,
    /// `[b, s]`; none where they are 0, 1, 2 and so on in every text.
    pub(crate) positions: Option<Tensor<B, 2, Int>>,
    /// `[b, s]`, true at padding and at tokens that are not attended to; none when there are none.
    pub(crate) padding: Option<Tensor<B, 2, Bool>>,
    /// For each text, how many tokens are attended to, from the first.
    pub(crate) attended: Vec<usize>,
}

impl<B: Backend> Batch<B> {
    /// The batch of `texts`, none of them without ids.
    pub(crate) fn new(texts: &[&Input], positions: Positions, device: &B::Device) -> Self {
        let (b, s) = (texts.len(), texts.iter().map(|text| text.ids.len()).max().unwrap_or(0));
        let mut ids = vec![0_i32; b * s];
        let mut padding = vec![true; b * s];
        for (at, text) in texts.iter().enumerate() {
            for (to, id) in ids[at * s..].iter_mut().zip(&text.ids) {
                *to = id.cast_signed();
            }
            padding[at * s..][..text.attended].fill(false);
        }
        let padded = padding.contains(&true);
        let numbered = match positions {
            Positions::Plain => None,
            Positions::Behind { padding } => Some(behind(texts, s, padding)),
        };
        Self {
            ids: Tensor::from_data(TensorData::new(ids, [b, s]), device),
            positions: numbered.map(|numbers| Tensor::from_data(TensorData::new(numbers, [b, s]), device)),
            padding: padded.then(|| Tensor::from_data(TensorData::new(padding, [b, s]), device)),
            attended: texts.iter().map(|text| text.attended).collect(),
        }
    }
}

/// [`Positions::Behind`] of `texts`, `[b, s]`.
fn behind(texts: &[&Input], s: usize, padding: u32) -> Vec<i32> {
    let mut numbers = vec![padding.cast_signed(); texts.len() * s];
    for (line, text) in numbers.chunks_exact_mut(s).zip(texts) {
        let mut last = padding.cast_signed();
        for (number, _) in line.iter_mut().zip(&text.ids).filter(|(_, id)| **id != padding) {
            last += 1;
            *number = last;
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    #[test]
    fn batches_stay_within_the_budget_and_hold_every_text_once() {
        let lens: Vec<usize> = (0..500).map(|i| 2 + i * 7919 % 510).collect();
        let batches = plan(&lens, 1024);
        let mut seen: Vec<usize> = batches.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..500).collect::<Vec<_>>());
        let mut area = 0;
        for batch in &batches {
            let longest = batch.iter().map(|&i| lens[i]).max().unwrap();
            assert!(batch.len() * longest <= 1024);
            area += batch.len() * longest;
        }
        let tokens: usize = lens.iter().sum();
        assert!(area < tokens + tokens / 20, "{area} padded for {tokens} tokens");
    }

    #[test]
    fn a_text_over_the_budget_goes_alone() {
        assert_eq!(plan(&[9, 3, 9], 8), [vec![1], vec![0], vec![2]]);
        assert!(plan(&[], 8).is_empty());
    }

    fn input(ids: &[u32], attended: usize) -> Input {
        Input { ids: ids.into(), attended }
    }

    #[test]
    fn padding_only_where_lengths_differ() {
        let batch = |texts: &[&Input]| Batch::<Flex>::new(texts, Positions::Plain, &Default::default());
        assert!(batch(&[&input(&[1, 2], 2), &input(&[3, 4], 2)]).padding.is_none());
        let uneven = batch(&[&input(&[1, 2], 2), &input(&[3], 1)]);
        assert_eq!(uneven.ids.into_data().to_vec::<i32>().unwrap(), [1, 2, 3, 0]);
        assert_eq!(uneven.padding.unwrap().into_data().to_vec::<bool>().unwrap(), [false, false, false, true]);
        let expanded = batch(&[&input(&[1, 2, 9], 2)]);
        assert_eq!(expanded.padding.unwrap().into_data().to_vec::<bool>().unwrap(), [false, false, true]);
    }

    #[test]
    fn positions_behind_padding_skip_padding() {
        let texts = [&input(&[0, 7, 1, 8], 4), &input(&[0, 2], 2)];
        assert_eq!(behind(&texts, 4, 1), [2, 3, 1, 4, 2, 3, 1, 1]);
    }
}
