//! Everything that can happen to one stream, in any order: creations, answers, broken connections, kills,
//! expiry, deletion. Whatever comes, nobody reads beyond what the stream was created with.

use super::*;

/// A small generator: the runs are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A creation whose answer is under way, and what the stream server did.
struct Flight {
    by: usize,
    creation: Creation,
    brought: Option<&'static str>,
    /// Not yet, or the status.
    status: Option<u16>,
}

/// Two processes, a stream server, and everything that can happen in any order.
struct World {
    disk: Arc<Disk>,
    processes: Vec<Arc<Streams>>,
    owners: [i64; 2],
    /// What the stream was created with, if it exists.
    created: Option<Option<&'static str>>,
    flights: Vec<Flight>,
    /// Requests whose process was killed, and which may still be acted upon.
    in_transit: Vec<Option<&'static str>>,
    /// Deletions: by whom, and what was seen before.
    deletions: Vec<(usize, i64, Option<u16>)>,
    now_ms: u64,
}

impl World {
    fn new() -> Self {
        let disk = Arc::new(Disk::default());
        let processes = vec![disk.process(1), disk.process(2)];
        Self {
            disk,
            processes,
            owners: [1, 2],
            created: None,
            flights: Vec::new(),
            in_transit: Vec::new(),
            deletions: Vec::new(),
            now_ms: 1_000,
        }
    }

    fn serve(&mut self, brought: Option<&'static str>) -> u16 {
        if self.created.is_some() {
            return 200;
        }
        self.created = Some(brought);
        201
    }

    fn step(&mut self, dice: &mut Dice) {
        self.now_ms += dice.roll(1_000);
        match dice.roll(12) {
            0..3 => self.put(dice),
            3..5 => self.act(dice),
            5..7 => self.answer(),
            7 => self.give_up(dice),
            8 => self.kill(dice),
            // It expires, and nobody tells.
            9 => self.created = None,
            10 => self.delete(dice),
            _ => self.settle(dice),
        }
    }

    fn put(&mut self, dice: &mut Dice) {
        let by = usize::try_from(dice.roll(2)).expect("0 or 1");
        let brought = [None, Some("*"), Some(APP), Some(EVIL), Some("same-origin")];
        let brought = brought[usize::try_from(dice.roll(5)).expect("one of them")];
        let streams = &self.processes[by];
        let Some(turn) = streams.turns.try_take(name().key) else { return };
        if let Ok(creation) = streams.begin(wish(brought), turn, self.now_ms) {
            self.flights.push(Flight { by, creation, brought, status: None });
        }
    }

    /// The stream server acts on something that was sent; what came first comes first.
    fn act(&mut self, dice: &mut Dice) {
        for brought in std::mem::take(&mut self.in_transit) {
            self.serve(brought);
        }
        let deletion = self.deletions.iter().position(|(.., status)| status.is_none());
        if let Some(at) = deletion.filter(|_| dice.roll(2) == 0) {
            self.deletions[at].2 = Some(if self.created.take().is_some() { 204 } else { 404 });
        } else if let Some(at) = self.flights.iter().position(|f| f.status.is_none()) {
            self.flights[at].creation.forwarded(true);
            let status = self.serve(self.flights[at].brought);
            self.flights[at].status = Some(status);
        }
    }

    fn answer(&mut self) {
        if let Some(at) = self.deletions.iter().position(|(.., status)| status.is_some()) {
            let (by, seen, _) = self.deletions.remove(at);
            self.processes[by].remove(&name(), "x", seen).expect("the store works");
        } else if let Some(at) = self.flights.iter().position(|f| f.status.is_some()) {
            let flight = self.flights.remove(at);
            match flight.status {
                Some(201) => flight.creation.created(),
                _ => flight.creation.dropped(),
            }
            .expect("the store works");
        }
    }

    /// The connection breaks: no answer comes, whatever the stream server did.
    fn give_up(&mut self, dice: &mut Dice) {
        if self.flights.is_empty() {
            return;
        }
        let at = usize::try_from(dice.roll(self.flights.len() as u64)).expect("small");
        let mut flight = self.flights.remove(at);
        if flight.status.is_none() && dice.roll(2) == 0 {
            flight.creation.forwarded(true);
            self.in_transit.push(flight.brought);
        }
    }

    fn kill(&mut self, dice: &mut Dice) {
        let by = usize::try_from(dice.roll(2)).expect("0 or 1");
        let (gone, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.flights).into_iter().partition(|flight| flight.by == by);
        self.flights = left;
        self.deletions.retain(|(whose, ..)| *whose != by);
        for flight in gone {
            if flight.status.is_none() && dice.roll(2) == 0 {
                self.in_transit.push(flight.brought);
            }
            // Nothing of it runs any more.
            std::mem::forget(flight.creation);
        }
        self.disk.alive.lock().remove(&self.owners[by]);
        self.owners[by] += 2;
        self.processes[by] = self.disk.process(self.owners[by]);
    }

    fn delete(&mut self, dice: &mut Dice) {
        let by = usize::try_from(dice.roll(2)).expect("0 or 1");
        let seen = self.processes[by].known(&name()).map_or(0, |known| known.seq);
        self.deletions.push((by, seen, None));
    }

    fn settle(&mut self, dice: &mut Dice) {
        let by = usize::try_from(dice.roll(2)).expect("0 or 1");
        let exists = self.created.is_some();
        // What was sent is acted upon within a minute, or never.
        let now_ms = if self.in_transit.is_empty() { self.now_ms + 61_000 } else { self.now_ms };
        Leftovers::of(&self.processes[by]).settle(exists, now_ms);
    }

    fn check(&self, run: u64) {
        let Some(Some(with)) = self.created else { return };
        for streams in &self.processes {
            for origin in [APP, EVIL] {
                let may = with == "*" || with == origin;
                assert!(
                    may || !allows(streams, origin),
                    "run {run}: a stream that was created with {with} is read from {origin}: {:?}",
                    self.disk.content()
                );
            }
        }
    }
}

#[test]
fn whatever_happens_nobody_reads_beyond_what_a_stream_was_created_with() {
    for run in 0..1_500 {
        let (mut world, mut dice) = (World::new(), Dice(run));
        for _ in 0..60 {
            world.step(&mut dice);
            world.check(run);
        }
    }
}
