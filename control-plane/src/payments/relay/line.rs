//! Who is next while more buyers want a quote than the provider gives. Pure.
//!
//! Turns go round: next is whoever had one least recently, and among those who had none, whoever
//! came first. So a buyer who asks a hundred times gets no more than one who asks once, and waits
//! behind her when she had her share. The line is short, as long as can be served in time: when it
//! is full, a place goes to whoever comes before the last in it, and everybody else is refused at
//! once. Each process has a line of its own, as it has its own share of the provider's limit.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

/// Asks of one buyer that may wait at a time.
const WAITING_EACH_MAX: usize = 2;
/// A turn longer ago than this counts no more.
const RECENT: Duration = Duration::from_mins(1);
/// Most buyers whose turns are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// Those who wait, and when each buyer had her last turn.
#[derive(Debug)]
pub struct Line {
    waiting: Vec<Waiting>,
    waiting_max: usize,
    had: HashMap<Uuid, Instant>,
    tickets: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    ticket: Ticket,
    buyer: Uuid,
}

/// A place in the line; a later one is higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// A place for somebody who comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Free,
    /// That of who is last, and comes after her.
    Of(Ticket),
    None,
}

/// Where a ticket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Hers is the next turn.
    Next,
    /// Others come first.
    Behind,
    /// The place went to somebody who had less.
    Out,
}

impl Line {
    /// An empty line in which so many may wait; at least one.
    pub fn new(waiting_max: usize) -> Self {
        Self {
            waiting: Vec::new(),
            waiting_max: waiting_max.max(1),
            had: HashMap::new(),
            tickets: 0,
        }
    }

    /// Whether nobody waits.
    pub const fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes a place, or none: the buyer has enough of them, or the line is full of those who come
    /// before her.
    pub fn join(&mut self, buyer: Uuid, now: Instant) -> Option<Ticket> {
        let newcomer = self.newcomer(buyer);
        match self.place_for(&newcomer, now) {
            Place::Free => {}
            Place::Of(last) => self.leave(last),
            Place::None => return None,
        }
        self.tickets += 1;
        self.waiting.push(newcomer);
        Some(newcomer.ticket)
    }

    /// Whether she would have a place.
    pub fn has_place(&self, buyer: Uuid, now: Instant) -> bool {
        self.place_for(&self.newcomer(buyer), now) != Place::None
    }

    const fn newcomer(&self, buyer: Uuid) -> Waiting {
        let ticket = Ticket(self.tickets);
        Waiting { ticket, buyer }
    }

    fn place_for(&self, newcomer: &Waiting, now: Instant) -> Place {
        let hers = |other: &&Waiting| other.buyer == newcomer.buyer;
        if self.waiting.iter().filter(hers).count() >= WAITING_EACH_MAX {
            return Place::None;
        }
        if self.waiting.len() < self.waiting_max {
            return Place::Free;
        }
        match self.waiting.iter().max_by_key(|one| self.rank(one, now)) {
            Some(last) if self.rank(newcomer, now) <= self.rank(last, now) => {
                Place::Of(last.ticket)
            }
            _ => Place::None,
        }
    }

    /// Where a ticket stands now.
    pub fn standing(&self, ticket: Ticket, now: Instant) -> Standing {
        let next = self.waiting.iter().min_by_key(|one| self.rank(one, now));
        if next.is_some_and(|next| next.ticket == ticket) {
            Standing::Next
        } else if self.waiting.iter().any(|one| one.ticket == ticket) {
            Standing::Behind
        } else {
            Standing::Out
        }
    }

    /// Gives a place up.
    pub fn leave(&mut self, ticket: Ticket) {
        self.waiting.retain(|one| one.ticket != ticket);
    }

    /// Notes that a buyer has her turn.
    pub fn serve(&mut self, buyer: Uuid, now: Instant) {
        if self.had.len() >= REMEMBERED_MAX {
            self.had.retain(|_, at| is_recent(*at, now));
            if self.had.len() >= REMEMBERED_MAX {
                // So many turns in so short a time are no shortage; the order among them matters to nobody.
                self.had.clear();
            }
        }
        self.had.insert(buyer, now);
    }

