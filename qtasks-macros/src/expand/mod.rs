//! The expansion of a task: a struct, its constructor, the function that holds the body, and an `impl Task`.

mod call;
mod expansion;
mod function;
mod generator;
mod schema;

use proc_macro2::TokenStream;
use quote::{ToTokens as _, quote};
use syn::{Item, ItemFn, TraitItemFn};

use self::expansion::Expansion;
use crate::{Errors, args::Options, body, task::Task};

/// Expands the attribute. A wrong task still expands to a call, so that its callers get no errors of their own.
pub(crate) fn qtask(options: TokenStream, item: TokenStream, is_in_impl: bool) -> TokenStream {
    let mut errors = Errors::default();
    let options = Options::parse(options, &mut errors);
    let function = match syn::parse2::<ItemFn>(item.clone()) {
        Ok(function) => function,
        Err(error) => match syn::parse2(body::with_visible_blocks(item.clone())) {
            Ok(function) => function,
            Err(_) => {
                errors.push(not_a_function(&item).unwrap_or(error));
                return with_errors(item, errors);
            }
        },
    };
    if is_in_impl || function.sig.receiver().is_some() {
        return method(&function);
    }
    let task = Task::new(options, function, &mut errors);
    match errors.0.is_empty() {
        true => Expansion::of(&task).whole(),
        // A stub of this name would cause an error at each use of the type that it hides.
        false if task.hides_type() => with_errors(quote!(), errors),
        false => with_errors(Expansion::of(&task).stub(), errors),
    }
}

/// The error of a task in an `impl`, and the method without its body, in which a `yield_!` would be a second error.
fn method(function: &ItemFn) -> TokenStream {
    let ItemFn { attrs, vis, sig, .. } = function;
    let (at, message) = match sig.receiver() {
        Some(receiver) => (
            receiver.self_token.to_token_stream(),
            "a task is a function of its own: move it out of the `impl`, and take what it needs of `self` as arguments",
        ),
        None => (sig.ident.to_token_stream(), "a task is a function of its own: move it out of the `impl`"),
    };
    let mut errors = Errors::default();
    errors.at(at, message);
    let cfg = attrs.iter().filter(|attr| attr.path().is_ident("cfg"));
    let method = quote! {
        #(#cfg)*
        #[allow(unused, clippy::all)]
        #vis #sig {
            ::core::unreachable!()
        }
    };
    with_errors(method, errors)
}

fn with_errors(tokens: TokenStream, errors: Errors) -> TokenStream {
    let errors = errors.into_compile_error();
    quote!(#errors #tokens)
}

/// The error for an item of another kind.
fn not_a_function(item: &TokenStream) -> Option<syn::Error> {
    let message = match syn::parse2::<Item>(item.clone()) {
        Ok(Item::Fn(_)) => return None,
        Ok(Item::Verbatim(_)) | Err(_) => {
            syn::parse2::<TraitItemFn>(item.clone()).ok()?;
            "a task is a function of its own, with a body and outside of any `trait`"
        }
        Ok(_) => "`#[qtask]` makes a task of a function: put it on an `async fn` or a `fn`",
    };
    Some(syn::Error::new_spanned(item, message))
}
