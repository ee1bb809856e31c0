//! The body of a task that yields: a coroutine, with the handler that its values go through.

use proc_macro2::{Delimiter, Group, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{ExprPath, spanned::Spanned as _};

use super::expansion::Expansion;
use crate::{
    body::{self, at, co},
    task::Param,
};

impl Expansion<'_> {
    /// The body of the function: it drives the user's body as a coroutine.
    pub(super) fn generator(&self) -> TokenStream {
        let (q, attempt, options) = (&self.q, &self.attempt, &self.task.options);
        let into = self.into();
        let private = self.q_at(into.span());
        let on_error = if options.skips() { quote!(#q::Skip) } else { quote!(#q::Fail) };
        let retry_on = self.retry_on();
        // A message about the collection points at this argument.
        let generator =
            quote_spanned!(at(into.span())=> #private::Generator::<#into, #on_error>::new(#attempt, #retry_on));
        let (kind, handler) = match options.generate_handler.as_ref().map(|given| &given.value) {
            Some(path) if self.task.leaves_reply_open() => (quote!(#q::kind_of!(#path)), self.handed(path)),
            Some(path) => (quote!(#q::Kind::INFERRED), self.handed(path)),
            None => (quote!(#q::Kind::INFERRED), quote!(#q::Identity)),
        };
        let body = self.coroutine();
        let (run, wait) = match self.task.awaits {
            true => (quote!(#q::Generator::run), Some(quote!(.await))),
            false => (quote!(#q::Generator::run_blocking), None),
        };
        quote!({ #run(#generator, #kind, #handler, #body) #wait })
    }

    /// The parameters of a handler. A path that is no handler is an error here: twice, at the same place and in the same
    /// words, which rustc shows once.
    pub(super) fn takes(&self, path: &ExprPath) -> TokenStream {
        let private = self.q_at(path.span());
        quote_spanned!(at(path.span())=> #private::Takes::of(&#path))
    }

    /// The handler, as the generator takes it.
    pub(super) fn handed(&self, path: &ExprPath) -> TokenStream {
        let (private, takes) = (self.q_at(path.span()), self.takes(path));
        quote_spanned! {at(path.span())=> {
            #[allow(unused_imports)]
            use #private::{TakesReference as _, TakesValue as _};
            (&#takes).pass(#path)
        }}
    }

    /// The body between the user's own braces, so that messages about it as a whole point there.
    pub(super) fn coroutine(&self) -> TokenStream {
        let span = self.task.body.brace_token.span.join();
        let co = co(span);
        let (start, statements) = (self.start_of_body(), &self.task.body.stmts);
        let mut block = Group::new(Delimiter::Brace, quote!(#start #(#statements)*));
        block.set_span(span);
        quote_spanned!(at(span)=> move |#co| async move #block)
    }

    pub(super) fn start_of_body(&self) -> TokenStream {
        let (q, into, co) = (&self.q, self.into(), co(Span::call_site()));
        // The user's import of the exported macro, which the local one hides, is used here.
        let used = self.task.yields.bare.as_ref().map(|name| quote!(#name!(@used);));
        let yields = if self.task.options.skips() { quote!(emit) } else { quote!(yield_) };
        let user_co = self.task.params.iter().find(|param| param.is_co()).map(|param| {
            let Param { mutability, ident, ty, .. } = param;
            let co = body::co(ty.span());
            let clone = quote_spanned!(at(ty.span())=> #co.clone());
            quote!(let #mutability #ident: #ty = #clone;)
        });
        quote! {
            #used
            #[allow(unused_macros)]
            macro_rules! yield_ {
                (@used) => {};
                ($value:expr $(,)?) => { #co.#yields($value).await };
            }
            // Fixes the type of the body's end, so that a message about a wrong end points there.
            #[allow(unreachable_code, clippy::all)]
            if false {
                let end: <#into as #q::Declared>::Body = loop {};
                return end;
            }
            #user_co
        }
    }

    /// The type that the values are collected into.
    pub(super) fn into(&self) -> TokenStream {
        let q = &self.q;
        self.task.output.as_ref().map_or_else(|| quote!(#q::Untyped), ToTokens::to_token_stream)
    }
}
