//! The call of a task: the struct of the stored arguments, and the function that makes one.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{ext::IdentExt as _, spanned::Spanned as _};

use super::expansion::Expansion;
use crate::{
    body::at,
    task::{Param, Task},
    types::compact,
};

impl Expansion<'_> {
    /// The struct of the stored arguments.
    pub(super) fn call(&self) -> TokenStream {
        let (q, Task { ident, vis, attrs, signature, .. }) = (&self.q, self.task);
        let (cfg, outside, lints) = (&attrs.cfg, &attrs.outside, &attrs.lints);
        let docs = (!attrs.has_docs()).then(|| format!(" A call of the task `{}`.", self.task.name));
        let docs = docs.map(|text| quote!(#[doc = #text]));
        let is_generic = !signature.generics.params.is_empty();
        let fields = self.task.arguments().filter(|_| !is_generic).map(|param| field(param, vis, q));
        let serde = compact(&quote!(#q::serde));
        quote! {
            #(#cfg)*
            #docs
            #(#outside)*
            #(#lints)*
            #[allow(non_camel_case_types)]
            #[must_use = "a call does nothing until it is enqueued or run"]
            #[derive(#q::serde::Serialize, #q::serde::Deserialize)]
            #[serde(crate = #serde)]
            #vis struct #ident {
                #(#fields),*
            }
        }
    }

    /// The function that makes a call.
    pub(super) fn constructor(&self) -> TokenStream {
        let Task { ident, vis, attrs, .. } = self.task;
        let (cfg, outside, lints) = (&attrs.cfg, &attrs.outside, &attrs.lints);
        let quiet = self.quiet();
        let names: Vec<_> = self.task.arguments().map(|param| &param.ident).collect();
        let types = self.task.arguments().map(|param| &param.ty);
        // A task that only schedules or other programs call is no dead code.
        quote! {
            #(#cfg)*
            #(#outside)*
            #(#lints)*
            #quiet
            #[allow(dead_code)]
            #vis fn #ident(#(#names: #types),*) -> #ident {
                #ident { #(#names),* }
            }
        }
    }

    /// A future that a call never is, so that the message about an awaited call says how a call is run.
    pub(super) fn awaited(&self) -> TokenStream {
        let (q, Task { ident, attrs, .. }) = (&self.q, self.task);
        let (cfg, quiet) = (&attrs.cfg, self.quiet());
        quote! {
            #(#cfg)*
            #quiet
            #[doc(hidden)]
            impl ::core::future::Future for #ident
            where
                for<'a> #q::CallOfATask: #q::Awaits<'a, Self>,
            {
                type Output = <Self as #q::Task>::Output;
                fn poll(
                    self: ::core::pin::Pin<&mut Self>,
                    _: &mut ::core::task::Context<'_>,
                ) -> ::core::task::Poll<Self::Output> {
                    ::core::task::Poll::Pending
                }
            }
        }
    }
}

/// A stored argument.
fn field(param: &Param, vis: &syn::Visibility, q: &TokenStream) -> TokenStream {
    let Param { attrs, ident, ty, .. } = param;
    // A message of serde's about the field points at the first token.
    let docs = (!attrs.has_docs()).then(|| {
        let text = format!(" The argument `{}`.", ident.unraw());
        quote_spanned!(at(ident.span())=> #[doc = #text])
    });
    let (outside, lints, inside) = (&attrs.outside, &attrs.lints, &attrs.inside);
    // Serde's code takes this bound on trust, and one assertion beside it gives the error where the type cannot be stored.
    let bound = param.is_to_check().then(|| {
        let bound = quote!(for<'a> #ty: #q::Argument<'a>).to_string();
        let bound = syn::LitStr::new(&bound, at(ty.span()));
        quote!(#[serde(bound = #bound)])
    });
    quote!(#docs #(#outside)* #(#lints)* #bound #(#inside)* #vis #ident: #ty)
}
