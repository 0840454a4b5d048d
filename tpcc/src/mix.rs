//! Which transaction comes next, and how long a terminal's user takes: clause 5.2.

use std::time::Duration;

use meridian_base::rng::Rng;

use crate::random::shuffle;

/// The five transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    NewOrder,
    Payment,
    OrderStatus,
    Delivery,
    StockLevel,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::NewOrder, Self::Payment, Self::OrderStatus, Self::Delivery, Self::StockLevel];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NewOrder => "new_order",
            Self::Payment => "payment",
            Self::OrderStatus => "order_status",
            Self::Delivery => "delivery",
            Self::StockLevel => "stock_level",
        }
    }

    /// What the user takes to fill in the form.
    pub(crate) const fn keying(self) -> Duration {
        Duration::from_secs(match self {
            Self::NewOrder => 18,
            Self::Payment => 3,
            Self::OrderStatus | Self::Delivery | Self::StockLevel => 2,
        })
    }

    /// How long the user looks at the answer: exponential, at most ten times its mean.
    pub(crate) fn thinking(self, rng: &mut Rng) -> Duration {
        let mean = match self {
            Self::NewOrder | Self::Payment => 12.0,
            Self::OrderStatus => 10.0,
            Self::Delivery | Self::StockLevel => 5.0,
        };
        let factor = -(1.0 - rng.next_f64()).ln();
        Duration::from_secs_f64(mean * factor.min(10.0))
    }

    /// Shares of a hundred.
    const fn weight(self) -> usize {
        match self {
            Self::NewOrder => 45,
            Self::Payment => 43,
            Self::OrderStatus | Self::Delivery | Self::StockLevel => 4,
        }
    }

    /// Cards in a deck of 23, by clause 5.2.4.2.
    const fn cards(self) -> usize {
        match self {
            Self::NewOrder | Self::Payment => 10,
            Self::OrderStatus | Self::Delivery | Self::StockLevel => 1,
        }
    }
}

/// The ways to choose that the specification allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mix {
    /// 45, 43, 4, 4 and 4 of 100, each time anew
    Weighted,
    /// Cards of a shuffled deck: 10, 10, 1, 1 and 1 of 23
    Deck,
}

/// One terminal's choices.
pub(crate) struct Chooser {
    mix: Mix,
    deck: Vec<Kind>,
}

impl Chooser {
    pub(crate) const fn new(mix: Mix) -> Self {
        Self { mix, deck: Vec::new() }
    }

    pub(crate) fn next(&mut self, rng: &mut Rng) -> Kind {
        if self.mix == Mix::Weighted {
            let mut at = rng.below(100) as usize;
            for kind in Kind::ALL {
                match at.checked_sub(kind.weight()) {
                    Some(rest) => at = rest,
                    None => return kind,
                }
            }
        }
        if self.deck.is_empty() {
            let cards = |kind: Kind| std::iter::repeat_n(kind, kind.cards());
            self.deck = Kind::ALL.into_iter().flat_map(cards).collect();
            shuffle(rng, &mut self.deck);
        }
        self.deck.pop().unwrap_or(Kind::NewOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(mix: Mix, draws: usize) -> [usize; 5] {
        let (mut chooser, mut rng) = (Chooser::new(mix), Rng::seeded(1));
        let mut counts = [0; 5];
        (0..draws).for_each(|_| counts[chooser.next(&mut rng) as usize] += 1);
        counts
    }

    #[test]
    fn a_deck_is_dealt_to_its_end() {
        assert_eq!(counts(Mix::Deck, 23), [10, 10, 1, 1, 1]);
        assert_eq!(counts(Mix::Deck, 230), [100, 100, 10, 10, 10]);
    }

    #[test]
    fn weights_are_shares() {
        assert_eq!(Kind::ALL.map(Kind::weight).iter().sum::<usize>(), 100);
        let counts = counts(Mix::Weighted, 100_000);
        for (kind, count) in Kind::ALL.into_iter().zip(counts) {
            assert!(count.abs_diff(kind.weight() * 1000) < 700, "{counts:?}");
        }
    }

    #[test]
    fn thinking_is_exponential() {
        let mut rng = Rng::seeded(2);
        let times: Vec<_> = (0..50_000).map(|_| Kind::Payment.thinking(&mut rng)).collect();
        let mean = times.iter().sum::<Duration>() / 50_000;
        assert!((11.8..12.2).contains(&mean.as_secs_f64()), "{mean:?}");
        assert!(times.iter().max().expect("some").as_secs() <= 120);
        let above = times.iter().filter(|time| time.as_secs_f64() > 12.0).count();
        assert!((18_000..18_800).contains(&above), "{above}");
    }
}
