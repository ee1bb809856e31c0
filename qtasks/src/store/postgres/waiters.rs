//! Workers that wait for jobs which are yet to come: they get those that are enqueued next, as running ones, by the
//! statement that enqueues them. That is one wait for the disk less between the two.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Mutex as Turns, MutexGuard as Turn, oneshot};

use crate::{
    model::job::{Job, JobId, NewJob, State, WorkerId},
    store::{Ask, Free, Listener},
};

/// Who waits here.
#[derive(Default)]
pub(super) struct Coming {
    known: Mutex<Known>,
    /// Whoever leases jobs to those who wait has it until they are told.
    turns: Turns<()>,
}

#[derive(Default)]
struct Known {
    questions: Vec<Question>,
    /// Workers that have taken all that waited, and what rings when more comes to wait.
    caught_up: HashMap<WorkerId, Listener>,
}

/// One that waits.
struct Question {
    ask: Ask,
    free: Free,
    answer: oneshot::Sender<Vec<Job>>,
}

impl Question {
    /// How many jobs it is for, at the moment.
    fn room(&self) -> usize {
        if self.answer.is_closed() { 0 } else { self.ask.limit.min((self.free)()) }
    }

    fn is_for(&self, job: &NewJob) -> bool {
        self.ask.queues.contains(&job.queue) && self.ask.tasks.contains(&&*job.task)
    }

    fn answer(self, jobs: Vec<Job>) {
        // Whoever asked may be gone.
        _ = self.answer.send(jobs);
    }
}

impl Coming {
    /// Waits for jobs that are yet to come; what comes is the answer.
    pub(super) fn ask(&self, ask: Ask, free: Free) -> oneshot::Receiver<Vec<Job>> {
        let (answer, jobs) = oneshot::channel();
        self.known().questions.push(Question { ask, free, answer });
        jobs
    }

    /// Answers the question of this worker with nothing, if it is not answered otherwise.
    pub(super) async fn take_back(&self, worker: WorkerId) {
        let _turn = self.turns.lock().await;
        let mut known = self.known();
        known.caught_up.remove(&worker);
        known.questions.extract_if(.., |question| question.ask.worker == worker).for_each(|one| one.answer(Vec::new()));
    }

    /// A worker has taken all that waited for it, as far as nothing rang since.
    pub(super) fn caught_up(&self, worker: WorkerId, mut since: Listener) {
        if since.rang() {
            self.fell_behind(worker);
        } else {
            self.known().caught_up.insert(worker, since);
        }
    }

    /// There may be more for a worker.
    pub(super) fn fell_behind(&self, worker: WorkerId) {
        self.known().caught_up.remove(&worker);
    }

    /// Deals out those of the jobs that are due to whoever waits for them, the most urgent first; nothing where nobody
    /// does.
    pub(super) async fn deal(&self, jobs: &[&NewJob]) -> Option<Deal<'_>> {
        let turn = self.turns.lock().await;
        let mut deal = Deal { hands: self.known().who_may_take(), coming: self, _turn: turn };
        if deal.hands.is_empty() {
            return None;
        }
        let mut due: Vec<_> = jobs.iter().filter(|job| job.due <= job.enqueued).collect();
        due.sort_by_key(|job| (Reverse(job.priority), job.id));
        for Hand { question, jobs } in &mut deal.hands {
            let worker = question.ask.worker;
            let theirs = due.extract_if(.., |job| question.is_for(job)).take(question.room());
            jobs.extend(theirs.map(|job| Job {
                state: State::Running { worker },
                attempt: 1,
                ..Job::from((**job).clone())
            }));
        }
        deal.hands.iter().any(|hand| !hand.jobs.is_empty()).then_some(deal)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Takes the questions of those who come before nobody that waits already.
    fn who_may_take(&mut self) -> Vec<Hand> {
        let Self { questions, caught_up } = self;
        questions.retain(|question| !question.answer.is_closed());
        caught_up.retain(|_, since| !since.rang());
        let may_take = |question: &mut Question| caught_up.contains_key(&question.ask.worker) && question.room() > 0;
        questions.extract_if(.., may_take).map(|question| Hand { question, jobs: Vec::new() }).collect()
    }
}

/// A question, and the jobs for it.
struct Hand {
    question: Question,
    jobs: Vec<Job>,
}

/// Jobs that are dealt out, until they are leased.
pub(super) struct Deal<'c> {
    hands: Vec<Hand>,
    coming: &'c Coming,
    _turn: Turn<'c, ()>,
}

impl Deal<'_> {
    /// Which worker each of the jobs is for.
    pub(super) fn workers(&self) -> HashMap<JobId, WorkerId> {
        let of_hand = |hand: &Hand| hand.jobs.iter().map(|job| (job.id, hand.question.ask.worker)).collect::<Vec<_>>();
        self.hands.iter().flat_map(of_hand).collect()
    }

    /// Answers with those of the jobs that were leased. Without this nobody hears of them.
    pub(super) fn answer(mut self, leased: &HashSet<JobId>) {
        for Hand { question, mut jobs } in mem::take(&mut self.hands) {
            jobs.retain(|job| leased.contains(&job.id));
            if jobs.is_empty() {
                self.coming.known().questions.push(question);
            } else {
                question.answer(jobs);
            }
        }
    }
}

impl Drop for Deal<'_> {
    fn drop(&mut self) {
        let unanswered = mem::take(&mut self.hands).into_iter().map(|hand| hand.question);
        self.coming.known().questions.extend(unanswered);
    }
}
