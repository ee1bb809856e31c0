//! A store with something between it and whoever calls it: every call passes an [`Edge`], and what is carried out is
//! written down.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::BoxFuture;
use jiff::Timestamp;
use qtasks::{
    Result,
    job::{Attempt, Counts, Job, JobId, Lease, Memo, NewJob, Standing, Step, WorkerId},
    store::{
        Ask, Budget, Expired, Find, FreeSlots, Home, Joined, Lane, LaneCounts, Leased, Note, NoteChange, Notifier,
        Page, PendingStep, Placement, Presence, Rate, RateSpan, Record, Renewed, Settlement, Store, Transacted,
        Written,
    },
    unique::Holder,
};

use crate::{
    ledger::{self, Ledger},
    promises::Event,
};

/// What stands between a store and whoever calls it: a network, or a process that may be dead by now.
pub trait Edge: Debug + Send + Sync + 'static {
    /// Lets a call through, or does not, or does worse.
    fn pass<T: Send + 'static>(
        &self,
        call: &'static str,
        carry_out: CarryOut<T>,
    ) -> impl Future<Output = Result<T>> + Send;

    /// How long callers wait; as long as for the store, unless it says otherwise.
    fn patience(&self, of_the_store: Duration) -> Duration {
        of_the_store
    }

    /// The notifier of this edge, which its callers listen to. Without it they listen to that of the store.
    fn notifier<'a>(&'a self, of_the_store: &'a Notifier) -> &'a Notifier {
        of_the_store
    }
}

/// Carries out a call; each time anew, if it is used more than once.
pub type CarryOut<T> = Arc<dyn Fn() -> BoxFuture<'static, Result<T>> + Send + Sync>;

/// A store behind an edge.
#[derive(Clone, Debug)]
pub struct Behind<E> {
    /// What stands between.
    pub edge: E,
    /// The store.
    pub store: Arc<dyn Store>,
    /// What is carried out is written down here.
    pub ledger: Ledger,
}

impl<E: Edge> Behind<E> {
    /// `store` behind `edge`.
    pub fn new(edge: E, store: Arc<dyn Store>, ledger: &Ledger) -> Self {
        Self { edge, store, ledger: ledger.clone() }
    }

    async fn pass<A, T, C, F>(&self, call: &'static str, args: A, carry_out: C) -> Result<T>
    where
        A: Clone + Send + Sync + 'static,
        C: Fn(Arc<dyn Store>, Ledger, A) -> F + Send + Sync + 'static,
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (store, ledger) = (self.store.clone(), self.ledger.clone());
        let again: CarryOut<T> = Arc::new(move || Box::pin(carry_out(store.clone(), ledger.clone(), args.clone())));
        self.edge.pass(call, again).await
    }
}

/// Every method is here, those with a default too: a default would not reach the store behind.
#[async_trait]
impl<E: Edge> Store for Behind<E> {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Joined>> {
        self.pass("enqueue", jobs, |store, ledger, jobs| async move {
            let joined = store.enqueue(jobs).await?;
            ledger.ring(joined.iter().map(|joined| joined.holder), true);
            Ok(joined)
        })
        .await
    }

    async fn holder(&self, task: &str, key: &str) -> Result<Option<Holder>> {
        let name = (task.to_owned(), key.to_owned());
        self.pass("holder", name, |store, _, (task, key)| async move { store.holder(&task, &key).await }).await
    }

    async fn lease(&self, ask: Ask) -> Result<Leased> {
        self.pass("lease", ask, |store, ledger, ask| async move {
            let worker = ask.worker;
            let _in_order = ledger.in_order().await;
            let leased = store.lease(ask).await?;
            for job in &leased.jobs {
                ledger.note(Event::Leased { job: job.call.id, attempt: job.standing.attempt, worker });
            }
            Ok(leased)
        })
        .await
    }

