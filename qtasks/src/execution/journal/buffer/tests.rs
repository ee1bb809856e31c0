//! The buffer beside a slow model of it, through any order of events.

use proptest::{prelude::*, test_runner::Config};

use super::*;

const AHEAD: Ahead = Ahead { values: 5, bytes: 20 };
const WAIT: Duration = Duration::from_secs(1);

/// A change of a buffer; changes come in any order.
#[derive(Clone, Debug)]
enum Event {
    Push(usize),
    PushMemo(usize),
    Report,
    Flush,
    Take,
    Wrote,
    /// The store handled so many of the values in flight.
    Handled(usize),
    End(fn(&mut Buffer) -> (Effect, Unrun)),
}

/// A slow model of the buffer: each thing that was added, and where it is.
#[derive(Default)]
struct Model {
    in_transactions: bool,
    things: Vec<Thing>,
    next: EntryCount,
    progress: bool,
    ended: bool,
    /// The counts that each flush waits for.
    flushes: Vec<EntryCount>,
    announced: Option<Duration>,
}

struct Thing {
    kind: Kind,
    number: u64,
    bytes: usize,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Step,
    Pending,
    Memo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Buffered,
    InFlight,
    Durable,
}

impl Model {
    fn count(&self, is: impl Fn(&Thing) -> bool) -> EntryCount {
        let count = |memos| self.things.iter().filter(|thing| is(thing) && (thing.kind == Kind::Memo) == memos).count();
        EntryCount { steps: count(false) as u64, memos: count(true) as u64 }
    }

    fn add(&mut self, kind: Kind, bytes: usize) {
        let next = if kind == Kind::Memo { &mut self.next.memos } else { &mut self.next.steps };
        let number = *next;
        *next += 1;
        self.things.push(Thing { kind, number, bytes, stage: Stage::Buffered });
    }

    fn numbers(&self, kind: Kind, stage: Stage) -> Vec<u64> {
        let there = self.things.iter().filter(|thing| thing.kind == kind && thing.stage == stage);
        there.map(|thing| thing.number).collect()
    }

    fn put(&mut self, from: Stage, to: Stage, is: impl Fn(&Thing) -> bool) {
        let moved = self.things.iter_mut().filter(|thing| thing.stage == from && is(thing));
        moved.for_each(|thing| thing.stage = to);
    }

    fn durable(&self) -> EntryCount {
        self.count(|thing| thing.stage == Stage::Durable)
    }

    fn bytes(&self) -> usize {
        self.things.iter().filter(|thing| thing.stage != Stage::Durable).map(|thing| thing.bytes).sum()
    }

    fn is_full(&self) -> bool {
        let ahead = self.things.iter().filter(|thing| thing.stage != Stage::Durable).count();
        ahead as u64 >= AHEAD.values || self.bytes() >= AHEAD.bytes
    }

    fn is_in_flight(&self, entries: bool) -> bool {
        let is = |thing: &Thing| thing.stage == Stage::InFlight && (thing.kind != Kind::Pending) == entries;
        self.things.iter().any(is)
    }

    /// Makes the same change to the buffer and to this model, if it is possible now.
    fn play(&mut self, buffer: &mut Buffer, event: &Event) {
        let effect = match *event {
            Event::Push(bytes) if self.in_transactions => self.push_pending(buffer, bytes),
            Event::Push(bytes) => {
                self.add(Kind::Step, bytes);
                buffer.push(0, Reply::Value(Json::from_stored("1".repeat(bytes))))
            }
            Event::PushMemo(bytes) => {
                self.add(Kind::Memo, bytes);
                let value = Json::from_stored("1".repeat(bytes));
                buffer.push_memo(MemoEntry { step: None, name: String::new(), nth: 0, value, job: None })
            }
            Event::Report => {
                self.progress = true;
                buffer.report(Progress { done: 1, total: 2 })
            }
            Event::Flush => {
                let (effect, all) = buffer.flush();
                assert_eq!(all, self.next);
                self.flushes.push(all);
                effect
            }
            Event::Take => self.take(buffer),
            Event::Wrote if self.is_in_flight(true) => {
                let entries = |thing: &Thing| thing.kind != Kind::Pending;
                let written = self.count(|thing| thing.stage == Stage::InFlight && entries(thing));
                self.put(Stage::InFlight, Stage::Durable, entries);
                buffer.wrote(written)
            }
            Event::Handled(count) if self.is_in_flight(false) && !self.is_in_flight(true) => {
                self.handled(buffer, count)
            }
            Event::End(end) => {
                let (effect, unrun) = end(buffer);
                self.ended = true;
                self.things.retain(|thing| thing.stage != Stage::Buffered || thing.kind != Kind::Pending);
                assert!(unrun.iter().all(|step| step.seq >= buffer.durable.steps));
                effect
            }
            Event::Wrote | Event::Handled(_) => return,
        };
        self.hear(effect);
    }

    fn push_pending(&mut self, buffer: &mut Buffer, bytes: usize) -> Effect {
        let pushed = buffer.push_pending(0, bytes, Box::new(()));
        assert_eq!(pushed.is_err(), self.ended);
        pushed.map_or_else(
            |_| Effect::default(),
            |effect| {
                self.add(Kind::Pending, bytes);
                effect
            },
        )
    }

