//! What the ledgers of killed processes say against what was promised. Plain data: no process, no store, no clock.

use std::collections::{BTreeMap, HashMap, HashSet};

use qtasks::JobId;

use super::ledger::{Entry, What};

/// A job that was acknowledged, as its user saw it.
#[derive(Debug)]
pub struct Job {
    /// Which.
    pub id: JobId,
    /// Its first value; each further one is greater by one.
    pub first: u64,
    /// When a subscriber had seen each step: by then it was durable.
    pub seen: Vec<u64>,
    /// The attempts of which its history says that they were lost.
    pub lost: Vec<u32>,
}

/// A process that ran jobs.
#[derive(Debug, Default)]
pub struct Process {
    /// What it entered into its ledger.
    pub entries: Vec<Entry>,
    /// From when until when it stood still.
    pub freezes: Vec<(u64, u64)>,
    /// When it was killed, if it was.
    pub killed: Option<u64>,
    /// When it was told to stop, if it was: from then on it gives jobs back.
    pub stopped: Option<u64>,
}

/// What the ledgers say.
#[derive(Debug, Default, PartialEq)]
pub struct Findings {
    /// Handler calls for a step that had been recorded: there must be none.
    pub again_after_record: Vec<Entry>,
    /// The same, of a process that was frozen: the one call per attempt which it had found its lease good for before.
    pub begun_before_freeze: usize,
    /// Handler calls for a value that was handled before and not recorded: allowed.
    pub again_in_flight: usize,
    /// Steps that nobody handled although they are recorded, as job and number: there must be none.
    pub unhandled: Vec<(JobId, u64)>,
    /// Handler calls with another value than that of the step: there must be none.
    pub misplaced: Vec<Entry>,
    /// Attempts whose job was started elsewhere while they ran, in a process that nothing had befallen: there must be none.
    pub robbed: Vec<(JobId, u32)>,
    /// From each kill until each job that ran there had started elsewhere, in nanoseconds.
    pub resumed: Vec<u64>,
    /// The same where another process was frozen meanwhile: it may have held the lock of the database.
    pub resumed_in_freeze: Vec<u64>,
}

/// Compares what `processes` did with what was recorded of `jobs`.
pub fn check(jobs: &[Job], processes: &[Process]) -> Findings {
    let mut findings = Findings::default();
    let jobs: HashMap<JobId, &Job> = jobs.iter().map(|job| (job.id, job)).collect();
    let (mut begun, mut ended) = (HashSet::new(), HashSet::new());
    for process in processes {
        let mut attempts = Attempts::default();
        for entry in &process.entries {
            let job = jobs.get(&entry.job);
            match entry.what {
                What::Started { steps } => attempts.started(entry, steps),
                What::Begun { seq, value } => {
                    let first_since_freeze = attempts.called(entry, &process.freezes);
                    let recorded_before = seq < attempts.recorded(entry);
                    let seen_before =
                        job.and_then(|job| job.seen.get(seq as usize)).is_some_and(|seen| *seen < entry.at);
                    match (recorded_before || seen_before, first_since_freeze) {
                        (true, true) => findings.begun_before_freeze += 1,
                        (true, false) => findings.again_after_record.push(*entry),
                        (false, _) if !begun.insert((entry.job, seq)) => findings.again_in_flight += 1,
                        (false, _) => {}
                    }
                    if job.is_some_and(|job| job.first + seq != value) {
                        findings.misplaced.push(*entry);
                    }
                }
                What::Ended { seq } => _ = ended.insert((entry.job, seq)),
                What::Finished => {}
            }
        }
    }
    for job in jobs.values() {
        let steps = (0..job.seen.len() as u64).map(|seq| (job.id, seq));
        findings.unhandled.extend(steps.filter(|step| !ended.contains(step)));
    }
    resumptions(&jobs, processes, &mut findings);
    findings
}

/// The attempts that one process made.
#[derive(Default)]
struct Attempts {
    recorded: HashMap<(JobId, u32), u64>,
    called: HashMap<(JobId, u32), u64>,
}

impl Attempts {
    fn started(&mut self, entry: &Entry, steps: u64) {
        self.recorded.insert((entry.job, entry.attempt), steps);
        self.called.insert((entry.job, entry.attempt), entry.at);
    }

    /// How many steps were recorded when the attempt began.
    fn recorded(&self, entry: &Entry) -> u64 {
        self.recorded.get(&(entry.job, entry.attempt)).copied().unwrap_or(0)
    }