    /// Lets all through: it is no call that ends, and an answer that comes late or never is what becomes of the others.
    fn lease_on_enqueue(&self, ask: Ask, free: FreeSlots) -> Option<BoxFuture<'static, Result<Vec<Job>>>> {
        let (worker, ledger) = (ask.worker, self.ledger.clone());
        let coming = self.store.lease_on_enqueue(ask, free)?;
        Some(Box::pin(async move {
            let jobs = coming.await?;
            // An answer may come so late that the lease has been given back by then: the worker starts nothing under it.
            for job in jobs.iter().filter(|job| !ledger.has_settled(job.call.id, job.standing.attempt)) {
                ledger.note(Event::Leased { job: job.call.id, attempt: job.standing.attempt, worker });
            }
            Ok(jobs)
        }))
    }

    async fn stop_lease_on_enqueue(&self, worker: WorkerId) {
        self.store.stop_lease_on_enqueue(worker).await;
    }

    async fn record(&self, records: Arc<[Record]>) -> Result<Vec<Written>> {
        self.pass("record", records, |store, ledger, records| async move {
            let _in_order = ledger.in_order().await;
            let written = store.record(records.clone()).await?;
            for (Record { lease, steps, .. }, _) in
                records.iter().zip(&written).filter(|(_, written)| **written == Written::Yes)
            {
                for step in steps {
                    ledger.note(Event::Durable { job: lease.job, seq: step.seq, attempt: Some(lease.attempt) });
                }
            }
            let enqueued = records.iter().any(|record| !record.jobs.is_empty());
            ledger.ring(records.iter().map(|record| record.lease.job), enqueued);
            Ok(written)
        })
        .await
    }

    async fn settle(&self, settlements: Arc<[Settlement]>) -> Result<Vec<Written>> {
        self.pass("settle", settlements, |store, ledger, settlements| async move {
            let _in_order = ledger.in_order().await;
            let written = store.settle(settlements.clone()).await?;
            ledger::settled(&settlements, &written).into_iter().for_each(|event| ledger.note(event));
            ledger.ring(settlements.iter().map(Settlement::job), true);
            Ok(written)
        })
        .await
    }

    async fn renew(&self, worker: WorkerId, beat: u64) -> Result<Renewed> {
        self.pass("renew", (worker, beat), |store, _, (worker, beat)| async move { store.renew(worker, beat).await })
            .await
    }

    async fn leave(&self, worker: WorkerId) -> Result<()> {
        self.pass("leave", worker, |store, _, worker| async move { store.leave(worker).await }).await
    }

    async fn workers(&self) -> Result<Vec<Presence>> {
        self.pass("workers", (), |store, _, ()| async move { store.workers().await }).await
    }

    async fn held(&self, worker: WorkerId, limit: usize) -> Result<Vec<Job>> {
        self.pass("held", (worker, limit), |store, _, (worker, limit)| async move { store.held(worker, limit).await })
            .await
    }

    async fn forget(&self, worker: WorkerId, beat: Option<u64>) -> Result<()> {
        self.pass("forget", (worker, beat), |store, _, (worker, beat)| async move { store.forget(worker, beat).await })
            .await
    }

    async fn time(&self) -> Result<Option<Timestamp>> {
        self.pass("time", (), |store, _, ()| async move { store.time().await }).await
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>> {
        self.pass("job", id, |store, _, id| async move { store.job(id).await }).await
    }

    async fn standing(&self, id: JobId) -> Result<Option<(Standing, Counts)>> {
        self.pass("standing", id, |store, _, id| async move { store.standing(id).await }).await
    }

    async fn find(&self, find: Find, after: Option<JobId>, budget: Budget) -> Result<Page> {
        self.pass("find", (find, after, budget), |store, _ledger, (find, after, budget)| async move {
            store.find(find, after, budget).await
        })
        .await
    }

    async fn counts(&self, now: Timestamp) -> Result<Vec<LaneCounts>> {
        self.pass("counts", now, |store, _ledger, now| async move { store.counts(now).await }).await
    }

    async fn recount(&self) -> Result<usize> {
        self.pass("recount", (), |store, _ledger, ()| async move { store.recount().await }).await
    }

    async fn add_rates(&self, rates: Vec<Rate>) -> Result<()> {
        self.pass("add_rates", rates, |store, _ledger, rates| async move { store.add_rates(rates).await }).await
    }

    async fn rates(&self, span: RateSpan, from: Timestamp, to: Timestamp) -> Result<Vec<Rate>> {
        self.pass("rates", (span, from, to), |store, _ledger, (span, from, to)| async move {
            store.rates(span, from, to).await
        })
        .await
    }

    async fn prune_rates(&self, minutes: Timestamp, hours: Timestamp) -> Result<()> {
        self.pass("prune_rates", (minutes, hours), |store, _ledger, (minutes, hours)| async move {
            store.prune_rates(minutes, hours).await
        })
        .await
    }

    async fn notes(&self, kind: &str) -> Result<Vec<Note>> {
        self.pass("notes", kind.to_owned(), |store, _ledger, kind| async move { store.notes(&kind).await }).await
    }

    async fn note(&self, changes: Vec<NoteChange>, jobs: Vec<NewJob>) -> Result<Written> {
        self.pass("note", (changes, jobs), |store, ledger, (changes, jobs)| async move {
            let enqueues = !jobs.is_empty();
            let written = store.note(changes, jobs).await?;
            ledger.ring([], enqueues);
            Ok(written)
        })
        .await
    }

    async fn place(&self, placement: Placement) -> Result<Written> {
        self.pass("place", placement, |store, ledger, placement| async move {
            let job = placement.job;
            let written = store.place(placement).await?;
            ledger.ring([job], true);
            Ok(written)
        })
        .await
    }

    async fn expired(&self, now: Timestamp, limit: usize) -> Result<Expired> {
        self.pass("expired", (now, limit), |store, _, (now, limit)| async move { store.expired(now, limit).await })
            .await
    }

    async fn due_lanes(&self, now: Timestamp) -> Result<Vec<Lane>> {
        self.pass("due_lanes", now, |store, _, now| async move { store.due_lanes(now).await }).await
    }

    async fn steps(&self, id: JobId, from: u64, limit: usize) -> Result<Vec<Step>> {
        self.pass("steps", (id, from, limit), |store, _, (id, from, limit)| async move {
            store.steps(id, from, limit).await
        })
        .await
    }

    async fn last_step(&self, id: JobId) -> Result<Option<Step>> {
        self.pass("last_step", id, |store, _, id| async move { store.last_step(id).await }).await
    }

    async fn memos(&self, id: JobId, step: Option<u64>, from: u64, limit: usize) -> Result<Vec<Memo>> {
        self.pass("memos", (id, step, from, limit), |store, _, (id, step, from, limit)| async move {
            store.memos(id, step, from, limit).await
        })
        .await
    }

    async fn transact(&self, lease: Option<Lease>, works: Vec<Arc<PendingStep>>) -> Result<Transacted> {
        self.pass("transact", (lease, works), |store, ledger, (lease, works)| async move {
            let seqs: Vec<_> = works.iter().map(|work| work.seq).collect();
            let _in_order = ledger.in_order().await;
            let transacted = store.transact(lease, works).await?;
            if let (Some(lease), Transacted::Upto(next) | Transacted::Failed(next) | Transacted::Spent(next)) =
                (lease, transacted)
            {
                for seq in seqs.into_iter().filter(|seq| *seq < next) {
                    ledger.note(Event::Durable { job: lease.job, seq, attempt: Some(lease.attempt) });
                }
            }
            ledger.ring(lease.map(|lease| lease.job), true);
            Ok(transacted)
        })
        .await
    }

    fn transactions(&self) -> Option<&'static str> {
        self.store.transactions()
    }

    fn home(&self) -> Home {
        self.store.home()
    }

    async fn attempts(&self, id: JobId) -> Result<Vec<Attempt>> {
        self.pass("attempts", id, |store, _, id| async move { store.attempts(id).await }).await
    }

    async fn prune(&self, finished: Timestamp, dead: Timestamp, limit: usize) -> Result<usize> {
        self.pass("prune", (finished, dead, limit), |store, _, (finished, dead, limit)| async move {
            store.prune(finished, dead, limit).await
        })
        .await
    }

    fn patience(&self) -> Duration {
        self.edge.patience(self.store.patience())
    }

    fn hold_clock(&self) {
        self.store.hold_clock();
    }

    fn notifier(&self) -> &Notifier {
        self.edge.notifier(self.store.notifier())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use syn::{ImplItem, Item, TraitItem};

    fn items(file: &str) -> Vec<Item> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap().items
    }

    #[test]
    fn every_method_of_a_store_passes_the_edge() {
        let mut methods = BTreeSet::new();
        for item in items("../qtasks/src/store/contract.rs") {
            if let Item::Trait(found) = item
                && found.ident == "Store"
            {
                methods.extend(found.items.iter().filter_map(|item| match item {
                    TraitItem::Fn(method) => Some(method.sig.ident.to_string()),
                    _ => None,
                }));
            }
        }
        let mut forwarded = BTreeSet::new();
        for item in items("support/edge.rs") {
            if let Item::Impl(found) = item
                && found.trait_.as_ref().is_some_and(|(path, _)| path.is_ident("Store"))
            {
                forwarded.extend(found.items.iter().filter_map(|item| match item {
                    ImplItem::Fn(method) => Some(method.sig.ident.to_string()),
                    _ => None,
                }));
            }
        }
        assert_eq!(methods.difference(&forwarded).collect::<Vec<_>>(), Vec::<&String>::new());
        assert!(methods.len() > 12);
    }
}
