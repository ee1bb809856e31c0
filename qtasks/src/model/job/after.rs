//! The jobs that a job waits for.

use serde::{Deserialize, Serialize};

use super::{ids::JobId, state::StateKind};

/// What becomes of a job where one that it waits for does not end well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AfterFailure {
    /// It ends as cancelled, in the commit in which the other one ends.
    #[default]
    Cancel,
    /// It runs all the same.
    Run,
}

/// The jobs that a job waits for: it is leased once each of them has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct After {
    /// The jobs.
    pub jobs: Vec<JobId>,
    /// What becomes of the job where one of them ends dead or cancelled.
    #[serde(default)]
    pub on_failure: AfterFailure,
}

/// Jobs that another one is to wait for: a [`JobHandle`](crate::JobHandle) or a [`JobId`], or several of one of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` names no jobs to wait for",
    label = "neither a handle of a job, nor its id, nor several of one of them",
    note = "`.after(&job)`, `.after([&first, &second])`, `.after([report.id(), invoice.id()])`"
)]
pub trait Parents {
    /// The ids of the jobs.
    fn ids(self) -> Vec<JobId>;
}

impl Parents for JobId {
    fn ids(self) -> Vec<JobId> {
        vec![self]
    }
}

impl Parents for &JobId {
    fn ids(self) -> Vec<JobId> {
        vec![*self]
    }
}

impl<P: Parents, const N: usize> Parents for [P; N] {
    fn ids(self) -> Vec<JobId> {
        self.into_iter().flat_map(Parents::ids).collect()
    }
}

impl<P: Parents> Parents for Vec<P> {
    fn ids(self) -> Vec<JobId> {
        self.into_iter().flat_map(Parents::ids).collect()
    }
}

impl<'p, P> Parents for &'p [P]
where
    &'p P: Parents,
{
    fn ids(self) -> Vec<JobId> {
        self.iter().flat_map(Parents::ids).collect()
    }
}

impl<'p, P> Parents for &'p Vec<P>
where
    &'p P: Parents,
{
    fn ids(self) -> Vec<JobId> {
        self.iter().flat_map(Parents::ids).collect()
    }
}

/// How a new job begins that comes after others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// It waits for these, each once.
    Waits(Vec<JobId>),
    /// All of them have ended: it waits for its time alone.
    Free,
    /// It ends as cancelled, for this reason.
    Cancelled(String),
}

impl After {
    /// The most jobs that one job waits for.
    pub const MOST: usize = 1_000;

    /// How the job begins, by the state of each of the others.
    pub fn begin(&self, state: impl Fn(JobId) -> StateKind) -> Beginning {
        let mut live = Vec::new();
        for &parent in &self.jobs {
            match state(parent) {
                ended if ended.is_ended() => {
                    if let Some(reason) = self.on_failure.cancels(parent, ended) {
                        return Beginning::Cancelled(reason);
                    }
                }
                _ if live.contains(&parent) => {}
                _ => live.push(parent),
            }
        }
        if live.is_empty() { Beginning::Free } else { Beginning::Waits(live) }
    }
}

impl AfterFailure {
    /// Why a job is cancelled that waited for one which has ended so, if it is.
    pub fn cancels(self, parent: JobId, ended: StateKind) -> Option<String> {
        (self == Self::Cancel && ended != StateKind::Done).then(|| format!("{parent} is {ended}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: [JobId; 3] = [JobId::from_bytes([1; 16]), JobId::from_bytes([2; 16]), JobId::from_bytes([3; 16])];

    fn begins(states: [StateKind; 3], on_failure: AfterFailure) -> Beginning {
        let after = After { jobs: IDS.to_vec(), on_failure };
        after.begin(|id| states[IDS.iter().position(|known| *known == id).expect("it is one of them")])
    }

    #[test]
    fn a_job_waits_for_those_that_have_not_ended() {
        use StateKind::{Done, Running, Waiting};
        let waits = |ids: &[JobId]| Beginning::Waits(ids.to_vec());
        assert_eq!(begins([Waiting, Done, Running], AfterFailure::Cancel), waits(&[IDS[0], IDS[2]]));
        assert_eq!(begins([Done; 3], AfterFailure::Cancel), Beginning::Free);
        let twice = After { jobs: vec![IDS[0]; 2], ..After::default() };
        assert_eq!(twice.begin(|_| Running), waits(&IDS[..1]));
        assert_eq!(After::default().begin(|_| Running), Beginning::Free);
    }

    #[test]
    fn a_failure_cancels_it_unless_it_is_to_run_all_the_same() {
        use StateKind::{Cancelled, Dead, Running};
        let reason = |state: &str| Beginning::Cancelled(format!("{} is {state}", IDS[1]));
        assert_eq!(begins([Running, Dead, Running], AfterFailure::Cancel), reason("dead"));
        assert_eq!(begins([Running, Cancelled, Running], AfterFailure::Cancel), reason("cancelled"));
        assert_eq!(begins([Running, Dead, Cancelled], AfterFailure::Run), Beginning::Waits(IDS[..1].to_vec()));
    }
}
