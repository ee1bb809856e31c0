//! Handlers that run in a transaction of the Postgres store.

use std::{
    future::{Ready, ready},
    marker::PhantomData,
};

use futures::future::BoxFuture;

use super::transaction::{InTransaction, KIND, Transaction};
use crate::{
    error::{BoxError, Error},
    execution::{
        attempt::Attempt,
        handler::{BoxHandler, Handler, LaterTry, Signature, inject::Inject},
    },
    model::job,
    schema::{need::Need, returns::Reply},
};

/// Marks the arguments that such a handler takes besides the transaction, to keep its implementations apart from others.
#[derive(Debug)]
pub struct Transacted<X>(PhantomData<fn() -> X>);

/// An async function of a transaction and further arguments, whose future can move between threads. The borrowed transaction
/// is a parameter of the trait, so that one function implements it for every lifetime.
pub trait Writes<T, A> {
    /// The type that the function returns.
    type Output;
    /// The future of the function.
    type Future: Future<Output = Self::Output> + Send;

    /// Calls the function.
    fn write(&self, tx: T, arguments: A) -> Self::Future;
}

/// Makes a closure one that takes a transaction of any lifetime.
fn in_transaction(
    run: impl for<'t> FnOnce(&'t mut Transaction<'_>) -> BoxFuture<'t, Option<job::Reply>> + Send + 'static,
) -> InTransaction {
    Box::new(run)
}

macro_rules! handlers {
    ($($extra:ident),*) => {
        #[allow(non_snake_case)]
        impl<H, T, Y, F, $($extra,)*> Writes<T, (Y, $($extra,)*)> for H
        where
            H: Fn(T, Y, $($extra),*) -> F,
            F: Future + Send,
        {
            type Output = F::Output;
            type Future = F;

            fn write(&self, tx: T, (value, $($extra,)*): (Y, $($extra,)*)) -> F {
                self(tx, value, $($extra),*)
            }
        }

        impl<H, Y, R, E, $($extra,)*> Handler<Y, R, (LaterTry, Transacted<(E, $($extra,)*)>)> for H
        where
            H: for<'t, 'c> Writes<&'t mut Transaction<'c>, (Y, $($extra,)*), Output = Result<R, E>>,
            H: Copy + Send + Sync + 'static,
            Y: Send + 'static,
            R: Reply,
            E: Into<BoxError> + 'static,
            $($extra: Inject + Send + 'static,)*
        {
            type Future = Ready<Result<R, BoxError>>;

            fn handle(&self, _value: Y, _attempt: &Attempt) -> Self::Future {
                ready(Err(Error::Misuse("a handler in a transaction is run by its store").into()))
            }

            const IN_TRANSACTION: Option<BoxHandler<Self, Y, R>> = Some(|&handler, value, handling| {
                let run = in_transaction(move |tx| {
                    Box::pin(async move {
                        let _attempt = handling.attempt();
                        let arguments = (value, $($extra::inject(_attempt),)*);
                        let limit = tx.limit();
                        let handler = async { handler.write(&mut *tx, arguments).await.map_err(Into::into) };
                        let mut handled = handling.poll(limit.upon(handler)).await;
                        if let Ok(Ok(_)) = handled
                            && let Err(error) = tx.seal().await
                        {
                            handled = Ok(Err(error));
                        }
                        handling.keep(handled)
                    })
                });
                Box::new(run)
            });
        }

        impl<H, Y, O, $($extra: Inject,)*> Signature<Transacted<(Y, $($extra,)*)>> for H
        where
            H: for<'t, 'c> AsyncFn(&'t mut Transaction<'c>, Y, $($extra),*) -> O,
        {
            type Output = Ready<O>;

            fn needs() -> Vec<Need> {
                let needs: [Option<Need>; _] = [Some(Need::Transaction(KIND)), $($extra::need()),*];
                needs.into_iter().flatten().collect()
            }
        }
    };
}

handlers!();
handlers!(A1);
handlers!(A1, A2);
