//! The function that holds a task's body, and the one that makes the body ready to run.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens as _, quote, quote_spanned};
use syn::spanned::Spanned as _;

use super::expansion::Expansion;
use crate::{
    body::at,
    task::{Param, Role, Task},
};

impl Expansion<'_> {
    /// The function that holds the body.
    pub(super) fn function(&self) -> TokenStream {
        let (q, Task { ident, attrs, awaits, .. }) = (&self.q, self.task);
        let (inside, lints) = (&attrs.inside, &attrs.lints);
        let params = self.task.params.iter().filter(|param| !param.is_co()).map(parameter);
        let asyncness = awaits.then(|| quote!(async));
        let (attempt, output, body) = match self.task.generates() {
            true => {
                let attempt = &self.attempt;
                // Attributes such as `tracing::instrument` record parameters by name; the parentheses keep this one out.
                (Some(quote!((#attempt): #q::Attempt)), quote!(-> #q::Outcome), self.generator())
            }
            false => {
                let output = &self.task.signature.output;
                (None, output.to_token_stream(), self.task.body.to_token_stream())
            }
        };
        let params = params.chain(attempt);
        // A `fn` body is all that runs on its thread, so a lock that it holds across a yield blocks no other task.
        let held = (self.task.generates() && !awaits)
            .then(|| quote!(#[allow(clippy::await_holding_lock, clippy::await_holding_refcell_ref)]));
        quote! {
            #(#lints)*
            #(#inside)*
            #[doc(hidden)]
            #[allow(clippy::too_many_arguments, unused_parens)]
            #held
            #asyncness fn #ident(#(#params),*) #output #body
        }
    }

    /// The function of the trait that makes the body ready to run.
    pub(super) fn start(&self) -> TokenStream {
        let (q, attempt, ident) = (&self.q, &self.attempt, &self.task.ident);
        let arguments = self.task.arguments().map(|param| &param.ident);
        let injected = self.task.injected().map(|param| {
            let Param { ident, ty, .. } = param;
            let (take, attempt) = (injection(param), Ident::new("__attempt", at(ty.span())));
            let value = quote_spanned!(at(ty.span())=> #attempt.#take());
            quote!(let #ident: #ty = #value;)
        });
        let all = self.task.params.iter().filter(|param| !param.is_co()).map(|param| param.ident.to_token_stream());
        let all = all.chain(self.task.generates().then(|| attempt.to_token_stream()));
        let (body, retry_on) = (quote_spanned!(at(ident.span())=> Self::#ident(#(#all),*)), self.retry_on());
        let span = self.task.output.as_ref().map_or_else(|| ident.span(), |output| output.span());
        let (running, types) = (self.q_at(span), self.types_of_result());
        let running = match (self.task.generates(), self.task.awaits, self.task.fails()) {
            (true, true, _) => quote!(#q::Running::generator(#body)),
            (true, false, _) => quote!(#q::Running::blocking_generator(move || #body)),
            (false, true, true) => {
                quote_spanned!(at(span)=> #running::Running::fallible #types(#attempt, #body, #retry_on))
            }
            (false, true, false) => quote_spanned!(at(span)=> #running::Running::value(#attempt, #body)),
            (false, false, true) => {
                quote_spanned!(at(span)=> #running::Running::blocking_fallible #types(#attempt, move || #body, #retry_on))
            }
            (false, false, false) => {
                quote_spanned!(at(span)=> #running::Running::blocking_value(#attempt, move || #body))
            }
        };
        quote! {
            fn start(self, #attempt: #q::Attempt) -> #q::Running {
                let Self { #(#arguments),* } = self;
                #(#injected)*
                #running
            }
        }
    }

    /// The types of the `Result` whose error `retry_on` judges, so that a message about a wrong function points at that
    /// option and not at the body.
    pub(super) fn types_of_result(&self) -> Option<TokenStream> {
        let (q, output) = (&self.q, self.task.output.as_ref()?);
        let given = self.task.options.retry_on.as_ref();
        given.map(|_| quote!(::<<#output as #q::Fallible>::Value, <#output as #q::Fallible>::Error>))
    }

    pub(super) fn retry_on(&self) -> TokenStream {
        match &self.task.options.retry_on {
            Some(given) => {
                let path = &given.value;
                quote!(::core::option::Option::Some(#path))
            }
            // A message about the body's error points at this argument.
            None => {
                let span = self.task.output.as_ref().map_or_else(Span::call_site, |output| output.span());
                quote_spanned!(at(span)=> ::core::option::Option::None)
            }
        }
    }
}

/// A parameter of the function that holds the body.
fn parameter(param: &Param) -> TokenStream {
    let Param { attrs, mutability, ident, ty, role } = param;
    let lints = &attrs.lints;
    let inside = attrs.inside.iter().filter(|_| !matches!(role, Role::Argument));
    quote!(#(#lints)* #(#inside)* #mutability #ident: #ty)
}

fn injection(param: &Param) -> Ident {
    let method = if matches!(param.role, Role::Context) { "context" } else { "state" };
    Ident::new(method, at(param.ty.span()))
}
