//! How steps and memos are appended.

use std::sync::Arc;

use redis::Value;

use super::enqueue::Batch;
use crate::store::redis::{batcher::Batcher, encoding, error::Fault};
use crate::store::{Changes, Record, Written};

/// Appends the records; gives `None` where one of them leaves a gap.
pub(crate) async fn record(batcher: &Arc<Batcher>, records: &[Record]) -> Result<Option<Vec<Written>>, Fault> {
    let link = &batcher.link;
    let mut call = link.call(|scripts| &scripts.record);
    for Record { lease, steps, memos, jobs, progress, passed } in records {
        let progress = progress.map(|progress| [progress.done.to_be_bytes(), progress.total.to_be_bytes()].concat());
        let mut said = progress.unwrap_or_default();
        said.extend(passed.then_some(b'P'));
        let batch = Batch::of(jobs);
        call.arg(&lease.worker.to_bytes()).arg(&encoding::lease(lease.job, lease.attempt));
        call.arg(said);
        call.arg(steps.len()).arg(memos.len()).arg(batch.values());
        for step in steps {
            call.arg(step.seq).arg(encoding::step(step));
        }
        for memo in memos {
            let (kind, score) = memo.step.map_or(("m:", memo.number), |step| ("n:", step));
            call.arg(memo.number).arg(kind).arg(score).arg(encoding::memo(memo));
        }
        batch.add_to(&mut call, link);
    }
    let Some(written) = written(batcher.ask(call).await?)? else { return Ok(None) };
    let written_to = records.iter().zip(&written).filter(|(_, written)| **written == Written::Yes);
    link.notifier.notify(&Changes::recorded(written_to.map(|(record, _)| record)));
    Ok(Some(written))
}

/// What a script answers for each record or settlement; `None` where it has refused all of them.
pub(super) fn written(answer: Value) -> Result<Option<Vec<Written>>, Fault> {
    let each = match answer {
        Value::Array(each) => each,
        Value::Int(-1) => return Ok(None),
        _ => return Err(Fault::Unreadable),
    };
    let written = each.iter().map(|each| match each {
        Value::Int(1) => Ok(Written::Yes),
        Value::Int(0) => Ok(Written::Fenced),
        _ => Err(Fault::Unreadable),
    });
    written.collect::<Result<_, _>>().map(Some)
}
