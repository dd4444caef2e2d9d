//! Relative positions of DeBERTa (He et al. 2020, arXiv:2006.03654, section 3.1): a table has a vector for each distance
//! between a query's token and a key's. From version 2 on distances are put into buckets: near ones have one each, far ones
//! share them, more the further they are.

/// The row of the table for each distance that texts may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Distances {
    rows: Vec<i32>,
}

/// How distances are put into buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Buckets {
    /// How many, to either side.
    pub(super) count: usize,
    /// The distance beyond the last of them.
    pub(super) furthest: usize,
}

impl Distances {
    /// For texts of up to `places` tokens and a table of `2 * span` rows.
    pub(super) fn new(places: usize, span: usize, buckets: Option<Buckets>) -> Self {
        let (most, span) = (places as i32 - 1, span as i32);
        let row = |distance: i32| {
            let place = buckets.map_or(distance, |buckets| buckets.of(distance));
            (place + span).clamp(0, 2 * span - 1)
        };
        Self { rows: (-most..=most).map(row).collect() }
    }

    /// Rows for the distances from `1 - places` to `places - 1`, a query's place minus a key's.
    pub(super) fn rows(&self) -> &[i32] {
        &self.rows
    }
}

impl Buckets {
    fn of(self, distance: i32) -> i32 {
        let middle = (self.count / 2) as i32;
        if distance.abs() <= middle {
            return distance;
        }
        // In f32, as the reference: what falls onto the border of two buckets is rounded up.
        let middle_f32 = middle as f32;
        let part = (distance.abs() as f32 / middle_f32).ln() / ((self.furthest - 1) as f32 / middle_f32).ln();
        ((part * (middle - 1) as f32).ceil() as i32 + middle) * distance.signum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_distances_share_rows() {
        // As `make_log_bucket_position` of transformers gives them.
        let buckets = Buckets { count: 256, furthest: 512 };
        for (distance, bucket) in [(0, 0), (1, 1), (-5, -5), (128, 128), (129, 129), (-200, -169), (511, 255)] {
            assert_eq!(buckets.of(distance), bucket, "{distance}");
        }
        let rows = Distances::new(512, 256, Some(buckets)).rows;
        assert_eq!((rows.len(), rows[0], rows[511], rows[1022]), (1023, 1, 256, 511));
        assert!(rows.is_sorted());
    }

    #[test]
    fn without_buckets_the_furthest_are_one() {
        assert_eq!(Distances::new(5, 2, None).rows, [0, 0, 0, 1, 2, 3, 3, 3, 3]);
        assert_eq!(Distances::new(1, 2, None).rows, [2]);
    }
}
