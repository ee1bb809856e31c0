//! The items that a right task expands to, and those that stand in for a wrong one.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens as _, quote, quote_spanned};
use syn::{FnArg, Path, spanned::Spanned as _};

use crate::{
    body::at,
    task::{Role, Task},
};

pub(super) struct Expansion<'a> {
    pub(super) task: &'a Task,
    root: Path,
    /// The path of `qtasks::__private`, through which the expansion refers to qtasks.
    pub(super) q: TokenStream,
    /// The name of the attempt that runs, which the user's code cannot mention.
    pub(super) attempt: Ident,
}

impl<'a> Expansion<'a> {
    pub(super) fn of(task: &'a Task) -> Self {
        let root = task.options.root();
        Self { task, q: quote!(#root::__private), root, attempt: Ident::new("__attempt", Span::mixed_site()) }
    }

    /// `qtasks::__private`, for messages that point at `span`.
    pub(super) fn q_at(&self, span: Span) -> TokenStream {
        let private = quote_spanned!(at(span)=> ::__private);
        let root = self.root.to_token_stream().into_iter().map(|mut tree| {
            tree.set_span(tree.span().located_at(span));
            tree
        });
        root.chain(private).collect()
    }

    pub(super) fn whole(&self) -> TokenStream {
        let (q, Task { ident, attrs, .. }) = (&self.q, self.task);
        let (call, constructor, function) = (self.call(), self.constructor(), self.function());
        let (output, schema, start) = (self.output(), self.schema(), self.start());
        let (awaited, fallback) = (self.awaited(), self.fallback());
        let (no_hidden_result, unheard_echo) = (self.no_hidden_result(), self.unheard_echo());
        let storable = self.task.arguments().filter(|param| param.is_to_check()).map(|param| {
            let (private, ty) = (self.q_at(param.ty.span()), &param.ty);
            quote_spanned!(at(ty.span())=> #private::is_argument::<#ty>();)
        });
        let (cfg, quiet) = (&attrs.cfg, self.quiet());
        quote! {
            #fallback
            #call
            #constructor

            #(#cfg)*
            #quiet
            impl #ident {
                #function
            }

            #(#cfg)*
            #quiet
            impl #q::Task for #ident {
                type Output = #output;
                #schema
                #q::stored_arguments!();
                #start
            }

            #awaited

            #(#cfg)*
            #quiet
            const _: () = {
                #(#storable)*
                #unheard_echo
                #no_hidden_result
                #q::inventory::submit! { #q::Registration::of::<#ident>() }
            };
        }
    }

    /// A task without its body, in the place of a wrong one: its callers get no errors but their own.
    pub(super) fn stub(&self) -> TokenStream {
        let (q, Task { ident, attrs, vis, signature, .. }) = (&self.q, self.task);
        let (call, cfg, quiet) = (self.call(), &attrs.cfg, self.quiet());
        let generics = &signature.generics;
        let is_generic = !generics.params.is_empty();
        let injected: Vec<_> = self.task.params.iter().filter(|param| !matches!(param.role, Role::Argument)).collect();
        let is_argument = |input: &&FnArg| match input {
            FnArg::Typed(typed) => !injected.iter().any(|param| param.ty == *typed.ty),
            FnArg::Receiver(_) => false,
        };
        let inputs = signature.inputs.iter().filter(is_argument).map(|input| match input {
            FnArg::Typed(typed) => {
                let ty = &typed.ty;
                quote!(_: #ty)
            }
            FnArg::Receiver(_) => quote!(),
        });
        let output = if is_generic || self.task.collects_nothing() { quote!(()) } else { self.output() };
        let (params, clause) = (&generics.params, &generics.where_clause);
        quote! {
            #call

            #(#cfg)*
            #[allow(unused, deprecated, non_snake_case, clippy::all)]
            #vis fn #ident<#params>(#(#inputs),*) -> #ident #clause {
                ::core::unreachable!()
            }

            #(#cfg)*
            #quiet
            impl #q::Task for #ident {
                type Output = #output;
                fn schema() -> &'static #q::TaskExecSchema {
                    ::core::unreachable!()
                }
                fn encode(&self) -> ::core::result::Result<#q::Json, #q::serde_json::Error> {
                    ::core::unreachable!()
                }
                fn decode(_: &#q::Json) -> ::core::result::Result<Self, #q::Undecodable> {
                    ::core::unreachable!()
                }
                fn start(self, _: #q::Attempt) -> #q::Running {
                    ::core::unreachable!()
                }
            }
        }
    }

    /// The `yield_!` of a module that does not import it.
    pub(super) fn fallback(&self) -> Option<TokenStream> {
        let (q, cfg) = (&self.q, &self.task.attrs.cfg);
        self.task.yields.bare.as_ref().map(|_| {
            quote! {
                #(#cfg)*
                #[allow(unused_imports, clippy::wildcard_imports)]
                use #q::fallback::*;
            }
        })
    }

    /// The type of a job's result.
    pub(super) fn output(&self) -> TokenStream {
        let q = &self.q;
        match &self.task.output {
            Some(output) if self.task.generates() => {
                let q = self.q_at(output.span());
                quote_spanned!(at(output.span())=> <#output as #q::Declared>::Collection)
            }
            None if self.task.generates() => quote!(<#q::Untyped as #q::Declared>::Collection),
            Some(output) if self.task.fails() => quote_spanned!(at(output.span())=> <#output as #q::Fallible>::Value),
            Some(output) => output.to_token_stream(),
            None => quote!(()),
        }
    }

    /// An error where an alias hides that a return type is a `Result`: the macro goes by the name.
    pub(super) fn no_hidden_result(&self) -> Option<TokenStream> {
        let output = self.task.output.as_ref()?;
        if self.task.generates() || self.task.fails() {
            return None;
        }
        let q = self.q_at(output.span());
        Some(quote_spanned! {at(output.span())=>
            use #q::NoResult as _;
            ::core::assert!(
                !#q::Returned::<#output>::IS_RESULT,
                "`#[qtask]` tells a `Result` by its name: write `Result<..>`, or an alias of that name"
            );
        })
    }

    /// A warning about an `echo` that is of no use. There is none where a handler may take the running task: its parameters
    /// are not to be seen here.
    pub(super) fn unheard_echo(&self) -> Option<TokenStream> {
        let key = self.task.unheard_echo()?;
        let (warning, lints) = (Ident::new("ECHO_WITHOUT_A_PARAMETER", key.span()), &self.task.attrs.lints);
        Some(quote! {
            #[deprecated(
                note = "nothing takes the running task that `echo = true` passes: take it as the first parameter, `ctx: TaskContext`, \
                        or leave `echo = true` out"
            )]
            #(#lints)*
            const #warning: () = ();
            #(#lints)*
            let () = #warning;
        })
    }

    /// Keeps the expansion of a deprecated task from being warned of as a use of it.
    pub(super) fn quiet(&self) -> Option<TokenStream> {
        self.task.attrs.is_deprecated().then(|| quote!(#[allow(deprecated)]))
    }
}
