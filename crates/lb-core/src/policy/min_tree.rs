//! A tree of minima over a column of scores, shared without locks.
//!
//! Leaves are the scores; each inner node holds the least of its [`FAN_OUT`] children. Reading the least score
//! walks one path down, raising or lowering a score walks one path up: both cost the height, so a
//! thousand workers cost four steps and a hundred thousand six. Any thread may do either at any time.
//!
//! Why no update is lost: a writer stores a child first and then computes the parent from all children, again and
//! again until what it computed is what stands there. Of two writers below one parent the one that looks last
//! sees both children. That needs one order of stores and looks that all threads agree on, so they are `SeqCst`, or have a `SeqCst` fence
//! between them. A reader may meet a parent that is not yet up to date; it then gets a leaf that
//! was the least a moment ago.

use std::sync::atomic::{
    AtomicU32,
    Ordering::{Relaxed, SeqCst},
    fence,
};

use fastrand::Rng;

/// Children of a node. Sixteen make a lower tree with more to look through in each node: a pick costs the same, to 5 %.
pub(super) const FAN_OUT: usize = 8;

/// The score of a place that holds nobody.
const NOBODY: u32 = u32::MAX;

/// Scores, or minima, side by side: a node never lies across two cache lines.
#[derive(Debug)]
#[repr(align(32))]
struct Node([AtomicU32; FAN_OUT]);

#[derive(Debug)]
pub(super) struct MinTree {
    /// Level 0 holds the scores, the last level is one node. Each is filled up with [`NOBODY`].
    levels: Vec<Box<[Node]>>,
}

impl MinTree {
    pub(super) fn new(scores: impl Iterator<Item = u32>) -> Self {
        let mut level: Vec<u32> = scores.collect();
        let mut levels = Vec::new();
        loop {
            let nodes: Box<[Node]> = level.chunks(FAN_OUT).map(Node::new).collect();
            level = nodes.iter().map(Node::least).collect();
            levels.push(nodes);
            if level.len() <= 1 {
                return Self { levels };
            }
        }
    }

    /// The place of a least score; among equal ones in a node each is equally likely.
    pub(super) fn least(&self, rng: &mut Rng) -> Option<usize> {
        let mut place = 0;
        for level in self.levels.iter().rev() {
            place = place * FAN_OUT + level.get(place)?.draw_least(rng)?;
        }
        Some(place)
    }

    /// The score of a place.
    pub(super) fn score(&self, place: usize) -> u32 {
        self.levels[0][place / FAN_OUT].0[place % FAN_OUT].load(Relaxed)
    }

    /// Sets a score. Returns whether it was another before.
    pub(super) fn set(&self, place: usize, score: u32) -> bool {
        // Mostly nothing has changed, and looking is cheaper than writing. Whoever wrote the score also saw to the parents.
        let leaf = &self.levels[0][place / FAN_OUT].0[place % FAN_OUT];
        if leaf.load(Relaxed) == score || leaf.swap(score, SeqCst) == score {
            return false;
        }
        self.settle_above(place / FAN_OUT);
        true
    }

    /// Sets the scores of the places from `start` on, a multiple of [`FAN_OUT`], up to the end of their node.
    pub(super) fn set_node(&self, start: usize, scores: impl Iterator<Item = u32>) {
        for (leaf, score) in self.levels[0][start / FAN_OUT].0.iter().zip(scores) {
            leaf.store(score, Relaxed);
        }
        fence(SeqCst);
        self.settle_above(start / FAN_OUT);
    }

    /// Brings the minima above a node of scores up to date.
    fn settle_above(&self, mut place: usize) {
        for pair in self.levels.windows(2) {
            let parent = &pair[1][place / FAN_OUT].0[place % FAN_OUT];
            if !pair[0][place].settle(parent) {
                return;
            }
            place /= FAN_OUT;
        }
    }
}

impl Node {
    fn new(scores: &[u32]) -> Self {
        let score = |place| scores.get(place).copied().unwrap_or(NOBODY);
        Self(std::array::from_fn(|place| AtomicU32::new(score(place))))
    }

    fn scores(&self) -> [u32; FAN_OUT] {
        std::array::from_fn(|place| self.0[place].load(SeqCst))
    }

    fn least(&self) -> u32 {
        least_of(&self.scores())
    }

    /// Brings the parent up to date. Returns whether it changed.
    fn settle(&self, parent: &AtomicU32) -> bool {
        let mut changed = false;
        loop {
            let least = self.least();
            if parent.load(SeqCst) == least || parent.swap(least, SeqCst) == least {
                return changed;
            }
            changed = true;
        }
    }

    /// One of the least children, reading each only once, since they may change meanwhile.
    fn draw_least(&self, rng: &mut Rng) -> Option<usize> {
        let scores = self.scores();
        let least = least_of(&scores);
        if least == NOBODY {
            return None;
        }
        let bits = scores.iter().zip(0..).map(|(score, place)| u32::from(*score == least) << place);
        let mut ties: u32 = bits.sum();
        if ties.count_ones() > 1 {
            for _ in 0..rng.u32(..ties.count_ones()) {
                // Takes the lowest bit away.
                ties &= ties - 1;
            }
        }
        Some(ties.trailing_zeros() as usize)
    }
}

/// Halves the field until one is left: comparisons of a round do not wait for each other.
fn least_of(scores: &[u32; FAN_OUT]) -> u32 {
    let mut scores = *scores;
    let mut width = FAN_OUT / 2;
    while width > 0 {
        for place in 0..width {
            scores[place] = scores[place].min(scores[place + width]);
        }
        width /= 2;
    }
    scores[0]
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
        let truth = tree.levels[0].iter().map(Node::least).min();
        let found = tree.least(&mut Rng::with_seed(1)).expect("there is one");
        assert_eq!(Some(tree.score(found)), truth);
    }
}