    /// Takes note of a call; gives whether it is the attempt's first since the process was last frozen.
    fn called(&mut self, entry: &Entry, freezes: &[(u64, u64)]) -> bool {
        let last = self.called.insert((entry.job, entry.attempt), entry.at).unwrap_or(0);
        freezes.iter().any(|(from, until)| last <= *until && *from <= entry.at)
    }
}

/// What a process begins so soon after a freeze, in nanoseconds, it may have been about to begin before.
const WAKING: u64 = 500_000_000;

/// Finds out how long the jobs of killed processes stood still, and which were taken from processes that lived.
fn resumptions(jobs: &HashMap<JobId, &Job>, processes: &[Process], findings: &mut Findings) {
    let mut starts: HashMap<JobId, BTreeMap<u32, u64>> = HashMap::new();
    for entry in processes.iter().flat_map(|process| &process.entries) {
        if let What::Started { .. } = entry.what {
            starts.entry(entry.job).or_default().insert(entry.attempt, entry.at);
        }
    }
    for process in processes {
        for (job, attempt) in running(&process.entries) {
            let Some((_, next)) = starts[&job].range(attempt + 1..).next() else { continue };
            let lost = jobs.get(&job).is_some_and(|job| job.lost.contains(&attempt));
            let began = starts[&job][&attempt];
            let gone = process.killed.into_iter().chain(process.stopped).any(|end| end <= *next);
            let woke = |until: &u64| until.saturating_add(WAKING);
            let frozen = process.freezes.iter().any(|(from, until)| from < next && began <= woke(until));
            if lost && !gone && !frozen {
                findings.robbed.push((job, attempt));
            }
        }
    }
    let freezes: Vec<_> = processes.iter().flat_map(|process| &process.freezes).collect();
    for process in processes {
        let Some(killed) = process.killed else { continue };
        for (job, attempt) in running(&process.entries) {
            let Some((_, next)) = starts[&job].range(attempt + 1..).next() else { continue };
            // Where it was taken over before the kill, it was the freeze that cost it the job.
            let Some(wait) = next.checked_sub(killed) else { continue };
            let frozen = freezes.iter().any(|(from, until)| from < next && killed < *until);
            let into = if frozen { &mut findings.resumed_in_freeze } else { &mut findings.resumed };
            into.push(wait);
        }
    }
    findings.resumed.sort_unstable();
    findings.resumed_in_freeze.sort_unstable();
}

