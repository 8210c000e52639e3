//! The targets of one exchange, in the order they are tried.

use smallvec::SmallVec;

use super::ids::{PolicyId, ProviderId, SlotId, StaticId};
use super::settings::CHAIN_MAX;

/// One place an attempt can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetRef {
    /// Who answers.
    pub provider: ProviderId,
    /// The (provider, model) pair's cells; from [`super::Core::slot`].
    pub slot: SlotId,
    /// Keys of the provider that may serve this model, one bit each; all ones when every key may.
    pub keys: u64,
    /// Targets next to each other with the same number, not 0, are equals: the balancer orders them. 0 means "as
    /// written".
    pub group: u8,
    /// Share among equals, any unit.
    pub weight: u32,
    /// Position in the chain as it was made; a balancer changes the order and not this.
    pub place: u8,
    /// Context window in tokens; 0 when unknown.
    pub context_tokens: u32,
    /// Price of an input token in nano-dollars; `None` when unpriced.
    pub input_nano_usd: Option<u32>,
}

impl TargetRef {
    /// A target with nothing known but where it is.
    pub fn new(provider: ProviderId, slot: SlotId) -> Self {
        TargetRef {
            provider,
            slot,
            keys: !0,
            group: 0,
            weight: 1,
            place: 0,
            context_tokens: 0,
            input_nano_usd: None,
        }
    }
}

/// An ordered chain of up to [`CHAIN_MAX`] targets, perhaps closed by a static answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    targets: [TargetRef; CHAIN_MAX],
    len: u8,
    /// The policy of the route this chain came from.
    pub policy: PolicyId,
    /// Answer to give when no target can.
    pub static_answer: Option<StaticId>,
}

impl Chain {
    /// A chain without targets.
    pub fn new(policy: PolicyId) -> Self {
        let none = TargetRef::new(ProviderId(0), SlotId(0));
        Chain { targets: [none; CHAIN_MAX], len: 0, policy, static_answer: None }
    }

    /// A chain of these targets; what exceeds [`CHAIN_MAX`] is left out.
    pub fn of(policy: PolicyId, targets: &[TargetRef]) -> Self {
        let mut chain = Chain::new(policy);
        for &target in targets {
            if !chain.push(target) {
                break;
            }
        }
        chain
    }

    /// Adds a target at the end, which gives it its place; false when the chain is full.
    pub fn push(&mut self, target: TargetRef) -> bool {
        if self.len() == CHAIN_MAX {
            return false;
        }
        self.targets[self.len()] = TargetRef { place: self.len, ..target };
        self.len += 1;
        true
    }

    /// The targets in order.
    pub fn targets(&self) -> &[TargetRef] {
        &self.targets[..self.len()]
    }

    /// Targets in the chain.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// True for a chain without targets.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The chain of an exchange that runs: a [`Chain`] without its empty places. Every stream holds one for as long as it lasts,
/// and few chains have more than [`FEW`] targets; only those take memory of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    targets: SmallVec<[TargetRef; FEW]>,
    /// The policy of the route this chain came from.
    pub policy: PolicyId,
    /// Answer to give when no target can.
    pub static_answer: Option<StaticId>,
}

/// Targets that are kept without memory of their own.
const FEW: usize = 3;

impl From<&Chain> for Walked {
    fn from(chain: &Chain) -> Walked {
        Walked {
            targets: SmallVec::from_slice(chain.targets()),
            policy: chain.policy,
            static_answer: chain.static_answer,
        }
    }
}

impl Walked {
    /// The targets in the order they are tried.
    pub fn targets(&self) -> &[TargetRef] {
        &self.targets
    }

    /// The targets in order, to be reordered.
    pub(crate) fn targets_mut(&mut self) -> &mut [TargetRef] {
        &mut self.targets
    }

    /// Targets in the chain.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// True for a chain without targets.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_chain_holds_sixteen_targets_and_refuses_the_seventeenth() {
        let mut chain = Chain::new(PolicyId(0));
        for slot in 0..CHAIN_MAX as u16 {
            assert!(chain.push(TargetRef::new(ProviderId(0), SlotId(slot))));
        }
        assert!(!chain.push(TargetRef::new(ProviderId(0), SlotId(99))));
        assert_eq!(chain.len(), CHAIN_MAX);
        let slots: Vec<u16> = chain.targets().iter().map(|t| t.slot.0).collect();
        assert_eq!(slots, (0..16).collect::<Vec<u16>>());
    }

    proptest! {
        #[test]
        fn a_chain_keeps_the_first_sixteen_targets_in_the_order_of_the_file(
            slots in prop::collection::vec(any::<u16>(), 0..24),
        ) {
            let targets: Vec<_> = slots.iter().map(|&slot| TargetRef::new(ProviderId(0), SlotId(slot))).collect();
            let chain = Chain::of(PolicyId(3), &targets);
            let kept = slots.len().min(CHAIN_MAX);
            prop_assert_eq!((chain.len(), chain.is_empty(), chain.policy), (kept, kept == 0, PolicyId(3)));
            let seen: Vec<_> = chain.targets().iter().map(|t| (t.slot.0, t.place)).collect();
            let expected: Vec<_> = slots.iter().copied().zip(0..).take(kept).collect();
            prop_assert_eq!(seen, expected);
            let mut walked = Walked::from(&chain);
            walked.targets_mut().reverse();
            prop_assert_eq!((walked.len(), walked.is_empty(), walked.policy), (kept, kept == 0, PolicyId(3)));
            let places: Vec<u8> = walked.targets().iter().map(|t| t.place).collect();
            prop_assert_eq!(places, (0..kept as u8).rev().collect::<Vec<_>>(), "a place stays with its target");
        }
    }
}
