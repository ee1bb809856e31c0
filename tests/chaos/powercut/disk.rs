//! A model of a disk: what may be on it when the power is cut.
//!
//! What was synced before is there. Of what was not, each sector holds what it held at some moment since the last sync:
//! the operating system writes pages when it likes and in the order it likes, and a page may get there in part. So do the
//! length of a file, and its name.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

/// A place in the order of all calls.
pub(crate) type Moment = usize;

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// The files of one folder, with all that ever happened to them.
#[derive(Default)]
pub(crate) struct Disk {
    files: Vec<File>,
    /// Which file has a name from when on.
    names: Vec<Dated<(String, Option<usize>)>>,
    syncs: Vec<(Moment, Moment)>,
}

#[derive(Default)]
struct File {
    changes: Vec<Dated<Change>>,
    syncs: Vec<(Moment, Moment)>,
}

/// Something that took from one moment to another.
struct Dated<T> {
    begun: Moment,
    done: Moment,
    what: T,
}

pub(crate) enum Change {
    Write { at: usize, data: Vec<u8> },
    Length(usize),
}

impl Disk {
    pub(crate) fn opened(&mut self, name: &str, begun: Moment, done: Moment) {
        if self.named(name).is_none() {
            self.files.push(File::default());
            let file = Some(self.files.len() - 1);
            self.names.push(Dated { begun, done, what: (name.to_owned(), file) });
        }
    }

    pub(crate) fn unlinked(&mut self, name: &str, begun: Moment, done: Moment) {
        self.names.push(Dated { begun, done, what: (name.to_owned(), None) });
    }

    pub(crate) fn changed(&mut self, name: &str, begun: Moment, done: Moment, what: Change) {
        self.file(name).changes.push(Dated { begun, done, what });
    }

    pub(crate) fn synced(&mut self, name: &str, begun: Moment, done: Moment) {
        self.file(name).syncs.push((begun, done));
    }

    pub(crate) fn folder_synced(&mut self, begun: Moment, done: Moment) {
        self.syncs.push((begun, done));
    }

    /// What the files may hold when the power is cut after `cut`, by name.
    pub(crate) fn after(&self, cut: Moment, rng: &mut Rng) -> BTreeMap<String, Vec<u8>> {
        let (durable, pending) = split(&self.names, &self.syncs, cut);
        let names: BTreeSet<&str> = durable.iter().chain(&pending).map(|dated| dated.what.0.as_str()).collect();
        let mut files = BTreeMap::new();
        for name in names {
            let of = |all: &[&Dated<(String, Option<usize>)>]| -> Vec<Option<usize>> {
                all.iter().filter(|dated| dated.what.0 == name).map(|dated| dated.what.1).collect()
            };
            let (durable, pending) = (of(&durable), of(&pending));
            let reached = rng.usize(..=pending.len());
            if let Some(file) = durable.iter().chain(&pending[..reached]).next_back().copied().flatten() {
                files.insert(name.to_owned(), self.files[file].after(cut, rng));
            }
        }
        files
    }

    fn named(&self, name: &str) -> Option<usize> {
        self.names.iter().rfind(|dated| dated.what.0 == name).and_then(|dated| dated.what.1)
    }

    fn file(&mut self, name: &str) -> &mut File {
        let file = self.named(name).expect("a file is opened before it is used");
        &mut self.files[file]
    }
}

/// What is durable for sure when the power is cut, and what may be.
///
/// A sync holds for what had been done when it began, once it is done itself.
fn split<'a, T>(
    all: &'a [Dated<T>],
    syncs: &[(Moment, Moment)],
    cut: Moment,
) -> (Vec<&'a Dated<T>>, Vec<&'a Dated<T>>) {
    let synced = syncs.iter().filter(|(_, done)| *done <= cut).map(|(begun, _)| *begun).max().unwrap_or(0);
    all.iter().filter(|dated| dated.begun <= cut).partition(|dated| dated.done < synced)
}

impl File {
    fn after(&self, cut: Moment, rng: &mut Rng) -> Vec<u8> {
        let (durable, pending) = split(&self.changes, &self.syncs, cut);
        let (mut image, mut length) = (Image::default(), 0);
        for change in durable {
            image.apply(&change.what, |_| true);
            length = change.what.length(length);
        }
        let reached = Reached::by_chance(pending.len(), rng);
        let kept_length = reached.length();
        for (number, change) in pending.iter().enumerate() {
            image.apply(&change.what, |sector| number < reached.sector(sector));
            if number < kept_length {
                length = change.what.length(length);
            }
        }
        image.bytes.resize(length, 0);
        image.bytes
    }
}

/// How many of the pending changes each part of a file has seen.
enum Reached {
    /// All parts the same number.
    Evenly(usize),
    /// Each sector, and the length, another number up to this.
    Torn { most: usize, seed: u64 },
}

impl Reached {
    fn by_chance(most: usize, rng: &mut Rng) -> Self {
        match rng.u8(..6) {
            0 => Self::Evenly(0),
            1 => Self::Evenly(most),
            2 => Self::Evenly(rng.usize(..=most)),
            _ => Self::Torn { most, seed: rng.u64(..) },
        }
    }

    fn sector(&self, sector: usize) -> usize {
        match self {
            Self::Evenly(reached) => *reached,
            Self::Torn { most, seed } => Rng::with_seed(seed.wrapping_add(sector as u64)).usize(..=*most),
        }
    }

    fn length(&self) -> usize {
        self.sector(usize::MAX / SECTOR)
    }
}

/// The bytes of a file, and of what once stood behind its end, as zeros.
#[derive(Default)]
struct Image {
    bytes: Vec<u8>,
}

impl Image {
    /// Makes a change in those sectors that it reaches.
    fn apply(&mut self, change: &Change, reaches: impl Fn(usize) -> bool) {
        let (at, end) = match change {
            Change::Write { at, data } => (*at, at + data.len()),
            Change::Length(length) => (*length, self.bytes.len().max(*length)),
        };
        self.bytes.resize(self.bytes.len().max(end), 0);
        let mut from = at;
        while from < end {
            let upto = end.min((from / SECTOR + 1) * SECTOR);
            if reaches(from / SECTOR) {
                match change {
                    Change::Write { data, .. } => self.bytes[from..upto].copy_from_slice(&data[from - at..upto - at]),
                    Change::Length(_) => self.bytes[from..upto].fill(0),
                }
            }
            from = upto;
        }
    }
}

impl Change {
    /// The length of a file after this, by that before.
    fn length(&self, before: usize) -> usize {
        match self {
            Self::Write { at, data } => before.max(at + data.len()),
            Self::Length(length) => *length,
        }
    }
}