    /// Lower is earlier.
    fn rank(&self, one: &Waiting, now: Instant) -> (Option<Instant>, Ticket) {
        let had = self.had.get(&one.buyer).copied();
        (had.filter(|at| is_recent(*at, now)), one.ticket)
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) <= RECENT
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREEDY: Uuid = Uuid::from_u128(0);

    fn buyer(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    /// Gives the turn to whoever is next.
    fn turn(line: &mut Line, now: Instant) -> Uuid {
        let next = |one: &&Waiting| line.standing(one.ticket, now) == Standing::Next;
        let next = *line.waiting.iter().find(next).unwrap();
        line.leave(next.ticket);
        line.serve(next.buyer, now);
        next.buyer
    }

    #[test]
    fn turns_go_round_however_often_one_asks() {
        let mut line = Line::new(64);
        let start = Instant::now();
        let mut turns = Vec::new();
        for step in 0..40_u64 {
            let now = start + Duration::from_millis(100) * u32::try_from(step).unwrap();
            // The greedy buyer is always there first, and always again.
            while line.join(GREEDY, now).is_some() {}
            for number in 1..=9 {
                if !line.waiting.iter().any(|one| one.buyer == buyer(number)) {
                    line.join(buyer(number), now).unwrap();
                }
            }
            turns.push(turn(&mut line, now));
        }
        for round in turns.chunks(10) {
            let mut round = round.to_vec();
            round.sort();
            assert_eq!(round, (0..10).map(buyer).collect::<Vec<_>>(), "{turns:?}");
        }
    }

    #[test]
    fn whoever_had_none_goes_before_whoever_had_hers_and_then_who_came_first() {
        let mut line = Line::new(64);
        let now = Instant::now();
        line.serve(buyer(1), now);
        line.serve(buyer(2), now + Duration::from_millis(1));
        for number in [2, 1, 4, 3] {
            line.join(buyer(number), now).unwrap();
        }
        let later = now + Duration::from_secs(1);
        let turns = [0; 4].map(|_| turn(&mut line, later));
        assert_eq!(turns, [4, 3, 1, 2].map(buyer));
    }

    #[test]
    fn a_turn_of_long_ago_counts_no_more() {
        let mut line = Line::new(64);
        let now = Instant::now();
        line.serve(buyer(1), now);
        let later = now + RECENT + Duration::from_secs(1);
        line.join(buyer(1), later).unwrap();
        line.join(buyer(2), later).unwrap();
        assert_eq!(turn(&mut line, later), buyer(1));
    }

    #[test]
    fn a_buyer_has_few_places() {
        let mut line = Line::new(64);
        let now = Instant::now();
        let places = (0..10).filter(|_| line.join(GREEDY, now).is_some());
        assert_eq!(places.count(), WAITING_EACH_MAX);
        assert!(!line.has_place(GREEDY, now));
        assert!(line.join(buyer(1), now).is_some());
    }

    #[test]
    fn a_full_line_has_a_place_for_who_comes_before_its_last_and_for_nobody_else() {
        let mut line = Line::new(3);
        let now = Instant::now();
        line.serve(GREEDY, now);
        let greedy = line.join(GREEDY, now).unwrap();
        let first = line.join(buyer(1), now).unwrap();
        line.join(buyer(2), now).unwrap();
        assert!(!line.has_place(GREEDY, now), "she is behind all of them");
        assert_eq!(line.join(GREEDY, now), None);
        assert!(line.has_place(buyer(3), now));
        let third = line.join(buyer(3), now).unwrap();
        assert_eq!(line.standing(greedy, now), Standing::Out);
        assert_eq!(line.standing(first, now), Standing::Next);
        assert_eq!(line.standing(third, now), Standing::Behind);
        assert!(!line.has_place(buyer(4), now), "they came first");
        assert_eq!(line.join(buyer(4), now), None);
    }

    #[test]
    fn few_buyers_are_remembered() {
        let mut line = Line::new(1);
        let now = Instant::now();
        for number in 0..u128::try_from(REMEMBERED_MAX).unwrap() * 2 {
            line.serve(buyer(number), now);
            assert!(line.had.len() <= REMEMBERED_MAX);
        }
    }
}