/// The attempts that had started and not come to their end.
fn running(entries: &[Entry]) -> HashSet<(JobId, u32)> {
    let mut running = HashSet::new();
    for entry in entries {
        match entry.what {
            What::Started { .. } => _ = running.insert((entry.job, entry.attempt)),
            What::Finished => _ = running.remove(&(entry.job, entry.attempt)),
            What::Begun { .. } | What::Ended { .. } => {}
        }
    }
    running
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A job of the values 10, 11, .. whose steps were seen at these times.
    fn job(seen: &[u64]) -> Job {
        Job { id: JobId::new(), first: 10, seen: seen.to_vec(), lost: vec![1] }
    }

    /// An attempt that starts at `at` after `steps` steps, and handles those of these numbers, one in each nanosecond.
    fn attempt(job: &Job, attempt: u32, mut at: u64, steps: u64, handled: &[u64]) -> Vec<Entry> {
        let handled =
            handled.iter().flat_map(|seq| [What::Begun { seq: *seq, value: 10 + seq }, What::Ended { seq: *seq }]);
        let whats = [What::Started { steps }].into_iter().chain(handled);
        let entry = |what| {
            at += u64::from(!matches!(what, What::Ended { .. }));
            Entry { job: job.id, attempt, at, what }
        };
        whats.map(entry).collect()
    }

    fn process(entries: Vec<Entry>) -> Process {
        Process { entries, ..Process::default() }
    }

    #[test]
    fn a_job_that_goes_on_after_its_record_is_well() {
        let job = job(&[20, 20, 60]);
        let first = Process { killed: Some(30), ..process(attempt(&job, 1, 0, 0, &[0, 1, 2])) };
        let second = process(attempt(&job, 2, 50, 2, &[2]));
        let findings = check(&[job], &[first, second]);
        assert_eq!(findings, Findings { again_in_flight: 1, resumed: vec![21], ..Findings::default() });
    }

    #[test]
    fn a_call_for_a_step_that_was_recorded_before_the_attempt_is_found() {
        let job = job(&[90, 90, 90]);
        let (first, second) = (attempt(&job, 1, 0, 0, &[0, 1]), attempt(&job, 2, 50, 2, &[1, 2]));
        let again = second[1];
        assert_eq!(check(&[job], &[process(first), process(second)]).again_after_record, [again]);
    }

    #[test]
    fn a_call_for_a_step_that_a_subscriber_had_seen_is_found() {
        let job = job(&[20, 40]);
        let (first, late) = (attempt(&job, 1, 0, 0, &[0, 1]), attempt(&job, 1, 50, 0, &[1]));
        let again = late[1];
        assert_eq!(check(&[job], &[process(first), process(late)]).again_after_record, [again]);
    }

    #[test]
    fn a_frozen_process_may_end_the_call_it_was_in_and_no_other() {
        let job = job(&[20, 40, 40]);
        let mut frozen = attempt(&job, 1, 0, 0, &[0]);
        frozen.extend(attempt(&job, 1, 50, 0, &[1, 2]).split_off(1));
        let again = frozen[5];
        let frozen = Process { freezes: vec![(5, 50)], ..process(frozen) };
        let other = process(attempt(&job, 2, 30, 1, &[1, 2]));
        let findings = check(&[job], &[other, frozen]);
        assert_eq!((findings.begun_before_freeze, findings.again_after_record), (1, vec![again]));
    }

    #[test]
    fn an_attempt_that_starts_after_a_freeze_is_not_excused_by_it() {
        let job = job(&[20]);
        let entries = attempt(&job, 2, 60, 1, &[0]);
        let again = entries[1];
        let thawed = Process { freezes: vec![(5, 50)], ..process(entries) };
        let first = process(attempt(&job, 1, 0, 0, &[0]));
        assert_eq!(check(&[job], &[first, thawed]).again_after_record, [again]);
    }

    #[test]
    fn a_step_that_nobody_handled_and_one_with_another_value_are_found() {
        let job = job(&[20, 20, 20]);
        let mut entries = attempt(&job, 1, 0, 0, &[0, 2]);
        let What::Begun { value, .. } = &mut entries[3].what else { panic!("{entries:?}") };
        *value = 11;
        let (id, misplaced) = (job.id, entries[3]);
        let findings = check(&[job], &[process(entries)]);
        assert_eq!((findings.unhandled, findings.misplaced), (vec![(id, 1)], vec![misplaced]));
    }

    #[test]
    fn only_jobs_that_ran_at_the_kill_have_to_resume() {
        let (ended, taken) = (job(&[]), job(&[]));
        let mut entries = attempt(&ended, 1, 0, 0, &[]);
        entries.push(Entry { at: 5, what: What::Finished, ..entries[0] });
        entries.extend(attempt(&taken, 1, 0, 0, &[]));
        let killed = Process { killed: Some(40), ..process(entries) };
        let other = process([attempt(&ended, 2, 60, 0, &[]), attempt(&taken, 2, 30, 0, &[])].concat());
        let robbed = vec![(taken.id, 1)];
        assert_eq!(check(&[ended, taken], &[killed, other]), Findings { robbed, ..Findings::default() });
    }

    #[test]
    fn a_job_that_is_taken_from_a_process_that_lives_is_found() {
        let robbed = |first: Process| {
            let job = job(&[]);
            let first = Process { entries: attempt(&job, 1, 10, 0, &[]), ..first };
            let other = process(attempt(&job, 2, 30, 0, &[]));
            check(&[job], &[first, other]).robbed.len()
        };
        assert_eq!(robbed(Process::default()), 1);
        assert_eq!(
            robbed(Process { killed: Some(40), stopped: Some(40), ..Process::default() }),
            1,
            "after it was taken"
        );
        assert_eq!(robbed(Process { freezes: vec![(40, 50)], ..Process::default() }), 1, "frozen, but not then");
        assert_eq!(robbed(Process { freezes: vec![(1, 5)], ..Process::default() }), 0, "it has just woken up");
        assert_eq!(robbed(Process { killed: Some(20), ..Process::default() }), 0);
        assert_eq!(robbed(Process { stopped: Some(20), ..Process::default() }), 0, "it has given the job back");
        assert_eq!(robbed(Process { freezes: vec![(20, 25)], ..Process::default() }), 0);
        let given_back = Job { lost: Vec::new(), ..job(&[]) };
        let (first, other) =
            (process(attempt(&given_back, 1, 10, 0, &[])), process(attempt(&given_back, 2, 30, 0, &[])));
        assert_eq!(check(&[given_back], &[first, other]), Findings::default());
    }
}
