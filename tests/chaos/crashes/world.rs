//! What outlives the processes: the store, whoever watches from outside, and the ledger.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, stream::BoxStream};
use qtasks::{
    Budget, Find, QueueTasks, Result,
    job::{JobId, WorkerId},
    store::Store,
};
use qtasks_tests::{
    edge::CarryOut,
    ledger::{self, Ledger},
    promises::{Event, Fate},
};
use serde_json::Value;
use tokio::{runtime::Runtime, sync::oneshot, task::JoinHandle, time::timeout};

use crate::tasks::Kind;

/// How long, by the wall clock, anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The world of one case.
pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) in_memory: bool,
    kind: Kind,
    pub(crate) ledger: Ledger,
    /// Where those outside live.
    pub(crate) outside: Runtime,
    /// The last job of earlier cases in the same store.
    after: Option<JobId>,
    app: QueueTasks,
    acknowledged: Mutex<Option<JobId>>,
    observers: Mutex<Vec<Observer>>,
    under_way: Mutex<Vec<JoinHandle<()>>>,
}

/// Somebody outside who watches the values of a job, and whom no crash disturbs.
struct Observer {
    stream: u64,
    values: Option<BoxStream<'static, Result<Value>>>,
}

impl World {
    /// A world around a store, in which jobs may be left of earlier cases.
    pub(crate) fn new(store: Arc<dyn Store>, in_memory: bool, kind: Kind, after: Option<JobId>) -> Arc<Self> {
        let mut outside = match in_memory {
            true => tokio::runtime::Builder::new_current_thread(),
            false => tokio::runtime::Builder::new_multi_thread(),
        };
        let outside = outside.worker_threads(1).enable_time().build().unwrap();
        let ledger = Ledger::default();
        // It watches only; the tasks' state has to be there all the same.
        let app = outside.block_on(QueueTasks::builder().store_at(store.clone()).build()).unwrap();
        let (acknowledged, observers, under_way) = Default::default();
        Arc::new(Self { store, in_memory, kind, ledger, outside, after, app, acknowledged, observers, under_way })
    }

    /// Carries out a call. On a file that takes time, and what is on its way there is carried out although whoever called
    /// dies meanwhile.
    pub(crate) async fn carry_out<T: Send + 'static>(&self, call: CarryOut<T>) -> Result<T> {
        if self.in_memory {
            return call().await;
        }
        let (answer, answered) = oneshot::channel();
        let under_way = self.outside.spawn(async move {
            // Nobody waits for it any more when the process is dead.
            let _ = answer.send(call().await);
        });
        self.under_way.lock().unwrap().push(under_way);
        answered.await.expect("a call is carried out")
    }

    /// Waits until no call is on its way any more.
    pub(crate) async fn calm(&self) {
        let under_way = std::mem::take(&mut *self.under_way.lock().unwrap());
        for call in under_way {
            call.await.unwrap();
        }
    }

    pub(crate) fn is_acknowledged(&self) -> bool {
        self.acknowledged.lock().unwrap().is_some()
    }

    /// An enqueue was acknowledged: from now on the job is watched, from its first value, its second and its last.
    pub(crate) async fn acknowledged(&self, job: JobId, n: i64) {
        self.ledger.note(Event::Enqueued { job });
        *self.acknowledged.lock().unwrap() = Some(job);
        for from in [0, 1, n.unsigned_abs()] {
            self.watch(job, from).await;
        }
    }

    async fn watch(&self, job: JobId, from: u64) {
        let values = Some((self.kind.watch)(self.app.clone(), job, from).await);
        let stream = self.ledger.opened(job, from);
        self.observers.lock().unwrap().push(Observer { stream, values });
    }

    /// Has the observers take what there is by now. On a file that takes time, so there they look only when all is over.
    pub(crate) fn look(&self) {
        if !self.in_memory {
            return;
        }
        for observer in self.observers.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            while let Some(item) = observer.values.as_mut().and_then(|values| values.next().now_or_never()) {
                observer.heard(item, &self.ledger);
            }
        }
    }

    /// Waits until all jobs have ended.
    pub(crate) async fn all_ended(&self) {
        for job in self.jobs().await {
            // How, is asked later.
            let _ = self.app.any_job(job).await.unwrap().result().await;
        }
    }

    pub(crate) async fn jobs(&self) -> Vec<JobId> {
        let jobs = self.store.find(Find::default().oldest_first(), self.after, Budget::jobs(100)).await.unwrap().jobs;
        jobs.into_iter().map(|job| job.call.id).collect()
    }

    pub(crate) async fn held_by(&self, worker: WorkerId) -> Vec<JobId> {
        let jobs = self.store.find(Find::default().oldest_first(), self.after, Budget::jobs(100)).await.unwrap().jobs;
        jobs.into_iter().filter(|job| job.standing.state.worker() == Some(worker)).map(|job| job.call.id).collect()
    }

    /// After the last process: the observers come to their ends, further ones see it all from every place, and the fates
    /// of the jobs are read.
    pub(crate) fn fates(&self) -> BTreeMap<JobId, Fate> {
        self.outside.block_on(async {
            let mut fates = BTreeMap::new();
            for job in self.jobs().await {
                let handle = self.app.any_job(job).await.unwrap();
                let result = timeout(PATIENCE, handle.result()).await.ok().and_then(Result::ok);
                if let Some(result) = &result {
                    self.ledger.note(Event::Result { job, result: result.clone() });
                }
                let fate = ledger::fate(&*self.store, job, result).await.unwrap().unwrap();
                for from in 0..fate.steps.len() as u64 + 2 {
                    self.watch(job, from).await;
                }
                fates.insert(job, fate);
            }
            let observers = std::mem::take(&mut *self.observers.lock().unwrap());
            for mut observer in observers {
                while let Some(values) = &mut observer.values {
                    let Ok(item) = timeout(PATIENCE, values.next()).await else { break };
                    observer.heard(item, &self.ledger);
                }
            }
            fates
        })
    }
}

impl Observer {
    fn heard(&mut self, item: Option<Result<Value>>, ledger: &Ledger) {
        let is_last = !matches!(&item, Some(Ok(_))) && !matches!(&item, Some(Err(error)) if error.is_skipped());
        ledger.heard(self.stream, item);
        if is_last {
            self.values = None;
        }
    }
}
