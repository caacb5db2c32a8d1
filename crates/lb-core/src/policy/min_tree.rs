//! A tree of minima over a column of scores, shared without locks.
//!
//! Leaves are the scores; each inner node holds the least of its [`FAN_OUT`] children. Reading the least score
//! walks one path down, raising or lowering a score walks one path up: both cost the height, so a
//! thousand workers cost three steps and a million five. Any thread may do either at any time.
//!
//! Why no update is lost: a writer stores a child first and then computes the parent from all children, again and
//! again until what it computed is what stands there. Of two writers below one parent the one that looks last
//! sees both children. A reader may meet a parent that is not yet up to date; it then gets a leaf that
//! was the least a moment ago.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use fastrand::Rng;

/// Children of a node: sixteen scores fill one cache line.
const FAN_OUT: usize = 16;

/// The score of a place that holds nobody.
const NOBODY: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct MinTree {
    /// Level 0 holds the scores, the last level at most [`FAN_OUT`] minima. Each is filled up with [`NOBODY`].
    levels: Vec<Box<[AtomicU32]>>,
}

impl MinTree {
    pub(super) fn new(scores: impl Iterator<Item = u32>) -> Self {
        let mut level: Vec<u32> = scores.collect();
        let mut levels = Vec::new();
        loop {
            level.resize(level.len().next_multiple_of(FAN_OUT), NOBODY);
            levels.push(level.iter().copied().map(AtomicU32::new).collect());
            if level.len() <= FAN_OUT {
                return Self { levels };
            }
            level = level.chunks(FAN_OUT).map(least_of).collect();
        }
    }

    /// The place of a least score; among equal ones in a node each is equally likely.
    pub(super) fn least(&self, rng: &mut Rng) -> Option<usize> {
        let mut place = 0;
        for level in self.levels.iter().rev() {
            let children = level.get(place * FAN_OUT..(place + 1) * FAN_OUT)?;
            place = place * FAN_OUT + draw_least(children, rng)?;
        }
        Some(place)
    }

    /// The score of a place.
    pub(super) fn score(&self, place: usize) -> u32 {
        self.levels[0][place].load(SeqCst)
    }

    /// Sets a score. Returns whether it was another before.
    pub(super) fn set(&self, place: usize, score: u32) -> bool {
        // Mostly nothing has changed, and looking is cheaper than writing. Whoever wrote the score also saw to the parents.
        let leaf = &self.levels[0][place];
        if leaf.load(SeqCst) == score || leaf.swap(score, SeqCst) == score {
            return false;
        }
        let mut node = place;
        for pair in self.levels.windows(2) {
            node /= FAN_OUT;
            let children = &pair[0][node * FAN_OUT..(node + 1) * FAN_OUT];
            if !settle(&pair[1][node], children) {
                break;
            }
        }
        true
    }
}

/// Brings a parent up to date. Returns whether it changed.
fn settle(parent: &AtomicU32, children: &[AtomicU32]) -> bool {
    let mut changed = false;
    loop {
        let least = children.iter().map(|child| child.load(SeqCst)).min().unwrap_or(NOBODY);
        if parent.load(SeqCst) == least || parent.swap(least, SeqCst) == least {
            return changed;
        }
        changed = true;
    }
}

fn least_of(scores: &[u32]) -> u32 {
    scores.iter().copied().min().unwrap_or(NOBODY)
}

/// One of the least children, reading each only once, since they may change meanwhile.
fn draw_least(children: &[AtomicU32], rng: &mut Rng) -> Option<usize> {
    let mut scores = [NOBODY; FAN_OUT];
    for (score, child) in scores.iter_mut().zip(children) {
        *score = child.load(SeqCst);
    }
    let least = least_of(&scores);
    if least == NOBODY {
        return None;
    }
    let ties = scores.iter().filter(|&&score| score == least).count();
    let chosen = if ties == 1 { 0 } else { rng.usize(..ties) };
    scores
        .iter()
        .enumerate()
        .filter(|(_, score)| **score == least)
        .nth(chosen)
        .map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::any, prop_assert_eq, proptest, sample::Index};

    use super::*;

    proptest! {
        #[test]
        fn finds_the_least_after_any_updates(
            scores in vec(0u32..50, 1..600),
            updates in vec((any::<Index>(), 0u32..50), 0..200),
            seed in any::<u64>(),
        ) {
            let mut model = scores.clone();
            let tree = MinTree::new(scores.into_iter());
            let mut rng = Rng::with_seed(seed);
            for (place, score) in updates {
                let place = place.index(model.len());
                prop_assert_eq!(tree.set(place, score), model[place] != score);
                model[place] = score;
                let found = tree.least(&mut rng).expect("there is one");
                prop_assert_eq!(model[found], *model.iter().min().expect("not empty"));
            }
        }
    }

    #[test]
    fn empty_has_no_least() {
        assert_eq!(MinTree::new(std::iter::empty()).least(&mut Rng::with_seed(1)), None);
    }

    #[test]
    fn ties_are_drawn_evenly_within_a_node() {
        let tree = MinTree::new([5, 2, 2, 9, 2].into_iter());
        let mut rng = Rng::with_seed(7);
        let mut seen = [0; 5];
        for _ in 0..3_000 {
            seen[tree.least(&mut rng).expect("there is one")] += 1;
        }
        assert_eq!((seen[0], seen[3]), (0, 0));
        assert!([1, 2, 4].iter().all(|&place| (900..1_100).contains(&seen[place])), "{seen:?}");
    }

    #[test]
    fn writers_in_parallel_lose_nothing() {
        let tree = MinTree::new((0..1_000).map(|_| 1_000_000));
        std::thread::scope(|scope| {
            for writer in 0..4usize {
                let tree = &tree;
                scope.spawn(move || {
                    let mut rng = Rng::with_seed(writer as u64);
                    for _ in 0..20_000 {
                        let place = rng.usize(..250) * 4 + writer;
                        tree.set(place, rng.u32(..1_000));
                    }
                });
            }
        });
        let truth = tree.levels[0].iter().map(|score| score.load(SeqCst)).min();
        let found = tree.least(&mut Rng::with_seed(1)).expect("there is one");
        assert_eq!(Some(tree.levels[0][found].load(SeqCst)), truth);
    }
}
