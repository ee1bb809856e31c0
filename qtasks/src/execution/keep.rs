//! What is done with each value of a task that yields, whether the replies go to a store or into a collection.

use super::{co::YieldedValue, handler::Handler, on_error::Lenience, stopped::Stopped};
use crate::schema::returns::Reply;

/// Hands a value to the handler and keeps the reply; gives the reply to a body that wants it.
pub(super) trait Keep<Y, R: Reply, L: Lenience> {
    async fn step<M, H: Handler<Y, R, M>>(
        &mut self,
        yielded: YieldedValue<Y>,
        handler: &H,
    ) -> Result<Option<L::Reply<R>>, Stopped>;
}