    /// Takes everything out, unless something is in flight: there is one write at a time.
    fn take(&mut self, buffer: &mut Buffer) -> Effect {
        if self.is_in_flight(true) || self.is_in_flight(false) {
            return Effect::default();
        }
        self.announced = None;
        let batch = buffer.take();
        let steps: Vec<_> = batch.steps.iter().map(|step| step.seq).collect();
        let pending: Vec<_> = batch.pending.iter().map(|step| step.seq).collect();
        let memos: Vec<_> = batch.memos.iter().map(|memo| memo.number).collect();
        assert_eq!(steps, self.numbers(Kind::Step, Stage::Buffered));
        assert_eq!(pending, self.numbers(Kind::Pending, Stage::Buffered));
        assert_eq!(memos, self.numbers(Kind::Memo, Stage::Buffered));
        assert_eq!(batch.progress.is_some(), mem::take(&mut self.progress));
        self.put(Stage::Buffered, Stage::InFlight, |_| true);
        Effect::default()
    }

    fn handled(&mut self, buffer: &mut Buffer, count: usize) -> Effect {
        let in_flight = self.numbers(Kind::Pending, Stage::InFlight);
        let (done, rest) = in_flight.split_at(count.min(in_flight.len()));
        let upto = buffer.durable.steps + done.len() as u64;
        self.put(Stage::InFlight, Stage::Durable, |thing| thing.kind == Kind::Pending && thing.number < upto);
        let given = rest.iter().map(|seq| {
            let thing = self.things.iter().find(|thing| thing.kind == Kind::Pending && thing.number == *seq);
            Arc::new(PendingStep::new(*seq, 0, thing.unwrap().bytes, Box::new(())))
        });
        let (effect, unrun) = buffer.handled(upto, given.collect());
        if self.ended {
            assert_eq!(unrun.len(), rest.len());
            self.things.retain(|thing| thing.stage != Stage::InFlight || thing.kind != Kind::Pending);
        } else {
            assert!(unrun.is_empty());
            self.put(Stage::InFlight, Stage::Buffered, |thing| thing.kind == Kind::Pending);
        }
        effect
    }

    fn hear(&mut self, effect: Effect) {
        if let Some(wait) = effect.flush {
            assert!(self.announced.is_none_or(|announced| wait < announced), "asked twice");
            self.announced = Some(wait);
        }
    }

    fn agrees_with(&self, buffer: &Buffer) {
        assert_eq!(buffer.durable, self.durable());
        let is_empty = self.things.iter().all(|thing| thing.stage != Stage::Buffered) && !self.progress;
        assert_eq!(buffer.batch.is_empty(), is_empty);
        if self.ended {
            assert!(buffer.goes_on().is_err() && !buffer.is_open());
            return assert!(buffer.has_room(|| true).is_some_and(|room| room.is_err()));
        }
        assert_eq!(buffer.bytes, self.bytes());
        assert_eq!(buffer.is_open(), !self.is_full());
        assert_eq!(buffer.has_room(|| true).is_some(), !self.is_full());
        assert!(is_empty || self.announced.is_some(), "the recorder does not know of it");
        let is_in_flight = self.is_in_flight(true) || self.is_in_flight(false);
        let is_asked = self.announced == Some(Duration::ZERO);
        assert!(!self.is_full() || is_asked || is_in_flight, "it stays full");
        for all in &self.flushes {
            assert_eq!(buffer.flushed(*all).is_some(), self.durable().reaches(*all));
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0_usize..9).prop_map(Event::Push),
        2 => (0_usize..9).prop_map(Event::PushMemo),
        1 => Just(Event::Report),
        1 => Just(Event::Flush),
        4 => Just(Event::Take),
        4 => Just(Event::Wrote),
        4 => (0_usize..5).prop_map(Event::Handled),
    ]
}

fn end() -> impl Strategy<Value = Event> {
    prop_oneof![Just(Event::End(Buffer::fence)), Just(Event::End(Buffer::fail))]
}

proptest! {
    #![proptest_config(Config { cases: 500, failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_buffer_keeps_order_and_count_and_loses_nothing(
        in_transactions: bool,
        before in prop::collection::vec(event(), 0..60),
        end in prop::option::of(end()),
        after in prop::collection::vec(event(), 0..20),
    ) {
        let (mut buffer, mut model) = (Buffer::new(AHEAD, EntryCount::default(), WAIT), Model { in_transactions, ..Model::default() });
        for event in before.iter().chain(&end).chain(&after) {
            model.play(&mut buffer, event);
            model.agrees_with(&buffer);
        }
    }
}

#[test]
fn a_store_that_says_more_than_it_was_given_is_not_believed() {
    let mut buffer = Buffer::new(AHEAD, EntryCount { steps: 3, memos: 1 }, WAIT);
    _ = buffer.push(0, Reply::Value(Json::from_stored("1")));
    _ = buffer.take();
    _ = buffer.wrote(EntryCount { steps: 9, memos: 9 });
    assert_eq!(buffer.durable, EntryCount { steps: 4, memos: 1 });
    _ = buffer.handled(99, Unrun::new());
    assert!(buffer.steps() == 4 && buffer.is_open());
}

#[test]
fn a_handler_that_is_to_stop_learns_why_if_the_buffer_knows() {
    let mut buffer = Buffer::new(AHEAD, EntryCount::default(), WAIT);
    assert!(buffer.halted().is_none());
    assert_eq!(buffer.halt().wake, Wake::End);
    assert!(matches!(buffer.halted(), Some(Ok(()))) && buffer.goes_on().is_ok());
    assert_eq!(buffer.fence().0.wake, Wake::All);
    assert!(matches!(buffer.halted(), Some(Err(Stopped::Fenced))));
}
