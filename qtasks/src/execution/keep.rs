//! Where the reply of a value goes.

use super::{co::YieldedValue, handler::Handler, on_error::Lenience, stopped::Stopped};
use crate::schema::returns::Reply;

/// Has a value handled and keeps the reply; gives it when the body wants it.
pub(super) trait Keep<Y, R: Reply, L: Lenience> {
    async fn step<M, H: Handler<Y, R, M>>(
        &mut self,
        yielded: YieldedValue<Y>,
        handler: &H,
    ) -> Result<Option<L::Reply<R>>, Stopped>;
}
