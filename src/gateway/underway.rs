//! The exchanges that run on a core now, for whoever looks at the live page.
//!
//! An exchange writes itself into a place of a small table when it begins, moves its phase on, and leaves. Who looks asks
//! the core for a copy (a message a second, and only while a page is open), so nothing is shared and nothing is locked.
//!
//! Invariants: no memory is taken once the table has grown to the most exchanges that ran at once; a place holds names,
//! never a prompt.
//!
//! Limits: [`PLACES_MAX`] exchanges a core, 220 KB; what runs beyond them is counted elsewhere and not listed here. Names
//! are cut at 64 bytes.

use std::cell::RefCell;

/// Exchanges of a core that are listed.
pub const PLACES_MAX: usize = 1024;
const NAME: usize = 64;

/// Where an exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its chain is looked at.
    Choosing,
    /// It waits for a place at a full provider.
    Queued,
    /// It waits before the next attempt.
    Backoff,
    /// An attempt wants a connection.
    Connecting,
    /// The request is with the provider, which has not answered.
    Waiting,
    /// The answer goes to the client.
    Answering,
}

impl Phase {
    /// The stable word for the API.
    pub fn label(self) -> &'static str {
        match self {
            Phase::Choosing => "choosing",
            Phase::Queued => "queued",
            Phase::Backoff => "backoff",
            Phase::Connecting => "connecting",
            Phase::Waiting => "waiting",
            Phase::Answering => "answering",
        }
    }
}

/// A name without memory of its own.
#[derive(Clone, Copy)]
struct Name {
    bytes: [u8; NAME],
    length: u8,
}

impl Name {
    const NONE: Name = Name { bytes: [0; NAME], length: 0 };

    fn set(&mut self, text: &str) {
        let mut end = NAME.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
        self.length = end as u8;
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

struct Place {
    taken: bool,
    stream: bool,
    attempts: u8,
    provider: Option<u16>,
    phase: Phase,
    started_us: u64,
    phase_us: u64,
    asked: Name,
    model: Name,
    pipeline: Name,
}

/// The number of an exchange's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceId(u16);

/// What runs on one core.
#[derive(Default)]
pub struct Underway {
    places: RefCell<Vec<Place>>,
    free: RefCell<Vec<u16>>,
}

/// One exchange that runs, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When its first byte came, gateway clock.
    pub started_us: u64,
    /// Where it is.
    pub phase: Phase,
    /// Since when.
    pub phase_us: u64,
    /// The client asked for a stream.
    pub stream: bool,
    /// Upstream calls so far.
    pub attempts: u8,
    /// The provider of the last one, by its number in the plan.
    pub provider: Option<u16>,
    /// The model asked for.
    pub asked: String,
    /// The model that the provider is asked for.
    pub model: String,
    /// The pipeline; empty when none was said.
    pub pipeline: String,
}

impl Underway {
    /// Takes a place; `None` when there is none left.
    pub fn enter(
        &self,
        started_us: u64,
        now_us: u64,
        stream: bool,
        asked: &str,
        pipeline: &str,
    ) -> Option<PlaceId> {
        let mut places = self.places.borrow_mut();
        let id = match self.free.borrow_mut().pop() {
            Some(id) => id,
            None if places.len() < PLACES_MAX => {
                places.push(Place {
                    taken: false,
                    stream,
                    attempts: 0,
                    provider: None,
                    phase: Phase::Choosing,
                    started_us,
                    phase_us: now_us,
                    asked: Name::NONE,
                    model: Name::NONE,
                    pipeline: Name::NONE,
                });
                (places.len() - 1) as u16
            }
            None => return None,
        };
        let place = &mut places[usize::from(id)];
        (place.taken, place.stream, place.attempts, place.provider) = (true, stream, 0, None);
        (place.phase, place.started_us, place.phase_us) = (Phase::Choosing, started_us, now_us);
        place.asked.set(asked);
        place.pipeline.set(pipeline);
        place.model.length = 0;
        Some(PlaceId(id))
    }

    /// The exchange is in `phase` now.
    pub fn at(&self, id: Option<PlaceId>, phase: Phase, now_us: u64) {
        let Some(PlaceId(id)) = id else { return };
        if let Some(place) = self.places.borrow_mut().get_mut(usize::from(id)) {
            (place.phase, place.phase_us) = (phase, now_us);
        }
    }

    /// Call number `attempts` goes, or has gone, to this provider and model.
    pub fn calls(&self, id: Option<PlaceId>, attempts: u8, provider: u16, model: &str) {
        let Some(PlaceId(id)) = id else { return };
        if let Some(place) = self.places.borrow_mut().get_mut(usize::from(id)) {
            (place.attempts, place.provider) = (attempts, Some(provider));
            place.model.set(model);
        }
    }

    /// Gives the place back.
    pub fn leave(&self, id: Option<PlaceId>) {
        let Some(PlaceId(id)) = id else { return };
        if let Some(place) = self.places.borrow_mut().get_mut(usize::from(id))
            && std::mem::take(&mut place.taken)
        {
            self.free.borrow_mut().push(id);
        }
    }

    /// The oldest `most` of what runs, and how many are listed in all.
    pub fn look(&self, most: usize) -> (Vec<Seen>, usize) {
        let places = self.places.borrow();
        let mut taken: Vec<&Place> = places.iter().filter(|place| place.taken).collect();
        let count = taken.len();
        taken.sort_unstable_by_key(|place| place.started_us);
        let seen = taken.into_iter().take(most).map(|place| Seen {
            started_us: place.started_us,
            phase: place.phase,
            phase_us: place.phase_us,
            stream: place.stream,
            attempts: place.attempts,
            provider: place.provider,
            asked: place.asked.text().to_owned(),
            model: place.model.text().to_owned(),
            pipeline: place.pipeline.text().to_owned(),
        });
        (seen.collect(), count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_listed_oldest_first_and_what_ended_is_not() {
        let all = Underway::default();
        let a = all.enter(5, 5, true, "gpt", "nightly");
        let b = all.enter(3, 6, false, "claude", "");
        all.calls(b, 1, 2, "claude-haiku");
        all.at(b, Phase::Waiting, 9);
        let (seen, count) = all.look(10);
        assert_eq!((count, &*seen[0].asked, &*seen[1].pipeline), (2, "claude", "nightly"));
        assert_eq!((seen[0].phase, seen[0].phase_us, seen[0].provider), (Phase::Waiting, 9, Some(2)));
        assert_eq!(all.look(1).0.len(), 1);
        all.leave(b);
        all.leave(b);
        assert_eq!(all.enter(8, 8, true, "x", "").map(|id| id.0), Some(1), "its place is free, once");
        assert_ne!(all.enter(8, 8, true, "x", ""), b);
        all.leave(a);
        assert_eq!(all.look(10).1, 2);
    }

    #[test]
    fn the_last_place_is_taken_and_the_next_exchange_runs_without_one() {
        let all = Underway::default();
        for n in 0..PLACES_MAX {
            assert!(all.enter(n as u64, 0, true, "m", "p").is_some());
        }
        let none = all.enter(0, 0, true, "m", "p");
        assert_eq!(none, None);
        all.at(none, Phase::Waiting, 1);
        all.leave(none);
        assert_eq!(all.look(3).1, PLACES_MAX);
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let all = Underway::default();
        all.enter(0, 0, false, &"é".repeat(40), &"x".repeat(65));
        let (seen, _) = all.look(1);
        assert_eq!((seen[0].asked.len(), seen[0].pipeline.len()), (64, 64));
    }
}
