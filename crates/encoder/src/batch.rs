//! Which texts go through the network together.
//!
//! The tokens of a batch are the rows of one matrix, text after text, without padding: a batch takes texts as long as its
//! tokens stay within the device's budget, in any order. Where attention is padded, padding counts.

use burn::prelude::*;

/// How a device likes its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Tokens of a batch, unless one text alone has more.
    pub(crate) tokens: usize,
    /// Whether a text counts as long as the longest of its batch, because attention may pad it, as on a GPU; such a device
    /// has nothing for a team of threads to do.
    pub(crate) padded: bool,
}

/// Cuts texts of the lengths `lens` into batches of indices, shortest texts first.
pub(crate) fn plan(lens: &[usize], budget: Budget) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lens.len()).collect();
    order.sort_by_key(|&i| lens[i]);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for i in order {
        if let Some(batch) = batches.last_mut() {
            // None of the batch is longer than this one.
            let more = if budget.padded { (batch.len() + 1) * lens[i] } else { tokens + lens[i] };
            if more <= budget.tokens {
                batch.push(i);
                tokens = more;
                continue;
            }
        }
        batches.push(vec![i]);
        tokens = lens[i];
    }
    batches
}

/// The tokens of a text as the network sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) ids: Vec<u32>,
    /// How many of them are attended to, counted from the first; the others attend to these only.
    pub(crate) attended: usize,
    /// Where the second of two texts begins, of which the network is told which is which; otherwise their number.
    pub(crate) second: usize,
}

impl Input {
    /// One text.
    pub(crate) fn one(ids: Vec<u32>, attended: usize) -> Self {
        Self { second: ids.len(), ids, attended }
    }
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

/// Where a text is in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Its first row.
    pub(crate) first: usize,
    /// Its tokens.
    pub(crate) len: usize,
    /// How many of them are attended to, from the first.
    pub(crate) attended: usize,
}

/// The input of the network: the `n` tokens of some texts.
pub(crate) struct Batch<B: Backend> {
    /// `[n]`
    pub(crate) ids: Tensor<B, 1, Int>,
    /// `[n]`: the number of each token in its text.
    pub(crate) positions: Tensor<B, 1, Int>,
    /// `[n, 1]`: 1 for tokens of the second of two texts, 0 for others; none where there are no such.
    pub(crate) second: Option<Tensor<B, 2>>,
    /// In the order of their rows.
    pub(crate) texts: Vec<Span>,
}

impl<B: Backend> Batch<B> {
    /// The batch of `texts`, none of them without ids.
    pub(crate) fn new(texts: &[&Input], positions: Positions, device: &B::Device) -> Self {
        let tensor = |values: Vec<i32>| {
            let n = values.len();
            Tensor::from_data(TensorData::new(values, [n]), device)
        };
        let ids = texts.iter().flat_map(|text| text.ids.iter().map(|id| id.cast_signed())).collect();
        let second = texts.iter().any(|text| text.second < text.ids.len()).then(|| {
            let of = |text: &&Input| {
                (0..text.ids.len()).map(|at| f32::from(u8::from(at >= text.second))).collect::<Vec<_>>()
            };
            let values: Vec<f32> = texts.iter().flat_map(of).collect();
            let n = values.len();
            Tensor::from_data(TensorData::new(values, [n, 1]), device)
        });
        let numbers = texts.iter().flat_map(|text| positions.of(&text.ids)).collect();
        let mut first = 0;
        let span = |text: &&Input| {
            let (begin, len) = (first, text.ids.len());
            first += len;
            Span { first: begin, len, attended: text.attended }
        };
        Self { texts: texts.iter().map(span).collect(), ids: tensor(ids), positions: tensor(numbers), second }
    }
}

impl Positions {
    /// The number of each token of a text.
    fn of(self, ids: &[u32]) -> Vec<i32> {
        match self {
            Self::Plain => (0..ids.len() as i32).collect(),
            Self::Behind { padding } => {
                let mut last = padding.cast_signed();
                let number = |id: &u32| {
                    if *id == padding {
                        return padding.cast_signed();
                    }
                    last += 1;
                    last
                };
                ids.iter().map(number).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    const WHOLE: Budget = Budget { tokens: 1024, padded: false };

    #[test]
    fn batches_stay_within_the_budget_and_hold_every_text_once() {
        let lens: Vec<usize> = (0..500).map(|i| 2 + i * 7919 % 510).collect();
        let batches = plan(&lens, WHOLE);
        let mut seen: Vec<usize> = batches.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..500).collect::<Vec<_>>());
        let tokens = |batch: &Vec<usize>| batch.iter().map(|&i| lens[i]).sum::<usize>();
        assert!(batches.iter().all(|batch| tokens(batch) <= 1024));
        // Two batches in a row could not be one.
        assert!(batches.windows(2).all(|pair| tokens(&pair[0]) + lens[pair[1][0]] > 1024));
    }

    #[test]
    fn a_text_over_the_budget_goes_alone() {
        for padded in [false, true] {
            let budget = Budget { tokens: 8, padded };
            assert_eq!(plan(&[9, 3, 9], budget), [vec![1], vec![0], vec![2]]);
            assert!(plan(&[], budget).is_empty());
        }
    }

    #[test]
    fn padding_counts_where_there_is_any() {
        let lens = [1, 1, 5, 5, 6];
        assert_eq!(plan(&lens, Budget { tokens: 12, padded: false }), [vec![0, 1, 2, 3], vec![4]]);
        assert_eq!(plan(&lens, Budget { tokens: 12, padded: true }), [vec![0, 1], vec![2, 3], vec![4]]);
    }

    #[test]
    fn texts_follow_each_other_without_padding() {
        let input = |ids: &[u32], attended| Input::one(ids.into(), attended);
        let (one, two) = (input(&[7, 8, 9], 2), input(&[5], 1));
        let batch = Batch::<Flex>::new(&[&one, &two], Positions::Plain, &Default::default());
        assert_eq!(batch.ids.into_data().to_vec::<i32>().unwrap(), [7, 8, 9, 5]);
        assert_eq!(batch.positions.into_data().to_vec::<i32>().unwrap(), [0, 1, 2, 0]);
        let span = |first, len, attended| Span { first, len, attended };
        assert_eq!(batch.texts, [span(0, 3, 2), span(3, 1, 1)]);
    }

    #[test]
    fn positions_behind_padding_skip_padding() {
        let positions = Positions::Behind { padding: 1 };
        assert_eq!(positions.of(&[0, 7, 1, 8]), [2, 3, 1, 4]);
        assert_eq!(positions.of(&[0, 2]), [2, 3]);
    }
}
